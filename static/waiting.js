import { byId, show } from "./page.js";
import { waitingText } from "./words.js";

/** The audio server has no WebSocket, so this page asks. */
const ASK_MS = 2_000;
/** This page's address is the MP3's: `latest.mp3`, or that of one stream. */
const file = location.pathname.split("/").pop() ?? "";
const wanted = file === "latest.mp3" ? "" : decodeURIComponent(file.replace(/\.mp3$/, ""));
/** Seconds; when the element is so much later than at first, it starts anew. */
const MOST_GROWTH_S = 2;
const audio = new Audio();
/** What the server knows this page's player by; a new one whenever it starts. */
let id = "";
/** Seconds behind live: at first, and now. @type {number | undefined} */
let first;
/** @type {number | undefined} */
let behind;
let pressed = false;
/** Undefined where the server does not answer. @type {boolean | undefined} */
let live = false;

/** With this page's query, a token for example. @param {string} name @param {Record<string, string>} [more] */
function address(name, more = {}) {
	return `${name}?${new URLSearchParams({ ...Object.fromEntries(new URLSearchParams(location.search)), ...more })}`;
}

/** Asks how late it is what the element plays now, and starts anew where that has grown. */
async function measure() {
	if (!audio.currentTime || audio.paused) return;
	const asked = id;
	const reply = await fetch(address("position", { listener: id, played: audio.currentTime.toFixed(3) })).catch(() => null);
	if (!reply?.ok || asked !== id) return;
	const late = Number((await reply.json()).behind_s);
	behind = late;
	first ??= late;
	if (late > first + MOST_GROWTH_S) play();
}

/** One press is enough: between voices the server sends silence, or this page asks until the stream is live again. */
function play() {
	if (wanted && !live) return;
	id = Array.from(crypto.getRandomValues(new Uint32Array(4)), (number) => number.toString(36)).join("-");
	first = behind = undefined;
	audio.src = address(file, { listener: id });
	audio.play().catch(draw);
}

function draw() {
	const [headline, hint] = waitingText(live, pressed, behind);
	show("state", headline);
	show("hint", hint);
	show("start", pressed ? "Stop" : "Start");
	byId("start").dataset.state = pressed && !live ? "waiting" : "idle";
}

async function ask() {
	const reply = await fetch(`status${location.search}`).catch(() => null);
	const streams = reply?.ok ? (await reply.json()).active_streams : undefined;
	live = streams && (wanted ? streams.includes(wanted) : streams.length > 0);
	if (pressed && live !== undefined && (audio.error || audio.ended || !audio.src)) play();
	if (pressed) await measure();
	draw();
	setTimeout(ask, ASK_MS);
}

byId("start").onclick = () => {
	pressed = !pressed;
	if (pressed) play();
	else audio.src = id = ""; // lets go of the connection
	draw();
};
ask();
