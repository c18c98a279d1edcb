// One client of the server, of a WebRTC stack for Node: what all of these stacks have in common.
//
//     node CLIENT.mjs <address of /ws> <send or receive> <name of the stream> <a=setup of the offer>
//
// Each line that it prints is JSON: {"state"}, {"answers"} when it took one, {"error"}, and what it receives. SIGHUP makes a sender renegotiate,
// SIGUSR2 restart ICE. It ends with its socket.

export const [address, role, stream, setup] = process.argv.slice(2);

/** @param {object} words */
export function say(words) {
	process.stdout.write(`${JSON.stringify(words)}\n`);
}

/** A voice of which each packet tells its number; `tests/support/foreign.py` knows it, too. */
export function payload(number) {
	const bytes = Buffer.alloc(40, number & 255);
	bytes[0] = 120; // 20 ms of CELT (RFC 6716 section 3.1)
	bytes.writeUInt16BE(number, 1);
	return bytes;
}

async function gathered(pc) {
	while (pc.iceGatheringState !== "complete") {
		await new Promise((resolve) => setTimeout(resolve, 5));
	}
	const { type, sdp } = pc.localDescription;
	return { type, sdp };
}

async function offer(pc, options) {
	await pc.setLocalDescription(await pc.createOffer(options));
	const description = await gathered(pc);
	return { ...description, sdp: description.sdp.replace("a=setup:actpass", `a=setup:${setup}`) };
}

/** Negotiates `pc` over the server's WebSocket. */
export function converse(pc) {
	const socket = new WebSocket(address);
	const send = (type, fields) => socket.send(JSON.stringify({ type, ...fields }));
	const sendOffer = async (options) => send("webrtc_offer", { offer: await offer(pc, options) });
	const handlers = {
		sender_ready: () => sendOffer({}),
		webrtc_answer: async ({ answer }) => {
			await pc.setRemoteDescription(answer);
			say({ answers: 1 });
		},
		webrtc_offer: async (message) => {
			await pc.setRemoteDescription(message.offer);
			await pc.setLocalDescription(await pc.createAnswer());
			send("webrtc_answer", { answer: await gathered(pc) });
		},
		error: ({ code, message }) => say({ error: `${code}: ${message}` }),
	};
	socket.onopen = () =>
		role === "send" ? send("start_sending", { name: stream }) : send("start_receiving", { stream_id: stream });
	socket.onmessage = async ({ data }) => {
		const message = JSON.parse(data);
		await handlers[message.type]?.(message);
	};
	socket.onclose = () => process.exit();
	pc.addEventListener("connectionstatechange", () => say({ state: pc.connectionState }));
	process.on("SIGHUP", () => sendOffer({}));
	process.on("SIGUSR2", () => sendOffer({ iceRestart: true }));
}
