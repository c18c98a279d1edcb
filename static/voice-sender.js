import { Intent } from "./intent.js";
import { microphoneProblem, openMicrophone, release } from "./microphone.js";
import { onNetworkChange } from "./network-change.js";
import { ResumeKeys } from "./resume-keys.js";
import { Uplink } from "./uplink.js";
import { MEDIA_TIMEOUT_MS, describe, openPeer } from "./voice-peer.js";
import { Machine, retryDelay } from "./voice-socket.js";

/** @import { MicrophoneSettings } from "./microphone.js" */
/** @import { Problem, Stream, VoiceSocket } from "./voice-socket.js" */
/** @typedef {"idle" | "asking" | "connecting" | "ready" | "live" | "reconnecting"} SenderState */

/** What the server answers to a press, while the connection stays. */
const REFUSED_PRESSES = ["room_busy", "too_many_rooms"];
/** People release while the last word is still on its way through the microphone. */
const HOLD_ON_MS = 250;

/**
 * A microphone that goes to the server. States: `idle` (microphone released), `asking` (for permission),
 * `connecting`, `ready` (microphone and connection are there, nothing is sent), `live` (the server has its packets),
 * `reconnecting` (by itself). "microphone" tells that `media` has changed, "talking" that `talking` has.
 * `problem.code` at `idle`: `insecure`, `denied`, `no-microphone`, `busy`, `microphone`, `unplugged`, `replaced`,
 * `idle`, `unused` (ready for long), `name_taken` (`start({takeOver: true})` takes the name from who has it),
 * `name_kept` (not even that does), or the server's. While it is live, media outlives the socket: the new one gets a
 * connection of its own, and the old one goes on until that has replaced it.
 * @extends {Machine<SenderState>}
 */
export class VoiceSender extends Machine {
	/** The open microphone. @type {MediaStream | null} */
	media = null;
	/** Null until it is known. @type {string | null} */
	streamId = null;
	/** Of the microphone; where `deviceId` is gone, the system chooses. @type {MicrophoneSettings} */
	settings = {};
	/** Whether it is `ready` after `rest`, else `idle`. */
	staysReady = false;
	/** How long `rest` goes on. */
	holdOnMs = HOLD_ON_MS;
	#socket;
	#uplink = new Uplink();
	#takesOver = false;
	#intent = new Intent(() => this.stop({ code: "unused" }));
	/** Who got the first packet. */
	#audience = {};
	/** Whether the server has yet to accept our name and our offer. */
	#isAsking = false;
	/** How often we asked on this socket for a name, and have no answer yet. */
	#unanswered = 0;
	#keys = new ResumeKeys();
	#muted = false;
	#attempt = 0;
	#timer = 0;
	/** @type {Promise<any>} */
	#changed = Promise.resolve();

	/** 1 to 64 letters, digits, spaces, ordinary punctuation: keeps the stream's address; or nothing. */
	name = "";
	/** Names of the rooms that the voice is for, from the next press on; none: everyone. @type {string[]} */
	rooms = [];
	/** Whether it is for those as well who do not want to be disturbed. */
	urgent = false;
	/** Whether the server was told of rooms, and so has to be told of everyone. */
	#hasRooms = false;
	/** Whom the present press is for, as JSON. */
	#told = "";

	/** @param {VoiceSocket} socket */
	constructor(socket) {
		super("idle", {
			asking: ["idle"],
			connecting: ["asking", "ready", "reconnecting"],
			ready: ["connecting", "live"],
			live: ["connecting", "ready"],
		});
		this.#socket = socket;
		socket.on("state", () => {
			this.#unanswered = 0;
			this.#follow();
		});
		socket.on("streams", () => this.#check());
		socket.on("sender_ready", (ready) => this.#offer(ready));
		socket.on("talking", (message) => this.#heed(message));
		onNetworkChange(() => this.#restartIce());
		socket.on("webrtc_answer", ({ answer }) => {
			this.#isAsking = false;
			if (this.#uplink.peer?.signalingState === "have-local-offer") this.#uplink.peer.setRemoteDescription(answer);
		});
		socket.on("stream_ended", ({ stream_id, reason }) => {
			if (!this.streamId || stream_id !== this.streamId || reason === "stopped talking") return;
			const code = ["replaced", "idle", "stopping"].find((word) => reason?.includes(word)) ?? "lost";
			if (code === "replaced" || code === "idle") this.stop({ code });
			else if (this.state !== "reconnecting") this.#retry({ code });
		});
		socket.on("error", (problem) => {
			if (problem.code === "connection_lost") {
				if (this.#hasConnection) this.#retry({ code: "lost" }); // after a sleep, say
			} else if (this.#isAsking) {
				this.#unanswered = 0;
				this.stop(problem.code === "name_taken" && this.#takesOver ? { ...problem, code: "name_kept" } : problem);
			} else if (REFUSED_PRESSES.includes(problem.code) && this.talking) this.#refuse(problem);
		});
	}

	/** Whether it is, or is about to be, this one. @param {Stream} stream */
	owns({ stream_id, name }) {
		if (this.state === "idle") return false;
		return this.streamId ? stream_id === this.streamId : this.name !== "" && name === this.name;
	}

	/** Our stream, as listed. @returns {Stream | undefined} */
	get stream() {
		return this.#socket.streams.find((stream) => this.owns(stream));
	}

	get muted() {
		return this.#muted;
	}

	set muted(muted) {
		this.#muted = muted;
		this.media?.getTracks().forEach((track) => (track.enabled = !muted));
		this.tell("muted");
	}

	/** Who gets our stream. @returns {Pick<Stream, "receivers" | "listeners">} */
	get audience() {
		return this.stream?.receivers === undefined ? this.#audience : this.stream; // it has been told of, not yet listed
	}

	/** Whether it is to be live: from `start` or `talk` on, until `rest` or `stop`. */
	get talking() {
		return this.#intent.talking && !this.#intent.isEnding;
	}

	/** Whether there was media, and it is not known to be lost. */
	get #hasConnection() {
		return this.state === "live" || this.state === "ready";
	}

	/** Opens the microphone and goes live; must come from a press where the browser has yet to ask.
	 *  @param {{takeOver?: boolean}} [options] `takeOver`: from whoever talks under our name */
	async start({ takeOver = false } = {}) {
		await this.#open(true, takeOver);
	}

	/** Opens the microphone and connects: `talk` has no need to wait for that. */
	async arm() {
		await this.#open(false, false);
	}

	/** @param {boolean} talking @param {boolean} takeOver */
	async #open(talking, takeOver) {
		if (this.state !== "idle") return;
		this.#takesOver = takeOver;
		this.#intent.set(talking);
		this.enter("asking");
		const asked = () => this.state === "asking";
		try {
			const media = await openMicrophone(this.settings);
			if (!asked()) return release(media);
			this.#adopt(media);
			this.#follow();
		} catch (error) {
			if (asked()) this.#end(microphoneProblem(error));
		}
	}

	/** Goes live, at once where it is `ready`, else as soon as it can be; not from `idle`. */
	talk() {
		if (this.state === "idle" || this.talking) return;
		this.#intent.goOn();
		// Whom the last press was for is not whom this one is for.
		if (this.#intent.talking && this.#told !== JSON.stringify([this.rooms, this.urgent])) this.#setTalking(false);
		if (this.#intent.talking) this.tell("talking");
		else this.#setTalking(true);
	}

	/** Ends the stream, `holdOnMs` later where it is heard. */
	rest() {
		if (!this.talking) return;
		if (!this.#hasConnection) return this.#close();
		this.#intent.endLater(this.holdOnMs, () => this.#close());
		this.tell("talking");
	}

	#close() {
		if (this.staysReady && this.state !== "asking") this.#setTalking(false);
		else this.stop();
	}

	/** Ends the stream and releases the microphone. @param {Problem | null} [problem] */
	stop(problem = null) {
		if (this.state === "idle") return;
		this.#socket.send({ type: "stop_stream" });
		this.#end(problem);
	}

	/** @param {Problem | null} problem */
	#end(problem) {
		this.#leave();
		this.#intent.clear();
		release(this.media);
		this.media = this.streamId = null;
		this.enter("idle", problem);
		this.tell("microphone");
	}

	/** Takes another name, for which it connects anew; not while it is live. @param {string} name */
	rename(name) {
		if (name === this.name) return;
		this.name = name;
		if (this.state !== "ready" && this.state !== "connecting") return;
		this.#socket.send({ type: "stop_stream" });
		this.#follow();
	}

	/** Media and message leave in the same tick: neither waits for the other. @param {boolean} talking */
	#setTalking(talking) {
		this.#intent.set(talking);
		this.#feed();
		if (this.#hasConnection || this.state === "connecting") this.#socket.send({ type: "set_talking", talking, ...(talking && this.#whom) });
		else if (!talking) this.#socket.send({ type: "stop_stream" }); // the server waits for us to come back
		if (this.state === "connecting") this.#check();
		else if (this.state === "ready" && talking) this.#awaitMedia();
		else if (this.#hasConnection && this.#socket.state === "open") this.#reach("ready");
		else if (this.#hasConnection) this.#follow();
		this.tell("talking");
	}

	/** The press, not the connection. @param {Problem} problem */
	#refuse(problem) {
		clearTimeout(this.#timer);
		this.#intent.set(false);
		this.#feed();
		if (this.state === "ready" || this.state === "live") this.enter("ready", problem);
		this.tell("talking");
	}

	/** Whom the voice is for, as a message says it. */
	get #whom() {
		this.#told = JSON.stringify([this.rooms, this.urgent]);
		if (!this.rooms.length && !this.urgent && !this.#hasRooms) return {};
		this.#hasRooms = true;
		return { rooms: this.rooms, urgent: this.urgent };
	}

	/** The connection has the microphone while we talk, else nothing to send. */
	#feed() {
		this.#uplink.feed((this.#intent.talking && this.media?.getTracks()[0]) || null);
	}

	/** What the server says of our stream. @param {{talking: boolean, receivers: number, listeners: number}} message */
	#heed({ talking, receivers, listeners }) {
		this.#audience = { receivers, listeners };
		if (!this.#intent.talking) return;
		if (talking) {
			if (this.state === "ready" || this.state === "connecting") this.#reach("live");
		} else if (this.state === "live") {
			this.enter("ready"); // of the press before this one
			this.#awaitMedia();
		}
	}

	/** Takes another microphone or processing, at once where live. @param {MicrophoneSettings} settings
	 *  @returns {Promise<Problem | null>} what went wrong; the old microphone then stays in use */
	change(settings) {
		return (this.#changed = this.#changed.then(async () => {
			const wanted = { ...this.settings, ...settings };
			try {
				if (this.media) await this.#swap(await openMicrophone(wanted));
				this.settings = wanted;
				return null;
			} catch (error) {
				return microphoneProblem(error);
			}
		}));
	}

	/** @param {MediaStream} media */
	async #swap(media) {
		let peer;
		do {
			peer = this.#uplink.peer;
			try {
				if (this.#intent.talking) await peer?.getSenders()[0]?.replaceTrack(media.getTracks()[0]);
			} catch (error) {
				if (peer !== this.#uplink.peer) continue; // closed meanwhile, which is no fault of the microphone
				release(media);
				throw error;
			}
		} while (peer !== this.#uplink.peer); // a connection that was made meanwhile has the old microphone
		if (!this.media) return release(media); // stopped in between
		release(this.media);
		this.#adopt(media);
		this.#feed(); // it may have changed meanwhile whether we talk
	}

	/** @param {MediaStream} media */
	#adopt(media) {
		this.media = media;
		this.muted = this.#muted;
		media.getTracks()[0].onended = async () => {
			if (this.media === media && (await this.change({}))) this.stop({ code: "unplugged" });
		};
		this.tell("microphone");
	}

	/** Brings us in step with the socket. */
	#follow() {
		if (!this.media) return;
		const open = this.#socket.state === "open";
		if (this.#outlivesSocket) return this.#renew(open);
		this.#leave();
		if (!open) return this.enter("reconnecting", this.#socket.problem ?? this.problem);
		this.streamId = null;
		this.enter("connecting");
		this.#ask();
	}

	#ask() {
		this.#isAsking = true;
		this.#unanswered++;
		const resume = this.name && this.#keys.get(this.name);
		this.#socket.send({
			type: "start_sending",
			...(this.name && { name: this.name }),
			...(resume && { resume }),
			...(this.#takesOver && { take_over: true }),
			...((this.staysReady || !this.#intent.talking) && { talking: this.#intent.talking }),
			...this.#whom,
		});
		this.#awaitMedia();
	}

	#awaitMedia() {
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => this.#retry({ code: "no-media" }), MEDIA_TIMEOUT_MS);
	}

	/** Whether the voice may go on without it. An unnamed stream has another address on another socket. */
	get #outlivesSocket() {
		const wanted = this.name && this.state === "live" && this.#intent.talking;
		return wanted && !["closed", "locked"].includes(this.#socket.state) && this.#uplink.carries;
	}

	/** @param {boolean} open whether there is a socket to ask on */
	#renew(open) {
		clearTimeout(this.#timer);
		this.#uplink.renew();
		if (open) this.#ask();
	}

	/** @param {{connection_id: string, stream_id?: string | null, resume?: string}} ready */
	async #offer({ connection_id, stream_id, resume }) {
		if (this.#unanswered && --this.#unanswered) return; // of a name that we have given up since
		if ((this.state !== "connecting" && !this.#uplink.renews) || !this.media) return;
		if (this.name && resume) this.#keys.set(this.name, resume);
		this.#takesOver = false;
		this.streamId = stream_id ?? (this.name ? null : `stream_${connection_id}`);
		const peer = this.#openPeer();
		this.#uplink.add(peer);
		const track = this.#intent.talking ? this.media.getTracks()[0] : "audio";
		peer.addTransceiver(track, { direction: "sendonly", streams: [this.media] });
		await describe(this.#socket, peer, "offer");
	}

	#openPeer() {
		const changed = (/** @type {boolean} */ connected) => {
			if (connected && peer === this.#uplink.peer) return this.#uplink.renews ? this.#endRenewal() : this.#check();
			// While the next one is on its way, the loss of this one is known to that.
			if (!connected && peer === this.#uplink.peer) this.#retry({ code: this.#hasConnection ? "lost" : "no-media" });
		};
		const peer = openPeer(changed, () => peer === this.#uplink.peer && this.#restartIce());
		return peer;
	}

	#endRenewal() {
		if (!this.#uplink.endRenewal()) return;
		clearTimeout(this.#timer);
		this.#attempt = 0;
	}

	/** Looks for another way to the server: the same connection, with new addresses (RFC 8445 section 9).
	 *  @returns {boolean} whether there is hope */
	#restartIce() {
		const peer = this.#uplink.peer;
		if (!this.#hasConnection || this.#uplink.renews || this.#socket.state !== "open" || !peer) return false;
		if (peer.signalingState === "stable") {
			peer.restartIce();
			describe(this.#socket, peer, "offer");
		}
		return true;
	}

	/** The server lists a stream from its first packet on, and as paused while it has none of ours. */
	#check() {
		const { stream } = this;
		if (this.state !== "connecting" || this.#uplink.peer?.connectionState !== "connected") return;
		if (!this.#intent.talking) return this.#reach("ready");
		if (!stream || stream.paused) return;
		this.streamId = stream.stream_id;
		this.#reach("live");
	}

	/** @param {"ready" | "live"} state */
	#reach(state) {
		if (!this.#uplink.renews) clearTimeout(this.#timer);
		this.#attempt = 0;
		this.enter(state);
	}

	/** @param {Problem} problem */
	#retry(problem) {
		this.#leave();
		this.enter("reconnecting", problem);
		this.#timer = setTimeout(() => this.#follow(), retryDelay(this.#attempt++));
	}

	/** Without a word: the server keeps a stream with a name for whoever comes back soon. */
	#leave() {
		clearTimeout(this.#timer);
		this.#uplink.close();
		this.#isAsking = false;
	}
}
