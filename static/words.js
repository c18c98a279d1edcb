/** @import { Problem, SocketState, Stream } from "./voice-socket.js" */
/** @import { ReceiverState, VoiceReceiver } from "./voice-receiver.js" */
/** @import { SenderState, VoiceSender } from "./voice-sender.js" */
import { EVERYONE, isRoom, roomName } from "./rooms.js";
import english from "./words-en.js";

/** In the page's language, which the server chose: another one than English comes before this script.
 *  @type {typeof english} */
export const words = /** @type {any} */ (globalThis).voiceWords ?? english;
const language = globalThis.document?.documentElement?.lang || "en";
/** The visitor's own variants of it come first: they tell how to write the time. */
const locales = [...(globalThis.navigator?.languages ?? []), language].filter((one) => one.split("-")[0] === language);
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

/** A name for use in a sentence: one with letters of a script from right to left would reorder the words around it, so
 *  it is isolated (UAX #9 section 2.4). @param {string} name */
export const isolate = (name) => (RIGHT_TO_LEFT.test(name) ? `\u2068${name}\u2069` : name);

/** @param {string} text with `{key}` for values @param {Record<string, string | number>} values */
export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, key) => isolate(String(values[key])));

/** @param {number} number @param {number} [digits] after the point */
const digitsOf = (number, digits = 0) =>
	number.toLocaleString(locales, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** The plural form for a number. @param {Record<string, string>} forms @param {number} n */
const plural = (forms, n) => fill(forms[new Intl.PluralRules(locales).select(n)] ?? forms.other, { n: digitsOf(n) });

/** @type {Record<string, string>} */
const problems = words.problems;

/** Some of what the forms name. @param {Record<string, string>} forms @param {number} n */
export const countText = (forms, n) => plural(forms, n);

/** A sentence or two, or nothing. @param {Problem | null} [problem] */
export function problemText(problem) {
	if (!problem) return "";
	return problems[problem.code] ?? fill(words.serverSays, { message: problem.message ?? problem.code });
}

/** The question to somebody who wants to talk under a name that is in use. @param {string} name */
export const takenText = (name) => fill(words.taken, { name });

/** Who hears a stream. @param {Pick<Stream, "receivers" | "listeners">} [stream] */
export function audience({ receivers = 0, listeners = 0 } = {}) {
	const counts = [receivers && plural(words.receivers, receivers), listeners && plural(words.listeners, listeners)];
	return counts.filter(Boolean).join(", ") || words.nobodyListens;
}

/** Since when a stream is live, where the server tells, and who hears it. @param {Stream} stream */
export function streamFacts(stream) {
	if (stream.started_at === undefined) return audience(stream);
	return fill(words.since, { time: clock(stream.started_at), audience: audience(stream) });
}

/** Some names in a sentence, quoted. @param {readonly string[]} names */
const quotedList = (names) => listOf(names.map((name) => fill(words.quoted, { name })));

/** @param {readonly string[]} items */
const listOf = (items) => new Intl.ListFormat(locales, { style: "long", type: "conjunction" }).format(items);

/** What a receiver that plays hears. @param {Pick<VoiceReceiver, "stream" | "streamId" | "stalled">
 *  & {audio: {volume: number}, voices?: readonly {name: string}[]}} receiver */
export function heard({ stream, streamId, stalled, audio, voices = [] }) {
	const name = stream?.name ?? (streamId && isRoom(streamId) ? roomName(streamId) : streamId) ?? "";
	if (voices.length > 1 && audio.volume) return fill(words.youHearAll, { list: quotedList(voices.map((one) => one.name)) });
	if (!stream?.paused && stalled) return fill(words.stalledFrom, { name });
	if (!stream?.paused && audio.volume === 0) return fill(words.volume0, { name });
	return fill(stream?.paused ? words.silent : words.youHear, { name });
}

/** To a listener: one voice has taken over from another, which goes on unheard. @param {string} now @param {string} before */
export const turnText = (now, before) => fill(words.turn, { now, before });

/** @param {SocketState} state */
export function connectionText(state) {
	if (state === "connecting") return words.connecting;
	return state === "open" ? words.connected : words.offline;
}

/** What the talk page is doing. @param {Pick<VoiceSender, "state" | "talking" | "muted" | "stream" | "streamId">} sender */
export function senderText({ state, talking, muted, stream, streamId }) {
	const live = fill(words.liveAs, { name: stream?.name ?? streamId ?? "" });
	/** @type {Record<SenderState, string>} */
	const texts = {
		idle: words.senderOff,
		asking: words.asking,
		connecting: words.connecting,
		ready: talking ? words.starting : words.ready,
		live: stream?.paused ? words.senderPaused : muted ? words.senderMuted : live,
		reconnecting: words.reconnecting,
	};
	return texts[state];
}

/** Who else is talking, newest last. @param {readonly {name: string}[]} streams */
export function othersText(streams) {
	if (!streams.length) return "";
	const names = streams.slice(-3).map(({ name }) => fill(words.quoted, { name }));
	if (streams.length > 3) names.push(plural(words.more, streams.length - 3));
	const list = listOf(names);
	return fill(streams.length === 1 ? words.isTalking : words.areTalking, { list });
}

/** Whom the round button talks to, or the voice is for. @param {readonly string[]} rooms @param {boolean} talking */
export function whomText(rooms, talking) {
	if (!rooms.length) return talking ? "" : words.talksToEveryone;
	return fill(talking ? words.heardInRooms : words.talksToRooms, { list: listOf(rooms.map(isolate)) });
}

/** Who is in a room, and what goes on there.
 *  @param {import("./rooms.js").Room} room @param {readonly {name: string}[]} talking who else does, there */
export function roomFacts({ receivers, listeners, quiet_until, quiet_receivers, exclusive }, talking) {
	const facts = [
		receivers || listeners ? audience({ receivers, listeners }) : words.nobodyThere,
		othersText(talking),
		exclusive && words.oneAtATime,
		quiet_until && fill(words.quietUntil, { time: clock(quiet_until) }),
		!quiet_until && quiet_receivers && plural(words.quietReceivers, quiet_receivers),
	];
	return facts.filter(Boolean).join(" · ");
}

/** @param {number} untilS Unix seconds */
export const quietText = (untilS) => fill(words.onlyUrgent, { time: clock(untilS) });

/** @param {number} unixS */
const clock = (unixS) => new Date(unixS * 1000).toLocaleTimeString(locales, { timeStyle: "short" });

/** To a listener: who talks as well. @param {readonly {name: string}[]} others */
export const unheardText = (others) =>
	others.length ? fill(words.notHeard, { list: quotedList(others.map((one) => one.name)) }) : "";

/** To somebody who talks. @param {Stream} [stream] that began later */
export const newerText = (stream) => (stream ? fill(words.newer, { name: stream.name }) : "");

/** On the button that chooses a key. @param {string} code the chosen key's, if any @param {boolean} learns */
export const keyText = (code, learns) => (learns ? words.pressKey : code || words.chooseKey);

/** What the listen page is doing.
 *  @param {Pick<VoiceReceiver, "state" | "chosen"> & Parameters<typeof heard>[0]} receiver
 *  @param {string | null} last the stream that was heard last */
export function receiverText(receiver, last) {
	const { state, chosen } = receiver;
	const room = chosen && isRoom(chosen) && roomName(chosen);
	const ended = last && !room && (chosen ?? last) === last;
	const named = chosen ? fill(words.waitingFor, { name: chosen }) : words.waitingForNext;
	const waiting = room ? (chosen === EVERYONE ? words.waitingForNext : fill(words.waitingIn, { name: room })) : named;
	/** @type {Record<ReceiverState, string>} */
	const texts = {
		idle: words.off,
		waiting: ended ? `${words.ended} ${waiting}` : waiting,
		joining: words.joining,
		playing: heard(receiver),
		blocked: words.tapOnce,
		reconnecting: words.reconnecting,
	};
	return texts[state];
}

/** What a press of a listen button does. @param {ReceiverState} state */
export function listenLabel(state) {
	if (state === "blocked") return words.tap;
	return state === "idle" ? words.listen : words.stop;
}

/** Below a stream of the overview. @param {ReceiverState} state @param {Problem | null} problem
 *  @param {boolean} stalled as `VoiceReceiver.stalled` */
export function cardText(state, problem, stalled) {
	if (state === "idle") return "";
	if (state === "playing") return stalled ? words.stalled : words.youHearThis;
	return state === "joining" ? words.joining : problemText(problem);
}

/** The intercom. @param {Pick<VoiceReceiver, "state" | "problem"> & Parameters<typeof heard>[0]} receiver */
export function intercomText(receiver) {
	const { state, problem } = receiver;
	if (state === "idle") return "";
	if (state === "waiting") return words.nobodyElse;
	return state === "playing" ? heard(receiver) : problemText(problem) || words.joining;
}

/** How late the MP3 is. @param {number | null} behindS null where that is not known */
export const behindText = (behindS) => (behindS === null ? "" : fill(words.behindLive, { n: digitsOf(behindS, 1) }));

/** How late WebRTC is. @param {number} seconds @param {boolean} toTheEar whether the loudspeaker is part of it */
export const latencyText = (seconds, toTheEar) =>
	fill(toTheEar ? words.behindServer : words.behindServerInside, { n: digitsOf(seconds * 1000) });

/** A day, in words where it is near. @param {string} time ISO 8601 @param {Date} [now] */
export function dayOf(time, now = new Date()) {
	const day = new Date(time);
	const days = Math.round((startOf(day) - startOf(now)) / 86_400_000);
	if (days === 0 || days === -1) {
		const near = new Intl.RelativeTimeFormat(locales, { numeric: "auto" }).format(days, "day");
		return near.charAt(0).toLocaleUpperCase(locales) + near.slice(1);
	}
	return day.toLocaleDateString(locales, { dateStyle: "full" });
}

/** The midnight before. @param {Date} at @returns {number} */
const startOf = (at) => new Date(at.getFullYear(), at.getMonth(), at.getDate()).getTime();

/** When a recording began and how long it is. @param {{started_at: string, seconds: number}} recording */
export function recordingFacts({ started_at, seconds }) {
	return fill(words.recordedAt, { time: clock(Date.parse(started_at) / 1000), length: duration(seconds * 1000) });
}

/** The page of a player that plays nothing: a headline and what to do. @param {boolean | undefined} live undefined where
 *  the server does not answer @param {boolean} pressed */
export function waitingText(live, pressed) {
	if (live === undefined) return words.noAnswer;
	if (live) return pressed ? [words.joining, ""] : words.isLive;
	return pressed ? words.nobodyNow : words.nobodyYet;
}

/** A length of time as hours, minutes and seconds. @param {number} ms */
export function duration(ms) {
	const seconds = Math.max(0, Math.floor(ms / 1000)); // a clock may be set back
	const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
	return parts.map((part) => String(part).padStart(2, "0")).join(":");
}
