import { label, write } from "./copy.js";
import { DeleteLater } from "./delete-later.js";
import { byId, openSocket, show } from "./page.js";
import { RecordingsApi } from "./recordings-api.js";
import { drawWave } from "./wave.js";
import { dayOf, duration, fill, recordingFacts, words } from "./words.js";
/** @import { Recording } from "./recordings-api.js" */

const SEARCH_AFTER_MS = 300;
const UNDO_MS = 8_000;

const socket = openSocket({ pollMs: 5_000, mayReload: () => player.paused });
const api = new RecordingsApi((path) => socket.address(path));
/** @type {HTMLAudioElement} */
const player = byId("player");
/** @type {HTMLInputElement} */
const search = byId("search");
/** By id. @type {Map<string, {recording: Recording, card: HTMLElement}>} */
const shown = new Map();
/** Not shown, whatever a list says that was asked for before; it may still be undone. @type {Set<string>} */
const deleted = new Set();
/** @type {string | null} */
let cursor = null;
/** What is in the player. @type {string | null} */
let chosen = null;
/** Answers to earlier searches are not shown. */
let asked = 0;

/** @template {Element} [T=HTMLElement] @param {Element} card @param {string} selector @returns {T} */
const part = (card, selector) => /** @type {T} */ (card.querySelector(selector));
/** @param {HTMLElement} card @returns {HTMLInputElement} */
const seekOf = (card) => /** @type {HTMLInputElement} */ (part(card, ".seek"));
/** @param {string} id of a template @returns {HTMLElement} */
const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** Says what was refused. @template T @param {Promise<T>} work @returns {Promise<T | undefined>} */
async function attempt(work) {
	try {
		const result = await work;
		show("problem", "");
		return result;
	} catch (error) {
		show("problem", fill(words.serverSays, { message: /** @type {Error} */ (error).message }));
	}
}

/** The list anew, or what follows it. A card whose recording did not change stays, and who uses it does not notice.
 *  @param {number} [wanted] at least so many, if there are as many @param {string | null} [after] a cursor */
async function load(wanted = 0, after = null) {
	const number = ++asked;
	/** @type {Recording[]} */
	const found = [];
	let next = after;
	do {
		const page = await attempt(api.list(search.value, next));
		if (!page || number !== asked) return;
		found.push(...page.recordings);
		next = page.cursor;
	} while (next && found.length < wanted);
	const before = new Map(shown);
	if (!after) shown.clear();
	for (const recording of found) {
		const known = before.get(recording.id);
		const isSame = JSON.stringify(known?.recording) === JSON.stringify(recording);
		shown.set(recording.id, known && isSame ? known : { recording, card: cardOf(recording) });
	}
	cursor = next;
	draw();
}

function draw() {
	/** @type {Map<string, HTMLElement[]>} */
	const days = new Map();
	for (const [id, { recording, card }] of shown) {
		if (deleted.has(id)) continue;
		const day = dayOf(recording.started_at);
		days.set(day, [...(days.get(day) ?? []), card]);
	}
	const sections = [...days].map(([day, cards]) => {
		const section = sectionOf(day);
		arrange(part(section, "ul"), cards);
		return section;
	});
	arrange(byId("days"), sections);
	byId("older").hidden = !cursor;
	const empty = search.value ? words.noneFound : words.noRecordings;
	show("state", days.size ? "" : empty);
}

/** The one that is shown, or a new one. @param {string} day @returns {HTMLElement} */
function sectionOf(day) {
	const isOfDay = (/** @type {Element} */ section) => part(section, "h2").textContent === day;
	const section = [...byId("days").children].find(isOfDay) ?? copyOf("day");
	part(section, "h2").textContent = day;
	return section;
}

/** Gives it these children. Those that are in place are not touched: a press of one, or its focus, would be lost.
 *  @param {HTMLElement} parent @param {HTMLElement[]} children */
function arrange(parent, children) {
	for (const child of [...parent.children]) if (!children.includes(/** @type {HTMLElement} */ (child))) child.remove();
	children.forEach((child, index) => {
		const there = parent.children[index] ?? null;
		if (there !== child) parent.insertBefore(child, there);
	});
}

/** @param {Recording} recording @returns {HTMLElement} */
function cardOf(recording) {
	const { id, talker, state, seconds } = recording;
	const card = copyOf("recording");
	write(part(card, "h3"), talker);
	write(part(card, ".facts"), recordingFacts(recording));
	card.dataset.name = talker;
	const isLive = state === "recording";
	part(card, ".badge").hidden = !isLive;
	write(part(card, ".badge"), words.recordingNow);
	for (const name of [".played", ".play", ".save", ".mp3", ".delete"]) part(card, name).hidden = isLive;
	if (isLive) return card;
	part(card, ".play").onclick = () => toggle(id);
	label(part(card, ".play"), words.play);
	label(part(card, ".delete"), part(card, ".delete").textContent ?? "");
	part(card, ".delete").onclick = () => remove(id);
	/** @type {HTMLAnchorElement} */ (part(card, ".save")).href = api.sound(id, "opus", true);
	/** @type {HTMLAnchorElement} */ (part(card, ".mp3")).href = api.sound(id, "mp3", true);
	const seek = seekOf(card);
	seek.max = String(seconds);
	seek.ariaLabel = fill(words.position, { name: talker });
	seek.oninput = () => seekTo(id, Number(seek.value));
	seen.observe(card);
	card.dataset.id = id;
	return card;
}

/** Waveforms are worked out by the server, so only those that are looked at. */
const seen = new IntersectionObserver(async (entries) => {
	for (const { isIntersecting, target } of entries) {
		if (!isIntersecting) continue;
		seen.unobserve(target);
		const id = /** @type {HTMLElement} */ (target).dataset.id ?? "";
		const found = await api.peaks(id).catch(() => null);
		if (found) drawWave(part(target, ".wave"), found.peaks);
	}
});

/** @param {string} id @param {number} [seconds] */
function choose(id, seconds = 0) {
	if (chosen === id) return;
	stopShowing();
	chosen = id;
	// Safari plays no Opus in Ogg before version 18.4.
	const ending = player.canPlayType("audio/ogg; codecs=opus") ? "opus" : "mp3";
	player.src = api.sound(id, ending);
	player.currentTime = seconds;
}

/** @param {string} id */
function toggle(id) {
	if (chosen === id && !player.paused) return player.pause();
	const card = shown.get(id)?.card;
	if (card) choose(id, Number(seekOf(card).value));
	attempt(player.play());
}

/** @param {string} id @param {number} seconds */
function seekTo(id, seconds) {
	choose(id);
	player.currentTime = seconds;
	showPosition();
}

function stopShowing() {
	player.pause();
	showPosition();
}

/** The position of what plays, on its card. */
function showPosition() {
	const found = chosen && shown.get(chosen);
	if (!found) return;
	const { card, recording } = found;
	const seek = seekOf(card);
	if (document.activeElement !== seek || !player.paused) seek.value = String(player.currentTime);
	seek.setAttribute("aria-valuetext", duration(player.currentTime * 1000));
	card.style.setProperty("--played", `${(100 * player.currentTime) / Math.max(0.1, recording.seconds)}%`);
	label(part(card, ".play"), player.paused ? words.play : words.pause);
}
for (const type of ["play", "pause", "ended", "timeupdate", "seeked"]) player.addEventListener(type, showPosition);

const deletion = new DeleteLater(async (id) => {
	byId("undo").hidden = true;
	if ((await attempt(api.remove(id))) === undefined) keep(id);
}, UNDO_MS);

/** @param {string} id of one that is deleted, by whomever, or is about to be */
function hide(id) {
	if (chosen === id) stopShowing();
	deleted.add(id);
	draw();
}

/** @param {string} id of one that is not deleted after all */
function keep(id) {
	deleted.delete(id);
	draw();
}

/** @param {string} id */
function remove(id) {
	const found = shown.get(id);
	if (!found) return;
	deletion.add(id);
	hide(id);
	byId("undo").hidden = false;
	write(byId("undo-text"), fill(words.deleted, { name: found.recording.talker }));
	byId("undo-button").focus();
}
byId("undo-button").onclick = () => {
	const id = deletion.undo();
	byId("undo").hidden = true;
	if (!id) return;
	keep(id);
	part(shown.get(id)?.card ?? document.body, ".delete")?.focus();
};
addEventListener("pagehide", () => deletion.flush());

let timer = 0;
search.oninput = () => {
	clearTimeout(timer);
	timer = setTimeout(() => load(), SEARCH_AFTER_MS);
};
byId("older").onclick = () => load(0, cursor);

function drawStreams() {
	const items = socket.streams.map((stream) => {
		const item = copyOf("stream");
		write(part(item, ".name"), stream.name);
		const button = part(item, ".record");
		item.dataset.name = stream.name;
		label(button, stream.recording ? words.stopRecording : words.record);
		button.onclick = () => (stream.recording ? stop(stream.stream_id) : record(stream.stream_id));
		return item;
	});
	const list = byId("streams");
	const focused = [...list.children].findIndex((item) => item.contains(document.activeElement));
	list.replaceChildren(...items);
	if (focused >= 0) list.children[focused]?.querySelector("button").focus();
	byId("live").hidden = items.length === 0;
}

/** @param {string} id of a stream */
async function record(id) {
	await attempt(api.start(id));
}

/** @param {string} id of a stream */
async function stop(id) {
	const page = await attempt(api.list(""));
	const recording = page?.recordings.find((one) => one.state === "recording" && one.stream === id);
	if (recording) await attempt(api.stop(recording.id));
}

let drawn = "";
socket.on("streams", () => {
	const facts = JSON.stringify(socket.streams.map(({ stream_id, name, recording }) => [stream_id, name, recording]));
	if (facts === drawn) return;
	drawn = facts;
	drawStreams();
});
socket.on("event", ({ kind, recording }) => {
	if (kind === "recording_deleted") {
		hide(recording);
		// Whoever undoes a deletion of their own that waits does not bring it back.
		shown.delete(recording);
		return;
	}
	socket.send({ type: "get_available_streams" });
	load(shown.size);
});
socket.on("state", () => {
	if (socket.state !== "open") return;
	const kinds = ["recording_started", "recording_ended", "recording_failed", "recording_deleted"];
	socket.send({ type: "subscribe_events", kinds });
	load(shown.size);
});
