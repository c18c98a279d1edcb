/** What went wrong and what to do about it, by `Problem.code`. */
const PROBLEMS = {
	unreachable: "The server does not answer. Is it running, are you on its network? Trying again.",
	lost: "The connection broke. Coming back by itself.",
	stopping: "The server is restarting. Coming back by itself.",
	full: "The server is full. Close another page; trying again.",
	forbidden: "The server does not accept this address. Open the page from the server.",
	refused: "The server refuses; its log says why. Trying again.",
	unauthorized: "This server asks for a token.",
	denied: "The microphone is blocked. Allow it at the left of the address bar, then press again.",
	"no-microphone": "There is no microphone. Plug one in and press again.",
	busy: "Another program holds the microphone. Close it, then press again.",
	unplugged: "The microphone was unplugged. Choose another one, then press again.",
	microphone: "The microphone does not open. Choose another one, then press again.",
	silent: "This microphone gives no sound. Is it switched off, or is another one meant?",
	replaced: "Somebody else talks under this name now. Choose another, or press to take it back.",
	idle: "Nobody listened for long, so the server ended your stream. Press to talk again.",
	"no-media": "No sound gets through: does a firewall block UDP? Trying again.",
	blocked: "Your browser wants a tap before it plays sound.",
	paused: "Paused by this device. Tap to go on.",
};

/** A sentence or two, or nothing. */
export function problemText(problem) {
	if (!problem) return "";
	return PROBLEMS[problem.code] ?? `The server says: ${problem.message ?? problem.code}. Press to try again.`;
}

/** Who hears a stream. */
export function audience({ receivers = 0, listeners = 0 } = {}) {
	const count = (number, word) => (number ? [`${number} ${word}${number === 1 ? "" : "s"}`] : []);
	return [...count(receivers, "receiver"), ...count(listeners, "MP3 listener")].join(", ") || "nobody listens yet";
}

/** What a receiver that plays hears. */
export function heard({ stream, streamId }) {
	const name = `“${stream?.name ?? streamId}”`;
	return stream?.paused ? `${name} is gone for a moment…` : `You hear ${name}`;
}
