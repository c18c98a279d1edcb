import { strict as assert } from "node:assert";
import { test } from "node:test";
import { RecordingsApi, RefusedError } from "../../static/recordings-api.js";

/** @type {[string, RequestInit | undefined][]} */
let asked = [];

/** Answers every request so. @param {number} status @param {string} body */
function answer(status, body) {
	asked = [];
	globalThis.fetch = /** @type {any} */ (
		async (/** @type {string} */ url, /** @type {RequestInit} */ init) => {
			asked.push([url, init]);
			return new Response(status === 204 ? null : body, { status });
		}
	);
	return new RecordingsApi((path) => `https://voice/${path}`);
}

test("names and cursors go into the query, whatever they contain", async () => {
	const api = answer(200, '{"recordings": [], "cursor": null}');
	assert.deepEqual(await api.list("a&b", "2026.x"), { recordings: [], cursor: null });
	assert.equal(asked[0]?.[0], "https://voice/api/recordings?stream=a%26b&cursor=2026.x");
});

test("a deletion goes on when the page is left", async () => {
	const api = answer(204, "");
	assert.equal(await api.remove("abc"), null);
	assert.deepEqual(asked, [["https://voice/api/recordings/abc", { method: "DELETE", keepalive: true }]]);
});

test("a refusal says why, in the server's words", async () => {
	await assert.rejects(answer(409, '{"detail": "busy"}').start("a"), new RefusedError("busy"));
	await assert.rejects(answer(401, "A token is needed\n").start("a"), new RefusedError("A token is needed"));
	await assert.rejects(answer(500, "").stop("a"), RefusedError);
});
