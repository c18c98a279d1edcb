import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { VoiceReceiver } from "../../static/voice-receiver.js";
import { FakePeer, FakeSocket, FakeTrack, installBrowser, settled } from "./fakes.js";

const MP3_AFTER_MS = 3_000;
const FIRST_RETRY_MS = 500;

const old = { stream_id: "old", name: "Old" };
const young = { stream_id: "new id", name: "New" };

let socket, receiver;

beforeEach(() => {
	mock.timers.reset();
	mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
	installBrowser();
	socket = new FakeSocket();
	receiver = new VoiceReceiver(socket);
});

/** Plays the server and the network, up to sound. */
async function connect(stream) {
	socket.tell("webrtc_offer", { offer: { type: "offer", sdp: "v=0" }, stream_id: stream.stream_id });
	const peer = FakePeer.last;
	peer.ontrack({ track: new FakeTrack() });
	await settled();
	peer.becomes("connected");
	await settled();
	return peer;
}

test("it waits, and plays the newest stream as it comes", async () => {
	receiver.listen();
	assert.equal(receiver.state, "waiting");
	socket.list(old, young);
	assert.equal(receiver.state, "joining");
	assert.deepEqual(socket.sent, [{ type: "start_receiving", stream_id: "new id" }]);
	const routes = [];
	receiver.on("route", () => routes.push(receiver.route));
	await connect(young);
	assert.deepEqual([receiver.state, receiver.stream, routes], ["playing", young, ["webrtc"]]);
	assert.equal(receiver.audio.srcObject, receiver.media);
	assert.equal(socket.sent.at(-1).type, "webrtc_answer");
});

test("it moves on to a newer stream, and back to the older one when that ends", async () => {
	receiver.listen();
	socket.list(old);
	const peer = await connect(old);
	socket.list(old, young);
	assert.deepEqual([receiver.streamId, peer.connectionState], ["new id", "closed"]);
	socket.list(old);
	assert.equal(receiver.streamId, "old");
	socket.list();
	assert.equal(receiver.state, "waiting");
});

test("a chosen stream is the only one", () => {
	receiver.listen("old");
	socket.list(young);
	assert.equal(receiver.state, "waiting");
	socket.list(old, young);
	assert.equal(receiver.streamId, "old");
});

test("streams to skip are never played", () => {
	receiver = new VoiceReceiver(socket, { skip: ({ name }) => name === "New" });
	receiver.listen();
	socket.list(young);
	assert.equal(receiver.state, "waiting");
	socket.list(old, young);
	assert.equal(receiver.streamId, "old");
});

test("the MP3 plays where WebRTC does not connect, and WebRTC once it does", async () => {
	receiver.listen();
	socket.list(young);
	mock.timers.tick(MP3_AFTER_MS);
	await settled();
	assert.deepEqual([receiver.state, receiver.route], ["playing", "mp3"]);
	assert.equal(receiver.audio.src.split("?")[0], "http://relay/stream/new%20id.mp3");
	await connect(young);
	assert.deepEqual([receiver.state, receiver.route], ["playing", "webrtc"]);
});

test("a browser without WebRTC plays the MP3 at once", async () => {
	delete globalThis.RTCPeerConnection;
	receiver.listen();
	socket.list(young);
	await settled();
	assert.deepEqual([receiver.state, receiver.route, socket.sent], ["playing", "mp3", []]);
});

test("a browser that wants a tap gets one", async () => {
	receiver.audio.refusal = new DOMException("tap", "NotAllowedError");
	receiver.listen();
	socket.list(young);
	await connect(young);
	assert.deepEqual([receiver.state, receiver.problem.code], ["blocked", "blocked"]);
	receiver.audio.refusal = null;
	receiver.unblock();
	await settled();
	assert.equal(receiver.state, "playing");
});

test("a pause by the device is undone by a press", async () => {
	receiver.listen();
	socket.list(young);
	await connect(young);
	receiver.audio.onpause();
	assert.deepEqual([receiver.state, receiver.problem.code], ["blocked", "paused"]);
	receiver.unblock();
	await settled();
	assert.equal(receiver.state, "playing");
});

test("what breaks comes back by itself", async () => {
	receiver.listen();
	socket.list(young);
	const peer = await connect(young);
	peer.becomes("failed");
	assert.deepEqual([receiver.state, receiver.problem.code], ["reconnecting", "lost"]);
	mock.timers.tick(FIRST_RETRY_MS);
	assert.deepEqual([receiver.state, receiver.streamId], ["joining", "new id"]);
	socket.enter("waiting", { code: "unreachable" });
	assert.deepEqual([receiver.state, receiver.problem.code], ["reconnecting", "unreachable"]);
	socket.enter("open");
	assert.equal(receiver.state, "joining");
});

/** The socket is lost and comes back, with these streams. */
function interrupt(...streams) {
	socket.enter("waiting", { code: "lost" });
	socket.list();
	assert.deepEqual([receiver.state, receiver.stream], ["playing", young]);
	socket.takeSent();
	socket.enter("open");
	socket.list(...streams);
	socket.tell("available_streams", {});
}

test("what plays goes on without a socket, until the next one's connection plays", async () => {
	receiver.listen();
	socket.list(young);
	const first = await connect(young);
	const { media } = receiver;
	interrupt(old, young);
	assert.deepEqual(socket.takeSent(), ["start_receiving"]);
	socket.tell("webrtc_offer", { offer: { type: "offer", sdp: "v=0" }, stream_id: "new id" });
	FakePeer.last.ontrack({ track: new FakeTrack() });
	await settled();
	assert.deepEqual([receiver.audio.srcObject, first.connectionState], [media, "connected"]);
	FakePeer.last.becomes("connected");
	await settled();
	assert.deepEqual([receiver.audio.srcObject, first.connectionState], [receiver.media, "closed"]);
	assert.notEqual(receiver.media, media);
	mock.timers.tick(60_000);
	assert.equal(receiver.state, "playing");
});

test("what ended while there was no socket, or breaks without one, plays no more", async () => {
	receiver.listen();
	socket.list(young);
	await connect(young);
	interrupt(old);
	assert.deepEqual([receiver.state, receiver.streamId], ["joining", "old"]);
	socket.list(young);
	const peer = await connect(young);
	socket.enter("waiting", { code: "lost" });
	peer.becomes("failed");
	assert.equal(receiver.state, "reconnecting");
});

test("an MP3 needs no socket", async () => {
	receiver.listen();
	socket.list(young);
	mock.timers.tick(MP3_AFTER_MS);
	await settled();
	interrupt(young);
	assert.deepEqual([receiver.state, receiver.route, socket.takeSent()], ["playing", "mp3", []]);
});

test("an MP3 that was paused goes on live, not where it was", async () => {
	receiver.listen();
	socket.list(young);
	mock.timers.tick(MP3_AFTER_MS);
	await settled();
	const before = receiver.audio.src;
	receiver.audio.onpause();
	receiver.audio.onplaying(); // a key of the device
	await settled();
	assert.equal(receiver.state, "playing");
	assert.notEqual(receiver.audio.src, before);
});

test("a voice that ends is heard to its last word by MP3, which is later", async () => {
	receiver.listen();
	socket.list(young);
	mock.timers.tick(MP3_AFTER_MS);
	await settled();
	socket.list();
	assert.deepEqual([receiver.state, receiver.stream], ["playing", young]);
	receiver.audio.onended();
	assert.deepEqual([receiver.state, receiver.audio.src], ["waiting", ""]);
	socket.list(young);
	await settled();
	socket.list();
	receiver.listen("old");
	assert.equal(receiver.state, "waiting");
});

test("a chosen stream is found in any case of its letters", () => {
	receiver.listen("OLD");
	socket.list(old, young);
	assert.equal(receiver.streamId, "old");
});

test("an MP3 that ends or breaks is asked for again", async () => {
	receiver.listen();
	socket.list(young);
	mock.timers.tick(MP3_AFTER_MS);
	await settled();
	receiver.audio.onended();
	assert.deepEqual([receiver.state, receiver.problem.code], ["reconnecting", "lost"]);
});

test("an offer for another stream is not answered", async () => {
	receiver.listen();
	socket.list(young);
	socket.tell("webrtc_offer", { offer: { type: "offer", sdp: "v=0" }, stream_id: "old" });
	await settled();
	assert.deepEqual(FakePeer.made, []);
});

test("stopped, it lets go of everything and follows nothing", async () => {
	receiver.listen();
	socket.list(young);
	const peer = await connect(young);
	socket.takeSent();
	receiver.stop();
	assert.deepEqual(socket.takeSent(), ["stop_stream"]);
	assert.deepEqual([receiver.state, receiver.streamId, receiver.audio.srcObject], ["idle", null, null]);
	assert.equal(peer.connectionState, "closed");
	socket.list(old);
	assert.equal(receiver.state, "idle");
});

test("a network that brings nothing for two seconds is told of, and the end of that", async () => {
	receiver.listen();
	socket.list(young);
	const peer = await connect(young);
	const told = [];
	receiver.on("stalled", () => told.push(receiver.stalled));
	/** One second, in which so many packets come. */
	const pass = async (packets) => {
		peer.packetsReceived += packets;
		mock.timers.tick(1_000);
		await settled();
	};
	for (const packets of [50, 50, 0]) await pass(packets);
	assert.deepEqual(told, []);
	await pass(0);
	await pass(0);
	assert.deepEqual(told, [true]);
	await pass(1);
	assert.deepEqual([told, receiver.stalled], [[true, false], false]);
	await pass(0);
	await pass(0);
	receiver.stop();
	assert.equal(receiver.stalled, false);
});
