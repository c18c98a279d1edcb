// @ts-check
import { VoiceReceiver, VoiceSender, VoiceSocket } from "./voice-client.js";
import { Analyser, showLevel } from "./meter.js";
import { audience, byId, keepAwake, memory, openSocket, show } from "./page.js";
import { problemText } from "./words.js";

/** A press longer than this is a hold: the stream ends with it. */
const HOLD_MS = 400;
/** A microphone that gives less than this for a while is off or muted by a switch of its own. */
const SILENCE_DB = -75;
const SILENT_MS = 5_000;
const PROCESSING = ["echoCancellation", "noiseSuppression", "autoGainControl"];

const socket = openSocket();
const sender = new VoiceSender(socket);
const talk = byId("talk");

// --- The big button -------------------------------------------------------------------------------------------

/** When the press began that started the stream, or 0. */
let heldSince = 0;

function press() {
  if (sender.state !== "idle") return sender.stop();
  heldSince = performance.now();
  sender.name = byId("name").validity.valid ? byId("name").value.trim() : "";
  sender.start();
}

/** A press that only answered the browser's question for permission is no hold. */
function release() {
  if (heldSince && performance.now() - heldSince > HOLD_MS && sender.state !== "asking") sender.stop();
  heldSince = 0;
}

talk.addEventListener("pointerdown", (event) => event.button === 0 && press());
addEventListener("pointerup", release);
addEventListener("pointercancel", release);
addEventListener("blur", release);
talk.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch means talking here
talk.addEventListener("click", (event) => event.detail === 0 && event.isTrusted && !spaceDown && press()); // Enter, screen readers

let spaceDown = false;
const typing = (target) => target !== talk && target.closest("input, select, button, a, summary, dialog");
addEventListener("keydown", (event) => {
  if (event.key !== " " || typing(event.target)) return;
  event.preventDefault();
  if (!event.repeat) press();
  spaceDown = true;
});
addEventListener("keyup", (event) => {
  if (event.key !== " " || !spaceDown) return;
  event.preventDefault();
  spaceDown = false;
  release();
});

byId("mute").onclick = () => (sender.muted = !sender.muted);

// --- What is going on -----------------------------------------------------------------------------------------

let liveSince = 0;

function describe() {
  const { state, problem, muted } = sender;
  const name = sender.stream?.name ?? sender.streamId;
  const words = {
    idle: "Off – nobody hears you",
    asking: "Allow the microphone in your browser",
    connecting: "Connecting…",
    live: muted ? "Muted – listeners hear silence" : `Live as “${name}”`,
    reconnecting: "Coming back…",
  };
  byId("state").textContent = words[state];
  show("problem", socket.state === "waiting" ? "" : problemText(problem));
  talk.dataset.state = state === "live" ? "live" : state === "idle" ? "idle" : "busy";
  talk.setAttribute("aria-pressed", String(state !== "idle"));
  byId("talk-label").textContent = state === "idle" ? "Talk" : "Stop";
  byId("hint").hidden = state !== "idle";
  byId("on-air").hidden = !sender.media;
  byId("mute").textContent = muted ? "Unmute" : "Mute";
  byId("mute").setAttribute("aria-pressed", String(muted));
  byId("name").disabled = state !== "idle";
}

sender.on("muted", describe);
sender.on("state", () => {
  if (sender.state === "live") {
    liveSince = Date.now();
    navigator.vibrate?.(30);
  }
  keepAwake(sender.state === "live");
  describe();
  count();
});

function count() {
  const seconds = Math.floor((Date.now() - liveSince) / 1000);
  const live = sender.state === "live";
  byId("time").textContent = live ? `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}` : "not live yet";
  byId("audience").textContent = sender.stream ? audience(sender.stream) : "…";
}
setInterval(count, 1000);
socket.on("streams", count);

// --- The microphone -------------------------------------------------------------------------------------------

/** @type {Analyser | null} */
let analyser = null;
let heardAt = 0;

function draw() {
  if (!analyser) return;
  const db = sender.muted ? -Infinity : analyser.level;
  const now = performance.now();
  if (db > SILENCE_DB || sender.muted) heardAt = now;
  showLevel(byId("meter"), db);
  showLevel(talk, db);
  const silent = now - heardAt > SILENT_MS && sender.state === "live";
  if (silent) show("problem", "This microphone gives no sound. Is it switched off, or is another one meant?");
  else if (!sender.problem) show("problem", "");
  requestAnimationFrame(draw);
}

sender.on("microphone", () => {
  analyser?.close();
  const idle = !analyser;
  analyser = sender.media && new Analyser(sender.media);
  heardAt = performance.now();
  if (analyser && idle) draw();
  if (!analyser) showLevel(talk, -Infinity);
  listDevices();
  describe();
});

/** Labels are known only once the browser has given leave. */
async function listDevices() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const inputs = devices.filter(({ kind, deviceId, label }) => kind === "audioinput" && deviceId && label);
  const select = byId("device");
  if (!inputs.length) return;
  const chosen = memory.get("device", "");
  const options = inputs.map(({ deviceId, label }) => new Option(label, deviceId, false, deviceId === chosen));
  select.replaceChildren(new Option("The device's own choice", ""), ...options);
  sender.settings.deviceId = select.value;
}
navigator.mediaDevices?.addEventListener("devicechange", listDevices);

/** @param {import("./voice-sender.js").MicrophoneSettings} settings */
async function change(settings) {
  const problem = await sender.change(settings);
  for (const [key, value] of Object.entries(settings)) memory.set(key === "deviceId" ? "device" : key, value);
  if (problem) show("problem", `${problemText(problem)} The last one stays in use.`);
}

byId("device").onchange = () => change({ deviceId: byId("device").value });
for (const key of PROCESSING) {
  const box = byId(key);
  sender.settings[key] = box.checked = memory.get(key, true);
  box.onchange = () => change({ [key]: box.checked });
}
byId("name").value = memory.get("name", "");
byId("name").onchange = () => byId("name").validity.valid && memory.set("name", byId("name").value.trim());

// --- Intercom: a second socket listens ------------------------------------------------------------------------

const ear = new VoiceSocket({ token: socket.token, pollMs: 10_000 });
const receiver = new VoiceReceiver(ear, { skip: (stream) => sender.owns(stream) });

function hear() {
  const words = {
    waiting: "Nobody else is talking.",
    joining: "Joining…",
    playing: `You hear “${receiver.stream?.name ?? receiver.streamId}”.`,
    blocked: "Your browser wants a tap before it plays sound.",
    reconnecting: "Coming back…",
  };
  show("intercom-state", words[receiver.state] ?? "");
  byId("intercom-tap").hidden = receiver.state !== "blocked";
}
receiver.on("state", hear);
byId("intercom-tap").onclick = () => receiver.unblock();
byId("intercom").onchange = ({ target }) => {
  memory.set("intercom", target.checked);
  ear.token = socket.token;
  if (target.checked) ear.open(), receiver.listen();
  else receiver.stop(), ear.close();
};
if (memory.get("intercom", false)) byId("intercom").click();

// --- Coming and going -----------------------------------------------------------------------------------------

addEventListener("pagehide", () => (sender.stop(), ear.close()));
addEventListener("pageshow", ({ persisted }) => persisted && byId("intercom").checked && ear.open());

async function explainInsecurePage() {
  if (isSecureContext) return;
  byId("secure").hidden = false;
  talk.disabled = true;
  const { tls_port } = await (await fetch("health")).json();
  const link = byId("secure-link");
  if (tls_port) link.href = `https://${location.hostname}:${tls_port}/sender`;
  else link.replaceWith("Open it over HTTPS: the settings of the server say how.");
  byId("secure-help").hidden = !tls_port;
}
explainInsecurePage();
listDevices();
describe();
