import { onNetworkChange } from "./network-change.js";
import { ResumeKeys } from "./resume-keys.js";
import { MEDIA_TIMEOUT_MS, describe, openPeer } from "./voice-peer.js";
import { Machine, retryDelay } from "./voice-socket.js";

/** @import { Problem, Stream, VoiceSocket } from "./voice-socket.js" */
/** @typedef {Omit<MediaTrackConstraints, "deviceId"> & {deviceId?: string}} MicrophoneSettings */
/** @typedef {"idle" | "asking" | "connecting" | "live" | "reconnecting"} SenderState */

/**
 * A microphone that goes to the server. States: `idle` (microphone released), `asking` (for permission),
 * `connecting`, `live` (the server has its packets), `reconnecting` (by itself). "microphone" tells that `media` has
 * changed. `problem.code` at `idle`: `insecure`, `denied`, `no-microphone`, `busy`, `microphone`, `unplugged`,
 * `replaced`, `idle`, `name_taken` (`start({takeOver: true})` takes the name from who has it), `name_kept` (not even
 * that does), or the server's. While it is live, media outlives the socket: the new one gets a connection of its own,
 * and the old one goes on until that has replaced it.
 * @extends {Machine<SenderState>}
 */
export class VoiceSender extends Machine {
	/** The open microphone. @type {MediaStream | null} */
	media = null;
	/** Null until it is known. @type {string | null} */
	streamId = null;
	/** Of the microphone; where `deviceId` is gone, the system chooses. @type {MicrophoneSettings} */
	settings = {};
	#socket;
	/** @type {RTCPeerConnection | null} */
	#peer = null;
	/** The one before, which carries the voice until `#peer` does. @type {RTCPeerConnection | null} */
	#outgoing = null;
	/** Whether the voice goes on although its socket is gone, or its successor not yet connected. */
	#renews = false;
	#takesOver = false;
	/** Whether the server has yet to accept our name and our offer. */
	#isAsking = false;
	#keys = new ResumeKeys();
	#muted = false;
	#attempt = 0;
	#timer = 0;
	/** @type {Promise<any>} */
	#changed = Promise.resolve();

	/** 1 to 64 letters, digits, spaces, ordinary punctuation: keeps the stream's address; or nothing. */
	name = "";

	/** @param {VoiceSocket} socket */
	constructor(socket) {
		super("idle", { asking: ["idle"], connecting: ["asking", "reconnecting"], live: ["connecting"] });
		this.#socket = socket;
		socket.on("state", () => this.#follow());
		socket.on("streams", () => this.#check());
		socket.on("sender_ready", (ready) => this.#offer(ready));
		onNetworkChange(() => this.#restartIce());
		socket.on("webrtc_answer", ({ answer }) => {
			this.#isAsking = false;
			if (this.#peer?.signalingState === "have-local-offer") this.#peer.setRemoteDescription(answer);
		});
		socket.on("stream_ended", ({ stream_id, reason }) => {
			if (!this.streamId || stream_id !== this.streamId) return;
			const code = ["replaced", "idle", "stopping"].find((word) => reason?.includes(word)) ?? "lost";
			if (code === "replaced" || code === "idle") this.stop({ code });
			else if (this.state !== "reconnecting") this.#retry({ code });
		});
		socket.on("error", (problem) => {
			if (problem.code === "connection_lost") {
				if (this.state === "live") this.#retry({ code: "lost" }); // after a sleep, say
			} else if (this.#isAsking) {
				this.stop(problem.code === "name_taken" && this.#takesOver ? { ...problem, code: "name_kept" } : problem);
			}
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

	/** Opens the microphone and goes live; must come from a press where the browser has yet to ask.
	 *  @param {{takeOver?: boolean}} [options] `takeOver`: from whoever talks under our name */
	async start({ takeOver = false } = {}) {
		if (this.state !== "idle") return;
		this.#takesOver = takeOver;
		this.enter("asking");
		const asked = () => this.state === "asking";
		try {
			const media = await openMicrophone(this.settings);
			if (!asked()) return release(media);
			this.#adopt(media);
			this.#follow();
		} catch (error) {
			if (asked()) this.enter("idle", microphoneProblem(error));
		}
	}

	/** Ends the stream and releases the microphone. @param {Problem | null} [problem] */
	stop(problem = null) {
		if (this.state === "idle") return;
		this.#socket.send({ type: "stop_stream" });
		this.#leave();
		release(this.media);
		this.media = this.streamId = null;
		this.enter("idle", problem);
		this.tell("microphone");
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
			peer = this.#peer;
			try {
				await peer?.getSenders()[0]?.replaceTrack(media.getTracks()[0]);
			} catch (error) {
				if (peer !== this.#peer) continue; // closed meanwhile, which is no fault of the microphone
				release(media);
				throw error;
			}
		} while (peer !== this.#peer); // a connection that was made meanwhile has the old microphone
		if (!this.media) return release(media); // stopped in between
		release(this.media);
		this.#adopt(media);
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
		const resume = this.name && this.#keys.get(this.name);
		this.#socket.send({
			type: "start_sending",
			...(this.name && { name: this.name }),
			...(resume && { resume }),
			...(this.#takesOver && { take_over: true }),
		});
		this.#timer = setTimeout(() => this.#retry({ code: "no-media" }), MEDIA_TIMEOUT_MS);
	}

	/** Whether the voice may go on without it. An unnamed stream has another address on another socket. */
	get #outlivesSocket() {
		const wanted = this.name && this.state === "live" && !["closed", "locked"].includes(this.#socket.state);
		return wanted && (this.#outgoing ?? this.#peer)?.connectionState === "connected";
	}

	/** @param {boolean} open whether there is a socket to ask on */
	#renew(open) {
		this.#renews = true;
		clearTimeout(this.#timer);
		this.#dropSuccessor();
		if (open) this.#ask();
	}

	/** @param {{connection_id: string, stream_id?: string | null, resume?: string}} ready */
	async #offer({ connection_id, stream_id, resume }) {
		if ((this.state !== "connecting" && !this.#renews) || !this.media) return;
		if (this.name && resume) this.#keys.set(this.name, resume);
		this.#takesOver = false;
		this.streamId = stream_id ?? (this.name ? null : `stream_${connection_id}`);
		if (this.#renews) this.#outgoing = this.#peer;
		const peer = (this.#peer = this.#openPeer());
		peer.addTransceiver(this.media.getTracks()[0], { direction: "sendonly", streams: [this.media] });
		await describe(this.#socket, peer, "offer");
	}

	#openPeer() {
		const changed = (/** @type {boolean} */ connected) => {
			if (connected && peer === this.#peer) return this.#renews ? this.#endRenewal() : this.#check();
			// While the next one is on its way, the loss of this one is known to that.
			if (!connected && peer === this.#peer) this.#retry({ code: this.state === "live" ? "lost" : "no-media" });
		};
		const peer = openPeer(changed, () => peer === this.#peer && this.#restartIce());
		return peer;
	}

	/** The connection's successor carries the voice. */
	#endRenewal() {
		if (!this.#outgoing) return; // it is the old one that is connected again
		clearTimeout(this.#timer);
		this.#outgoing.close();
		this.#outgoing = null;
		this.#renews = false;
		this.#attempt = 0;
	}

	/** Back to the connection that carries the voice. */
	#dropSuccessor() {
		if (!this.#outgoing) return;
		this.#peer?.close();
		this.#peer = this.#outgoing;
		this.#outgoing = null;
	}

	/** Looks for another way to the server: the same connection, with new addresses (RFC 8445 section 9).
	 *  @returns {boolean} whether there is hope */
	#restartIce() {
		const peer = this.#peer;
		if (this.state !== "live" || this.#renews || this.#socket.state !== "open" || !peer) return false;
		if (peer.signalingState === "stable") {
			peer.restartIce();
			describe(this.#socket, peer, "offer");
		}
		return true;
	}

	/** The server lists a stream from its first packet on, and as paused while it has none of ours. */
	#check() {
		const { stream } = this;
		if (this.state !== "connecting" || this.#peer?.connectionState !== "connected" || !stream || stream.paused) return;
		clearTimeout(this.#timer);
		this.#attempt = 0;
		this.streamId = stream.stream_id;
		this.enter("live");
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
		this.#peer?.close();
		this.#outgoing?.close();
		this.#peer = this.#outgoing = null;
		this.#renews = this.#isAsking = false;
	}
}

/** Chromium heeds an exact wish only. @param {MicrophoneSettings} settings */
async function openMicrophone({ deviceId, ...audio }) {
	if (!navigator.mediaDevices) throw new DOMException("not a secure page", "SecurityError");
	/** @param {MediaTrackConstraints} [wish] */
	const open = (wish) => navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...audio, ...wish } });
	return open(deviceId ? { deviceId: { exact: deviceId } } : {}).catch((error) => {
		if (error.name !== "OverconstrainedError") throw error;
		return open(); // it is gone
	});
}

/** @param {MediaStream | null} media */
const release = (media) => media?.getTracks().forEach((track) => track.stop());

/** @param {unknown} error @returns {Problem} */
function microphoneProblem(error) {
	const { name, message } = error instanceof Error ? error : new Error(String(error));
	/** @type {Record<string, string>} */
	const codes = {
		SecurityError: "insecure",
		NotAllowedError: "denied",
		NotFoundError: "no-microphone",
		NotReadableError: "busy",
		AbortError: "busy",
	};
	return { code: codes[name] ?? "microphone", message };
}
