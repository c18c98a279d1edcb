/** What of a browser the modules under test use, and the server's side of it. */
import { Machine } from "../../static/voice-socket.js";

/** Lets everything that waits for no timer come to its end. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A page that is seen, in a browser that grants the microphone. */
export function installBrowser() {
	globalThis.document = Object.assign(new EventTarget(), { hidden: false });
	const page = new EventTarget();
	globalThis.sessionStorage = {};
	globalThis.addEventListener = page.addEventListener.bind(page);
	globalThis.RTCPeerConnection = FakePeer;
	globalThis.MediaStream = FakeMedia;
	globalThis.Audio = FakeAudio;
	const mediaDevices = { getUserMedia: async () => new FakeMedia([new FakeTrack()]) };
	Object.defineProperty(globalThis, "navigator", { value: { mediaDevices }, configurable: true, writable: true });
	FakePeer.made = [];
	return { page, mediaDevices };
}

export class FakeTrack {
	enabled = true;
	stopped = false;

	stop() {
		this.stopped = true;
	}
}

export class FakeMedia {
	constructor(tracks) {
		this.tracks = tracks;
	}

	getTracks() {
		return this.tracks;
	}
}

/** Plays what it is given, unless `refusal` is set. */
export class FakeAudio {
	refusal = null;
	src = "";
	srcObject = null;

	async play() {
		if (this.refusal) throw this.refusal;
	}

	pause() {}

	removeAttribute() {
		this.src = "";
	}
}

export class FakePeer {
	static made = [];
	connectionState = "new";
	signalingState = "stable";
	localDescription = null;
	remoteDescription = null;
	senders = [];
	restarts = 0;
	packetsReceived = 0;

	constructor() {
		FakePeer.made.push(this);
	}

	static get last() {
		return FakePeer.made.at(-1);
	}

	addTransceiver(track) {
		const peer = this;
		this.senders.push({
			track: typeof track === "string" ? null : track,
			async replaceTrack(other) {
				if (peer.signalingState === "closed") throw new DOMException("closed", "InvalidStateError");
				this.track = other;
			},
		});
	}

	getSenders() {
		return this.senders;
	}

	async setLocalDescription() {
		if (this.signalingState === "closed") throw new DOMException("closed", "InvalidStateError");
		const type = this.signalingState === "have-remote-offer" ? "answer" : "offer";
		this.localDescription = { type, sdp: "v=0" };
		this.signalingState = type === "offer" ? "have-local-offer" : "stable";
		queueMicrotask(() => this.onicecandidate?.({ candidate: { candidate: "candidate:1" } }));
	}

	async setRemoteDescription(description) {
		this.remoteDescription = description;
		this.signalingState = description.type === "offer" ? "have-remote-offer" : "stable";
	}

	async getStats() {
		return new Map([["voice", { type: "inbound-rtp", packetsReceived: this.packetsReceived }]]);
	}

	restartIce() {
		this.restarts += 1;
	}

	/** As the network has it. */
	becomes(state) {
		this.connectionState = state;
		this.onconnectionstatechange?.();
	}

	close() {
		this.onconnectionstatechange = null; // a browser does not tell of this
		this.connectionState = this.signalingState = "closed";
	}
}

/** Stands for VoiceSocket where the test plays the server. */
export class FakeSocket extends Machine {
	streams = [];
	sent = [];

	constructor() {
		super("open", {});
	}

	send(message) {
		this.sent.push(message);
	}

	address(path) {
		return `http://relay/${path}`;
	}

	list(...streams) {
		this.streams = streams;
		this.tell("streams");
	}

	/** Types of what was sent since the last time. */
	takeSent() {
		return this.sent.splice(0).map(({ type }) => type);
	}
}
