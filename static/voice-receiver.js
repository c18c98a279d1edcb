import { Arrival } from "./arrival.js";
import { LiveMp3 } from "./live-mp3.js";
import { MEDIA_TIMEOUT_MS, describe, openPeer } from "./voice-peer.js";
import { Machine, isSameStream, retryDelay } from "./voice-socket.js";

/** @import { Problem, Stream, VoiceSocket } from "./voice-socket.js" */

/** @typedef {"idle" | "waiting" | "joining" | "playing" | "blocked" | "reconnecting"} ReceiverState */

/** How long a listener waits for WebRTC before MP3 takes over. */
const MP3_AFTER_MS = 3_000;

/**
 * Plays the newest stream, or a chosen one, until told to stop: across ends, restarts and network changes.
 * States: `idle`, `waiting` (for a stream), `joining`, `playing` (a "route" event follows), `blocked` (call `unblock()`
 * from a press), `reconnecting` (by itself). MP3 plays where WebRTC does not connect. What plays outlives the socket:
 * the new one gets a connection of its own, and the old one plays until that has replaced it.
 * @extends {Machine<ReceiverState>}
 */
export class VoiceReceiver extends Machine {
	/** Its volume is the caller's. */
	audio = new Audio();
	/** @type {"webrtc" | "mp3" | null} */
	route = null;
	/** The stream that plays or is being joined. @type {string | null} */
	streamId = null;
	/** Null is for the newest. @type {string | null} */
	chosen = null;
	/** The voice as WebRTC brings it. @type {MediaStream | null} */
	media = null;
	/** @type {RTCPeerConnection | null} */
	peer = null;
	/** The one before, which plays until `peer` does. @type {RTCPeerConnection | null} */
	#outgoing = null;
	/** Whether it plays although its socket is gone. */
	#outlives = false;
	/** Whether no packet has come by WebRTC for two seconds; a "stalled" event tells each change. */
	stalled = false;
	#arrival = new Arrival();
	#mp3 = new LiveMp3(this.audio);
	/** Whether the element was told to play, and does not yet. */
	#starts = false;
	/** As it was listed last. @type {Stream | undefined} */
	#listed;
	#socket;
	#skip;
	#webrtcFailed = false;
	#attempt = 0;
	#mp3Timer = 0;
	#timer = 0;

	/** @param {VoiceSocket} socket @param {{skip?: (stream: Stream) => boolean}} [options]
	 *  `skip`: streams never to play, such as one's own in an intercom */
	constructor(socket, { skip = () => false } = {}) {
		super("idle", { playing: ["joining", "blocked"], blocked: ["joining", "playing"] });
		this.#socket = socket;
		this.#skip = skip;
		socket.on("state", () => this.#follow());
		socket.on("streams", () => this.state === "reconnecting" || this.#follow());
		socket.on("stream_available", () => this.#follow());
		socket.on("available_streams", () => this.#outlives && this.#renew());
		socket.on("webrtc_offer", (message) => this.#answer(message));
		socket.on("error", (problem) => {
			const ours = ["no_stream", "stream_ended", "connection_lost"].includes(problem.code);
			if (ours && this.streamId && this.route !== "mp3") this.#retry({ code: "lost" });
		});
		this.audio.onerror = () => this.route === "mp3" && this.#retry({ code: "lost" });
		this.audio.onended = () => {
			if (this.route !== "mp3") return;
			if (!this.#isOver) return this.#retry({ code: "lost" });
			this.#leave();
			this.enter("waiting");
			this.#follow();
		};
		this.audio.onplaying = () => this.#starts || this.unblock(); // by a key of the device
		this.audio.onpause = () => this.state === "playing" && this.enter("blocked", { code: "paused" });
	}

	/** The stream that plays, as listed, now or when there was a socket. */
	get stream() {
		if (!this.streamId) return undefined;
		const listed = this.#socket.streams.find(({ stream_id }) => stream_id === this.streamId);
		return (this.#listed = listed ?? this.#listed);
	}

	/** To one stream, or to the newest. @param {string | null} [streamId] */
	listen(streamId = null) {
		this.chosen = streamId;
		this.#webrtcFailed = false;
		if (this.state === "idle") this.enter("waiting");
		this.#follow();
	}

	stop() {
		this.#leave();
		this.enter("idle");
	}

	/** Plays what the browser refused to play; must come from a press. */
	unblock() {
		if (this.state !== "blocked") return;
		if (this.route === "mp3" && this.streamId) this.#playMp3(this.streamId); // it went on meanwhile
		else this.#play();
	}

	/** How many seconds late it is what the MP3 plays now; null where that is not known. */
	get behindS() {
		return this.#mp3.behindS;
	}

	/** Brings us in step with the socket and with what is live. */
	#follow() {
		if (this.state === "idle") return;
		if (this.#socket.state !== "open") {
			if (this.#outlivesSocket) {
				this.#dropSuccessor();
				this.#outlives = true;
				return;
			}
			this.#leave();
			this.#webrtcFailed = false; // the next network may be another one
			return this.enter("reconnecting", this.#socket.problem ?? this.problem);
		}
		if (this.#outlives) return; // what is live is not known yet
		const next = this.#next();
		if (next && next.stream_id === this.streamId) return;
		const isChosen = !this.chosen || isSameStream(this.chosen, this.streamId ?? "");
		if (!next && isChosen && this.#isOver && this.state === "playing" && this.route === "mp3") return; // to its last word
		this.#leave();
		if (next) this.#join(next.stream_id);
		else this.enter("waiting");
	}

	/** Whether the stream that plays has ended. */
	get #isOver() {
		return !this.#socket.streams.some(({ stream_id }) => stream_id === this.streamId);
	}

	/** The stream to play, of those that are live. */
	#next() {
		const streams = this.#socket.streams.filter((stream) => !this.#skip(stream));
		const { chosen } = this;
		return chosen ? streams.find(({ stream_id }) => isSameStream(stream_id, chosen)) : streams.at(-1);
	}

	get #outlivesSocket() {
		if (this.state !== "playing" || ["closed", "locked"].includes(this.#socket.state)) return false;
		return this.route === "mp3" || (this.#outgoing ?? this.peer)?.connectionState === "connected";
	}

	/** The socket is back, and the streams are known: where the same one is to play, it plays on meanwhile. */
	#renew() {
		this.#outlives = false;
		if (!this.streamId || this.#next()?.stream_id !== this.streamId) return this.#follow();
		if (this.route === "mp3") return;
		this.#outgoing = this.peer;
		this.#socket.send({ type: "start_receiving", stream_id: this.streamId });
		this.#timer = setTimeout(() => this.#retry({ code: "no-media" }), MEDIA_TIMEOUT_MS);
	}

	/** Back to the connection that plays. */
	#dropSuccessor() {
		if (!this.#outgoing) return;
		clearTimeout(this.#timer);
		if (this.peer !== this.#outgoing) this.peer?.close();
		this.peer = this.#outgoing;
		this.#outgoing = null;
	}

	/** @param {string} streamId */
	#join(streamId) {
		this.streamId = streamId;
		this.#listed = this.stream;
		this.enter("joining");
		if (typeof RTCPeerConnection === "undefined") return this.#playMp3(streamId);
		this.#socket.send({ type: "start_receiving", stream_id: streamId });
		this.#mp3Timer = setTimeout(() => this.#playMp3(streamId), this.#webrtcFailed ? 0 : MP3_AFTER_MS);
		this.#timer = setTimeout(() => this.state === "joining" && this.#retry({ code: "no-media" }), MEDIA_TIMEOUT_MS);
	}

	/** @param {{offer: RTCSessionDescriptionInit, stream_id?: string | null}} message */
	async #answer({ offer, stream_id = this.streamId }) {
		if (!this.streamId || stream_id !== this.streamId) return;
		if (this.peer !== this.#outgoing) this.peer?.close();
		const peer = (this.peer = openPeer((connected) => {
			if (peer !== this.peer || peer === this.#outgoing) return; // else its successor is on its way
			if (connected) this.#playWebrtc();
			else if (this.route !== "mp3") this.#retry({ code: "lost" });
		}));
		peer.ontrack = ({ track }) => {
			this.media = new MediaStream([track]);
			if (this.route !== "mp3" && !this.#outgoing) this.#playWebrtc(); // early, to learn whether we may
		};
		await peer.setRemoteDescription(offer);
		await describe(this.#socket, peer, "answer");
	}

	#playWebrtc() {
		if (this.peer?.connectionState === "connected") {
			clearTimeout(this.#mp3Timer);
			this.#webrtcFailed = false;
			this.#outgoing?.close();
			this.#outgoing = null;
			this.#setStalled(false);
			this.#arrival.watch(this.peer, (stalled) => this.#setStalled(stalled));
		}
		this.route = "webrtc";
		this.#mp3.stop();
		if (this.audio.srcObject !== this.media) this.audio.srcObject = this.media;
		this.#play();
	}

	/** @param {boolean} stalled */
	#setStalled(stalled) {
		if (this.stalled === stalled) return;
		this.stalled = stalled;
		this.tell("stalled");
	}

	/** @param {string} streamId */
	#playMp3(streamId) {
		this.#webrtcFailed = true;
		this.route = "mp3";
		this.audio.srcObject = null;
		const address = this.#socket.address(`stream/${encodeURIComponent(streamId)}.mp3`);
		this.#play(() => this.#mp3.play(address));
	}

	/** @param {() => Promise<void>} start */
	async #play(start = () => this.audio.play()) {
		this.#starts = true;
		const { route, streamId } = this;
		const current = () => route === this.route && streamId === this.streamId;
		try {
			await start();
			if (!current() || (route === "webrtc" && this.peer?.connectionState !== "connected")) return;
			clearTimeout(this.#timer);
			this.#attempt = 0;
			this.enter("playing");
			this.tell("route");
		} catch (error) {
			if (!current()) return;
			if (error instanceof DOMException && error.name === "NotAllowedError") this.enter("blocked", { code: "blocked" });
			else if (route === "mp3") this.#retry({ code: "lost" });
		} finally {
			this.#starts = false;
		}
	}

	/** @param {Problem} problem */
	#retry(problem) {
		this.#leave();
		this.enter("reconnecting", problem);
		this.#timer = setTimeout(() => this.#follow(), retryDelay(this.#attempt++));
	}

	#leave() {
		clearTimeout(this.#mp3Timer);
		clearTimeout(this.#timer);
		if (this.streamId) this.#socket.send({ type: "stop_stream" });
		this.#arrival.stop();
		this.#mp3.stop();
		this.#setStalled(false);
		this.peer?.close();
		this.#outgoing?.close();
		this.#outlives = false;
		this.#outgoing = this.peer = this.media = this.route = this.streamId = null;
		this.audio.pause();
		this.audio.removeAttribute("src");
		this.audio.srcObject = null; // lets go of the MP3 connection, too
	}
}
