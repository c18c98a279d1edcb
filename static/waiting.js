import { byId, show } from "./page.js";

/** The audio server has no WebSocket, so this page asks. */
const ASK_MS = 2_000;
/** This page's address is the MP3's: `latest.mp3`, or that of one stream. */
const file = location.pathname.split("/").pop();
const wanted = file === "latest.mp3" ? "" : decodeURIComponent(file.replace(/\.mp3$/, ""));
const audio = new Audio();
let pressed = false;
/** Undefined where the server does not answer. */
let live = false;

/** One press is enough: between voices the server sends silence, or this page asks until the stream is live again. */
function play() {
	if (wanted && !live) return;
	audio.src = `${file}${location.search}`;
	audio.play().catch(draw);
}

function draw() {
	let words = ["Nobody is talking yet", "Press once: every voice plays as it comes."];
	if (pressed) words = ["Nobody is talking now", "Leave this page open: the next voice plays by itself."];
	if (live) words = pressed ? ["You hear the live voice", ""] : ["A voice is live", "Press to hear it."];
	if (live === undefined) words = ["The server does not answer", "Is it running? Trying again."];
	show("state", words[0]);
	show("hint", words[1]);
	show("start", pressed ? "Stop" : "Start");
	byId("start").dataset.state = pressed && !live ? "waiting" : "idle";
}

async function ask() {
	const reply = await fetch(`status${location.search}`).catch(() => null);
	const streams = reply?.ok ? (await reply.json()).active_streams : undefined;
	live = streams && (wanted ? streams.includes(wanted) : streams.length > 0);
	if (pressed && live !== undefined && (audio.error || audio.ended || !audio.src)) play();
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
