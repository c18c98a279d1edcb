import assert from "node:assert/strict";
import { test } from "node:test";

import { SILENCE, SilenceDetector, height, rmsDb, spectrumDb } from "../../static/levels.js";

test("a meter is empty at 70 dB below full scale and full at full scale", () => {
	const cases = [[-Infinity, 0], [-200, 0], [-70, 0], [-35, 0.5], [0, 1], [6, 1]];
	for (const [db, filled] of cases) assert.ok(Math.abs(height(db) - filled) < 1e-9, `${db} dBFS`);
});

test("the level is the root mean square in dBFS", () => {
	const square = Float32Array.from({ length: 2048 }, (_, n) => (n % 2 ? 0.1 : -0.1));
	const sine = Float32Array.from({ length: 4800 }, (_, n) => Math.sin((2 * Math.PI * n) / 48));
	assert.ok(Math.abs(rmsDb(square) - -20) < 0.01);
	assert.ok(Math.abs(rmsDb(sine) - -3.01) < 0.01);
	assert.equal(rmsDb(new Float32Array(2048)), -Infinity);
});

/** The bands of a spectrum that is silent but for one frequency. */
function bandsOf(hz, sampleRateHz) {
	const bins = new Float32Array(1024).fill(-120);
	bins[Math.round(hz / (sampleRateHz / 2 / bins.length))] = -6;
	return spectrumDb(bins, sampleRateHz);
}

test("a tone is in the band of its frequency, and in no other where bins are narrower than bands", () => {
	const bands = bandsOf(4000, 48_000);
	assert.equal(bands.length, SILENCE.length);
	// 80 Hz to 16 kHz in 32 equal ratios: 4 kHz is 23.6 of them above 80 Hz.
	assert.deepEqual(bands.flatMap((db, band) => (db === -6 ? [band] : [])), [23]);
});

test("every band has a bin, however narrow it is", () => {
	for (const sampleRateHz of [44_100, 48_000]) {
		assert.ok(spectrumDb(new Float32Array(1024).fill(-40), sampleRateHz).every((db) => db === -40));
	}
});

test("bands above half the sample rate are silent", () => {
	const bands = spectrumDb(new Float32Array(1024).fill(-40), 16_000);
	assert.equal(bands[20], -40);
	assert.equal(bands[31], -Infinity);
});

test("a microphone is silent if it gave no sound in the five seconds since it was opened, until there is some", () => {
	const detector = new SilenceDetector();
	detector.reset(1_000);
	assert.equal(detector.update(-90, 6_000), false);
	assert.equal(detector.update(-90, 6_001), true);
	assert.equal(detector.update(-74, 6_002), false);
});

test("a quiet room is no fault of a microphone that was heard, and nothing but zeros is", () => {
	const detector = new SilenceDetector();
	detector.reset(1_000);
	detector.update(-40, 1_100);
	assert.equal(detector.update(-90, 60_000), false);
	assert.equal(detector.update(-Infinity, 65_000), false);
	assert.equal(detector.update(-Infinity, 65_001), true);
	assert.equal(detector.update(-110, 65_002), false);
});

test("what is muted or not live yet is not silent", () => {
	const detector = new SilenceDetector();
	detector.reset(60_000);
	assert.equal(detector.update(-Infinity, 60_000), false);
});
