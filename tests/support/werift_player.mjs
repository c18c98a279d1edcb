// A WHEP player without a browser (npm's werift): `node werift_player.mjs URL [TOKEN]`.
// Each Opus payload is a line of hexadecimal digits; SIGTERM ends the session.

import { RTCPeerConnection, RTCRtpCodecParameters } from "werift";

const [url, token] = process.argv.slice(2);
const authorization = token ? { Authorization: `Bearer ${token}` } : {};
const opus = new RTCRtpCodecParameters({ mimeType: "audio/opus", clockRate: 48000, channels: 2 });
const peer = new RTCPeerConnection({ iceServers: [], codecs: { audio: [opus], video: [] } });
const transceiver = peer.addTransceiver("audio", { direction: "recvonly" });
transceiver.onTrack.subscribe(track => {
	track.onReceiveRtp.subscribe(packet => console.log(packet.payload.toString("hex")));
});
peer.connectionStateChange.subscribe(state => console.log(`state ${state}`));
await peer.setLocalDescription(await peer.createOffer());
const created = await fetch(url, {
	method: "POST",
	headers: { "Content-Type": "application/sdp", ...authorization },
	body: peer.localDescription.sdp,
});
if (created.status !== 201) throw new Error(`${created.status} ${await created.text()}`);
process.on("SIGTERM", async () => {
	const session = new URL(created.headers.get("Location"), url);
	console.log(`deleted ${(await fetch(session, { method: "DELETE", headers: authorization })).status}`);
	process.exit(0);
});
// It may go on for as long as the connection does.
peer.setRemoteDescription({ type: "answer", sdp: await created.text() });
setInterval(() => {}, 1000);
