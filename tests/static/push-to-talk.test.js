import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { PushToTalk } from "../../static/push-to-talk.js";

let sender, log, allowed, button;

beforeEach(() => {
	log = [];
	allowed = true;
	sender = {
		state: "ready",
		talking: false,
		rest() {
			log.push("rest");
			this.talking = false;
		},
	};
	button = new PushToTalk(sender, () => {
		log.push("start");
		sender.talking = allowed;
		return allowed;
	});
});

test("short presses switch on and off", () => {
	button.press(1_000);
	button.release(1_400);
	assert.deepEqual(log, ["start"]);
	button.press(5_000);
	button.release(9_000);
	assert.deepEqual(log, ["start", "rest"]);
});

test("a hold ends with its release", () => {
	button.press(1_000);
	button.release(1_401);
	assert.deepEqual(log, ["start", "rest"]);
});

test("a press that begins with the page's clock is a press", () => {
	button.press(0);
	button.release(500);
	assert.deepEqual(log, ["start", "rest"]);
});

test("a release without a press, as of the mouse elsewhere, does nothing", () => {
	button.press(1_000);
	button.release(1_100);
	button.release(9_000);
	assert.deepEqual(log, ["start"]);
});

test("the browser's question may take any time: it is no hold", () => {
	button.press(1_000);
	sender.state = "asking";
	button.release(9_000);
	assert.deepEqual(log, ["start"]);
});

test("a start that is refused leaves no press behind", () => {
	allowed = false;
	button.press(1_000);
	sender.talking = true;
	button.release(9_000);
	assert.deepEqual(log, ["start"]);
});

test("a click without a length switches", () => {
	button.click();
	button.release(9_000);
	assert.deepEqual(log, ["start"]);
	button.click();
	assert.deepEqual(log, ["start", "rest"]);
});

test("a key that is held repeats, and is one press", () => {
	for (const nowMs of [1_000, 1_500, 1_530]) button.pressKey(nowMs, " ");
	assert.deepEqual(log, ["start"]);
	assert.equal(button.releaseKey(1_600, " "), true);
	assert.deepEqual(log, ["start", "rest"]);
});

test("a key that was pressed elsewhere is not ours", () => {
	assert.equal(button.releaseKey(1_000, " "), false);
});

test("a key that is released in another window has ended its press, and the next one counts", () => {
	button.pressKey(1_000, " ");
	button.blur(1_500);
	assert.deepEqual(log, ["start", "rest"]);
	button.pressKey(9_000, " ");
	assert.deepEqual(log, ["start", "rest", "start"]);
});

test("a pedal beside the space bar has presses of its own", () => {
	button.pressKey(1_000, " ");
	button.releaseKey(1_100, " ");
	button.pressKey(5_000, "F13");
	assert.equal(button.releaseKey(5_100, " "), false);
	assert.equal(button.releaseKey(5_100, "F13"), true);
	assert.deepEqual(log, ["start", "rest"]);
});

test("a press while the voice still goes on after its end is a new one", () => {
	button.press(1_000);
	button.release(2_000);
	button.press(2_100);
	button.release(3_000);
	assert.deepEqual(log, ["start", "rest", "start", "rest"]);
});
