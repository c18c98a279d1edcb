import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { OnlyTab } from "../../static/only-tab.js";
import { installBrowser } from "./fakes.js";

/** Both tabs are in one process here, and hear each other at once. */
class FakeChannel {
	static open = [];

	constructor(name) {
		this.name = name;
		FakeChannel.open.push(this);
	}

	postMessage(data) {
		for (const other of FakeChannel.open) if (other !== this && other.name === this.name) other.onmessage({ data });
	}
}

let first, second, lost, page;
const { BroadcastChannel } = globalThis;

beforeEach(() => {
	mock.timers.reset();
	mock.timers.enable({ apis: ["setTimeout"] });
	({ page } = installBrowser());
	globalThis.localStorage = {};
	globalThis.BroadcastChannel = FakeChannel;
	FakeChannel.open = [];
	lost = [];
	first = new OnlyTab("receiver", () => lost.push("first"));
	second = new OnlyTab("receiver", () => lost.push("second"));
});
afterEach(() => (globalThis.BroadcastChannel = BroadcastChannel));

test("the first tab has it at once, the second one is refused", async () => {
	assert.equal(await first.claim(), true);
	assert.equal(await second.claim(), false);
	assert.deepEqual(lost, []);
});

test("a tab that takes over is the only one", async () => {
	await first.claim();
	second.takeOver();
	assert.deepEqual(lost, ["first"]);
	assert.equal(await first.claim(), false);
});

test("a tab that has stopped, or was left, is not in the way", async () => {
	await first.claim();
	first.release();
	assert.equal(await second.claim(), true);
	page.dispatchEvent(new Event("pagehide"));
	assert.equal(await first.claim(), true);
});

test("a tab that has crashed is not in the way for long", async () => {
	await first.claim();
	FakeChannel.open.shift();
	const claimed = second.claim();
	mock.timers.tick(1_000);
	assert.equal(await claimed, true);
});

test("other things are not its concern", async () => {
	await first.claim();
	assert.equal(await new OnlyTab("sender", () => {}).claim(), true);
});
