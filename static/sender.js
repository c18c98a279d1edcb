import { VoiceReceiver, VoiceSender, VoiceSocket } from "./voice-client.js";
import { SilenceDetector } from "./levels.js";
import { Analyser, showLevel } from "./meter.js";
import { byId, openSocket, show } from "./page.js";
import { PushToTalk } from "./push-to-talk.js";
import { ScreenLock } from "./screen-lock.js";
import { recall, remember } from "./settings.js";
import { audience, duration, intercomText, problemText, senderText, takenText, words } from "./words.js";

/** @import { Problem } from "./voice-socket.js" */

/** As often as the server tells levels: benchmarks/drawing.py has what that costs. */
const DRAW_EACH_MS = 100;

addEventListener("pagehide", () => sender.stop()); // while there is a socket
const socket = openSocket({ mayReload: () => sender.state === "idle" && receiver.state === "idle" && !name.matches(":focus") });
const sender = new VoiceSender(socket);
const screenLock = new ScreenLock();
/** @type {HTMLButtonElement} */
const talk = byId("talk");
/** @type {HTMLInputElement} */
const name = byId("name");
/** @type {HTMLSelectElement} */
const device = byId("deviceId");

const pushToTalk = new PushToTalk(sender, () => {
	if (!name.reportValidity()) return false;
	sender.name = name.value.trim();
	sender.start();
	return true;
});

talk.onpointerdown = (event) => {
	if (event.button === 0) pushToTalk.press(event.timeStamp);
};
talk.oncontextmenu = (event) => event.preventDefault(); // a long touch means talking here
talk.onclick = (event) => {
	if (!event.detail) pushToTalk.click(); // else pointerdown did
};
for (const type of ["pointerup", "pointercancel"]) {
	addEventListener(type, ({ timeStamp }) => pushToTalk.release(timeStamp));
}
addEventListener("blur", ({ timeStamp }) => pushToTalk.blur(timeStamp));

addEventListener("keydown", (event) => {
	const other = document.activeElement?.matches("input, select, button:not(.round), a, dialog *");
	if (event.key !== " " || talk.disabled || other) return;
	event.preventDefault();
	pushToTalk.pressKey(event.timeStamp);
});
addEventListener("keyup", (event) => {
	if (event.key !== " " || !pushToTalk.releaseKey(event.timeStamp)) return;
	event.preventDefault(); // or the focused button is clicked
});
byId("mute").onclick = () => (sender.muted = !sender.muted);

/** The name that somebody else has, while we ask what to do about that. */
let taken = "";
byId("take-over").onclick = () => sender.start({ takeOver: true });
byId("other-name").onclick = chooseOtherName;
byId("taken").onkeydown = (/** @type {KeyboardEvent} */ { key }) => {
	if (key === "Escape") chooseOtherName();
};

function chooseOtherName() {
	taken = "";
	describe();
	name.focus();
	name.select();
}

/** Not on one of the buttons: a key that is still held would press it. */
function askWhatToDo() {
	taken = sender.problem?.code === "name_taken" ? sender.name : "";
	if (!taken) return;
	show("taken-question", takenText(taken));
	byId("taken").hidden = false;
	byId("taken").focus();
}

let liveSince = 0;
let silent = false;
/** Why the microphone could not be changed. @type {Problem | null} */
let changeProblem = null;

function describe() {
	const { state, muted } = sender;
	show("state", senderText(sender));
	const problem = sender.problem ?? changeProblem ?? (silent && state === "live" ? { code: "silent" } : null);
	show("problem", socket.problem || problem?.code === "name_taken" ? "" : problemText(problem));
	byId("taken").hidden = !taken;
	talk.dataset.state = state === "live" && muted ? "muted" : state;
	show("talk-label", state === "idle" ? words.talk : words.stop);
	byId("hint").hidden = name.disabled = state !== "idle";
	byId("on-air").hidden = !sender.media;
	show("mute", muted ? words.unmute : words.mute);
	byId("mute").dataset.state = muted ? "muted" : "";
}

function count() {
	const time = duration(Date.now() - liveSince);
	show("facts", sender.state === "live" ? `${time} · ${audience(sender.stream)}` : words.notLiveYet);
}
setInterval(count, 1000);
socket.on("streams", count);
socket.on("state", describe);
sender.on("muted", describe);
sender.on("state", () => {
	if (sender.state === "live") liveSince = Date.now();
	changeProblem = null;
	screenLock.set(sender.state === "live");
	askWhatToDo();
	describe();
	count();
});

/** @type {Analyser | null} */
let analyser = null;
let silence = new SilenceDetector();
let timer = 0;

function draw() {
	if (!analyser) return showLevel(talk, -Infinity);
	const db = sender.muted ? -Infinity : analyser.level;
	const now = performance.now();
	if (sender.state !== "live" || sender.muted) silence.reset(now);
	showLevel(byId("meter"), db);
	showLevel(talk, db);
	if (silent !== silence.update(db, now)) {
		silent = !silent;
		describe();
	}
	timer = setTimeout(draw, DRAW_EACH_MS);
}

sender.on("microphone", () => {
	analyser?.close();
	analyser = sender.media && new Analyser(sender.media);
	silence = new SilenceDetector();
	silence.reset(performance.now());
	clearTimeout(timer);
	draw();
	listDevices();
	describe();
});

/** Labels are told only while the microphone is open. */
async function listDevices() {
	const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
	const inputs = devices.filter((one) => one.kind === "audioinput" && one.deviceId !== "default" && one.label);
	if (!inputs.length) return;
	const { deviceId } = sender.settings;
	const options = inputs.map((one) => new Option(one.label, one.deviceId, false, one.deviceId === deviceId));
	device.replaceChildren(device.options[0], ...options);
}
navigator.mediaDevices?.addEventListener("devicechange", listDevices);

/** @type {("echoCancellation" | "noiseSuppression" | "autoGainControl" | "deviceId")[]} */
const fields = ["echoCancellation", "noiseSuppression", "autoGainControl", "deviceId"];
for (const key of fields) {
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
/** @type {HTMLInputElement} */
const intercom = byId("intercom");

function describeEar() {
	show("intercom-state", intercomText(receiver));
	byId("intercom-tap").hidden = receiver.state !== "blocked";
}
ear.on("streams", describeEar);
receiver.on("state", describeEar);
receiver.on("stalled", describeEar);
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
	const { tls_port, certificate_port } = await (await fetch(socket.address("health"))).json();
	if (tls_port) byId("secure-link").href = `https://${location.hostname}:${tls_port}/sender`;
	byId("secure-help").hidden = !certificate_port;
}
if (isSecureContext) talk.disabled = false;
else explainPlainHttp();

/** Home Assistant shows the page in a frame, and not every frame is given the microphone. */
function offerOwnTab() {
	/** @type {any} of one browser only */
	const page = document;
	const policy = page.permissionsPolicy ?? page.featurePolicy; // Firefox has neither: there, pressing tells
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
