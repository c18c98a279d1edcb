// @ts-check
/** What the pages share: memory, the connection's line, the token dialog, the screen's wake lock. */
import { VoiceSocket } from "./voice-client.js";
import { problemText } from "./words.js";

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/** Settings that outlive the page; where the browser forbids that, they live as long as the page. */
export const memory = {
  /** @template T @param {string} key @param {T} fallback @returns {T} */
  get(key, fallback) {
    try {
      return JSON.parse(localStorage.getItem(`voice.${key}`) ?? "") ?? fallback;
    } catch {
      return fallback;
    }
  },
  /** @param {string} key @param {any} value */
  set(key, value) {
    try {
      localStorage.setItem(`voice.${key}`, JSON.stringify(value));
    } catch {
      // Private windows refuse; the setting then lasts until the page is closed.
    }
  },
};

/** Opens the page's socket, keeps the line in `#connection` true and asks for a token when the server wants one.
 *  @param {{pollMs?: number}} [options] */
export function openSocket(options) {
  const here = new URL(location.href);
  if (here.searchParams.has("token")) {
    memory.set("token", here.searchParams.get("token"));
    here.searchParams.delete("token");
    history.replaceState(null, "", here);
  }
  const socket = new VoiceSocket({ ...options, token: memory.get("token", "") });
  const line = byId("connection");
  socket.on("state", () => {
    line.dataset.state = socket.state;
    line.textContent = { open: "Connected", connecting: "Connecting…", locked: "Locked" }[socket.state] ?? "Offline";
    show("server-problem", socket.state === "waiting" ? problemText(socket.problem) : "");
    if (socket.state === "locked") askForToken(socket);
  });
  addEventListener("pagehide", () => socket.close());
  addEventListener("pageshow", () => socket.open());
  socket.open();
  return socket;
}

/** @param {string} id of a notice @param {string} text or nothing, which hides it */
export function show(id, text) {
  const notice = byId(id);
  if (notice.textContent !== text) notice.textContent = text;
  notice.hidden = !text;
}

/** @param {VoiceSocket} socket */
function askForToken(socket) {
  const dialog = document.createElement("dialog");
  dialog.innerHTML = `<form method="dialog"><h2>This server asks for a token</h2>
    <label for="token">Access token</label><input id="token" type="password" autocomplete="current-password" required>
    <p class="quiet" role="alert"></p><button class="primary">Connect</button></form>`;
  if (socket.token) {
    const [alert] = dialog.getElementsByTagName("p");
    alert.textContent = "The server did not accept the last token. Ask whoever runs it.";
  }
  document.body.append(dialog);
  dialog.onclose = () => {
    const { value } = dialog.getElementsByTagName("input")[0];
    dialog.remove();
    if (!value) return;
    memory.set("token", (socket.token = value));
    socket.open();
  };
  dialog.showModal();
}

/** @type {WakeLockSentinel | null} */
let lock = null;
let wanted = false;

/** Keeps the screen on, as far as the browser can. @param {boolean} [awake] the same again where left out */
export async function keepAwake(awake = wanted) {
  wanted = awake;
  if (!wanted) {
    await lock?.release();
    lock = null;
  } else if ((!lock || lock.released) && !document.hidden) {
    lock = await navigator.wakeLock?.request("screen").catch(() => null); // a low battery may refuse
  }
}
document.addEventListener("visibilitychange", () => keepAwake());

/** @param {import("./voice-socket.js").Stream} stream @returns {string} who hears it */
export function audience({ receivers = 0, listeners = 0 }) {
  const live = `${receivers} ${receivers === 1 ? "receiver" : "receivers"}`;
  const mp3 = `${listeners} MP3 ${listeners === 1 ? "listener" : "listeners"}`;
  if (!receivers && !listeners) return "Nobody listens yet";
  return [receivers && live, listeners && mp3].filter(Boolean).join(", ");
}
