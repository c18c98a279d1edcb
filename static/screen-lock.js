/** Keeps the screen on while that is wanted; a hidden page loses its lock, and asks again when it is seen. */
export class ScreenLock {
	#wanted = false;
	#asking = false;
	/** @type {WakeLockSentinel | null} */
	#lock = null;

	constructor() {
		document.addEventListener("visibilitychange", () => this.#follow());
	}

	/** @param {boolean} wanted */
	set(wanted) {
		this.#wanted = wanted;
		this.#follow();
	}

	async #follow() {
		if (!this.#wanted) {
			this.#lock?.release();
			this.#lock = null;
			return;
		}
		if (this.#asking || document.hidden || this.#lock?.released === false) return;
		this.#asking = true;
		this.#lock = await ask();
		this.#asking = false;
		if (!this.#wanted) this.#follow();
	}
}

/** Null where the browser has no such lock or refuses: the battery is low, say.
 *  @returns {Promise<WakeLockSentinel | null>} */
async function ask() {
	return (await navigator.wakeLock?.request("screen").catch(() => null)) ?? null;
}
