/** What the pages share. */
import "./language.js";
import { VoiceSocket } from "./voice-client.js";
import { write } from "./copy.js";
import { recall, remember } from "./settings.js";
import { connectionText, problemText, words } from "./words.js";

/** @param {string} id @returns {any} the element, which the page has: tests/web/test_static.py looks at that */
export const byId = (id) => document.getElementById(id);

/** Shows a text; an empty one hides its element. @param {string} id @param {string} text */
export function show(id, text) {
	const element = byId(id);
	write(element, text);
	element.hidden = !text;
}

document.documentElement.classList.toggle("compact", new URL(location.href).searchParams.has("compact"));

/** Opens the page's socket, says how it fares, and asks for a token where needed.
 *  @param {ConstructorParameters<typeof VoiceSocket>[0] & {mayReload?: () => boolean}} [options] `mayReload`: whether
 *  a reload would interrupt nothing */
export function openSocket({ mayReload = () => true, ...options } = {}) {
	const socket = new VoiceSocket({ ...options, token: recall("token", "") });
	socket.on("state", () => {
		byId("connection").dataset.state = socket.state;
		show("connection", connectionText(socket.state));
		if (socket.state !== "connecting") show("server-problem", problemText(socket.problem));
		if (socket.state === "locked") askForToken(socket);
	});
	addEventListener("pagehide", () => socket.close());
	addEventListener("pageshow", () => socket.open());
	reloadWhenOutdated(socket, mayReload);
	socket.open();
	return socket;
}

/** A page that is older than the server may not understand it. @param {VoiceSocket} socket @param {() => boolean} may */
function reloadWhenOutdated(socket, may) {
	/** @type {string | undefined} */
	let first;
	let outdated = false;
	socket.on("state", async () => {
		if (socket.state !== "open") return;
		const health = await socket.ask("health");
		const { version = first, recording } = health;
		byId("recordings").hidden = (recording?.mode ?? "off") === "off";
		socket.tell("health", health);
		first ??= version;
		outdated = version !== first;
	});
	socket.on("available_streams", () => outdated && may() && location.reload());
}

/** @param {VoiceSocket} socket */
function askForToken(socket) {
	const dialog = document.createElement("dialog");
	dialog.innerHTML = `<form method="dialog">
		<h2><label for="token" id="token-label"></label></h2>
		<p id="token-help"></p>
		<input id="token" type="password" autocomplete="current-password" aria-describedby="token-help" required>
		<button class="primary" id="connect"></button></form>`;
	document.body.append(dialog);
	show("token-label", socket.token ? words.tokenWrong : words.tokenNeeded);
	show("token-help", words.tokenHelp);
	show("connect", words.connect);
	dialog.onclose = () => {
		socket.token = byId("token").value || socket.token;
		dialog.remove();
		remember("token", socket.token);
		socket.open();
	};
	dialog.showModal();
}
