import { byId, show } from "./page.js";
import { waitingText } from "./words.js";

/** The audio server has no WebSocket, so this page asks. */
const ASK_MS = 2_000;
const audio = new Audio();
let pressed = false;
/** Undefined where the server does not answer. @type {boolean | undefined} */
let live = false;

/** One press is enough: between voices the server sends silence. */
function play() {
	audio.src = `latest.mp3${location.search}`;
	audio.play().catch(draw);
}

function draw() {
	const [headline, hint] = waitingText(live, pressed);
	show("state", headline);
	show("hint", hint);
	show("start", pressed ? "Stop" : "Start");
	byId("start").dataset.state = pressed && !live ? "waiting" : "idle";
}

async function ask() {
	const reply = await fetch(`status${location.search}`).catch(() => null);
	live = reply?.ok ? (await reply.json()).active_streams.length > 0 : undefined;
	if (pressed && live !== undefined && (audio.error || audio.ended)) play();
	draw();
	setTimeout(ask, ASK_MS);
}

byId("start").onclick = () => {
	pressed = !pressed;
	if (pressed) play();
	else audio.src = ""; // lets go of the connection
	draw();
};
ask();
