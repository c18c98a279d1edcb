// @ts-check
/** ICE on a LAN takes well under a second; after this long the media path is taken to be closed. */
export const MEDIA_TIMEOUT_MS = 10_000;
/** ICE often recovers by itself from "disconnected"; longer than this is a silence that people notice. */
const DISCONNECTED_GRACE_MS = 3_000;
/** Host candidates are there within milliseconds; later ones follow one by one. */
const GATHER_MS = 300;

/** @param {(state: "connected" | "lost") => void} onChange */
export function openPeer(onChange) {
  const peer = new RTCPeerConnection({ iceServers: [], bundlePolicy: "max-bundle" });
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let grace;
  peer.onconnectionstatechange = () => {
    clearTimeout(grace);
    if (peer.connectionState === "connected") onChange("connected");
    if (peer.connectionState === "failed") onChange("lost");
    if (peer.connectionState === "disconnected") {
      grace = setTimeout(() => peer.connectionState === "disconnected" && onChange("lost"), DISCONNECTED_GRACE_MS);
    }
  };
  return peer;
}

/** Sends the local description with the first candidates in it; the others follow in messages of their own.
 *  @param {import("./voice-socket.js").VoiceSocket} socket @param {RTCPeerConnection} peer @param {"offer" | "answer"} kind */
export async function describe(socket, peer, kind) {
  const first = new Promise((resolve) => {
    peer.onicecandidate = resolve;
    setTimeout(resolve, GATHER_MS);
  });
  await peer.setLocalDescription();
  await first;
  if (peer.signalingState === "closed") return;
  const { sdp, type } = /** @type {RTCSessionDescription} */ (peer.localDescription);
  socket.send({ type: `webrtc_${kind}`, [kind]: { sdp, type } });
  peer.onicecandidate = ({ candidate }) => {
    if (candidate?.candidate === "") return; // the end of one generation; null tells the end of all
    socket.send({ type: "ice_candidate", candidate: candidate && candidate.toJSON() });
  };
}
