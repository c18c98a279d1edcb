import { VoiceReceiver, VoiceSender, VoiceSocket } from "./voice-client.js";
import { beep } from "./beep.js";
import { Headset } from "./headset.js";
import { SilenceDetector } from "./levels.js";
import { Analyser, showLevel } from "./meter.js";
import { byId, openSocket, show } from "./page.js";
import { listenForPresses } from "./presses.js";
import { PushToTalk } from "./push-to-talk.js";
import { sayWhatIsRecorded } from "./recorded.js";
import { ScreenLock } from "./screen-lock.js";
import { recall, remember } from "./settings.js";
import { TalkRooms } from "./talk-rooms.js";
import { audience, duration, intercomText, newerText, othersText, problemText, senderText, takenText, words } from "./words.js";

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

/** Whether somebody waits for what becomes of a press. */
let pressed = false;
function startTalking() {
	if (!takeName()) return false;
	if (sender.state === "idle") sender.start();
	else sender.talk();
	return true;
}
const rooms = new TalkRooms(socket, sender, startTalking, () => hearOthers());
const pushToTalk = new PushToTalk(sender, () => {
	rooms.aim();
	return startTalking();
});
const headset = new Headset(() => pushToTalk.click());
listenForPresses(talk, pushToTalk);

function takeName() {
	pressed = name.reportValidity();
	if (pressed) sender.rename(name.value.trim());
	return pressed;
}

function getReady() {
	if (takeName()) sender.arm();
}
byId("arm").onclick = getReady;

let mayArm = recall("talked", false);

/** Once, where the browser gives the microphone without a question, and somebody talked here before. */
async function armByItself() {
	if (!mayArm || socket.state !== "open" || document.hidden) return;
	mayArm = false;
	const asked = navigator.permissions?.query({ name: "microphone" });
	const permission = await asked?.catch(() => null); // not every browser knows of this one
	if (permission?.state !== "granted" || !sender.staysReady || !name.validity.valid) return;
	sender.rename(name.value.trim());
	sender.arm();
}
socket.on("state", armByItself);
document.addEventListener("visibilitychange", armByItself);

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
	taken = pressed && sender.problem?.code === "name_taken" ? sender.name : "";
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
	const { state, muted, talking } = sender;
	const idle = state === "idle";
	show("state", senderText(sender));
	const problem = sender.problem ?? changeProblem ?? (silent && state === "live" ? { code: "silent" } : null);
	show("problem", socket.problem || (pressed && problem?.code === "name_taken") ? "" : problemText(problem));
	byId("taken").hidden = !taken;
	talk.dataset.state = state === "live" && muted ? "muted" : state;
	show("talk-label", talking ? words.stop : words.talk);
	byId("hint").hidden = name.disabled = talking || !(idle || state === "ready");
	byId("arm").hidden = !idle || !sender.staysReady || !isSecureContext;
	byId("on-air").hidden = !sender.media;
	show("mute", state === "ready" ? "" : muted ? words.unmute : words.mute);
	byId("mute").dataset.state = muted ? "muted" : "";
	headset.set(sender.media ? (talking ? "playing" : "paused") : "none");
}

/** Who else talks, or is heard instead of us. */
function describeOthers() {
	const { streams } = socket;
	const others = streams.filter((stream) => !stream.paused && !sender.owns(stream));
	const since = sender.stream ? streams.indexOf(sender.stream) : streams.length;
	const newer = others.filter((stream) => streams.indexOf(stream) > since).at(-1);
	show("others", sender.state === "live" ? newerText(newer) : othersText(others));
}

function count() {
	const time = duration(Date.now() - liveSince);
	const facts = sender.state === "ready" ? words.nothingSent : words.notLiveYet;
	show("facts", sender.state === "live" ? `${time} · ${audience(sender.audience)}` : facts);
	describeOthers();
}
setInterval(count, 1000);
socket.on("streams", count);
sayWhatIsRecorded(socket, () => sender.state === "live" && sender.stream?.recording === true);
socket.on("state", describe);
sender.on("muted", describe);
sender.on("talking", describe);
sender.on("state", () => {
	if (sender.state === "live") wentLive();
	if (sender.state === "ready" && !sender.talking) pressed = sender.muted = false;
	changeProblem = null;
	screenLock.set(sender.state === "live");
	askWhatToDo();
	describe();
	count();
});

function wentLive() {
	liveSince = Date.now();
	remember("talked", true);
	if (byId("beep").checked) beep();
}

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
	showLevel(talk, sender.state === "ready" ? -Infinity : db);
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
name.onchange = () => {
	if (!name.validity.valid) return;
	remember("name", name.value.trim());
	sender.rename(name.value.trim());
};

/** @type {HTMLInputElement} */
const staysReady = byId("stays-ready");
sender.staysReady = staysReady.checked = recall("staysReady", true);
staysReady.onchange = () => {
	remember("staysReady", (sender.staysReady = staysReady.checked));
	if (staysReady.checked) getReady();
	else if (!sender.talking) sender.stop();
	describe();
};
/** @type {HTMLInputElement} */
const holdOn = byId("hold-on");
holdOn.valueAsNumber = sender.holdOnMs = recall("holdOnMs", sender.holdOnMs);
holdOn.onchange = () => {
	if (holdOn.value && holdOn.validity.valid) remember("holdOnMs", (sender.holdOnMs = holdOn.valueAsNumber));
};
byId("beep").checked = recall("beep", false);
byId("beep").onchange = () => remember("beep", byId("beep").checked);

/** The intercom's ear: a second socket, deaf to this page's own stream. */
const ear = new VoiceSocket({ pollMs: 10_000 });
/** Ids of that: its name, and what the server called it last. @type {string[]} */
let own = [];
const receiver = new VoiceReceiver(ear, { except: () => own });
/** @type {HTMLInputElement} */
const intercom = byId("intercom");

function describeEar() {
	receiver.audio.muted = receiver.shared && sender.talking;
	show("intercom-state", intercomText(receiver));
	byId("intercom-tap").hidden = receiver.state !== "blocked";
}
ear.on("streams", describeEar);
receiver.on("state", describeEar);
receiver.on("stalled", describeEar);
sender.on("talking", describeEar);
byId("intercom-tap").onclick = () => receiver.unblock();
intercom.checked = recall("intercom", false);
intercom.onchange = hearOthers;

name.addEventListener("change", hearOthers);

function hearOthers() {
	own = [...new Set([name.value.trim(), sender.streamId ?? ""])].filter(Boolean);
	remember("intercom", intercom.checked);
	if (!intercom.checked) {
		receiver.stop();
		ear.close();
	} else if (socket.state === "open") {
		ear.token = socket.token;
		ear.open();
		receiver.listen(rooms.toHear);
	}
}
socket.on("state", hearOthers);
socket.on("sender_ready", hearOthers);
addEventListener("pagehide", () => ear.close());

async function explainPlainHttp() {
	byId("secure").hidden = false;
	const { tls_port, certificate_port } = await socket.ask("health");
	if (tls_port) byId("secure-link").href = `https://${location.hostname}:${tls_port}/sender`;
	byId("secure-help").hidden = !certificate_port;
}
if (isSecureContext) talk.disabled = false;
else explainPlainHttp();
rooms.draw();

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
