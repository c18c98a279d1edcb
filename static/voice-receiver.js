import { Arrival } from "./arrival.js";
import { LiveMp3 } from "./live-mp3.js";
import { MEDIA_TIMEOUT_MS, describe, openPeer } from "./voice-peer.js";
import { isRoom, roomName } from "./rooms.js";
import { Machine, isSameStream, retryDelay } from "./voice-socket.js";

/** @import { Problem, Stream, VoiceSocket } from "./voice-socket.js" */

/** @typedef {"idle" | "waiting" | "joining" | "playing" | "blocked" | "reconnecting"} ReceiverState */

/** How long a listener waits for WebRTC before MP3 takes over. */
const MP3_AFTER_MS = 3_000;
/** How long until WebRTC is tried again while the MP3 plays; each time twice as long, up to the second. */
const WEBRTC_AGAIN_MS = 2_000;
const WEBRTC_AGAIN_LAST_MS = 300_000;

/**
 * Plays the newest stream, or a chosen one, until told to stop: across ends, restarts and network changes. One
 * connection is there for as long as the socket, also while nobody talks; the server tells whom it brings.
 * States: `idle`, `waiting` (for a stream), `joining`, `playing`, `blocked` (call `unblock()` from a press),
 * `reconnecting` (by itself). A "state" event also tells that `streamId` is another one, "route" that something else
 * brings the sound. MP3 plays where WebRTC does not connect. What plays outlives the socket: the new one gets a
 * connection of its own, and the old one plays until that has replaced it.
 * @extends {Machine<ReceiverState>}
 */
export class VoiceReceiver extends Machine {
	/** Its volume is the caller's. */
	audio = new Audio();
	/** @type {"webrtc" | "mp3" | null} */
	route = null;
	/** The stream that plays or is being joined. @type {string | null} */
	streamId = null;
	/** A stream's id, or a room's (`room:Kitchen`): all voices there. Null is for the newest. @type {string | null} */
	chosen = null;
	/** Whom the connection brings, the newest last. @type {{stream_id: string, name: string}[]} */
	voices = [];
	/** Whether one's own voice is heard as well, as the server makes no more mixes. */
	shared = false;
	/** Whether only urgent voices are to be heard; call `listen()` when it changes. */
	quiet = false;
	/** The voice as WebRTC brings it. @type {MediaStream | null} */
	media = null;
	/** The newest. @type {RTCPeerConnection | null} */
	peer = null;
	/** The one that has connected, until `peer` has. @type {RTCPeerConnection | null} */
	#connected = null;
	/** What this socket was asked for last, as JSON. */
	#asked = "";
	#awaitsOffer = false;
	/** Whom the server feeds to us. @type {string | null} */
	#fed = null;
	/** Whom `#connected` brings. @type {string | null} */
	#brought = null;
	#arrival = new Arrival(() => this.tell("stalled"));
	#mp3 = new LiveMp3(this.audio);
	/** What the element does; the last two are codes of problems. @type {"starts" | "plays" | "blocked" | "paused"} */
	#element = "starts";
	/** How often it was told to do something else. */
	#orders = 0;
	/** As it was listed last. @type {Stream | undefined} */
	#listed;
	#socket;
	#except;
	#webrtcFailed = false;
	/** How often WebRTC did not connect since it did. */
	#failures = 0;
	#attempt = 0;
	#mp3Timer = 0;
	#timer = 0;

	/** @param {VoiceSocket} socket @param {{except?: () => string[]}} [options] `except`: ids of streams never to play,
	 *  such as one's own in an intercom; call `listen()` when they change */
	constructor(socket, { except = () => [] } = {}) {
		super("idle", { playing: ["waiting", "joining", "blocked"], blocked: ["waiting", "joining", "playing"] });
		this.#socket = socket;
		this.#except = except;
		socket.on("state", () => this.#follow());
		socket.on("streams", () => this.state === "reconnecting" || this.#follow());
		socket.on("stream_available", () => this.#follow());
		socket.on("webrtc_offer", ({ offer }) => this.#answer(offer));
		socket.on("receiving", ({ stream_id, name, voices = [], shared = false }) => {
			if (!this.#asked) return;
			this.#fed = stream_id;
			const changes = voices.length !== this.voices.length || shared !== this.shared;
			this.shared = shared;
			this.voices = voices;
			if (changes) this.tell("state"); // the newest may be the same
			if (name) this.#listed = { stream_id, name };
			this.#follow();
		});
		socket.on("error", ({ code }) => code === "connection_lost" && this.#asked && this.#lose());
		this.audio.onerror = () => this.route === "mp3" && this.#retry();
		this.audio.onended = () => {
			if (this.route !== "mp3") return;
			if (this.#target === this.streamId) return this.#retry(); // it has not ended
			this.#silence();
			this.#follow();
		};
		this.audio.onplaying = () => this.#element === "starts" || this.unblock(); // by a key of the device
		this.audio.onpause = () => {
			if (this.#element !== "plays") return;
			this.#element = "paused";
			this.#show();
		};
	}

	/** The stream that plays, as listed, now or when there was a socket. */
	get stream() {
		const is = (/** @type {Stream | undefined} */ stream) => stream?.stream_id === this.streamId;
		this.#listed = this.#socket.streams.find(is) ?? this.#listed;
		return is(this.#listed) ? this.#listed : undefined;
	}

	/** Whether no packet of a stream comes by WebRTC, although it is not paused; a "stalled" event tells each change. */
	get stalled() {
		return this.#arrival.stalled;
	}

	/** To one stream, or to the newest; from a press, as browsers may want one. @param {string | null} [streamId] */
	listen(streamId = null) {
		this.chosen = streamId;
		this.#webrtcFailed &&= this.route === "mp3";
		if (this.state === "idle") {
			this.enter("waiting");
			this.#play(); // nothing yet, to learn whether we may
		}
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
		if (this.#socket.state !== "open") return this.#followLost();
		const what = this.#isInRoom ? { room: this.chosen } : { follow: true, stream_id: this.chosen };
		const wish = { ...what, except: this.#except(), ...(this.quiet && { quiet: true }) };
		const isAsked = JSON.stringify(wish) === this.#asked && (this.peer || this.#target === this.streamId);
		if (!isAsked && !this.#awaitsOffer) this.#ask(wish);
		this.#turn();
	}

	#followLost() {
		this.#asked = "";
		this.#dropSuccessor();
		const plays = this.route === "mp3" || this.#connected?.connectionState === "connected";
		if (plays && this.state === "playing" && !["closed", "locked"].includes(this.#socket.state)) return;
		this.#leave();
		this.#webrtcFailed = false; // the next network may be another one
		this.enter("reconnecting", this.#socket.problem ?? this.problem);
	}

	get #isInRoom() {
		return isRoom(this.chosen);
	}

	/** @param {string} streamId */
	#isWanted(streamId) {
		if (this.#isInRoom) return true;
		const isNamed = (/** @type {string} */ id) => isSameStream(id, streamId);
		return (!this.chosen || isNamed(this.chosen)) && !this.#except().some(isNamed);
	}

	/** The stream to play: the one that the connection brings, or the next one will. */
	get #target() {
		if (this.#connected) {
			const isReplaced = this.#awaitsOffer || this.peer !== this.#connected;
			if (!isReplaced) return (this.#brought = this.#fed);
			if (this.#brought && this.#isWanted(this.#brought)) return this.#brought;
		}
		// Voices for a room are in no list; its MP3 is there at all times.
		if (this.#isInRoom) return this.#webrtcFailed ? this.chosen : this.#fed;
		return this.#socket.streams.filter(({ stream_id }) => this.#isWanted(stream_id)).at(-1)?.stream_id ?? null;
	}

	/** Asks for a connection; the one that is there stays until that has replaced it.
	 *  @param {{[field: string]: unknown}} wish */
	#ask(wish) {
		this.#asked = JSON.stringify(wish);
		if (typeof RTCPeerConnection === "undefined") return this.#failWebrtc();
		this.#dropSuccessor();
		this.#awaitsOffer = true;
		this.#socket.send({ type: "start_receiving", ...wish });
		this.#mp3Timer = setTimeout(() => this.#failWebrtc(), MP3_AFTER_MS);
		this.#timer = setTimeout(() => this.#giveUp(), MEDIA_TIMEOUT_MS);
	}

	/** @param {RTCSessionDescriptionInit} offer */
	async #answer(offer) {
		if (!this.#awaitsOffer) return;
		this.#awaitsOffer = false;
		this.#follow();
		if (this.#awaitsOffer) return; // something else is wanted by now
		/** @type {MediaStream | null} */
		let media = null;
		const peer = (this.peer = openPeer((connected) => {
			if (peer !== this.peer || this.#awaitsOffer) return; // else its successor is on its way
			if (connected) this.#replace(peer, media);
			else this.#lose();
		}));
		peer.ontrack = ({ track }) => {
			media = new MediaStream([track]);
			if (!this.#connected && this.route !== "mp3") this.#playWebrtc(media); // early, to learn whether we may
		};
		await peer.setRemoteDescription(offer);
		if (peer === this.peer) await describe(this.#socket, peer, "answer"); // else it is closed
	}

	/** @param {RTCPeerConnection} peer is connected @param {MediaStream | null} media of it */
	#replace(peer, media) {
		clearTimeout(this.#mp3Timer);
		clearTimeout(this.#timer);
		this.#attempt = this.#failures = 0;
		this.#webrtcFailed = false;
		this.#playWebrtc(media);
		if (peer !== this.#connected) this.#connected?.close();
		this.#connected = peer;
		this.#turn();
	}

	/** The newest connection is gone. */
	#lose() {
		if (this.#connected) return this.#retry();
		this.#dropSuccessor();
		this.#failWebrtc();
		this.#tryAgainLater();
	}

	/** A crowded moment of the network is no reason to hear the MP3, which is late, for ever. */
	#tryAgainLater() {
		const delayMs = Math.min(WEBRTC_AGAIN_MS * 2 ** this.#failures++, WEBRTC_AGAIN_LAST_MS);
		this.#timer = setTimeout(() => {
			this.#asked = "";
			this.#follow();
		}, delayMs);
	}

	/** MP3 plays what is live, until WebRTC connects. */
	#failWebrtc() {
		if (this.#connected) return;
		this.#webrtcFailed = true;
		this.#turn();
	}

	/** Where nobody misses a connection, the next stream asks anew. */
	#giveUp() {
		if (this.#connected || this.state === "joining") return this.#retry({ code: "no-media" });
		this.#dropSuccessor();
		this.#tryAgainLater();
	}

	/** Back to the connection that is there, if one is. */
	#dropSuccessor() {
		clearTimeout(this.#mp3Timer);
		clearTimeout(this.#timer);
		this.#awaitsOffer = false;
		if (this.peer !== this.#connected) this.peer?.close();
		this.peer = this.#connected;
	}

	/** To the stream that is to be heard now. */
	#turn() {
		const { route, streamId } = this;
		const next = this.#target;
		const moves = next !== streamId;
		if (route === "mp3" && streamId && !next && this.#element === "plays" && this.#isWanted(streamId)) return; // to its end
		this.streamId = next;
		if (route === "mp3" && !next) this.#silence();
		else if (next && this.#webrtcFailed && (moves || route !== "mp3")) this.#playMp3(next);
		const { stream } = this;
		this.#arrival.watch(next && !stream?.paused ? this.#connected : null);
		this.#show(moves);
	}

	/** @param {boolean} [moves] whether `streamId` is another one */
	#show(moves = false) {
		const { state, streamId } = this;
		const element = this.#element;
		if (element === "blocked" || element === "paused") {
			if (this.problem?.code !== element) this.enter("blocked", { code: element });
		} else if (!streamId) this.enter("waiting");
		else if (element === "plays" && (this.route === "mp3" || streamId === this.#brought)) this.enter("playing");
		else if (state !== "playing" || moves) this.enter("joining"); // else only the way changes
		if (moves && state === this.state) this.tell("state");
	}

	/** @param {MediaStream | null} media */
	#playWebrtc(media) {
		this.route = "webrtc";
		this.#mp3.stop();
		if (this.media === media) return;
		this.media = this.audio.srcObject = media;
		this.#play();
	}

	/** @param {string} streamId */
	#playMp3(streamId) {
		this.route = "mp3";
		this.media = this.audio.srcObject = null;
		const path = isRoom(streamId) ? `room/${encodeURIComponent(roomName(streamId))}` : `stream/${encodeURIComponent(streamId)}`;
		const address = this.#socket.address(`${path}.mp3`);
		this.#play(() => this.#mp3.play(address));
	}

	/** @param {() => Promise<void>} start */
	async #play(start = () => this.audio.play()) {
		const order = ++this.#orders;
		this.#element = "starts";
		const error = await start().catch((reason) => reason);
		if (order !== this.#orders) return;
		if (error?.name === "NotAllowedError") this.#element = "blocked";
		else if (!this.route) return;
		else if (error && this.route === "mp3") return this.#retry();
		else this.#element = error ? "paused" : "plays";
		if (!error) this.#attempt = 0;
		this.#show();
		if (!error) this.tell("route");
	}

	/** @param {Problem} [problem] */
	#retry(problem = { code: "lost" }) {
		this.#leave();
		this.enter("reconnecting", problem);
		this.#timer = setTimeout(() => this.#follow(), retryDelay(this.#attempt++));
	}

	#leave() {
		this.#dropSuccessor();
		if (this.#asked) this.#socket.send({ type: "stop_stream" });
		this.#connected?.close();
		this.#asked = "";
		this.#connected = this.peer = this.#fed = this.#brought = null;
		this.voices = [];
		this.#silence();
	}

	#silence() {
		this.#orders += 1;
		this.#element = "starts";
		this.#arrival.watch(null);
		this.#mp3.stop();
		this.media = this.route = this.streamId = null;
		this.audio.pause();
		this.audio.removeAttribute("src");
		this.audio.srcObject = null; // lets go of the MP3 connection, too
	}
}
