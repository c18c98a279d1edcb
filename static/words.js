// @ts-check
/** What went wrong, in words, and what to do about it. By `Problem.code`. */
const PROBLEMS = {
  unreachable: "The server does not answer. Is it running, and are you on the same network? Trying again by itself.",
  lost: "The connection to the server broke. Coming back by itself.",
  stopping: "The server is restarting. Coming back by itself.",
  full: "The server is full: no more connections are allowed now. Trying again by itself, or close another page.",
  forbidden: "The server does not accept this page's address. Open the page from the server itself.",
  refused: "The server refused the connection. Trying again by itself; its log says why.",
  unauthorized: "This server asks for a token.",
  insecure: "Browsers give the microphone only to secure pages: open this page over HTTPS.",
  denied: "The microphone is blocked. Allow it in the address bar (the icon left of the address), then press again.",
  "no-microphone": "No microphone found. Plug one in, or choose another one below, then press again.",
  busy: "Another program holds the microphone. Close it, then press again.",
  unplugged: "The microphone was unplugged. Choose another one below, then press again.",
  microphone: "The microphone could not be opened. Try another one, or another browser.",
  replaced: "Somebody else now talks under this name. Choose another name, or press to take it back.",
  idle: "Nobody was listening for a long time, so the server ended your stream. Press to talk again.",
  ended: "The server ended the stream. Press to start again.",
  "no-media": "The server answers, but no sound gets through: a firewall may block UDP. Trying again by itself.",
  blocked: "Your browser wants a tap before it plays sound.",
  paused: "Playing was paused on this device. Press to go on.",
};

/** @param {import("./voice-socket.js").Problem | null} problem @returns {string} a sentence, or nothing */
export function problemText(problem) {
  if (!problem) return "";
  return PROBLEMS[problem.code] ?? `The server says: ${problem.message || problem.code}. Press to try again.`;
}

/** @param {string} reason why a stream ended, as the server has it @returns {string} */
export function reasonText(reason = "") {
  if (reason.includes("replaced")) return "Another sender took over.";
  if (reason.includes("idle")) return "It ended because nobody listened.";
  return reason.includes("stopping") ? "The server is restarting." : "The voice ended.";
}
