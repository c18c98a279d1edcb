// @ts-check
import { VoiceReceiver } from "./voice-client.js";
import { showLevel } from "./meter.js";
import { audience, byId, openSocket } from "./page.js";
import { problemText } from "./words.js";

const socket = openSocket();
const receiver = new VoiceReceiver(socket);
/** @type {Map<string, HTMLElement>} by stream id */
const cards = new Map();
let audioPort = "";

/** The address that players are given: the audio server's, which is plain HTTP. @param {string} id */
function mp3Address(id) {
  const path = `stream/${encodeURIComponent(id)}.mp3`;
  if (!audioPort) return socket.address(path);
  const url = new URL(`http://${location.hostname}:${audioPort}/${path}`);
  if (socket.token) url.searchParams.set("token", socket.token);
  return url.href;
}

/** @param {string} text @param {HTMLElement} button */
async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain HTTP has no clipboard interface; the old way needs a selection.
    const field = document.createElement("textarea");
    field.value = text;
    button.after(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = label), 1500);
}

/** @param {string} id @returns {HTMLElement} */
function newCard(id) {
  const card = byId("stream").content.firstElementChild.cloneNode(true);
  card.querySelector(".copy").onclick = ({ target }) => copy(mp3Address(id), target);
  card.querySelector(".listen").onclick = () => {
    if (receiver.state === "blocked") receiver.unblock();
    else if (receiver.state !== "idle" && receiver.chosen === id) receiver.stop();
    else receiver.listen(id);
  };
  byId("streams").append(card);
  cards.set(id, card);
  if (socket.state === "open") socket.send({ type: "subscribe_visualization", stream_id: id });
  return card;
}

function draw() {
  const live = new Set(socket.streams.map((stream) => stream.stream_id));
  for (const [id, card] of cards) {
    if (live.has(id)) continue;
    card.remove();
    cards.delete(id);
  }
  for (const stream of socket.streams) {
    const card = cards.get(stream.stream_id) ?? newCard(stream.stream_id);
    const since = new Date((stream.started_at ?? 0) * 1000).toLocaleTimeString([], { timeStyle: "short" });
    card.querySelector("h2").textContent = stream.name;
    card.querySelector(".facts").textContent = `Since ${since} · ${audience(stream)}`;
    const mine = receiver.state !== "idle" && receiver.chosen === stream.stream_id;
    card.querySelector(".listen").textContent = mine ? (receiver.state === "blocked" ? "Tap to hear" : "Stop") : "Listen";
    const words = { playing: "You hear this voice.", joining: "Joining…", reconnecting: problemText(receiver.problem) };
    card.querySelector(".said").textContent = mine ? (words[receiver.state] ?? "") : "";
  }
  byId("empty").hidden = live.size > 0;
  const said = live.size ? `${live.size} live: ${socket.streams.map((stream) => stream.name).join(", ")}` : "Nobody is talking";
  if (byId("state").textContent !== said) byId("state").textContent = said;
}
socket.on("streams", draw);
receiver.on("state", draw);
socket.on("audio_data", ({ stream_id, level }) => {
  const meter = /** @type {HTMLElement | null} */ (cards.get(stream_id)?.querySelector(".meter"));
  if (meter) showLevel(meter, level);
});
socket.on("stream_ended", ({ stream_id }) => receiver.chosen === stream_id && receiver.stop());

async function showLatest() {
  const status = await fetch(socket.address("stream/status")).then((reply) => reply.json(), () => ({}));
  audioPort = status.audio_port ?? "";
  byId("latest").textContent = mp3Address("latest");
}
byId("copy-latest").onclick = ({ target }) => copy(mp3Address("latest"), target);
showLatest();
