/** Arithmetic of levels, all in dBFS. */

/** The quietest that is drawn: a voice in a room lies between this and 0. */
const FLOOR_DB = -70;
/** As many bands as the server's `audio_data` has, over the same frequencies. */
const BANDS = 32;
const LOWEST_HZ = 80;
const HIGHEST_HZ = 16_000;
/** A microphone that never was louder is off, or the wrong one. Removal of noise leaves this much of a quiet room. */
const HEARD_ABOVE_DB = -75;
const SILENT_AFTER_MS = 5_000;

/** The spectrum while nothing plays. @type {readonly number[]} */
export const SILENCE = new Array(BANDS).fill(-Infinity);

/** How much of a meter is filled. @param {number} db @returns {number} 0 to 1 */
export const height = (db) => Math.min(1, Math.max(0, 1 - db / FLOOR_DB));

/** The root mean square. @param {Float32Array} samples from -1 to 1 */
export function rmsDb(samples) {
	return 10 * Math.log10(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
}

/** Logarithmic bands, the loudest bin of each. @param {Float32Array} bins in dBFS, from 0 Hz to half the sample rate
 *  @param {number} sampleRateHz */
export function spectrumDb(bins, sampleRateHz) {
	const binHz = sampleRateHz / 2 / bins.length;
	/** @param {number} band */
	const firstBin = (band) => Math.round((LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (band / BANDS)) / binHz);
	return SILENCE.map((_, band) => {
		const [first, next] = [firstBin(band), firstBin(band + 1)];
		return Math.max(...bins.subarray(first, Math.max(first + 1, next)));
	});
}

/** Notices that a microphone which should be heard gives no sound: none since it was opened, or nothing but zeros. */
export class SilenceDetector {
	#heard = false;
	#soundAtMs = 0;

	/** @param {number} db the level now, -Infinity for zeros @param {number} nowMs never less than before
	 *  @returns {boolean} whether it has been silent for long */
	update(db, nowMs) {
		if (db > HEARD_ABOVE_DB) this.#heard = true;
		if (this.#heard ? db > -Infinity : db > HEARD_ABOVE_DB) this.#soundAtMs = nowMs;
		return nowMs - this.#soundAtMs > SILENT_AFTER_MS;
	}

	/** Counts from now: no sound is expected until then. @param {number} nowMs */
	reset(nowMs) {
		this.#soundAtMs = nowMs;
	}
}
