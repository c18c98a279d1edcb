/** Keeps the screen on while that is wanted; a hidden page loses its lock, and asks again when it is seen. */
export class ScreenLock {
	#wanted = false;
	#asking = false;
	/** @type {WakeLockSentinel | null} */
	#lock = null;

	constructor() {
		document.addEventListener("visibilitychange", () => this.#follow());
	}

	/** Whether this browser has such locks, and gives them to this page: to secure ones only, and not in every frame. */
	get available() {
		/** @type {any} of one browser only */
		const page = document;
		const policy = page.permissionsPolicy ?? page.featurePolicy;
		return Boolean(navigator.wakeLock) && policy?.allowsFeature("screen-wake-lock") !== false;
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
		const lostMeanwhile = this.#lock?.released === true; // hidden, and perhaps seen again
		if (!this.#wanted || lostMeanwhile) this.#follow();
	}
}

/** Null where the browser has no such lock or refuses: the battery is low, say.
 *  @returns {Promise<WakeLockSentinel | null>} */
async function ask() {
	return (await navigator.wakeLock?.request("screen").catch(() => null)) ?? null;
}
