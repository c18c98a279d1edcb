import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { LiveMp3 } from "../../static/live-mp3.js";
import { FakeAudio, settled } from "./fakes.js";

let audio, player, behindS, asked;

beforeEach(() => {
	mock.timers.reset();
	mock.timers.enable({ apis: ["setInterval"] });
	asked = [];
	globalThis.fetch = async (address) => {
		asked.push(address);
		return { ok: true, json: async () => ({ behind_s: behindS }) };
	};
	audio = Object.assign(new FakeAudio(), { currentTime: 12.5, paused: false });
	player = new LiveMp3(audio);
});

async function measured(seconds) {
	behindS = seconds;
	mock.timers.tick(2_000);
	await settled();
}

test("how late it is is asked of the server, with the token, and told", async () => {
	await player.play("http://relay/stream/kitchen.mp3?token=secret");
	assert.equal(player.behindS, null);
	await measured(1.4);
	assert.equal(player.behindS, 1.4);
	const { pathname, searchParams } = new URL(asked[0]);
	assert.deepEqual([pathname, searchParams.get("token"), searchParams.get("played")], ["/stream/position", "secret", "12.500"]);
	assert.equal(searchParams.get("listener"), new URL(audio.src).searchParams.get("listener"));
});

test("when it got two seconds later than it was, it starts anew", async () => {
	await player.play("http://relay/stream/kitchen.mp3");
	const first = audio.src;
	for (const seconds of [1.4, 3.3]) await measured(seconds);
	assert.equal(audio.src, first);
	await measured(3.5);
	assert.notEqual(audio.src, first);
	assert.equal(player.behindS, null);
});

test("stopped, it asks no more, and an answer that comes late changes nothing", async () => {
	await player.play("http://relay/stream/kitchen.mp3");
	behindS = 9;
	mock.timers.tick(2_000);
	player.stop();
	await settled();
	mock.timers.tick(10_000);
	assert.deepEqual([player.behindS, asked.length], [null, 1]);
});
