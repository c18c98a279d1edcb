import { VoiceReceiver, VoiceSender, VoiceSocket } from "./voice-client.js";
import { Analyser, showLevel } from "./meter.js";
import { byId, keepAwake, openSocket, recall, remember, show } from "./page.js";
import { audience, heard, problemText } from "./words.js";

/** A press longer than this is a hold: the stream ends with it. */
const HOLD_MS = 400;
/** A microphone this quiet for so long is off, or the wrong one. */
const SILENCE_DB = -75;
const SILENT_MS = 5_000;

addEventListener("pagehide", () => sender.stop()); // while there is a socket
const socket = openSocket();
const sender = new VoiceSender(socket);
const talk = byId("talk");
const name = byId("name");
const device = byId("deviceId");

/** When the press began that may be a hold, or 0. */
let heldSince = 0;
let spaceDown = false;

function press() {
	if (sender.state !== "idle") return sender.stop();
	if (!name.reportValidity()) return;
	heldSince = performance.now();
	sender.name = name.value.trim();
	sender.start();
}

/** A press that only led to the browser's question is no hold. */
function release() {
	if (heldSince && performance.now() - heldSince > HOLD_MS && sender.state !== "asking") sender.stop();
	heldSince = 0;
}

talk.onpointerdown = (event) => event.button === 0 && press();
talk.oncontextmenu = (event) => event.preventDefault(); // a long touch means talking here
talk.onclick = (event) => {
	if (event.detail) return; // pointerdown did
	press(); // Enter, or a screen reader
	heldSince = 0;
};
for (const type of ["pointerup", "pointercancel", "blur"]) addEventListener(type, release);

addEventListener("keydown", (event) => {
	const other = document.activeElement?.matches("input, select, button:not(.round), a, dialog *");
	if (event.key !== " " || talk.disabled || other) return;
	event.preventDefault();
	if (!spaceDown) press();
	spaceDown = true;
});
addEventListener("keyup", (event) => {
	if (event.key !== " " || !spaceDown) return;
	event.preventDefault(); // or the focused button is clicked
	spaceDown = false;
	release();
});
byId("mute").onclick = () => (sender.muted = !sender.muted);

let liveSince = 0;
let silent = false;
let changeProblem = null;

function describe() {
	const { state, muted, stream, streamId } = sender;
	const words = {
		idle: "Off – nobody hears you",
		asking: "Allow the microphone in your browser",
		connecting: "Connecting…",
		live: muted ? "Muted – listeners hear silence" : `Live as “${stream?.name ?? streamId}”`,
		reconnecting: "Coming back…",
	};
	show("state", words[state]);
	const problem = sender.problem ?? changeProblem ?? (silent && state === "live" ? { code: "silent" } : null);
	show("problem", socket.problem ? "" : problemText(problem));
	talk.dataset.state = state === "live" && muted ? "muted" : state;
	talk.setAttribute("aria-pressed", state !== "idle");
	show("talk-label", state === "idle" ? "Talk" : "Stop");
	byId("hint").hidden = name.disabled = state !== "idle";
	byId("on-air").hidden = !sender.media;
	show("mute", muted ? "Unmute" : "Mute");
	byId("mute").setAttribute("aria-pressed", muted);
}

function count() {
	const time = new Date(Date.now() - liveSince).toISOString().slice(11, 19);
	show("facts", sender.state === "live" ? `${time} · ${audience(sender.stream)}` : "not live yet");
}
setInterval(count, 1000);
socket.on("streams", count);
socket.on("state", describe);
sender.on("muted", describe);
sender.on("state", () => {
	if (sender.state === "live") liveSince = Date.now();
	changeProblem = null;
	keepAwake(sender.state === "live");
	describe();
	count();
});

let analyser = null;
let heardAt = 0;
let frame = 0;

function draw() {
	if (!analyser) return showLevel(talk, -Infinity);
	const db = sender.muted ? -Infinity : analyser.level;
	const now = performance.now();
	if (db > SILENCE_DB || sender.state !== "live" || sender.muted) heardAt = now;
	showLevel(byId("meter"), db);
	showLevel(talk, db);
	if (silent !== now - heardAt > SILENT_MS) {
		silent = !silent;
		describe();
	}
	frame = requestAnimationFrame(draw);
}

sender.on("microphone", () => {
	analyser?.close();
	analyser = sender.media && new Analyser(sender.media);
	cancelAnimationFrame(frame);
	draw();
	listDevices();
	describe();
});

/** Labels are told only while the microphone is open. */
async function listDevices() {
	const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
	const inputs = devices.filter(({ kind, deviceId, label }) => kind === "audioinput" && deviceId !== "default" && label);
	if (!inputs.length) return;
	const { deviceId } = sender.settings;
	const options = inputs.map((one) => new Option(one.label, one.deviceId, false, one.deviceId === deviceId));
	device.replaceChildren(device.options[0], ...options);
}
navigator.mediaDevices?.addEventListener("devicechange", listDevices);

for (const key of ["echoCancellation", "noiseSuppression", "autoGainControl", "deviceId"]) {
	const field = byId(key);
	const property = field === device ? "value" : "checked";
	sender.settings[key] = recall(key, field === device ? "" : true);
	field[property] = sender.settings[key];
	field.onchange = async () => {
		const value = field[property];
		remember(key, value);
		changeProblem = await sender.change({ [key]: value });
		describe();
	};
}
name.value ||= recall("name", "");
name.onchange = () => name.validity.valid && remember("name", name.value.trim());

/** The intercom's ear: a second socket, deaf to this page's own stream. */
const ear = new VoiceSocket({ pollMs: 10_000 });
const receiver = new VoiceReceiver(ear, { skip: (stream) => sender.owns(stream) });
const intercom = byId("intercom");

function describeEar() {
	const words = { idle: "", waiting: "Nobody else is talking", playing: heard(receiver) };
	show("intercom-state", words[receiver.state] ?? (problemText(receiver.problem) || "Joining…"));
	byId("intercom-tap").hidden = receiver.state !== "blocked";
}
ear.on("streams", describeEar);
receiver.on("state", describeEar);
byId("intercom-tap").onclick = () => receiver.unblock();
intercom.checked = recall("intercom", false);
intercom.onchange = hearOthers;

function hearOthers() {
	remember("intercom", intercom.checked);
	if (!intercom.checked) {
		receiver.stop();
		ear.close();
	} else if (socket.state === "open") {
		ear.token = socket.token;
		ear.open();
		receiver.listen();
	}
}
socket.on("state", hearOthers);
addEventListener("pagehide", () => ear.close());

async function explainPlainHttp() {
	byId("secure").hidden = false;
	talk.disabled = true;
	const { tls_port } = await (await fetch(socket.address("health"))).json();
	if (tls_port) byId("secure-link").href = `https://${location.hostname}:${tls_port}/sender`;
	else byId("secure-help").hidden = true;
}
if (!isSecureContext) explainPlainHttp();

/** Home Assistant shows the page in a frame, and not every frame is given the microphone. */
function offerOwnTab() {
	const policy = document.permissionsPolicy ?? document.featurePolicy; // Firefox has neither: there, pressing tells
	const denied = policy?.allowsFeature("microphone") === false || sender.problem?.code === "denied";
	byId("own-tab").hidden = !denied || !isSecureContext;
}
if (window !== parent) {
	byId("secure-link").target = "_blank";
	sender.on("state", offerOwnTab);
	offerOwnTab();
}
listDevices();
describe();
