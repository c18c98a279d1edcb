const LOOK_EACH_MS = 1_000;
/** Two seconds are a silence that people notice. */
const LOOKS_IN_VAIN = 2;

/** Watches whether packets arrive at a connection. */
export class Arrival {
	#timer = 0;

	/** @param {RTCPeerConnection} peer @param {(stalled: boolean) => void} onChange called when none have come for two
	 *  seconds, and when they come again */
	watch(peer, onChange) {
		this.stop();
		let received = -1;
		let inVain = 0;
		const look = async () => {
			const now = await receivedPackets(peer);
			if (timer !== this.#timer) return; // another connection, or none
			const wasStalled = inVain >= LOOKS_IN_VAIN;
			inVain = now === received ? inVain + 1 : 0;
			received = now;
			const stalled = inVain >= LOOKS_IN_VAIN;
			if (stalled !== wasStalled) onChange(stalled);
		};
		const timer = (this.#timer = setInterval(look, LOOK_EACH_MS));
	}

	stop() {
		clearInterval(this.#timer);
		this.#timer = 0;
	}
}

/** @param {RTCPeerConnection} peer */
async function receivedPackets(peer) {
	for (const report of (await peer.getStats()).values()) {
		if (report.type === "inbound-rtp") return report.packetsReceived;
	}
	return 0;
}
