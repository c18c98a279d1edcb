import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { Machine, VoiceSocket, retryDelay } from "../../static/voice-socket.js";
import { installBrowser, settled } from "./fakes.js";

const ANSWER_TIMEOUT_MS = 6_000;
const LONGEST_RETRY_MS = 10_000;

class FakeWebSocket {
	static made = [];
	sent = [];
	closed = false;

	constructor(address) {
		this.address = address;
		FakeWebSocket.made.push(this);
	}

	send(text) {
		this.sent.push(JSON.parse(text));
	}

	close(code) {
		this.closed = true;
		this.closeCode = code;
	}

	tell(message) {
		this.onmessage({ data: JSON.stringify(message) });
	}
}

let page, socket, status;
const last = () => FakeWebSocket.made.at(-1);
const count = () => FakeWebSocket.made.length;
/** Answers what plain HTTP says about the address of the WebSocket. */
const fetchStatus = async () => {
	if (status === null) throw new TypeError("no network");
	return { status };
};

beforeEach(() => {
	mock.timers.reset();
	mock.timers.enable({ apis: ["setTimeout", "Date"] });
	({ page } = installBrowser());
	globalThis.WebSocket = FakeWebSocket;
	globalThis.fetch = fetchStatus;
	FakeWebSocket.made = [];
	status = null;
	socket = new VoiceSocket({ base: "http://relay:8080/", token: "se cret" });
});

test("the wait doubles from half a second to ten, with jitter of half of it", () => {
	for (const [attempt, longest] of [[0, 500], [1, 1_000], [4, 8_000], [5, 10_000], [400, 10_000]]) {
		const delays = Array.from({ length: 200 }, () => retryDelay(attempt));
		assert.ok(Math.min(...delays) >= longest / 2 && Math.max(...delays) <= longest, `attempt ${attempt}`);
		assert.ok(new Set(delays).size > 100);
	}
});

test("a machine tells each change of state or of its cause once, and refuses steps that are not planned", () => {
	const machine = new Machine("off", { on: ["off"], broken: ["on"] });
	const told = [];
	machine.on("state", () => told.push(machine.state));
	assert.throws(() => machine.enter("broken"), /off to broken/);
	machine.enter("on");
	machine.enter("on");
	const problem = { code: "hot" };
	machine.enter("on", problem);
	machine.enter("on", problem);
	machine.enter("off"); // planned from everywhere, as it is not named
	assert.deepEqual(told, ["on", "on", "off"]);
	assert.equal(machine.problem, null);
});

test("addresses are below the base and have the token", () => {
	assert.equal(socket.address("stream/a.mp3"), "http://relay:8080/stream/a.mp3?token=se+cret");
	socket.token = "";
	assert.equal(socket.address("health"), "http://relay:8080/health");
	socket.open();
	assert.equal(last().address, "ws://relay:8080/ws");
	assert.equal(new VoiceSocket({ base: "https://relay/voice/" }).address("ws"), "https://relay/voice/ws");
});

test("streams are those that the server lists, and what happens to them", () => {
	socket.open();
	last().onopen();
	last().tell({ type: "available_streams", streams: ["a"], details: [{ stream_id: "a", name: "A", started_at: 1 }] });
	last().tell({ type: "stream_available", stream_id: "b" });
	assert.deepEqual(socket.streams.map(({ name }) => name), ["A", "b"]);
	last().tell({ type: "stream_paused", stream_id: "a" });
	assert.equal(socket.streams[0].paused, true);
	last().tell({ type: "stream_resumed", stream_id: "a" });
	assert.equal(socket.streams[0].paused, false);
	last().tell({ type: "stream_ended", stream_id: "a" });
	assert.deepEqual(socket.streams.map(({ stream_id }) => stream_id), ["b"]);
});

test("a server that lists ids only is understood", () => {
	socket.open();
	last().onopen();
	last().tell({ type: "available_streams", streams: ["a"] });
	assert.deepEqual(socket.streams, [{ stream_id: "a", name: "a" }]);
});

test("messages are sent while it is open, and are lost otherwise", () => {
	socket.send({ type: "early" });
	socket.open();
	socket.send({ type: "early" });
	last().onopen();
	socket.send({ type: "stop_stream" });
	assert.deepEqual(last().sent, [{ type: "stop_stream" }]);
});

test("a connection that breaks comes back by itself, and forgets the streams meanwhile", async () => {
	socket.open();
	last().onopen();
	last().tell({ type: "available_streams", streams: ["a"] });
	last().onclose();
	await settled();
	assert.deepEqual([socket.state, socket.problem, socket.streams], ["waiting", { code: "lost" }, []]);
	mock.timers.tick(500);
	assert.equal(socket.state, "connecting");
	assert.equal(count(), 2);
});

test("a server that stops answering is given up", async () => {
	socket.open();
	last().onopen();
	mock.timers.tick(socket.pollMs);
	assert.deepEqual(last().sent, [{ type: "get_available_streams" }]);
	mock.timers.tick(ANSWER_TIMEOUT_MS - socket.pollMs);
	await settled();
	assert.equal(socket.state, "open");
	mock.timers.tick(2 * socket.pollMs);
	await settled();
	assert.deepEqual([socket.state, socket.problem], ["waiting", { code: "lost" }]);
	assert.deepEqual([FakeWebSocket.made[0].closed, FakeWebSocket.made[0].closeCode], [true, 4000]);
});

test("a server that answers is kept", async () => {
	socket.open();
	last().onopen();
	for (let poll = 0; poll < 20; poll++) {
		mock.timers.tick(socket.pollMs);
		last().tell({ type: "available_streams", streams: [] });
	}
	await settled();
	assert.equal(socket.state, "open");
	assert.equal(count(), 1);
});

test("why an upgrade was refused is asked over plain HTTP", async () => {
	const causes = { 403: "forbidden", 429: "full", 502: "unreachable", 503: "full", 500: "refused" };
	for (const [answer, code] of [[null, "unreachable"], ...Object.entries(causes)]) {
		status = answer;
		socket = new VoiceSocket({ base: "http://relay:8080/" });
		socket.open();
		last().onclose();
		await settled();
		assert.deepEqual([socket.state, socket.problem], ["waiting", { code }], `HTTP ${answer}`);
	}
});

test("a connection that opens while the cause of its slowness is asked for is kept", async () => {
	let answer;
	globalThis.fetch = () => new Promise((resolve) => (answer = resolve));
	socket.open();
	mock.timers.tick(ANSWER_TIMEOUT_MS);
	last().onopen();
	answer({ status: 200 });
	await settled();
	assert.equal(socket.state, "open");
	assert.equal(last().closed, false);
});

test("without the token it waits for one, and does not knock again", async () => {
	status = 401;
	socket.open();
	last().onclose();
	await settled();
	assert.equal(socket.state, "locked");
	mock.timers.tick(10 * LONGEST_RETRY_MS);
	assert.equal(count(), 1);
	socket.open();
	last().onopen();
	last().tell({ type: "error", code: "unauthorized", message: "expired" });
	assert.deepEqual([socket.state, socket.problem.code], ["locked", "unauthorized"]);
});

test("the wait grows until the server answers a question", async () => {
	const waits = [];
	socket.open();
	for (let attempt = 0; attempt < 6; attempt++) {
		last().onclose();
		await settled();
		const [before, began] = [count(), Date.now()];
		while (count() === before) mock.timers.tick(10);
		waits.push(Date.now() - began);
	}
	assert.ok(waits[0] <= 510 && waits[5] >= 5_000, `${waits}`);
	last().onopen();
	mock.timers.tick(socket.pollMs);
	last().tell({ type: "available_streams", streams: [] });
	last().onclose();
	await settled();
	mock.timers.tick(500);
	assert.equal(socket.state, "connecting");
});

test("a network that is back, or a page that is seen again, ends the wait", async () => {
	socket.open();
	for (const target of [page, document]) {
		last().onclose();
		await settled();
		const before = count();
		target.dispatchEvent(new Event(target === page ? "online" : "visibilitychange"));
		assert.equal(count(), before + 1);
	}
});

test("a change of the network finds a dead socket soon, and keeps one that lives", async () => {
	const connection = Object.assign(new EventTarget(), { type: "wifi" });
	navigator.connection = connection;
	socket = new VoiceSocket({ base: "http://relay:8080/" });
	socket.open();
	last().onopen();
	connection.dispatchEvent(new Event("change"));
	assert.deepEqual(last().sent, []);
	connection.type = "cellular";
	connection.dispatchEvent(new Event("change"));
	assert.deepEqual(last().sent, [{ type: "get_available_streams" }]);
	last().tell({ type: "available_streams", streams: [] });
	mock.timers.tick(2_000);
	await settled();
	assert.equal(socket.state, "open");
	connection.type = "wifi";
	connection.dispatchEvent(new Event("change"));
	mock.timers.tick(2_000);
	await settled();
	assert.deepEqual([socket.state, socket.problem], ["waiting", { code: "lost" }]);
});

test("streams are forgotten after the socket is known to be lost: they did not end", async () => {
	socket.open();
	last().onopen();
	last().tell({ type: "available_streams", streams: ["a"] });
	const told = [];
	socket.on("streams", () => told.push(socket.state));
	last().onclose();
	await settled();
	assert.deepEqual(told, ["waiting"]);
});

test("closed, it stays closed", async () => {
	socket.open();
	last().onclose();
	socket.close();
	await settled();
	page.dispatchEvent(new Event("online"));
	mock.timers.tick(10 * LONGEST_RETRY_MS);
	assert.equal(socket.state, "closed");
	assert.equal(count(), 1);
});

test("when its server stops soon it connects anew at once, and keeps the socket for what still plays", () => {
	socket.open();
	const first = last();
	first.onopen();
	first.tell({ type: "server_moving" });
	assert.equal(count(), 2);
	assert.equal(socket.state, "connecting");
	assert.equal(first.closed, false);
	last().onopen();
	assert.equal(socket.state, "open");
	mock.timers.tick(2_000);
	assert.deepEqual([first.closed, first.closeCode, last().closed], [true, 4000, false]);
});

test("what a server that is away, or that is no such server, says to a question is nothing", async () => {
	globalThis.fetch = async () => new Response('{"version": "1"}', { status: 503 });
	assert.deepEqual(await socket.ask("health"), { version: "1" });
	globalThis.fetch = async () => new Response("no JSON");
	assert.deepEqual(await socket.ask("health"), {});
	globalThis.fetch = () => Promise.reject(new TypeError("Failed to fetch"));
	assert.deepEqual(await socket.ask("health"), {});
});
