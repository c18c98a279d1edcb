import assert from "node:assert/strict";
import { test } from "node:test";

import { recall, remember } from "../../static/settings.js";

test("a setting is what it was, under a name of ours", () => {
	globalThis.localStorage = {};
	for (const value of ["Kitchen", "", 40, false]) {
		remember("name", value);
		assert.equal(recall("name", "other"), value);
	}
	assert.deepEqual(Object.keys(localStorage), ["voice.name"]);
});

test("without an earlier visit, or with what another program wrote, the fallback holds", () => {
	globalThis.localStorage = { "voice.volume": "{" };
	assert.equal(recall("volume", 100), 100);
	assert.equal(recall("name", ""), "");
});

test("a browser that keeps nothing is no error", () => {
	const refuse = () => {
		throw new DOMException("private", "SecurityError");
	};
	globalThis.localStorage = new Proxy({}, { get: refuse, set: refuse });
	remember("name", "Kitchen");
	assert.equal(recall("name", "other"), "other");
});
