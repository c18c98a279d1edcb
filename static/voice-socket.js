// @ts-check
/**
 * @typedef {{stream_id: string, name: string, started_at?: number, receivers?: number, listeners?: number}} Stream
 * @typedef {{code: string, message?: string}} Problem  why a state was entered; `code` is for programs
 */

/** Waits between attempts double from the first to the last of these, and are jittered: a house full of tablets must
 *  not knock all at once when the server comes back. */
const RETRY_FIRST_MS = 500;
const RETRY_LAST_MS = 15_000;
/** A connection that stood this long was a good one: the next attempt starts from the first wait again. */
const GOOD_AFTER_MS = 5_000;
/** A question unanswered for this long means a dead socket, which TCP alone may take minutes to notice. */
const ANSWER_TIMEOUT_MS = 6_000;

/** @param {number} attempt counted from 0 @returns {number} milliseconds, between half of the wait and all of it */
export const retryDelay = (attempt) =>
  Math.min(RETRY_LAST_MS, RETRY_FIRST_MS * 2 ** attempt) * (0.5 + Math.random() / 2);

/** A state with one door, which refuses a step that is not in the plan. */
export class Machine extends EventTarget {
  #steps;
  #state;
  /** Why the last state was entered, or null. @type {Problem | null} */
  problem = null;

  /** @param {Record<string, string>} steps for each state, the states that may follow; the first one is the start */
  constructor(steps) {
    super();
    this.#steps = steps;
    this.#state = Object.keys(steps)[0];
  }

  get state() {
    return this.#state;
  }

  /** @param {string} state @param {Problem | null} problem */
  enter(state, problem = null) {
    if (state === this.#state && problem === this.problem) return;
    if (state !== this.#state && !this.#steps[this.#state].split(" ").includes(state)) {
      throw new Error(`${this.constructor.name}: no step from ${this.#state} to ${state}`);
    }
    this.#state = state;
    this.problem = problem;
    this.tell("state");
  }

  /** @param {string} type @param {any} [detail] */
  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** As addEventListener, with the event's detail alone. @param {string} type @param {(detail: any) => void} listener */
  on(type, listener) {
    this.addEventListener(type, (event) => listener(/** @type {CustomEvent} */ (event).detail));
  }
}

/**
 * Signalling that comes back by itself. States: `closed`, `connecting`, `open`, `waiting` (for the next attempt, in
 * `retryInMs`; `problem.code` is `unreachable`, `full`, `forbidden` or `refused`), `locked` (the server wants a token:
 * set `token`, then `open()`). Every message of the server is an event of its type with the message as `detail`;
 * "streams" tells that `streams` (oldest first) has changed.
 */
export class VoiceSocket extends Machine {
  /** @type {Stream[]} */
  streams = [];
  retryInMs = 0;
  #attempt = 0;
  #openedAt = 0;
  #askedAt = 0;
  /** @type {WebSocket | null} */
  #ws = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {{base?: string | URL, token?: string, pollMs?: number}} [options] `base`: the server's address, with
   *  a trailing slash; `pollMs`: how often to ask who listens, which is also how a dead socket is found out */
  constructor({ base = new URL("../", import.meta.url), token = "", pollMs = 2_000 } = {}) {
    super({
      closed: "connecting",
      connecting: "open waiting locked closed",
      open: "waiting locked closed",
      waiting: "connecting closed",
      locked: "connecting closed",
    });
    this.base = base;
    this.token = token;
    this.pollMs = pollMs;
    const hurry = () => this.state === "waiting" && !document.hidden && this.#connect();
    addEventListener("online", hurry);
    document.addEventListener("visibilitychange", hurry);
  }

  /** @param {string} path relative to the server @returns {string} its address, with the token where there is one */
  address(path) {
    const url = new URL(path, this.base);
    if (this.token) url.searchParams.set("token", this.token);
    return url.href;
  }

  open() {
    if (this.state === "closed" || this.state === "locked") this.#connect();
  }

  close() {
    this.#drop();
    if (this.state !== "closed") this.enter("closed");
  }

  /** @param {object} message @returns {boolean} whether it was sent; nothing is kept for later */
  send(message) {
    if (this.state !== "open") return false;
    this.#ws?.send(JSON.stringify(message));
    return true;
  }

  #connect() {
    this.#drop();
    this.enter("connecting");
    const ws = (this.#ws = new WebSocket(this.address("ws").replace(/^http/, "ws")));
    ws.onopen = () => {
      this.#openedAt = Date.now();
      this.enter("open");
      this.#askedAt = 0;
      this.#timer = setTimeout(() => this.#poll(), this.pollMs);
    };
    ws.onmessage = (event) => this.#receive(JSON.parse(event.data));
    ws.onclose = () => this.#lost();
  }

  #drop() {
    clearTimeout(this.#timer);
    if (!this.#ws) return;
    this.#ws.onopen = this.#ws.onmessage = this.#ws.onclose = null;
    this.#ws.close();
    this.#ws = null;
  }

  #poll() {
    if (this.#askedAt && Date.now() - this.#askedAt > ANSWER_TIMEOUT_MS) return this.#lost();
    this.#askedAt ||= Date.now();
    this.send({ type: "get_available_streams" });
    this.#timer = setTimeout(() => this.#poll(), this.pollMs);
  }

  async #lost() {
    const ws = this.#ws;
    const wasOpen = this.state === "open";
    const problem = wasOpen ? { code: "lost" } : await this.#diagnosis();
    if (ws !== this.#ws) return;
    this.#drop();
    if (problem.code === "unauthorized") return this.enter("locked", problem);
    if (wasOpen && Date.now() - this.#openedAt > GOOD_AFTER_MS) this.#attempt = 0;
    this.retryInMs = retryDelay(this.#attempt++);
    this.#timer = setTimeout(() => this.#connect(), this.retryInMs);
    this.#setStreams([]);
    this.enter("waiting", problem);
  }

  /** A browser does not say why an upgrade was refused; plain HTTP does. @returns {Promise<Problem>} */
  async #diagnosis() {
    try {
      const { status } = await fetch(this.address("ws"), { cache: "no-store", signal: AbortSignal.timeout?.(4_000) });
      const codes = { 401: "unauthorized", 403: "forbidden", 502: "unreachable", 503: "full", 504: "unreachable" };
      return { code: codes[status] ?? "refused" };
    } catch {
      return { code: "unreachable" };
    }
  }

  /** @param {any} message */
  #receive(message) {
    this.#askedAt = 0;
    if (message.type === "error" && message.code === "unauthorized") {
      this.#drop();
      return this.enter("locked", message);
    }
    if (message.type === "available_streams") {
      const details = message.details ?? message.streams.map((id) => ({ stream_id: id, name: id }));
      this.#setStreams([...details].sort((a, b) => (a.started_at ?? 0) - (b.started_at ?? 0)));
    } else if (message.type === "stream_available" || message.type === "stream_ended") {
      const { stream_id, name } = message;
      const others = this.streams.filter((stream) => stream.stream_id !== stream_id);
      if (message.type === "stream_available") {
        others.push({ stream_id, name: name ?? stream_id, started_at: Date.now() / 1000, receivers: 0, listeners: 0 });
      }
      this.#setStreams(others);
    }
    this.tell(message.type, message);
  }

  /** @param {Stream[]} streams */
  #setStreams(streams) {
    this.streams = streams;
    this.tell("streams");
  }
}
