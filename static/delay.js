import { latencyText } from "./words.js";

/** Tells, each time it is called, how far a WebRTC receiver was behind the server since the last time, in words;
 *  "" where nothing was played. @param {Pick<RTCPeerConnection, "getStats">} peer */
export function delayMeter(peer) {
	let before = [0, 0, 0, 0];
	return async () => {
		/** The last report of each type. @type {Record<string, any>} */
		const stats = {};
		for (const report of (await peer.getStats()).values()) {
			if (report.type !== "candidate-pair" || report.nominated) stats[report.type] = report;
		}
		const { jitterBufferDelay, jitterBufferEmittedCount } = stats["inbound-rtp"] ?? {};
		const { totalPlayoutDelay, totalSamplesCount } = stats["media-playout"] ?? {}; // not in Firefox
		const now = [jitterBufferDelay, jitterBufferEmittedCount, totalPlayoutDelay, totalSamplesCount];
		const [buffered, emitted, waited, played] = now.map((value, index) => value - before[index]);
		before = now.map((value) => value || 0);
		if (!emitted) return "";
		const parts = [stats["candidate-pair"]?.currentRoundTripTime / 2, buffered / emitted, waited / played];
		const seconds = parts.reduce((sum, part) => sum + (part || 0), 0);
		return latencyText(seconds, Boolean(played));
	};
}
