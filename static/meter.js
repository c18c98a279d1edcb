/** Pictures of a voice; every level is in dBFS. */

/** The quietest that is drawn: a voice in a room lies between this and 0. */
const FLOOR_DB = -70;
export const SILENCE = new Array(32).fill(-Infinity);

/** @returns {number} 0 to 1 */
const height = (db) => Math.min(1, Math.max(0, 1 - db / FLOOR_DB));

/** Sets what a meter or a round button shows. */
export function showLevel(element, db) {
	element.style.setProperty("--level", height(db).toFixed(3));
	if (element.matches("[role=meter]")) element.setAttribute("aria-valuenow", (height(db) * 100).toFixed());
}

/** Fills an element with a bar for each band. */
export function showSpectrum(element, bands) {
	while (element.childElementCount < bands.length) element.append(document.createElement("i"));
	bands.forEach((db, band) => showLevel(element.children[band], db));
}

/** Measures a stream in the browser. */
export class Analyser {
	#context = new AudioContext();
	#node = this.#context.createAnalyser();

	constructor(media) {
		this.#context.createMediaStreamSource(media).connect(this.#node);
	}

	/** RMS of the last 40 ms or so. */
	get level() {
		const samples = new Float32Array(this.#node.fftSize);
		this.#node.getFloatTimeDomainData(samples);
		return 10 * Math.log10(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
	}

	/** Logarithmic bands from 80 Hz to 16 kHz, the loudest bin of each. */
	get spectrum() {
		const bins = new Float32Array(this.#node.frequencyBinCount);
		this.#node.getFloatFrequencyData(bins);
		const edge = (band) => Math.round((80 * 200 ** (band / 32) * this.#node.fftSize) / this.#context.sampleRate);
		return SILENCE.map((_, band) => Math.max(...bins.subarray(edge(band), Math.max(edge(band) + 1, edge(band + 1)))));
	}

	close() {
		this.#context.close();
	}
}
