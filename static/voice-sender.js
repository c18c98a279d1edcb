// @ts-check
import { MEDIA_TIMEOUT_MS, describe, openPeer } from "./voice-peer.js";
import { Machine, retryDelay } from "./voice-socket.js";

/**
 * @typedef {import("./voice-socket.js").Stream} Stream
 * @typedef {import("./voice-socket.js").Problem} Problem
 * @typedef {import("./voice-socket.js").VoiceSocket} VoiceSocket
 * @typedef {{deviceId?: string, echoCancellation?: boolean, noiseSuppression?: boolean, autoGainControl?: boolean}}
 *   MicrophoneSettings
 */

/**
 * A microphone that goes to the server. States: `idle` (microphone released), `asking` (for permission),
 * `connecting`, `live` (the server has its packets and has announced the stream), `reconnecting` (by itself).
 * A "microphone" event tells that `media` has changed; after a return to `idle`, `problem` says what went wrong:
 * `insecure`, `denied`, `no-microphone`, `busy`, `unplugged`, `replaced`, `idle`, `ended`, or a code of the server.
 */
export class VoiceSender extends Machine {
  /** The open microphone. @type {MediaStream | null} */
  media = null;
  /** The stream's id, as far as known. @type {string | null} */
  streamId = null;
  /** @type {MicrophoneSettings} */
  settings = {};
  /** @type {RTCPeerConnection | null} */
  peer = null;
  #socket;
  #muted = false;
  #attempt = 0;
  #changing = Promise.resolve();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {VoiceSocket} socket @param {{name?: string}} [options] `name`: 1 to 64 letters, digits, `_`, `-`, spaces,
   *  for a stream address that stays the same */
  constructor(socket, { name = "" } = {}) {
    super({
      idle: "asking",
      asking: "connecting reconnecting idle",
      connecting: "live reconnecting idle",
      live: "reconnecting idle",
      reconnecting: "connecting idle",
    });
    this.#socket = socket;
    this.name = name;
    socket.on("state", () => this.#follow());
    socket.on("sender_ready", (ready) => this.#offer(ready));
    socket.on("webrtc_answer", (message) => this.#answered(message));
    socket.on("stream_available", (stream) => {
      if (this.state !== "connecting" || !this.owns(stream)) return;
      clearTimeout(this.#timer);
      this.streamId = stream.stream_id;
      this.#attempt = 0;
      this.enter("live");
    });
    socket.on("stream_ended", ({ stream_id, reason = "" }) => {
      if (this.state !== "live" || stream_id !== this.streamId) return;
      if (reason.includes("stopping")) return this.#retry({ code: "stopping" });
      this.stop({ code: ["replaced", "idle"].find((word) => reason.includes(word)) ?? "ended", message: reason });
    });
    socket.on("error", (problem) => {
      const agreed = this.peer?.signalingState === "stable";
      if (this.state === "connecting" && !agreed) this.stop(problem);
    });
  }

  /** @param {{stream_id: string, name?: string}} stream @returns {boolean} whether it is (or is about to be) this one */
  owns({ stream_id, name }) {
    if (this.state === "idle") return false;
    return this.streamId ? stream_id === this.streamId : Boolean(this.name) && name === this.name;
  }

  /** What the server says of our stream: who listens. @returns {Stream | undefined} */
  get stream() {
    return this.#socket.streams.find((stream) => this.state === "live" && stream.stream_id === this.streamId);
  }

  get muted() {
    return this.#muted;
  }

  set muted(muted) {
    this.#muted = muted;
    this.media?.getAudioTracks().forEach((track) => (track.enabled = !muted));
    this.tell("muted");
  }

  /** Opens the microphone and goes live; must come from a press where the browser has not given leave before. */
  async start() {
    if (this.state !== "idle") return;
    this.enter("asking");
    const media = await openMicrophone(this.settings).catch((error) => error);
    if (this.state !== "asking") return media instanceof MediaStream && release(media);
    if (!(media instanceof MediaStream)) return this.enter("idle", microphoneProblem(media));
    this.#adopt(media);
    this.#follow();
  }

  /** Ends the stream and releases the microphone. @param {Problem | null} [problem] */
  stop(problem = null) {
    if (this.state === "idle") return;
    this.#closePeer();
    this.#socket.send({ type: "stop_stream" });
    if (this.media) release(this.media);
    this.media = this.streamId = null;
    this.enter("idle", problem);
    this.tell("microphone");
  }

  /** Uses another microphone or other processing, at once where live. @param {MicrophoneSettings} settings
   *  @returns {Promise<Problem | null>} what went wrong; then the old microphone stays in use */
  change(settings) {
    const change = this.#changing.then(() => this.#change(settings));
    this.#changing = change.then(() => {});
    return change;
  }

  /** @param {MicrophoneSettings} settings @returns {Promise<Problem | null>} */
  async #change(settings) {
    const wanted = { ...this.settings, ...settings };
    try {
      if (this.media) {
        const media = await openMicrophone(wanted);
        const [track] = media.getAudioTracks();
        await this.peer?.getSenders().find((sender) => sender.track)?.replaceTrack(track);
        if (this.media) release(this.media), this.#adopt(media);
        else release(media);
      }
      this.settings = wanted;
      return null;
    } catch (error) {
      return microphoneProblem(error);
    }
  }

  /** @param {MediaStream} media */
  #adopt(media) {
    this.media = media;
    this.muted = this.#muted;
    media.getAudioTracks()[0].onended = () => this.media === media && this.stop({ code: "unplugged" });
    this.tell("microphone");
  }

  /** Brings us in step with the socket. */
  #follow() {
    if (!this.media) return;
    if (this.#socket.state === "open") {
      if (this.state === "connecting" || this.state === "live") return;
      this.enter("connecting");
      this.streamId = null;
      this.#socket.send({ type: "start_sending", ...(this.name && { name: this.name }) });
      this.#timer = setTimeout(() => this.#retry({ code: "no-media" }), MEDIA_TIMEOUT_MS);
    } else {
      this.#closePeer();
      this.enter("reconnecting", this.#socket.problem ?? this.problem);
    }
  }

  /** @param {{connection_id: string, stream_id?: string}} ready */
  async #offer({ connection_id, stream_id }) {
    if (this.state !== "connecting" || !this.media) return;
    this.streamId = stream_id ?? (this.name ? null : `stream_${connection_id}`);
    this.peer?.close();
    const peer = (this.peer = openPeer((state) => {
      if (state === "lost" && peer === this.peer) this.#retry({ code: "no-media" });
    }));
    peer.addTransceiver(this.media.getAudioTracks()[0], { direction: "sendonly", streams: [this.media] });
    await describe(this.#socket, peer, "offer");
  }

  /** @param {{answer: RTCSessionDescriptionInit}} message */
  async #answered({ answer }) {
    if (this.peer?.signalingState === "have-local-offer") await this.peer.setRemoteDescription(answer);
  }

  /** @param {Problem} problem */
  #retry(problem) {
    this.#closePeer();
    this.#socket.send({ type: "stop_stream" });
    this.enter("reconnecting", problem);
    this.#timer = setTimeout(() => this.#follow(), retryDelay(this.#attempt++));
  }

  #closePeer() {
    clearTimeout(this.#timer);
    this.peer?.close();
    this.peer = null;
  }
}

/** @param {MicrophoneSettings} settings */
async function openMicrophone({ deviceId, ...processing }) {
  if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("no secure page", "SecurityError");
  const audio = { ...processing, channelCount: 1, ...(deviceId && { deviceId: { exact: deviceId } }) };
  return navigator.mediaDevices.getUserMedia({ audio });
}

/** @param {MediaStream} media */
const release = (media) => media.getTracks().forEach((track) => track.stop());

/** @param {any} error @returns {Problem} */
function microphoneProblem(error) {
  const codes = {
    SecurityError: "insecure",
    NotAllowedError: "denied",
    NotFoundError: "no-microphone",
    OverconstrainedError: "no-microphone",
    NotReadableError: "busy",
    AbortError: "busy",
  };
  return { code: codes[error?.name] ?? "microphone", message: String(error?.message ?? error) };
}
