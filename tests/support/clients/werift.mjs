// werift: a WebRTC stack in TypeScript. It sends given payloads, and prints what it receives as {"payload": hex}.

import { MediaStreamTrack, RTCPeerConnection, RtpHeader, RtpPacket } from "werift";

import { converse, payload, role, say } from "./conversation.mjs";

const OPUS = 96; // what werift offers it as

const pc = new RTCPeerConnection({ iceServers: [], iceUseIpv6: false });

function talk(track) {
	let number = 0;
	let begun;
	setInterval(() => {
		if (pc.connectionState === "connected") {
			begun ??= performance.now();
		}
		for (; number < (performance.now() - begun) / 20; number++) {
			const header = new RtpHeader({ payloadType: OPUS, sequenceNumber: number, timestamp: number * 960 });
			track.writeRtp(new RtpPacket(header, payload(number)));
		}
	}, 5);
}

if (role === "send") {
	const track = new MediaStreamTrack({ kind: "audio" });
	pc.addTransceiver(track, { direction: "sendonly" });
	talk(track);
} else {
	pc.ontrack = ({ track }) =>
		track.onReceiveRtp.subscribe((packet) => say({ payload: packet.payload.toString("hex") }));
}
converse(pc);
