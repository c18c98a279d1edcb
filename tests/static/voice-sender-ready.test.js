/** Push to talk: a sender that is ready, and talks for a press. */
import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { VoiceSender } from "../../static/voice-sender.js";
import { FakePeer, FakeSocket, installBrowser, settled } from "./fakes.js";

const HOLD_ON_MS = 250;
const MEDIA_TIMEOUT_MS = 10_000;
const FIRST_RETRY_MS = 500;
const UNUSED_MS = 600_000;

let socket, sender, page, mediaDevices, states;

beforeEach(() => {
	mock.timers.reset();
	mock.timers.enable({ apis: ["setTimeout"] });
	({ page, mediaDevices } = installBrowser());
	socket = new FakeSocket();
	sender = new VoiceSender(socket);
	sender.name = "Kitchen";
	sender.staysReady = true;
	states = [];
	sender.on("state", () => states.push(sender.state));
});

const track = () => sender.media.getTracks()[0];
const sentTrack = () => FakePeer.last.getSenders()[0].track;
const lastAsked = () => socket.sent.findLast(({ type }) => type === "start_sending");

/** The server's side of a connection, once it was asked for. */
async function connect() {
	socket.tell("sender_ready", { connection_id: "1", stream_id: "stream_kitchen" });
	await settled();
	socket.tell("webrtc_answer", { answer: { type: "answer", sdp: "v=0" } });
	FakePeer.last.becomes("connected");
}

async function arm() {
	await sender.arm();
	await connect();
	assert.equal(sender.state, "ready");
	socket.takeSent();
}

/** What the server says of our stream. */
function says(talking, { receivers = 0, listeners = 0 } = {}) {
	socket.tell("talking", { talking, stream_id: "stream_kitchen", receivers, listeners });
}

async function goLive() {
	await arm();
	sender.talk();
	says(true);
	assert.equal(sender.state, "live");
	socket.takeSent();
}

test("armed, it is connected and has nothing to send", async () => {
	await sender.arm();
	assert.deepEqual(socket.sent, [{ type: "start_sending", name: "Kitchen", talking: false }]);
	await connect();
	assert.deepEqual(states, ["asking", "connecting", "ready"]);
	assert.deepEqual([sentTrack(), sender.talking, track().stopped], [null, false, false]);
});

test("a press sends at once, and is live when the server says so", async () => {
	await arm();
	sender.talk();
	assert.deepEqual(socket.sent, [{ type: "set_talking", talking: true }]);
	assert.equal(sentTrack(), track());
	assert.deepEqual([sender.state, sender.talking], ["ready", true]);
	socket.list({ stream_id: "stream_kitchen", name: "Kitchen" });
	says(true, { receivers: 2, listeners: 1 });
	assert.equal(sender.state, "live");
	assert.deepEqual(sender.audience, { receivers: 2, listeners: 1 });
	socket.list({ stream_id: "stream_kitchen", name: "Kitchen", receivers: 3, listeners: 0 });
	assert.equal(sender.audience.receivers, 3);
});

test("a release holds on, and then the connection and the microphone stay", async () => {
	await goLive();
	const { media } = sender;
	sender.rest();
	assert.deepEqual([sender.talking, sender.state], [false, "live"]);
	mock.timers.tick(HOLD_ON_MS - 1);
	assert.deepEqual([socket.sent, sentTrack()], [[], track()]);
	mock.timers.tick(1);
	assert.deepEqual(socket.sent, [{ type: "set_talking", talking: false }]);
	assert.deepEqual([sentTrack(), sender.state, sender.media], [null, "ready", media]);
	socket.tell("stream_ended", { stream_id: "stream_kitchen", reason: "stopped talking" });
	says(false);
	assert.deepEqual([sender.state, FakePeer.made.length], ["ready", 1]);
});

test("how long it holds on can be set", async () => {
	sender.holdOnMs = 1_000;
	await goLive();
	sender.rest();
	mock.timers.tick(999);
	assert.equal(sender.state, "live");
	mock.timers.tick(1);
	assert.equal(sender.state, "ready");
});

test("a press while it holds on goes on, as if there had been no release", async () => {
	await goLive();
	sender.rest();
	mock.timers.tick(HOLD_ON_MS - 1);
	sender.talk();
	assert.equal(sender.talking, true);
	mock.timers.tick(UNUSED_MS);
	assert.deepEqual([sender.state, socket.sent, sentTrack()], ["live", [], track()]);
});

test("quick presses do not mistake what is said of one for what is said of the next", async () => {
	await arm();
	sender.talk();
	sender.rest();
	mock.timers.tick(HOLD_ON_MS);
	says(true);
	assert.equal(sender.state, "ready");
	sender.talk();
	says(false);
	assert.equal(sender.state, "ready");
	says(true);
	assert.equal(sender.state, "live");
	says(false);
	says(true);
	assert.equal(sender.state, "live");
});

test("a press of which the server hears nothing connects anew, and talks then", async () => {
	await arm();
	sender.talk();
	mock.timers.tick(MEDIA_TIMEOUT_MS);
	assert.deepEqual([sender.state, sender.problem.code], ["reconnecting", "no-media"]);
	mock.timers.tick(FIRST_RETRY_MS);
	assert.equal(lastAsked().talking, true);
	await connect();
	assert.equal(sentTrack(), track());
	says(true);
	assert.equal(sender.state, "live");
});

test("a press before it is connected talks once it is", async () => {
	const armed = sender.arm();
	sender.talk();
	await armed;
	assert.equal(lastAsked().talking, true);
	await connect();
	assert.equal(sender.state, "connecting");
	says(true);
	assert.equal(sender.state, "live");
});

test("a press and a release before it is connected lead to ready", async () => {
	await sender.arm();
	socket.tell("sender_ready", { connection_id: "1", stream_id: "stream_kitchen" });
	sender.talk();
	assert.deepEqual([socket.sent.at(-1), sentTrack()], [{ type: "set_talking", talking: true }, track()]);
	sender.rest();
	assert.deepEqual([socket.sent.at(-1), sentTrack()], [{ type: "set_talking", talking: false }, null]);
	FakePeer.last.becomes("connected");
	assert.equal(sender.state, "ready");
});

test("a start without arming is ready after its end, unless it is not to be", async () => {
	for (const [staysReady, end] of [[true, "ready"], [false, "idle"]]) {
		sender.stop();
		sender.staysReady = staysReady;
		await sender.start();
		await connect();
		socket.list({ stream_id: "stream_kitchen", name: "Kitchen" });
		assert.equal(sender.state, "live");
		sender.rest();
		assert.equal(sender.state, "live");
		mock.timers.tick(HOLD_ON_MS);
		assert.deepEqual([sender.state, sender.media === null], [end, end === "idle"]);
	}
});

test("a lost socket, a lost connection: it is ready again by itself, with the same microphone", async () => {
	await arm();
	const { media } = sender;
	socket.enter("waiting", { code: "lost" });
	assert.equal(sender.state, "reconnecting");
	socket.enter("open");
	await connect();
	assert.equal(sender.state, "ready");
	for (const lose of [() => FakePeer.last.becomes("failed"), () => socket.tell("error", { code: "connection_lost" })]) {
		lose();
		if (sender.state === "ready") mock.timers.tick(3_000);
		assert.deepEqual([sender.state, sender.problem.code], ["reconnecting", "lost"]);
		mock.timers.tick(FIRST_RETRY_MS);
		assert.equal(lastAsked().talking, false);
		await connect();
		assert.deepEqual([sender.state, sender.media, sentTrack()], ["ready", media, null]);
	}
});

test("a press while it comes back talks then, if it was not taken back", async () => {
	await arm();
	for (const released of [false, true]) {
		socket.enter("waiting", { code: "lost" });
		sender.talk();
		if (released) sender.rest();
		socket.enter("open");
		assert.equal(lastAsked().talking, !released);
		await connect();
		if (!released) says(true);
		assert.equal(sender.state, released ? "ready" : "live");
		sender.rest();
		mock.timers.tick(HOLD_ON_MS);
	}
});

test("a release while the media is lost ends the stream that the server keeps for us", async () => {
	await goLive();
	socket.tell("error", { code: "connection_lost" });
	sender.rest();
	assert.deepEqual(socket.takeSent(), ["stop_stream"]);
	socket.tell("stream_ended", { stream_id: "stream_kitchen", reason: "sender left" });
	mock.timers.tick(FIRST_RETRY_MS);
	await connect();
	assert.equal(sender.state, "ready");
});

test("while live it outlives its socket, and a release without one connects anew", async () => {
	await goLive();
	const [first] = FakePeer.made;
	socket.enter("waiting", { code: "lost" });
	assert.equal(sender.state, "live");
	socket.enter("open");
	assert.equal(lastAsked().talking, true);
	await connect();
	assert.deepEqual([sender.state, first.connectionState, sentTrack()], ["live", "closed", track()]);
	socket.enter("waiting", { code: "lost" });
	sender.rest();
	mock.timers.tick(HOLD_ON_MS);
	assert.equal(sender.state, "reconnecting");
	socket.enter("open");
	assert.equal(lastAsked().talking, false);
});

test("a release while its connection is replaced silences both", async () => {
	await goLive();
	const [first] = FakePeer.made;
	socket.enter("waiting", { code: "lost" });
	socket.enter("open");
	socket.tell("sender_ready", { connection_id: "2", stream_id: "stream_kitchen" });
	await settled();
	sender.rest();
	mock.timers.tick(HOLD_ON_MS);
	assert.deepEqual([first.getSenders()[0].track, sentTrack(), sender.state], [null, null, "ready"]);
	FakePeer.last.becomes("connected");
	mock.timers.tick(MEDIA_TIMEOUT_MS);
	assert.deepEqual([sender.state, first.connectionState], ["ready", "closed"]);
});

test("a changed network, or a tab that was frozen, restarts ICE of a connection that is ready", async () => {
	await arm();
	for (const [target, type] of [
		[page, "online"],
		[document, "resume"],
	]) {
		target.dispatchEvent(new Event(type));
		await settled();
		assert.deepEqual(socket.takeSent(), ["webrtc_offer"]);
		socket.tell("webrtc_answer", { answer: { type: "answer", sdp: "v=0" } });
	}
	assert.deepEqual([FakePeer.made.length, FakePeer.last.restarts], [1, 2]);
});

test("another microphone while it is ready is not sent before the next press", async () => {
	await arm();
	await sender.change({ noiseSuppression: false });
	assert.equal(sentTrack(), null);
	sender.talk();
	assert.equal(sentTrack(), track());
});

test("a press, or a release, while the microphone changes, counts", async () => {
	await goLive();
	const changed = sender.change({});
	sender.rest();
	mock.timers.tick(HOLD_ON_MS);
	await changed;
	assert.equal(sentTrack(), null);
	const again = sender.change({});
	sender.talk();
	await again;
	assert.equal(sentTrack(), track());
});

test("a microphone that is taken away while it is ready is opened again, or released", async () => {
	await arm();
	await track().onended();
	assert.equal(sender.state, "ready");
	mediaDevices.getUserMedia = async () => {
		throw new DOMException("none", "NotFoundError");
	};
	await track().onended();
	assert.deepEqual([sender.state, sender.problem.code, sender.media], ["idle", "unplugged", null]);
});

test("ten minutes without a press release the microphone, wherever they began", async () => {
	await goLive();
	mock.timers.tick(2 * UNUSED_MS);
	assert.equal(sender.state, "live");
	sender.rest();
	mock.timers.tick(HOLD_ON_MS);
	mock.timers.tick(UNUSED_MS - 1);
	assert.equal(sender.state, "ready");
	const released = track();
	mock.timers.tick(1);
	assert.deepEqual([sender.state, sender.problem.code, released.stopped], ["idle", "unused", true]);
	assert.equal(socket.sent.at(-1).type, "stop_stream");
	socket.enter("waiting", { code: "lost" });
	await sender.arm();
	mock.timers.tick(UNUSED_MS);
	assert.deepEqual([sender.state, sender.problem.code], ["idle", "unused"]);
	mock.timers.tick(2 * UNUSED_MS);
	assert.equal(sender.problem.code, "unused");
});

test("another name while it is ready needs another connection, and no other microphone", async () => {
	await arm();
	const { media } = sender;
	sender.rename("Attic");
	assert.deepEqual(socket.sent, [{ type: "stop_stream" }, { type: "start_sending", name: "Attic", talking: false }]);
	await connect();
	assert.deepEqual([sender.state, sender.media], ["ready", media]);
	sender.rename("Attic");
	assert.equal(sender.state, "ready");
});

test("another name before the first one is answered: what is said of that is not taken for the other", async () => {
	await sender.arm();
	sender.rename("Attic");
	socket.tell("sender_ready", { connection_id: "1", stream_id: "Kitchen" });
	await settled();
	assert.equal(FakePeer.made.length, 0);
	await connect();
	assert.deepEqual([sender.state, FakePeer.made.length], ["ready", 1]);
	socket.enter("waiting", { code: "lost" });
	socket.enter("open");
	socket.tell("error", { code: "name_taken", message: "in use" });
	await arm();
});

test("somebody who takes its name over while it is ready releases the microphone", async () => {
	await arm();
	socket.tell("stream_ended", { stream_id: "stream_kitchen", reason: "replaced" });
	assert.deepEqual([sender.state, sender.problem.code, sender.media], ["idle", "replaced", null]);
});

test("a press says whom it is for, once the server was told of rooms", async () => {
	await arm();
	sender.rooms = ["Kitchen"];
	sender.talk();
	says(true);
	assert.deepEqual(socket.sent.at(-1), { type: "set_talking", talking: true, rooms: ["Kitchen"], urgent: false });
	sender.rest();
	mock.timers.tick(HOLD_ON_MS);
	sender.rooms = [];
	sender.talk();
	assert.deepEqual(socket.sent.at(-1), { type: "set_talking", talking: true, rooms: [], urgent: false });
});

test("a press for others begins anew, also while the one before holds on", async () => {
	await goLive();
	sender.rest();
	sender.rooms = ["Attic"];
	sender.talk();
	const told = socket.sent.filter(({ type }) => type === "set_talking").slice(-2);
	assert.deepEqual(told.map(({ talking, rooms }) => [talking, rooms]), [
		[false, undefined],
		[true, ["Attic"]],
	]);
});

test("a press that a room refuses is over, and the next may come", async () => {
	await arm();
	sender.rooms = ["Office"];
	sender.talk();
	socket.tell("error", { code: "room_busy", message: "attic talks" });
	assert.equal(sender.state, "ready");
	assert.equal(sender.problem.code, "room_busy");
	assert.equal(sender.talking, false);
	assert.equal(sentTrack(), null);
	sender.talk();
	says(true);
	assert.equal(sender.state, "live");
});
