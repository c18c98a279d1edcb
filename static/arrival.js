const LOOK_EACH_MS = 1_000;
/** Two seconds are a silence that people notice. */
const LOOKS_IN_VAIN = 2;

/** Watches whether packets arrive at a connection. */
export class Arrival {
	/** Whether none have come for two seconds. */
	stalled = false;
	#onChange;
	/** @type {RTCPeerConnection | null} */
	#peer = null;
	#timer = 0;

	/** @param {() => void} onChange called when `stalled` changes */
	constructor(onChange) {
		this.#onChange = onChange;
	}

	/** @param {RTCPeerConnection | null} peer null for none */
	watch(peer) {
		if (peer === this.#peer) return;
		clearInterval(this.#timer);
		this.#timer = 0;
		this.#peer = peer;
		this.#set(false);
		if (!peer) return;
		let received = -1;
		let inVain = 0;
		const look = async () => {
			const now = await receivedPackets(peer);
			if (timer !== this.#timer) return; // another connection, or none
			inVain = now === received ? inVain + 1 : 0;
			received = now;
			this.#set(inVain >= LOOKS_IN_VAIN);
		};
		const timer = (this.#timer = setInterval(look, LOOK_EACH_MS));
	}

	/** @param {boolean} stalled */
	#set(stalled) {
		if (this.stalled === stalled) return;
		this.stalled = stalled;
		this.#onChange();
	}
}

/** @param {RTCPeerConnection} peer */
async function receivedPackets(peer) {
	for (const report of (await peer.getStats()).values()) {
		if (report.type === "inbound-rtp") return report.packetsReceived;
	}
	return 0;
}
