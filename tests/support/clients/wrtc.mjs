// @roamhq/wrtc: Chromium's WebRTC for Node. It sends a tone, and prints what it receives as {"samples": base64},
// 16 bits each, 48,000 a second.

import wrtc from "@roamhq/wrtc";

import { converse, role, say } from "./conversation.mjs";

const TONE_HZ = 997;
const RATE_HZ = 48000;
const SAMPLES = RATE_HZ / 100; // RTCAudioSource takes 10 ms at a time

const pc = new wrtc.RTCPeerConnection({ iceServers: [] });

function talk(source) {
	let sent = 0;
	const begun = performance.now();
	setInterval(() => {
		for (; sent < ((performance.now() - begun) / 1000) * RATE_HZ; sent += SAMPLES) {
			const samples = Int16Array.from(
				{ length: SAMPLES },
				(_, index) => 16384 * Math.sin((2 * Math.PI * TONE_HZ * (sent + index)) / RATE_HZ),
			);
			source.onData({ samples, sampleRate: RATE_HZ, channelCount: 1, numberOfFrames: SAMPLES });
		}
	}, 5);
}

function hear({ samples, sampleRate, channelCount }) {
	if (sampleRate !== RATE_HZ) {
		return;
	}
	const left = samples.filter((_, index) => index % channelCount === 0);
	say({ samples: Buffer.from(left.buffer).toString("base64") });
}

if (role === "send") {
	const source = new wrtc.nonstandard.RTCAudioSource();
	pc.addTrack(source.createTrack());
	talk(source);
} else {
	pc.ontrack = ({ track }) => {
		// Held, for the garbage collector ends it.
		pc.sink = new wrtc.nonstandard.RTCAudioSink(track);
		pc.sink.ondata = hear;
	};
}
converse(pc);
