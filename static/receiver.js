import { VoiceReceiver, isSameStream } from "./voice-client.js";
import { copy } from "./copy.js";
import { delayMeter } from "./delay.js";
import { SILENCE } from "./levels.js";
import { Analyser, showLevel, showSpectrum } from "./meter.js";
import { sayWhatPlays } from "./now-playing.js";
import { OnlyTab } from "./only-tab.js";
import { byId, openSocket, show } from "./page.js";
import { sayWhatIsRecorded } from "./recorded.js";
import { isRoom, roomName } from "./rooms.js";
import { ScreenLock } from "./screen-lock.js";
import { recall, remember } from "./settings.js";
import { Standing } from "./standing.js";
import { behindText, fill, isolate, listenLabel, problemText, receiverText, turnText, unheardText, words } from "./words.js";

/** Without the server's picture for so long, we draw our own. */
const OWN_PICTURE_AFTER_MS = 2_000;
/** Who took over is told for so long. */
const TURN_SHOWN_MS = 6_000;

const socket = openSocket({ pollMs: 5_000, mayReload: () => receiver.state === "idle" });
const receiver = new VoiceReceiver(socket);
const screenLock = new ScreenLock();
/** @type {HTMLButtonElement} */
const button = byId("listen");
/** @type {HTMLSelectElement} */
const choice = byId("choice");
/** @type {HTMLInputElement} */
const volume = byId("volume");
/** @type {HTMLInputElement} */
const awake = byId("awake");
/** The stream that was heard last. @type {string | null} */
let last = null;

/** The address of a stream, or nothing for the newest. @type {string} */
let wanted = wantedAtFirst();

function wantedAtFirst() {
	const { searchParams } = new URL(location.href);
	const room = searchParams.get("room");
	return searchParams.get("stream") ?? (room ? `room:${room}` : recall("stream", ""));
}
const standing = new Standing(socket, receiver, () => wanted, () => {
	listStreams();
	describe();
});

button.onclick = toggle;
button.disabled = false;
sayWhatPlays(socket, receiver, toggle);
sayWhatIsRecorded(socket, () => receiver.state !== "idle" && receiver.stream?.recording === true);

const onlyTab = new OnlyTab("receiver", () => {
	receiver.stop();
	byId("other-tab").hidden = false;
});
byId("listen-here").onclick = () => {
	onlyTab.takeOver();
	listen();
};

function toggle() {
	last = before = null;
	if (receiver.state === "blocked") return receiver.unblock();
	if (receiver.state === "idle") return start();
	receiver.stop();
	onlyTab.release();
	remember("listening", false);
}

async function start() {
	if (await onlyTab.claim()) listen();
	else byId("other-tab").hidden = false;
}

function listen() {
	byId("other-tab").hidden = true;
	receiver.listen(wanted || null);
	remember("listening", true);
}

function describe() {
	const { state, problem, route } = receiver;
	show("state", receiverText(receiver, last));
	show("problem", socket.problem ? "" : problemText(problem));
	show("listen-label", listenLabel(state));
	button.dataset.state = state;
	byId("hint").hidden = state !== "idle";
	byId("spectrum").hidden = state !== "playing";
	const mp3 = route === "mp3" && state === "playing";
	show("route", mp3 ? words.mp3 : "");
	screenLock.set(state !== "idle" && awake.checked);
	standing.describe();
	sayWhoIsNotHeard();
}

/** Others who talk, while one voice is heard alone. */
function sayWhoIsNotHeard() {
	const isAlone = receiver.state === "playing" && !isRoom(receiver.chosen);
	const others = isAlone ? socket.streams.filter((stream) => !stream.paused && stream.stream_id !== receiver.streamId) : [];
	show("unheard", unheardText(others));
}

/** @type {Analyser | null} */
let analyser = null;
let pictureAt = 0;
/** The stream whose picture the server sends. @type {string | null} */
let watched = null;
/** @type {ReturnType<typeof delayMeter> | null} */
let measure = null;

/** @param {readonly number[]} bands @param {number} level in dBFS, as the bands */
function draw(bands, level) {
	showSpectrum(byId("spectrum"), bands);
	showLevel(button, level);
}

socket.on("audio_data", ({ stream_id, level, spectrum: bands }) => {
	if (stream_id !== watched) return;
	pictureAt = performance.now();
	draw(bands, level);
});

function watch() {
	const heard = isRoom(receiver.chosen) ? receiver.chosen : receiver.streamId;
	const next = receiver.state === "playing" ? heard : null;
	if (next === watched) return;
	if (watched) socket.send({ type: "unsubscribe_visualization" });
	if (next) socket.send({ type: "subscribe_visualization", stream_id: next });
	watched = next;
	pictureAt = performance.now();
	draw(SILENCE, -Infinity);
}

socket.on("state", () => {
	if (socket.state === "open") watched = null; // nothing of what the last socket was asked for
	watch();
	describe();
});

setInterval(() => {
	if (watched && receiver.media && performance.now() - pictureAt > OWN_PICTURE_AFTER_MS) {
		analyser ??= new Analyser(receiver.media);
		draw(analyser.spectrum, analyser.level);
	} else {
		analyser?.close();
		analyser = null;
	}
}, 100);

async function showDelay() {
	const { peer, route, state, behindS } = receiver;
	if (state !== "playing") return show("delay", "");
	if (route === "mp3") {
		return show("delay", behindText(behindS));
	}
	measure ??= peer && delayMeter(peer);
	const latency = await measure?.();
	if (latency) show("delay", latency);
}
setInterval(showDelay, 2000);

/** The voice before, as long as nobody chose another one. @type {string | null} */
let before = null;
let turnTimer = 0;

function sayWhoTookOver() {
	const { stream, streamId } = receiver;
	if (isRoom(receiver.chosen)) return; // there one does not take over from another
	if (receiver.state !== "playing" || !stream || streamId === before) return;
	const { streams } = socket; // the oldest first; one that begins is listed a moment later
	const older = streams.includes(stream) ? streams.slice(0, streams.indexOf(stream)) : streams;
	const other = older.find(({ stream_id }) => stream_id === before);
	before = streamId;
	clearTimeout(turnTimer);
	show("turn", other ? turnText(stream.name, other.name) : "");
	turnTimer = setTimeout(() => show("turn", ""), TURN_SHOWN_MS);
}

receiver.on("state", () => {
	sayWhoTookOver();
	if (receiver.state === "playing") last = receiver.streamId;
	describe();
	watch();
	showDelay();
});
receiver.on("route", () => {
	analyser?.close();
	analyser = measure = null; // they are of the connection that plays
	describe();
});

receiver.audio.volume = 0.5;
byId("volume-help").hidden = receiver.audio.volume === 0.5; // iOS leaves it at 1
volume.value = recall("volume", 100);
function setVolume() {
	receiver.audio.volume = Number(volume.value) / 100;
	remember("volume", volume.value);
	describe();
}
volume.oninput = setVolume;
setVolume();

awake.disabled = !screenLock.available;
byId("awake-help").hidden = screenLock.available || isSecureContext; // an old browser has no locks at all
receiver.on("stalled", describe);
awake.checked = screenLock.available && recall("awake", true);
awake.onchange = () => {
	remember("awake", awake.checked);
	describe();
};

/** The address of this page says which stream it plays: for a bookmark, a reload, and another device. */
function showAddress() {
	const address = new URL(location.href);
	/** @param {string} key @param {string} value */
	const put = (key, value) => (value ? address.searchParams.set(key, value) : address.searchParams.delete(key));
	put("stream", isRoom(wanted) ? "" : wanted);
	put("room", isRoom(wanted) ? roomName(wanted) : "");
	if (address.href !== location.href) history.replaceState(null, "", address);
	address.searchParams.delete("token");
	show("address", address.href);
	if (!byId("share").open) return;
	showCode("address-code", address.href);
	showCertificate();
}

/** @param {string} id of the picture @param {string} address */
function showCode(id, address) {
	byId(id).src = socket.address(`qr.svg?text=${encodeURIComponent(address)}`);
}

/** Its page is for devices that do not trust this server yet: over plain HTTP, wherever this page came from. */
async function showCertificate() {
	const { certificate_port } = await socket.ask("health");
	byId("trust").hidden = !certificate_port;
	if (!certificate_port) return;
	const page = `http://${location.hostname}:${certificate_port}/certificate`;
	byId("certificate").href = page;
	showCode("certificate-code", page);
}
byId("share").ontoggle = showAddress;
byId("copy-address").onclick = () => copy(byId("address").textContent, byId("copy-address"));

function listStreams() {
	const options = socket.streams.map(({ stream_id, name }) => new Option(isolate(name), stream_id));
	const listed = options.find(({ value }) => isSameStream(value, wanted));
	if (wanted && !listed && !isRoom(wanted)) options.push(new Option(fill(words.notLive, { name: wanted }), wanted));
	const rooms = standing.options(wanted);
	choice.replaceChildren(choice.options[0], ...options, ...rooms);
	choice.value = listed?.value ?? standing.idOf(wanted);
}
choice.onchange = () => {
	before = null;
	wanted = choice.value;
	remember("stream", wanted);
	showAddress();
	if (receiver.state !== "idle") receiver.listen(wanted || null);
	describe();
};
socket.on("streams", () => {
	listStreams();
	describe();
});

listStreams();
showAddress();
describe();
if (recall("listening", false)) start(); // after a restart in the night
