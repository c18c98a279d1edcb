import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { PushToTalk } from "../../static/push-to-talk.js";

let sender, log, allowed, button;

beforeEach(() => {
	log = [];
	allowed = true;
	sender = {
		state: "idle",
		stop() {
			log.push("stop");
			this.state = "idle";
		},
	};
	button = new PushToTalk(sender, () => {
		log.push("start");
		if (allowed) sender.state = "live";
		return allowed;
	});
});

test("short presses switch on and off", () => {
	button.press(1_000);
	button.release(1_400);
	assert.deepEqual(log, ["start"]);
	button.press(5_000);
	button.release(9_000);
	assert.deepEqual(log, ["start", "stop"]);
});

test("a hold ends with its release", () => {
	button.press(1_000);
	button.release(1_401);
	assert.deepEqual(log, ["start", "stop"]);
});

test("a press that begins with the page's clock is a press", () => {
	button.press(0);
	button.release(500);
	assert.deepEqual(log, ["start", "stop"]);
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
	sender.state = "live";
	button.release(9_000);
	assert.deepEqual(log, ["start"]);
});

test("a click without a length switches", () => {
	button.click();
	button.release(9_000);
	assert.deepEqual(log, ["start"]);
	button.click();
	assert.deepEqual(log, ["start", "stop"]);
});

test("a key that is held repeats, and is one press", () => {
	for (const nowMs of [1_000, 1_500, 1_530]) button.pressKey(nowMs);
	assert.deepEqual(log, ["start"]);
	assert.equal(button.releaseKey(1_600), true);
	assert.deepEqual(log, ["start", "stop"]);
});

test("a key that was pressed elsewhere is not ours", () => {
	assert.equal(button.releaseKey(1_000), false);
});

test("a key that is released in another window has ended its press, and the next one counts", () => {
	button.pressKey(1_000);
	button.blur(1_500);
	assert.deepEqual(log, ["start", "stop"]);
	button.pressKey(9_000);
	assert.deepEqual(log, ["start", "stop", "start"]);
});
