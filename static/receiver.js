// @ts-check
import { VoiceReceiver } from "./voice-client.js";
import { delayMeter } from "./delay.js";
import { Analyser, Spectrum, showLevel } from "./meter.js";
import { byId, keepAwake, memory, openSocket, show } from "./page.js";
import { problemText, reasonText } from "./words.js";

/** Without the server's picture for this long, the browser draws its own. */
const OWN_PICTURE_AFTER_MS = 2_000;

const socket = openSocket({ pollMs: 5_000 });
const receiver = new VoiceReceiver(socket);
const spectrum = new Spectrum(byId("spectrum"));
const button = byId("listen");
const choice = byId("choice");

// --- The big button -------------------------------------------------------------------------------------------

button.onclick = () => {
  if (receiver.state === "blocked") return receiver.unblock();
  if (receiver.state === "idle") receiver.listen(choice.value || null);
  else receiver.stop();
  memory.set("listening", receiver.state !== "idle");
};

let ending = "";
socket.on("stream_ended", ({ stream_id, reason }) => {
  ending = reasonText(reason);
  if (stream_id === receiver.chosen) describe();
});

function describe() {
  const { state, problem } = receiver;
  const words = {
    idle: "Off",
    waiting: `${ending} Waiting for ${receiver.chosen ? `“${receiver.chosen}”` : "the next voice"}…`.trim(),
    joining: "Joining…",
    playing: `You hear “${receiver.stream?.name ?? receiver.streamId}”`,
    blocked: "Tap once to hear",
    reconnecting: "Coming back…",
  };
  byId("state").textContent = words[state];
  show("problem", socket.state === "waiting" ? "" : problemText(problem));
  button.dataset.state = { idle: "idle", blocked: "idle", playing: "live" }[state] ?? (state === "waiting" ? "wait" : "busy");
  button.setAttribute("aria-pressed", String(state !== "idle" && state !== "blocked"));
  byId("listen-label").textContent = { idle: "Listen", blocked: "Tap to hear" }[state] ?? "Stop";
  byId("hint").hidden = state !== "idle";
  byId("spectrum").hidden = state === "idle";
  byId("route").textContent = receiver.route === "mp3" && state === "playing"
    ? "WebRTC does not get through on this network, so you hear the MP3 stream, which is a little further behind." : "";
  keepAwake(state !== "idle" && byId("awake").checked);
}

// --- The picture ----------------------------------------------------------------------------------------------

/** @type {Analyser | null} */
let analyser = null;
let pictureAt = 0;
/** @type {string | null} */
let watched = null;

socket.on("audio_data", ({ stream_id, level, spectrum: bands }) => {
  if (stream_id !== receiver.streamId || receiver.state !== "playing") return;
  pictureAt = performance.now();
  spectrum.show(bands);
  showLevel(button, level);
});

function watch() {
  const next = receiver.state === "playing" ? receiver.streamId : null;
  if (next !== watched) {
    if (watched) socket.send({ type: "unsubscribe_visualization" });
    if (next) socket.send({ type: "subscribe_visualization", stream_id: next });
    pictureAt = performance.now();
    watched = next;
    measure = null;
  }
  if (next) return;
  spectrum.show(new Array(32).fill(-Infinity));
  showLevel(button, -Infinity);
}

setInterval(() => {
  const own = receiver.state === "playing" && receiver.media && performance.now() - pictureAt > OWN_PICTURE_AFTER_MS;
  if (!own && analyser) {
    analyser.close();
    analyser = null;
  } else if (own) {
    analyser ??= new Analyser(/** @type {MediaStream} */ (receiver.media));
    spectrum.show(analyser.spectrum());
    showLevel(button, analyser.level);
  }
}, 100);

// --- The delay ------------------------------------------------------------------------------------------------

/** @type {ReturnType<typeof delayMeter> | null} */
let measure = null;
const ms = (value) => `${Math.round(value)} ms`;

async function showDelay() {
  const { peer, audio, route, state } = receiver;
  if (state !== "playing") return (byId("delay").textContent = "");
  if (route === "mp3") {
    const ahead = audio.buffered.length ? audio.buffered.end(audio.buffered.length - 1) - audio.currentTime : 0;
    return (byId("delay").textContent = `${ahead.toFixed(1)} s wait in this browser, measured`);
  }
  if (!peer) return;
  measure ??= delayMeter(peer);
  const delay = await measure();
  if (!delay) return;
  const parts = [`buffer ${ms(delay.buffer)}`];
  if (delay.network !== null) parts.unshift(`network ${ms(delay.network)}`);
  if (delay.output !== null) parts.push(`loudspeaker ${ms(delay.output)}`);
  byId("delay").textContent = `${ms(delay.total)} behind the server, measured (${parts.join(" + ")})`;
}
setInterval(showDelay, 2000);

receiver.on("state", () => {
  describe();
  watch();
  showDelay();
});
receiver.on("route", describe);

// --- Settings -------------------------------------------------------------------------------------------------

const volume = byId("volume");
volume.value = memory.get("volume", 100);
volume.oninput = () => {
  receiver.audio.volume = volume.value / 100;
  memory.set("volume", Number(volume.value));
};
volume.oninput();
receiver.audio.volume = 0.5;
byId("volume-help").hidden = receiver.audio.volume === 0.5; // iOS ignores it
volume.oninput();

byId("awake").checked = memory.get("awake", true);
byId("awake").onchange = () => {
  memory.set("awake", byId("awake").checked);
  describe();
};

const asked = new URL(location.href).searchParams.get("stream");
let wantedStream = asked ?? memory.get("stream", "");
function listStreams() {
  const streams = [...socket.streams];
  if (wantedStream && !streams.some((stream) => stream.stream_id === wantedStream)) {
    streams.push({ stream_id: wantedStream, name: `${wantedStream} (not live now)` });
  }
  const options = streams.map(({ stream_id, name }) => new Option(name, stream_id));
  choice.replaceChildren(choice.options[0], ...options);
  choice.value = wantedStream;
}
choice.onchange = () => {
  wantedStream = choice.value;
  memory.set("stream", wantedStream);
  if (receiver.state !== "idle") receiver.listen(wantedStream || null);
};
socket.on("streams", listStreams);

listStreams();
describe();
if (memory.get("listening", false)) receiver.listen(wantedStream || null); // a tablet that restarted in the night
