/** The audio server has no WebSocket, so this page asks. */
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
	draw(true);
	audio.src = `latest.mp3${location.search}`;
	await audio.play().catch(() => playing && stop());
	draw(playing);
}

/** @param {boolean | undefined} live undefined where the server does not answer */
function draw(live) {
	let words = ["Nobody is talking now", "Leave this page open: the next voice plays by itself."];
	if (!pressed) words = ["Nobody is talking yet", "Leave this page open."];
	if (live) words = playing ? ["You hear the live voice", ""] : ["A voice is live", "Press to hear it."];
	if (live === undefined) words = ["The server does not answer", "Is it running? Trying again by itself."];
	byId("spinner").hidden = live || playing;
	byId("start").hidden = !live && !playing;
	byId("start").dataset.state = playing ? "playing" : "idle";
	byId("start-label").textContent = playing ? "Stop" : "Start";
	if (byId("state").textContent !== words[0]) byId("state").textContent = words[0];
	byId("hint").textContent = words[1];
}

async function ask() {
	const reply = await fetch(`status${location.search}`).catch(() => null);
	const live = reply?.ok ? (await reply.json()).active_streams.length > 0 : undefined;
	if (live && pressed && !playing) play();
	else draw(live);
	setTimeout(ask, ASK_MS);
}

byId("start").onclick = () => {
	if (!playing) return play();
	pressed = false;
	stop();
	draw(true);
};
audio.onended = audio.onerror = () => {
	if (!playing) return;
	stop();
	draw(false);
};
ask();
