/** A press longer than this is a hold: the stream ends with it. */
const HOLD_MS = 400;

/** Turns presses into starts and stops: a short one switches, and a hold lasts as long as it is held. Times are in
 *  milliseconds, of one clock. */
export class PushToTalk {
	#sender;
	#start;
	/** When the press began that may be a hold. @type {number | null} */
	#pressedAtMs = null;
	/** The key that is down. @type {string | null} */
	#key = null;

	/** @param {Pick<import("./voice-sender.js").VoiceSender, "state" | "talking" | "rest">} sender
	 *  @param {() => boolean} start lets the sender talk; false where it cannot yet */
	constructor(sender, start) {
		this.#sender = sender;
		this.#start = start;
	}

	/** @param {number} nowMs */
	press(nowMs) {
		if (this.#sender.talking) return this.#sender.rest();
		if (this.#start()) this.#pressedAtMs = nowMs;
	}

	/** A press that only led to the browser's question is no hold. @param {number} nowMs */
	release(nowMs) {
		const held = this.#pressedAtMs !== null && nowMs - this.#pressedAtMs > HOLD_MS;
		if (held && this.#sender.state !== "asking") this.#sender.rest();
		this.#pressedAtMs = null;
	}

	/** A press without a length: Enter, a screen reader, or a headset. */
	click() {
		this.press(0);
		this.#pressedAtMs = null;
	}

	/** A key that stays down repeats this. @param {number} nowMs @param {string} key */
	pressKey(nowMs, key) {
		if (this.#key === key) return;
		this.#key = key;
		this.press(nowMs);
	}

	/** @param {number} nowMs @param {string} key @returns {boolean} whether the press of this key was ours */
	releaseKey(nowMs, key) {
		if (this.#key !== key) return false;
		this.#key = null;
		this.release(nowMs);
		return true;
	}

	/** The page has lost the focus: releases after that are told to another one. @param {number} nowMs */
	blur(nowMs) {
		this.#key = null;
		this.release(nowMs);
	}
}
