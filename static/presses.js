import { byId } from "./page.js";
import { recall, remember } from "./settings.js";
import { keyText } from "./words.js";

/** @import { PushToTalk } from "./push-to-talk.js" */

/** What keeps all keys for itself, and what just the space bar and Enter. */
const FIELDS = "input:not([type=checkbox]), select, dialog *";
const CONTROLS = `${FIELDS}, input, button:not(.round), a`;

/** Of a key, whatever the keyboard's language makes of it. @param {KeyboardEvent} event */
const codeOf = ({ code, key }) => code || key;

/** Tells of presses of the button, the space bar, and the key or pedal that was chosen besides.
 *  @param {HTMLButtonElement} talk @param {PushToTalk} pushToTalk */
export function listenForPresses(talk, pushToTalk) {
	const chosenKey = offerChoice();
	listenToButton(talk, pushToTalk);
	/** @param {KeyboardEvent} event */
	const talks = (event) => {
		const shortcut = (event.ctrlKey || event.altKey || event.metaKey) && !/^(Control|Alt|Meta)/.test(event.code);
		if (talk.disabled || shortcut || (event.key !== " " && codeOf(event) !== chosenKey())) return false;
		return !document.activeElement?.matches(/^( |Enter)$/.test(event.key) ? CONTROLS : FIELDS);
	};
	addEventListener("keydown", (event) => {
		if (event.defaultPrevented || !talks(event)) return;
		event.preventDefault();
		pushToTalk.pressKey(event.timeStamp, codeOf(event));
	});
	addEventListener("keyup", (event) => {
		if (pushToTalk.releaseKey(event.timeStamp, codeOf(event))) event.preventDefault(); // or the focused button is clicked
	});
	addEventListener("blur", ({ timeStamp }) => pushToTalk.blur(timeStamp));
}

/** @param {HTMLButtonElement} talk @param {PushToTalk} pushToTalk */
export function listenToButton(talk, pushToTalk) {
	talk.onpointerdown = (event) => {
		if (event.button === 0) pushToTalk.press(event.timeStamp);
	};
	talk.oncontextmenu = (event) => event.preventDefault(); // a long touch means talking here
	talk.onclick = (event) => {
		if (!event.detail) pushToTalk.click(); // else pointerdown did
	};
	for (const type of ["pointerup", "pointercancel"]) {
		addEventListener(type, ({ timeStamp }) => pushToTalk.release(timeStamp));
	}
}

/** The setting that learns a key. @returns {() => string} the key's code; "" where none is chosen */
function offerChoice() {
	let chosen = recall("key", "");
	const button = byId("key");
	/** @param {boolean} learns */
	const describe = (learns) => {
		button.textContent = keyText(chosen, learns);
		byId("forget-key").hidden = !chosen;
		button.onkeydown = learns ? learn : null;
	};
	/** @param {string} code */
	const choose = (code) => {
		remember("key", (chosen = code));
		describe(false);
	};
	/** @param {KeyboardEvent} event */
	function learn(event) {
		if (event.key === "Tab") return; // goes on to the next control
		event.preventDefault();
		choose(event.key === "Escape" ? chosen : codeOf(event));
	}
	button.onclick = () => describe(true);
	button.onblur = () => describe(false);
	byId("forget-key").onclick = () => choose("");
	describe(false);
	return () => chosen;
}
