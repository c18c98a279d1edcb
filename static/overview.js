import { VoiceReceiver } from "./voice-client.js";
import { showLevel } from "./meter.js";
import { copy, label, write } from "./copy.js";
import { sayWhatPlays } from "./now-playing.js";
import { byId, openSocket, show } from "./page.js";
import { cardText, fill, listenLabel, streamFacts, words } from "./words.js";

const socket = openSocket({ mayReload: () => receiver.state === "idle" });
const receiver = new VoiceReceiver(socket);
/** By stream id. @type {Map<string, HTMLElement>} */
const cards = new Map();
let audioPort = 0;

/** Players get the audio server's own address, which is plain HTTP. @param {string} id */
function mp3Address(id) {
	const path = `stream/${encodeURIComponent(id)}.mp3`;
	return socket.address(audioPort ? `http://${location.hostname}:${audioPort}/${path}` : path);
}

/** A part of a card, which the page's template has.
 *  @param {HTMLElement} card @param {string} selector @returns {HTMLElement} */
const part = (card, selector) => /** @type {HTMLElement} */ (card.querySelector(selector));

/** The button of a card, or the device's play key for the stream that was chosen. @param {string | null} id */
function press(id) {
	if (receiver.chosen !== id || receiver.state === "idle") receiver.listen(id);
	else if (receiver.state === "blocked") receiver.unblock();
	else receiver.stop();
	draw();
}

/** @param {string} id of a stream @returns {HTMLElement} */
function newCard(id) {
	const card = byId("stream").content.firstElementChild.cloneNode(true);
	const copyButton = part(card, ".copy");
	copyButton.onclick = () => copy(mp3Address(id), copyButton);
	part(card, ".listen").onclick = () => press(id);
	byId("streams").append(card);
	cards.set(id, card);
	socket.send({ type: "subscribe_visualization", stream_id: id });
	return card;
}

function draw() {
	const { streams } = socket;
	for (const [id, card] of cards) {
		if (streams.some((stream) => stream.stream_id === id)) continue;
		card.remove();
		cards.delete(id);
	}
	for (const stream of streams) {
		const { stream_id, name, paused } = stream;
		const card = cards.get(stream_id) ?? newCard(stream_id);
		/** @param {string} selector @param {string} text */
		const set = (selector, text) => write(part(card, selector), text);
		const state = receiver.chosen === stream_id ? receiver.state : "idle";
		if (card.dataset.name !== name) {
			card.dataset.name = name;
			set("h2", name);
			label(part(card, ".copy"), words.copyMp3);
		}
		set(".badge", paused ? words.paused : words.live);
		set(".facts", streamFacts(stream));
		set(".recorded", stream.recording ? words.recorded : "");
		label(part(card, ".listen"), listenLabel(state));
		set(".said", cardText(state, receiver.problem, receiver.stalled && !paused));
	}
	byId("empty").hidden = streams.length > 0 || socket.state !== "open";
	show("state", streams.map(({ name }) => fill(words.liveStream, { name })).join(", "));
}
socket.on("streams", draw);
receiver.on("state", draw);
receiver.on("stalled", draw);
sayWhatPlays(socket, receiver, () => press(receiver.chosen));
socket.on("audio_data", ({ stream_id, level }) => {
	const card = cards.get(stream_id);
	if (card) showLevel(part(card, ".meter"), level);
});
socket.on("state", async () => {
	draw();
	if (socket.state !== "open") return;
	({ audio_port: audioPort = 0 } = await socket.ask("stream/status"));
	show("latest", mp3Address("latest"));
});
socket.on("health", ({ cluster = null }) => (byId("cluster").hidden = !cluster));
const copyLatest = byId("copy-latest");
copyLatest.onclick = () => copy(mp3Address("latest"), copyLatest);
