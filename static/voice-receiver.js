// @ts-check
import { MEDIA_TIMEOUT_MS, describe, openPeer } from "./voice-peer.js";
import { Machine, retryDelay } from "./voice-socket.js";

/**
 * @typedef {import("./voice-socket.js").Stream} Stream
 * @typedef {import("./voice-socket.js").Problem} Problem
 * @typedef {import("./voice-socket.js").VoiceSocket} VoiceSocket
 */

/** How long a listener waits for WebRTC before MP3 takes over. */
const MP3_AFTER_MS = 4_000;

/**
 * Plays the newest stream, or a chosen one, until told to stop: across ends, restarts and network changes.
 * States: `idle`, `waiting` (no stream to play now), `joining`, `playing` (`route` says how), `blocked` (the browser
 * wants a press first: call `unblock()` from one), `reconnecting` (by itself). WebRTC goes first; where it does not
 * connect in time, MP3 plays instead until it does.
 */
export class VoiceReceiver extends Machine {
  /** What plays; its `volume` and `muted` are the caller's. */
  audio = new Audio();
  /** @type {"webrtc" | "mp3" | null} */
  route = null;
  /** The stream that plays or is being joined. @type {string | null} */
  streamId = null;
  /** The only stream to play, or null for the newest. @type {string | null} */
  chosen = null;
  /** The voice as it came over WebRTC. @type {MediaStream | null} */
  media = null;
  /** @type {RTCPeerConnection | null} */
  peer = null;
  #socket;
  #skip;
  #webrtcFailed = false;
  #attempt = 0;
  #retrying = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #mp3Timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retryTimer;

  /** @param {VoiceSocket} socket @param {{skip?: (stream: Stream) => boolean}} [options] `skip`: streams never to play
   *  (one's own, in an intercom) */
  constructor(socket, { skip = () => false } = {}) {
    super({
      idle: "waiting joining reconnecting",
      waiting: "joining reconnecting idle",
      joining: "playing blocked waiting reconnecting idle",
      playing: "joining blocked waiting reconnecting idle",
      blocked: "playing joining waiting reconnecting idle",
      reconnecting: "joining waiting idle",
    });
    this.#socket = socket;
    this.#skip = skip;
    socket.on("state", () => this.#follow());
    socket.on("streams", () => this.#retrying || this.#follow());
    socket.on("stream_available", () => this.#follow());
    socket.on("webrtc_offer", (message) => this.#answer(message));
    socket.on("error", (problem) => {
      if (this.state === "joining" && !this.peer) this.#retry(problem);
    });
    this.audio.onended = () => this.route === "mp3" && this.#retry({ code: "ended" });
    this.audio.onerror = () => this.route === "mp3" && this.#retry({ code: "no-media" });
    this.audio.onpause = () => this.state === "playing" && this.route && this.enter("blocked", { code: "paused" });
  }

  /** The stream that plays, as the server describes it. @returns {Stream | undefined} */
  get stream() {
    return this.#socket.streams.find((stream) => stream.stream_id === this.streamId);
  }

  /** Listens to one stream, or to whichever is newest. @param {string | null} [streamId] */
  listen(streamId = null) {
    this.chosen = streamId;
    this.#webrtcFailed = false;
    if (this.state === "idle") this.enter(this.#socket.state === "open" ? "waiting" : "reconnecting");
    this.#follow();
  }

  stop() {
    if (this.state === "idle") return;
    this.#leave();
    this.#socket.send({ type: "stop_stream" });
    this.enter("idle");
  }

  /** Plays what the browser refused to play; must come from a press. */
  unblock() {
    if (this.state === "blocked") this.#play();
  }

  /** Brings us in step with the socket and with the streams that are live. */
  #follow() {
    if (this.state === "idle") return;
    if (this.#socket.state !== "open") {
      this.#leave();
      this.#webrtcFailed = false; // another network, perhaps
      return this.enter("reconnecting", this.#socket.problem ?? this.problem);
    }
    const streams = this.#socket.streams.filter((stream) => !this.#skip(stream));
    const next = this.chosen ? streams.find((stream) => stream.stream_id === this.chosen) : streams.at(-1);
    if (next && next.stream_id === this.streamId) return;
    this.#leave();
    if (next) this.#join(next.stream_id);
    else this.enter("waiting");
  }

  /** @param {string} streamId */
  #join(streamId) {
    this.streamId = streamId;
    this.enter("joining");
    if (typeof RTCPeerConnection === "undefined") return this.#playMp3();
    this.#socket.send({ type: "start_receiving", stream_id: streamId });
    this.#mp3Timer = setTimeout(() => this.#playMp3(), this.#webrtcFailed ? 0 : MP3_AFTER_MS);
    this.#retryTimer = setTimeout(() => {
      if (this.state === "joining") this.#retry({ code: "no-media" });
    }, MEDIA_TIMEOUT_MS);
  }

  /** @param {{offer: RTCSessionDescriptionInit, stream_id?: string}} message */
  async #answer({ offer, stream_id }) {
    if (!this.streamId || (stream_id && stream_id !== this.streamId)) return;
    this.peer?.close();
    const peer = (this.peer = openPeer((state) => {
      if (peer !== this.peer) return;
      if (state === "connected") this.#playWebrtc();
      else if (this.route !== "mp3") this.#retry({ code: "no-media" });
    }));
    peer.ontrack = ({ track }) => {
      this.media = new MediaStream([track]);
      if (this.route !== "mp3") this.#playWebrtc(); // early, to learn whether the browser lets us play at all
    };
    await peer.setRemoteDescription(offer);
    await describe(this.#socket, peer, "answer");
  }

  #playWebrtc() {
    const connected = this.peer?.connectionState === "connected";
    if (connected) {
      clearTimeout(this.#mp3Timer);
      this.#webrtcFailed = false;
    }
    if (this.audio.srcObject !== this.media) {
      this.audio.removeAttribute("src");
      this.audio.srcObject = this.media;
    }
    this.route = "webrtc";
    this.#play();
  }

  #playMp3() {
    this.#webrtcFailed = true;
    this.audio.srcObject = null;
    this.audio.src = this.#socket.address(`stream/${encodeURIComponent(/** @type {string} */ (this.streamId))}.mp3`);
    this.route = "mp3";
    this.#play();
  }

  async #play() {
    const source = this.audio.srcObject ?? this.audio.src;
    const current = () => this.route && source === (this.audio.srcObject ?? this.audio.src);
    try {
      await this.audio.play();
      if (!current() || (this.route === "webrtc" && this.peer?.connectionState !== "connected")) return;
      clearTimeout(this.#retryTimer);
      this.#attempt = 0;
      this.enter("playing");
      this.tell("route");
    } catch (error) {
      if (!current()) return;
      if (/** @type {Error} */ (error).name === "NotAllowedError") this.enter("blocked", { code: "blocked" });
      else if (this.route === "mp3") this.#retry({ code: "no-media" });
    }
  }

  /** @param {Problem} problem */
  #retry(problem) {
    this.#leave();
    this.#socket.send({ type: "stop_stream" });
    this.enter("reconnecting", problem);
    this.#retrying = true;
    this.#retryTimer = setTimeout(() => this.#follow(), retryDelay(this.#attempt++));
  }

  #leave() {
    clearTimeout(this.#mp3Timer);
    clearTimeout(this.#retryTimer);
    this.#retrying = false;
    this.peer?.close();
    this.peer = this.media = this.route = this.streamId = null;
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.audio.srcObject = null; // this one lets go of the MP3 connection, too
  }
}
