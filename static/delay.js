/** How far behind the server a WebRTC receiver was between two calls: milliseconds, NaN where the browser does not
 *  measure; null where nothing was played. @param {RTCPeerConnection} peer
 *  @returns {() => Promise<{network: number, buffer: number, output: number} | null>} */
export function delayMeter(peer) {
	let before = [0, 0, 0, 0];
	return async () => {
		/** @type {any} */
		const stats = {};
		for (const report of (await peer.getStats()).values()) {
			if (report.type !== "candidate-pair" || report.nominated) stats[report.type] = report;
		}
		const { jitterBufferDelay, jitterBufferEmittedCount } = stats["inbound-rtp"] ?? {};
		const { totalPlayoutDelay, totalSamplesCount } = stats["media-playout"] ?? {};
		const now = [jitterBufferDelay, jitterBufferEmittedCount, totalPlayoutDelay, totalSamplesCount];
		const [buffered, emitted, waited, played] = now.map((value, index) => value - before[index]);
		before = now.map((value) => value || 0);
		const network = (stats["candidate-pair"]?.currentRoundTripTime / 2) * 1000;
		return emitted > 0 ? { network, buffer: (buffered / emitted) * 1000, output: (waited / played) * 1000 } : null;
	};
}
