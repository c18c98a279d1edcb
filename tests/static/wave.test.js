import { strict as assert } from "node:assert";
import { test } from "node:test";
import { wavePath } from "../../static/wave.js";

test("each peak is a line around the middle, and silence is one that can be seen", () => {
	assert.equal(wavePath([0, 100, 50]), "M0.5 49V51M1.5 0V100M2.5 25V75");
	assert.equal(wavePath([]), "");
});
