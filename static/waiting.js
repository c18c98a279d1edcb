// @ts-check
/** A browser at `latest.mp3` while nobody talks. The audio server has no WebSocket, so this page asks. */
const ASK_MS = 2_000;
const byId = (id) => /** @type {any} */ (document.getElementById(id));
const audio = new Audio();
/** Pressed once: later voices start by themselves. */
let pressed = false;
let playing = false;

function stop() {
  playing = false;
  audio.removeAttribute("src");
  audio.load();
}

async function play() {
  pressed = playing = true;
  audio.src = `latest.mp3${location.search}`;
  await audio.play().catch(stop);
  draw();
}

/** @param {string[] | null} live ids, or null where the server does not answer */
function draw(live = ["latest"]) {
  const waiting = !live?.length;
  byId("spinner").hidden = !waiting;
  byId("start").hidden = waiting;
  byId("start").dataset.state = playing ? "live" : "idle";
  byId("start-label").textContent = playing ? "Stop" : "Start";
  const words = playing ? "You hear the live voice" : waiting ? "Nobody is talking yet" : "A voice is live";
  byId("state").textContent = live ? words : "The server does not answer";
  byId("hint").textContent = live
    ? waiting ? "Leave this page open: it looks every other second." : playing ? "" : "Press to hear it."
    : "Is it running, and are you on the same network? Trying again by itself.";
}

async function ask() {
  if (!playing) {
    const reply = await fetch(`status${location.search}`, { cache: "no-store" }).catch(() => null);
    const live = reply?.ok ? (await reply.json()).active_streams : null;
    if (live?.length && pressed) await play();
    else draw(live);
  }
  setTimeout(ask, ASK_MS);
}

byId("start").onclick = () => {
  if (!playing) return play();
  stop();
  pressed = false;
  draw();
};
audio.onended = audio.onerror = () => playing && (stop(), draw([]));
ask();
