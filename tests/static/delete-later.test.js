import { strict as assert } from "node:assert";
import { beforeEach, mock, test } from "node:test";
import { DeleteLater } from "../../static/delete-later.js";

/** @type {string[]} */
let removed = [];
/** @type {DeleteLater} */
let deletion;

beforeEach(() => {
	mock.timers.reset();
	mock.timers.enable({ apis: ["setTimeout"] });
	removed = [];
	deletion = new DeleteLater((id) => removed.push(id), 8000);
});

test("what is not undone is deleted, once", () => {
	deletion.add("a");
	mock.timers.tick(7999);
	assert.deepEqual(removed, []);
	mock.timers.tick(1);
	assert.deepEqual(removed, ["a"]);
	deletion.flush();
	assert.deepEqual(removed, ["a"]);
});

test("what is undone stays", () => {
	deletion.add("a");
	assert.equal(deletion.undo(), "a");
	assert.equal(deletion.undo(), null);
	mock.timers.tick(60_000);
	assert.deepEqual(removed, []);
});

test("another one ends the time to undo the one before", () => {
	deletion.add("a");
	deletion.add("b");
	assert.deepEqual(removed, ["a"]);
	assert.equal(deletion.undo(), "b");
});

test("whoever leaves the page deletes at once", () => {
	deletion.add("a");
	deletion.flush();
	assert.deepEqual(removed, ["a"]);
});
