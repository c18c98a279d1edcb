import { onNetworkChange } from "./network-change.js";

/**
 * @typedef {{stream_id: string, name: string, started_at?: number, receivers?: number, listeners?: number,
 *   paused?: boolean, recording?: boolean}} Stream
 * @typedef {{code: string, message?: string}} Problem
 * @typedef {"closed" | "connecting" | "open" | "waiting" | "locked"} SocketState
 */

/** Waits double, with jitter: a house full of tablets must not knock at the same moment. */
const RETRY_FIRST_MS = 500;
const RETRY_LAST_MS = 10_000;
/** Silence for so long after a question means a dead socket; TCP may take minutes to notice. */
const ANSWER_TIMEOUT_MS = 6_000;
/** The same after a change of the network, which kills most sockets. */
const PROBE_TIMEOUT_MS = 2_000;

/** Of the codes for applications (RFC 6455 section 7.4.2): given up without an answer, not left. */
const CLOSE_LOST = 4000;

/** How long the socket to a server that stops soon is kept: what it brings is heard until the next server's plays. */
const MOVING_MS = 2_000;

/** In milliseconds. @param {number} attempt counted from 0 */
export function retryDelay(attempt) {
	return Math.min(RETRY_LAST_MS, RETRY_FIRST_MS * 2 ** attempt) * (0.5 + Math.random() / 2);
}

/** Whether two addresses are of one stream: case does not count. @param {string} one @param {string} other */
export const isSameStream = (one, other) => one.toLowerCase() === other.toLowerCase();

/** A state with one door, which refuses a step that is not planned. @template {string} State */
export class Machine extends EventTarget {
	/** @type {State} */
	#state;
	/** @type {{[entered in State]?: State[]}} */
	#origins;
	/** Why the state was entered. @type {Problem | null} */
	problem = null;

	/** @param {State} state the first @param {{[entered in State]?: State[]}} origins where a state is entered from, if
	 *  not from any */
	constructor(state, origins) {
		super();
		this.#state = state;
		this.#origins = origins;
	}

	get state() {
		return this.#state;
	}

	/** @param {State} state @param {Problem | null} [problem] why */
	enter(state, problem = null) {
		const moves = state !== this.#state;
		if (!moves && problem === this.problem) return;
		if (moves && this.#origins[state]?.includes(this.#state) === false) throw new Error(`${this.#state} to ${state}`);
		this.#state = state;
		this.problem = problem;
		this.tell("state");
	}

	/** @param {string} type of the event @param {unknown} [detail] */
	tell(type, detail) {
		this.dispatchEvent(new CustomEvent(type, { detail }));
	}

	/** As addEventListener, with the detail alone. @param {string} type @param {(detail: any) => void} listener */
	on(type, listener) {
		this.addEventListener(type, (/** @type {any} */ { detail }) => listener(detail));
	}
}

/**
 * Signalling that comes back by itself. States: `closed`, `connecting`, `open`, `waiting` (`problem.code` is
 * `unreachable`, `lost`, `full`, `forbidden` or `refused`), `locked` (set `token`, then `open()`). Each message of the
 * server is an event of its type; "streams" tells that `streams` may have changed.
 * @extends {Machine<SocketState>}
 */
export class VoiceSocket extends Machine {
	/** Oldest first. @type {Stream[]} */
	streams = [];
	#attempt = 0;
	#askedAt = 0;
	#timer = 0;
	/** @type {WebSocket | null} */
	#ws = null;

	/** @param {{base?: string | URL, token?: string, pollMs?: number}} [options] `base`: the server's address, `…/`;
	 *  `pollMs`: how often to ask who listens, which also finds dead sockets */
	constructor({ base = new URL("../", import.meta.url), token = "", pollMs = 2_000 } = {}) {
		/** @type {SocketState[]} */
		const busy = ["connecting", "open"];
		super("closed", { open: ["connecting"], waiting: busy, locked: busy });
		this.base = base;
		this.token = token;
		this.pollMs = pollMs;
		const hurry = () => this.state === "waiting" && !document.hidden && this.#connect();
		onNetworkChange(() => (this.state === "open" ? this.#probe() : hurry()));
		document.addEventListener("visibilitychange", hurry);
	}

	/** With the token. @param {string} path on the server, or an address */
	address(path) {
		const url = new URL(path, this.base);
		if (this.token) url.searchParams.set("token", this.token);
		return url.href;
	}

	/** What the server says there, in JSON; nothing where it does not answer, as it may go at any time.
	 *  @param {string} path @returns {Promise<Record<string, any>>} */
	async ask(path) {
		try {
			return await (await fetch(this.address(path))).json();
		} catch {
			return {};
		}
	}

	open() {
		if (this.state === "closed" || this.state === "locked") this.#connect();
	}

	close() {
		this.#drop();
		this.#setStreams([]);
		this.enter("closed");
	}

	/** Sends now or never. @param {{type: string, [field: string]: unknown}} message */
	send(message) {
		if (this.state === "open") this.#ws?.send(JSON.stringify(message));
	}

	#connect() {
		this.#drop();
		this.enter("connecting");
		const ws = (this.#ws = new WebSocket(this.address("ws").replace(/^http/, "ws")));
		this.#timer = setTimeout(() => this.#lost(), ANSWER_TIMEOUT_MS);
		ws.onopen = () => {
			this.#askedAt = 0;
			this.enter("open");
			this.#pollLater();
		};
		ws.onmessage = ({ data }) => this.#receive(JSON.parse(data));
		ws.onclose = () => this.#lost();
	}

	/** @param {number} [code] of the WebSocket's close */
	#drop(code) {
		clearTimeout(this.#timer);
		if (this.#ws) this.#ws.onopen = this.#ws.onmessage = this.#ws.onclose = null;
		this.#ws?.close(code);
		this.#ws = null;
	}

	#ask() {
		this.#askedAt ||= Date.now();
		this.send({ type: "get_available_streams" });
	}

	#pollLater() {
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => {
			if (this.#askedAt && Date.now() - this.#askedAt > ANSWER_TIMEOUT_MS) return this.#lost();
			this.#ask();
			this.#pollLater();
		}, this.pollMs);
	}

	/** Finds out soon whether the socket is dead. */
	#probe() {
		this.#ask();
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => (this.#askedAt ? this.#lost() : this.#pollLater()), PROBE_TIMEOUT_MS);
	}

	async #lost() {
		const ws = this.#ws;
		const before = this.state;
		const code = before === "open" ? "lost" : await this.#diagnosis();
		if (ws !== this.#ws || before !== this.state) return; // it opened after all, or is another one
		this.#drop(CLOSE_LOST);
		if (code === "unauthorized") this.enter("locked", { code });
		else {
			this.#timer = setTimeout(() => this.#connect(), retryDelay(this.#attempt++));
			this.enter("waiting", { code });
		}
		this.#setStreams([]); // only now: they did not end
	}

	/** A browser does not say why an upgrade was refused; plain HTTP does. */
	async #diagnosis() {
		/** @type {Record<number, string>} */
		const codes = { 401: "unauthorized", 403: "forbidden", 429: "full", 502: "unreachable", 503: "full" };
		try {
			const { status } = await fetch(this.address("ws"), { signal: AbortSignal.timeout?.(ANSWER_TIMEOUT_MS) });
			return codes[status] ?? "refused";
		} catch {
			return "unreachable";
		}
	}

	/** @param {any} message of the server, which is trusted to keep to the protocol */
	#receive(message) {
		const { type, stream_id, name = stream_id } = message;
		if (this.#askedAt) this.#attempt = 0; // it answers
		this.#askedAt = 0;
		if (message.code === "unauthorized") {
			this.#drop();
			this.enter("locked", message);
			return this.#setStreams([]);
		}
		if (type === "available_streams") {
			const streams = message.details ?? message.streams.map((/** @type {string} */ id) => ({ stream_id: id, name: id }));
			this.#setStreams(streams); // the server lists the oldest first
		} else if (type === "stream_available" || type === "stream_ended") {
			const others = this.streams.filter((stream) => stream.stream_id !== stream_id);
			if (type === "stream_available") others.push({ stream_id, name, started_at: Date.now() / 1000 });
			this.#setStreams(others);
		} else if (type === "stream_paused" || type === "stream_resumed") {
			const paused = type === "stream_paused";
			this.#setStreams(this.streams.map((one) => (one.stream_id === stream_id ? { ...one, paused } : one)));
		}
		if (type === "server_moving") this.#move();
		this.tell(type, message);
	}

	/** To another server, which the same address leads to. */
	#move() {
		const ws = this.#ws;
		if (!ws) return;
		ws.onopen = ws.onmessage = ws.onclose = null;
		this.#ws = null;
		setTimeout(() => ws.close(CLOSE_LOST), MOVING_MS);
		this.#connect();
	}

	/** @param {Stream[]} streams */
	#setStreams(streams) {
		this.streams = streams;
		this.tell("streams");
	}
}
