/** @import { Problem, SocketState, Stream } from "./voice-socket.js" */
/** @import { ReceiverState, VoiceReceiver } from "./voice-receiver.js" */
/** @import { SenderState, VoiceSender } from "./voice-sender.js" */

/** What went wrong and what to do about it, by `Problem.code`. @type {Record<string, string>} */
const PROBLEMS = {
	unreachable: "The server does not answer. Is it running, are you on its network? Trying again.",
	lost: "The connection broke. Coming back by itself.",
	stopping: "The server is restarting. Coming back by itself.",
	full: "The server is full. Close another page; trying again.",
	forbidden: "The server does not accept this address. Open the page from the server.",
	refused: "The server refuses; its log says why. Trying again.",
	unauthorized: "This server asks for a token.",
	insecure: "Browsers give the microphone only to secure pages. Open this page over HTTPS.",
	denied: "The microphone is blocked. Allow it at the left of the address bar, then press again.",
	"no-microphone": "There is no microphone. Plug one in and press again.",
	busy: "Another program holds the microphone. Close it, then press again.",
	unplugged: "The microphone was unplugged. Choose another one, then press again.",
	microphone: "The microphone does not open. Choose another one, then press again.",
	silent: "This microphone gives no sound. Is it switched off, or is another one meant?",
	name_kept: "This name is in use and cannot be taken over. Choose another one.",
	replaced: "Somebody else talks under this name now. Choose another, or press to take it back.",
	idle: "Nobody listened for long, so the server ended your stream. Press to talk again.",
	unused: "Nobody pressed for 10 minutes, so your microphone was released. Press to talk, or get ready first.",
	"no-media": "No sound gets through: does a firewall block UDP? Trying again.",
	blocked: "Your browser wants a tap before it plays sound.",
	paused: "Paused by this device. Tap to go on.",
};

/** A sentence or two, or nothing. @param {Problem | null} [problem] */
export function problemText(problem) {
	if (!problem) return "";
	return PROBLEMS[problem.code] ?? `The server says: ${problem.message ?? problem.code}. Press to try again.`;
}

/** The question to somebody who wants to talk under a name that is in use. @param {string} name */
export const takenText = (name) => `“${name}” is in use: take over?`;

/** Who hears a stream. @param {Pick<Stream, "receivers" | "listeners">} [stream] */
export function audience({ receivers = 0, listeners = 0 } = {}) {
	/** @param {number} number @param {string} word @returns {string[]} */
	const count = (number, word) => (number ? [`${number} ${word}${number === 1 ? "" : "s"}`] : []);
	return [...count(receivers, "receiver"), ...count(listeners, "MP3 listener")].join(", ") || "nobody listens yet";
}

/** Since when a stream is live, where the server tells, and who hears it. @param {Stream} stream */
export function streamFacts(stream) {
	if (stream.started_at === undefined) return audience(stream);
	const since = new Date(stream.started_at * 1000).toLocaleTimeString([], { timeStyle: "short" });
	return `Since ${since} · ${audience(stream)}`;
}

/** What a receiver that plays hears. @param {Pick<VoiceReceiver, "stream" | "streamId" | "stalled">
 *  & {audio: {volume: number}}} receiver */
export function heard({ stream, streamId, stalled, audio }) {
	const name = `“${stream?.name ?? streamId}”`;
	if (!stream?.paused && stalled) return `No sound arrives from ${name}. Does the network let UDP through?`;
	if (!stream?.paused && audio.volume === 0) return `${name} plays at volume 0`;
	return stream?.paused ? `${name} is silent for now…` : `You hear ${name}`;
}

/** To a listener: one voice has taken over from another, which goes on unheard. @param {string} now @param {string} before */
export const turnText = (now, before) => `“${now}” talks now, after “${before}”`;

/** @param {SocketState} state */
export function connectionText(state) {
	if (state === "connecting") return "Connecting…";
	return state === "open" ? "Connected" : "Offline";
}

/** What the talk page is doing. @param {Pick<VoiceSender, "state" | "talking" | "muted" | "stream" | "streamId">} sender */
export function senderText({ state, talking, muted, stream, streamId }) {
	/** @type {Record<SenderState, string>} */
	const words = {
		idle: "Off – nobody hears you",
		asking: "Allow the microphone in your browser",
		connecting: "Connecting…",
		ready: talking ? "Starting…" : "Ready – nobody hears you until you press",
		live: stream?.paused ? "Paused – the server gets no sound" : muted ? "Muted – listeners hear silence" : `Live as “${stream?.name ?? streamId}”`,
		reconnecting: "Coming back…",
	};
	return words[state];
}

/** Who else is talking, newest last. @param {readonly Stream[]} streams */
export function othersText(streams) {
	const names = streams.map(({ name }) => `“${name}”`);
	const more = names.length > 3 ? ` and ${names.length - 3} more` : "";
	return names.length ? `${names.slice(-3).join(", ")}${more} ${names.length === 1 ? "is" : "are"} talking` : "";
}

/** To somebody who talks. @param {Stream} [stream] that began later */
export const newerText = (stream) =>
	stream ? `“${stream.name}” talks now: whoever follows the newest voice hears it instead` : "";

/** On the button that chooses a key. @param {string} code the chosen key's, if any @param {boolean} learns */
export const keyText = (code, learns) => (learns ? "Press the key now…" : code || "Choose…");

/** What the listen page is doing.
 *  @param {Pick<VoiceReceiver, "state" | "chosen"> & Parameters<typeof heard>[0]} receiver
 *  @param {string | null} last the stream that was heard last */
export function receiverText(receiver, last) {
	const { state, chosen } = receiver;
	const ended = last && (chosen ?? last) === last;
	/** @type {Record<ReceiverState, string>} */
	const words = {
		idle: "Off",
		waiting: `${ended ? "The voice ended. " : ""}Waiting for ${chosen ? `“${chosen}”` : "the next voice"}…`,
		joining: "Joining…",
		playing: heard(receiver),
		blocked: "Tap once to hear",
		reconnecting: "Coming back…",
	};
	return words[state];
}

/** What a press of a listen button does. @param {ReceiverState} state */
export function listenLabel(state) {
	if (state === "blocked") return "Tap to hear";
	return state === "idle" ? "Listen" : "Stop";
}

/** Below a stream of the overview. @param {ReceiverState} state @param {Problem | null} problem
 *  @param {boolean} stalled as `VoiceReceiver.stalled` */
export function cardText(state, problem, stalled) {
	if (state === "idle") return "";
	if (state === "playing") return stalled ? "No sound arrives. Does the network let UDP through?" : "You hear this voice.";
	return state === "joining" ? "Joining…" : problemText(problem);
}

/** The intercom. @param {Pick<VoiceReceiver, "state" | "problem"> & Parameters<typeof heard>[0]} receiver */
export function intercomText(receiver) {
	const { state, problem } = receiver;
	if (state === "idle") return "";
	if (state === "waiting") return "Nobody else is talking";
	return state === "playing" ? heard(receiver) : problemText(problem) || "Joining…";
}

/** How late the MP3 is. @param {number | null} behindS null where that is not known */
export const behindText = (behindS) => (behindS === null ? "" : `${behindS.toFixed(1)} s behind live, measured`);

/** The page of a player that plays nothing: a headline and what to do. @param {boolean | undefined} live undefined where
 *  the server does not answer @param {boolean} pressed */
export function waitingText(live, pressed) {
	if (live === undefined) return ["The server does not answer", "Is it running? Trying again."];
	if (live && pressed) return ["Joining…", ""];
	if (live) return ["A voice is live", "Press to hear it."];
	if (pressed) return ["Nobody is talking now", "Leave this page open: the next voice plays by itself."];
	return ["Nobody is talking yet", "Press once: every voice plays as it comes."];
}

/** A length of time as hours, minutes and seconds. @param {number} ms */
export function duration(ms) {
	const seconds = Math.max(0, Math.floor(ms / 1000)); // a clock may be set back
	const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
	return parts.map((part) => String(part).padStart(2, "0")).join(":");
}
