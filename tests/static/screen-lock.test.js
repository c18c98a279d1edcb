import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { ScreenLock } from "../../static/screen-lock.js";
import { installBrowser, settled } from "./fakes.js";

let locks, lock, refusal;

beforeEach(() => {
	installBrowser();
	locks = [];
	refusal = null;
	navigator.wakeLock = {
		async request() {
			if (refusal) throw refusal;
			const made = { released: false, release: () => (made.released = true) };
			locks.push(made);
			return made;
		},
	};
	lock = new ScreenLock();
});

const held = () => locks.filter(({ released }) => !released).length;

function see(seen) {
	document.hidden = !seen;
	if (!seen) locks.forEach((one) => one.release()); // as browsers do
	document.dispatchEvent(new Event("visibilitychange"));
}

test("wanted several times at once, there is one lock, and none after that", async () => {
	lock.set(true);
	lock.set(true);
	await settled();
	lock.set(true);
	await settled();
	assert.equal(locks.length, 1);
	lock.set(false);
	assert.equal(held(), 0);
});

test("a lock that comes when it is not wanted any more is released", async () => {
	lock.set(true);
	lock.set(false);
	await settled();
	assert.deepEqual([locks.length, held()], [1, 0]);
});

test("a page that is seen again has its lock again, if it is still wanted", async () => {
	lock.set(true);
	await settled();
	see(false);
	await settled();
	assert.equal(held(), 0);
	see(true);
	await settled();
	assert.equal(held(), 1);
	lock.set(false);
	see(false);
	see(true);
	await settled();
	assert.equal(held(), 0);
});

test("a browser that refuses is asked again, and one without locks is no error", async () => {
	refusal = new DOMException("battery low", "NotAllowedError");
	lock.set(true);
	await settled();
	refusal = null;
	lock.set(true);
	await settled();
	assert.equal(held(), 1);
	delete navigator.wakeLock;
	new ScreenLock().set(true);
	await settled();
});

test("a page that was hidden and seen again while it asked has a lock all the same", async () => {
	lock.set(true);
	see(false);
	see(true);
	await settled();
	assert.equal(held(), 1);
});

test("it says whether there are locks, which plain HTTP has none of", () => {
	assert.equal(lock.available, true);
	delete navigator.wakeLock;
	assert.equal(lock.available, false);
});
