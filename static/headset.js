/** Long enough for browsers to give it the device's controls: they pass over sounds of 5 s and less. */
const SECONDS = 10;
const RATE = 8_000;

/** The button of a headset, and the device's own controls. Browsers tell a page of them only while it plays something:
 *  this plays silence. */
export class Headset {
	/** @type {HTMLAudioElement | null} */
	#silence = null;
	#press;

	/** @param {() => void} press called for each press */
	constructor(press) {
		this.#press = press;
	}

	/** @param {MediaSessionPlaybackState} state what the device shows; `none`: the button is not ours */
	set(state) {
		const { mediaSession } = navigator;
		if (!mediaSession) return;
		mediaSession.playbackState = state;
		for (const action of /** @type {MediaSessionAction[]} */ (["play", "pause"])) {
			mediaSession.setActionHandler(action, state === "none" ? null : this.#press);
		}
		if (state === "none") return this.#silence?.pause();
		this.#silence ??= Object.assign(new Audio(URL.createObjectURL(silence())), { loop: true });
		mediaSession.metadata = new MediaMetadata({ title: document.title });
		this.#silence.play().catch(() => {}); // refused: without a press so far, say; the next state asks again
	}
}

/** A WAV file: mono, 8 bits. */
function silence() {
	const bytes = SECONDS * RATE;
	const header = ["RIFF", 36 + bytes, "WAVE", "fmt ", 16, 0x1_0001, RATE, RATE, 0x8_0001, "data", bytes];
	const parts = header.map((part) => (typeof part === "string" ? part : new Uint32Array([part])));
	return new Blob([...parts, new Uint8Array(bytes).fill(128)], { type: "audio/wav" });
}
