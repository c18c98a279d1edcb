import { recall, remember } from "./settings.js";

/** How long a tab that was there may take to say that it still is; else it has crashed. */
const ANSWER_MS = 1_000;

/** Sees to it that one tab of this browser does something, and the others know: two would be heard as an echo. */
export class OnlyTab {
	#channel;
	/** The setting that says that some tab does it. */
	#setting;
	#holds = false;
	#answer = () => {};

	/** @param {string} what @param {() => void} onLost called when another tab has taken over */
	constructor(what, onLost) {
		this.#setting = `tab.${what}`;
		this.#channel = new BroadcastChannel(`voice.${what}`);
		this.#channel.onmessage = ({ data }) => {
			if (data === "taken") this.#answer();
			if (!this.#holds) return;
			if (data === "free?") this.#channel.postMessage("taken");
			if (data === "mine") {
				this.#holds = false;
				onLost();
			}
		};
		addEventListener("pagehide", () => this.#holds && remember(this.#setting, false));
		addEventListener("pageshow", () => this.#holds && this.takeOver()); // back from the browser's cache of pages
	}

	/** Whether no other tab does it; then this one does. */
	async claim() {
		if (recall(this.#setting, false) && (await this.#isTaken())) return false;
		this.takeOver();
		return true;
	}

	takeOver() {
		this.#holds = true;
		remember(this.#setting, true);
		this.#channel.postMessage("mine");
	}

	release() {
		if (this.#holds) remember(this.#setting, false);
		this.#holds = false;
	}

	/** @returns {Promise<boolean>} */
	#isTaken() {
		return new Promise((resolve) => {
			this.#answer = () => resolve(true);
			setTimeout(() => resolve(false), ANSWER_MS);
			this.#channel.postMessage("free?");
		});
	}
}
