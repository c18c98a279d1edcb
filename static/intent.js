/** Longer than a conversation pauses. */
const UNUSED_MS = 600_000;

/** Whether somebody means to talk, and since when nobody does. */
export class Intent {
	/** Also while it holds on. */
	talking = false;
	#onUnused;
	#holdOn = 0;
	#unused = 0;

	/** @param {() => void} onUnused nobody has talked for 10 minutes */
	constructor(onUnused) {
		this.#onUnused = onUnused;
	}

	/** Whether it will soon be over. */
	get isEnding() {
		return this.#holdOn !== 0;
	}

	/** @param {boolean} talking */
	set(talking) {
		this.clear();
		this.talking = talking;
		if (!talking) this.#unused = setTimeout(this.#onUnused, UNUSED_MS);
	}

	/** @param {number} afterMs @param {() => void} end called then */
	endLater(afterMs, end) {
		this.#holdOn = setTimeout(end, afterMs);
	}

	/** Nobody talks, and nobody is waited for. */
	clear() {
		this.goOn();
		clearTimeout(this.#unused);
		this.talking = false;
	}

	/** It is not to end after all. */
	goOn() {
		clearTimeout(this.#holdOn);
		this.#holdOn = 0;
	}
}
