import { delayMeter } from "./delay.js";
import { LiveMp3 } from "./live-mp3.js";
import { sayWhatPlays } from "./now-playing.js";
import { byId, show } from "./page.js";
import { recall } from "./settings.js";
import { VoiceReceiver, VoiceSocket, isSameStream } from "./voice-client.js";
import { behindText, heard, problemText, waitingText, words } from "./words.js";

const ASK_MS = 2_000;
/** Without a socket for so long, the MP3 plays: a proxy may pass nothing else. */
const LAST_RESORT_AFTER_MS = 5_000;
/** This page's address is the MP3's: `latest.mp3`, or that of one stream. */
const file = location.pathname.split("/").pop() ?? "";
const wanted = file === "latest.mp3" ? "" : decodeURIComponent(file.replace(/\.mp3$/, ""));

/** Both from when the server has told its ports. @type {VoiceSocket | null} */
let socket = null;
/** @type {VoiceReceiver | null} */
let receiver = null;
const element = new Audio();
const lastResort = new LiveMp3(element);
let pressedAtMs = 0;
let pressed = false;
/** Undefined where the server does not answer. @type {boolean | undefined} */
let live = false;
let delay = "";
/** @type {{peer: RTCPeerConnection, tell: ReturnType<typeof delayMeter>} | null} */
let meter = null;

/** The audio server has no signalling: that is on the other port. @param {{port: number, audio_port: number}} status */
function connect({ port, audio_port }) {
	const elsewhere = location.port === String(audio_port) && port !== audio_port;
	const base = elsewhere ? `http://${location.hostname}:${port}/` : new URL("../", location.href);
	const token = new URLSearchParams(location.search).get("token") ?? recall("token", "");
	socket = new VoiceSocket({ base, token });
	receiver = new VoiceReceiver(socket);
	for (const type of ["state", "stalled", "route"]) receiver.on(type, draw);
	for (const type of ["state", "streams"]) socket.on(type, draw);
	sayWhatPlays(socket, receiver, toggle);
	if (pressed) start();
}

function start() {
	pressedAtMs = performance.now();
	socket?.open();
	receiver?.listen(wanted || null);
}

function stop() {
	receiver?.stop();
	socket?.close();
	letGo();
}

function letGo() {
	lastResort.stop();
	element.removeAttribute("src");
	element.load(); // lets go of the connection
}

function toggle() {
	if (receiver?.state === "blocked") return receiver.unblock();
	pressed = !pressed;
	if (pressed) start();
	else stop();
	draw();
}

/** A headline, and what to do. */
function texts() {
	if (pressed && receiver && socket?.state === "open") {
		if (receiver.state === "playing") return [heard(receiver), delay];
		if (receiver.state === "waiting") return waitingText(false, true);
		return [problemText(receiver.problem) || waitingText(true, true)[0], ""];
	}
	if (pressed && element.currentTime && !element.paused) return [words.youHearLive, behindText(lastResort.behindS)];
	return waitingText(live, pressed);
}

function draw() {
	const [headline, hint] = texts();
	show("state", headline);
	show("hint", hint);
	const blocked = receiver?.state === "blocked";
	show("start", blocked ? words.tap : pressed ? words.stop : words.start);
	byId("start").dataset.state = receiver?.state === "playing" ? "playing" : pressed ? "waiting" : "idle";
}

/** The MP3 in an element, while signalling does not get through. */
function useLastResort() {
	if (!pressed || socket?.state === "open") return element.src && letGo();
	const waitedMs = performance.now() - pressedAtMs;
	if (!live || waitedMs < LAST_RESORT_AFTER_MS || (element.src && !element.error && !element.ended && !element.paused)) return;
	lastResort.play(location.href).catch(draw);
}

async function measure() {
	const peer = receiver?.route === "webrtc" ? receiver.peer : null;
	if (!receiver || !peer) {
		meter = null;
		delay = behindText(receiver?.behindS ?? null);
		return;
	}
	if (meter?.peer !== peer) meter = { peer, tell: delayMeter(peer) };
	delay = (await meter.tell()) || delay;
}

async function ask() {
	const reply = await fetch(`status${location.search}`).catch(() => null);
	const status = reply?.ok ? await reply.json() : undefined;
	/** @type {string[] | undefined} */
	const streams = status?.active_streams;
	live = streams && (wanted ? streams.some((id) => isSameStream(id, wanted)) : streams.length > 0);
	if (status && !receiver) connect(status);
	useLastResort();
	await measure();
	draw();
	setTimeout(ask, ASK_MS);
}

byId("start").onclick = toggle;
byId("start").disabled = false;
addEventListener("pagehide", stop);
ask();
