/** Pictures of a voice; every level is in dBFS. */
import { height, rmsDb, spectrumDb } from "./levels.js";

/** As many levels can be told apart; nothing is drawn anew for less. */
const STEPS = 32;

/** Sets what a meter or a round button shows. @param {HTMLElement} element @param {number} db */
export function showLevel(element, db) {
	const level = (Math.round(height(db) * STEPS) / STEPS).toFixed(3);
	if (element.style.getPropertyValue("--level") === level) return;
	element.style.setProperty("--level", level);
	if (element.matches("[role=meter]")) element.setAttribute("aria-valuenow", (height(db) * 100).toFixed());
}

/** Fills an element with a bar for each band. @param {HTMLElement} element @param {readonly number[]} bands in dBFS */
export function showSpectrum(element, bands) {
	while (element.childElementCount < bands.length) element.append(document.createElement("i"));
	bands.forEach((db, band) => showLevel(/** @type {HTMLElement} */ (element.children[band]), db));
}

/** Measures a stream in the browser. */
export class Analyser {
	#context = new AudioContext();
	#node = this.#context.createAnalyser();

	/** @param {MediaStream} media */
	constructor(media) {
		this.#context.createMediaStreamSource(media).connect(this.#node);
	}

	/** RMS of the last 40 ms or so. */
	get level() {
		const samples = new Float32Array(this.#node.fftSize);
		this.#node.getFloatTimeDomainData(samples);
		return rmsDb(samples);
	}

	/** As `spectrumDb` tells. */
	get spectrum() {
		const bins = new Float32Array(this.#node.frequencyBinCount);
		this.#node.getFloatFrequencyData(bins);
		return spectrumDb(bins, this.#context.sampleRate);
	}

	close() {
		this.#context.close();
	}
}
