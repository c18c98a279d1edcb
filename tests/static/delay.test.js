import assert from "node:assert/strict";
import { test } from "node:test";

import { delayMeter } from "../../static/delay.js";

const report = (type, values) => [`${type} of ${JSON.stringify(values)}`, { type, ...values }];
const peerWith = (...answers) => ({ getStats: async () => new Map(answers.shift()) });
const pair = report("candidate-pair", { nominated: true, currentRoundTripTime: 0.004 });
const other = report("candidate-pair", { nominated: false, currentRoundTripTime: 9 });
const received = (jitterBufferDelay, jitterBufferEmittedCount) =>
	report("inbound-rtp", { jitterBufferDelay, jitterBufferEmittedCount });
const played = (totalPlayoutDelay, totalSamplesCount) =>
	report("media-playout", { totalPlayoutDelay, totalSamplesCount });

test("half the way, the jitter buffer and the loudspeaker add up, each since the last time", async () => {
	const first = [pair, other, received(48, 1_000), played(10, 1_000)];
	const second = [pair, other, received(68, 2_000), played(40, 2_000)];
	const meter = delayMeter(peerWith(first, second));
	assert.equal(await meter(), "60 ms behind the server, measured");
	assert.equal(await meter(), "52 ms behind the server, measured");
});

test("a browser that does not tell of the loudspeaker is told apart", async () => {
	const meter = delayMeter(peerWith([pair, received(48, 1_000)]));
	assert.equal(await meter(), "50 ms behind the server, measured without the loudspeaker");
});

test("nothing is said where nothing was played", async () => {
	const meter = delayMeter(peerWith([], [pair, received(48, 1_000)], [pair, received(48, 1_000)]));
	assert.equal(await meter(), "");
	assert.notEqual(await meter(), "");
	assert.equal(await meter(), "");
});
