/** ICE on a LAN takes well under a second; after this long there is no way. */
export const MEDIA_TIMEOUT_MS = 10_000;
/** "disconnected" often heals by itself; longer than this is a silence that people notice. */
const GRACE_MS = 3_000;
/** Host candidates are there within milliseconds; those that are not follow one by one. */
const GATHER_MS = 300;

/** @param {(connected: boolean) => void} onChange
 *  @param {() => boolean} [repair] called when it is lost: whether something is under way that may bring it back */
export function openPeer(onChange, repair = () => false) {
	const peer = new RTCPeerConnection({ iceServers: [], bundlePolicy: "max-bundle" });
	const is = (/** @type {RTCPeerConnectionState} */ state) => peer.connectionState === state;
	let timer = 0;
	let wasConnected = false;
	peer.onconnectionstatechange = () => {
		if (is("connected")) {
			clearTimeout(timer);
			timer = 0;
			wasConnected = true;
			onChange(true);
		} else if (is("disconnected") || is("failed")) {
			const hope = wasConnected && repair();
			if (is("failed") && !hope) return onChange(false);
			timer ||= setTimeout(() => is("closed") || onChange(false), GRACE_MS);
		}
	};
	return peer;
}

/** Sends the local description as soon as it has a candidate; the others follow.
 *  @param {import("./voice-socket.js").VoiceSocket} socket @param {RTCPeerConnection} peer
 *  @param {"offer" | "answer"} kind */
export async function describe(socket, peer, kind) {
	const firstCandidate = new Promise((resolve) => {
		peer.onicecandidate = resolve;
		setTimeout(resolve, GATHER_MS);
	});
	await peer.setLocalDescription();
	await firstCandidate;
	if (peer.signalingState === "closed") return;
	socket.send({ type: `webrtc_${kind}`, [kind]: peer.localDescription });
	peer.onicecandidate = ({ candidate }) => {
		if (candidate?.candidate !== "") socket.send({ type: "ice_candidate", candidate }); // "" ends one generation only
	};
}
