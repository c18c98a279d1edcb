import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { VoiceReceiver } from "../../static/voice-receiver.js";
import { FakePeer, FakeSocket, FakeTrack, installBrowser, settled } from "./fakes.js";

const MP3_AFTER_MS = 3_000;
const MEDIA_TIMEOUT_MS = 10_000;
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

/** The server says whom it feeds: a stream, or nobody. */
const feed = (stream) => socket.tell("receiving", stream ?? { stream_id: null, name: null });

/** The server answers what it was asked for. */
async function offer(stream) {
	socket.tell("webrtc_offer", { offer: { type: "offer", sdp: "v=0" }, stream_id: stream?.stream_id ?? null });
	feed(stream);
	FakePeer.last.ontrack({ track: new FakeTrack() });
	await settled();
	return FakePeer.last;
}

/** Plays the server and the network, up to sound, or to nobody who talks. */
async function connect(stream) {
	const peer = await offer(stream);
	peer.becomes("connected");
	await settled();
	return peer;
}

/** What it says from now on: its state, and whom it plays. */
function record() {
	const said = [];
	receiver.on("state", () => said.push([receiver.state, receiver.stream?.name].join(" ").trim()));
	return said;
}

test("it asks for a connection at once, and plays what is live", async () => {
	receiver.listen();
	assert.equal(receiver.state, "waiting");
	assert.deepEqual(socket.sent, [{ type: "start_receiving", follow: true, stream_id: null, except: [] }]);
	socket.list(old, young);
	assert.deepEqual([receiver.state, receiver.streamId], ["joining", "new id"]);
	const routes = [];
	receiver.on("route", () => routes.push(receiver.route));
	await connect(young);
	assert.deepEqual([receiver.state, receiver.stream, routes], ["playing", young, ["webrtc"]]);
	assert.deepEqual(socket.takeSent(), ["start_receiving", "webrtc_answer"]);
});

test("it is connected before anybody talks, and plays whoever does by that connection", async () => {
	receiver.listen();
	const peer = await connect();
	assert.deepEqual([receiver.state, receiver.route], ["waiting", "webrtc"]);
	const { media } = receiver;
	const said = record();
	socket.takeSent();
	for (const stream of [old, null, young, null]) {
		feed(stream); // before it is listed, or is not any more
		socket.list(...(stream ? [stream] : []));
	}
	assert.deepEqual(said, ["playing Old", "waiting", "playing New", "waiting"]);
	assert.deepEqual([FakePeer.made, peer.connectionState, socket.takeSent()], [[peer], "connected", []]);
	assert.equal(receiver.audio.srcObject, media);
});

test("it moves on to a newer stream, and back, by the same connection", async () => {
	receiver.listen();
	socket.list(old);
	const peer = await connect(old);
	const said = record();
	socket.takeSent();
	socket.list(old, young);
	assert.deepEqual(said, []); // what is heard is what the server feeds
	feed(young);
	feed(old);
	socket.list(old);
	assert.deepEqual(said, ["playing New", "playing Old"]);
	assert.deepEqual([FakePeer.made, peer.connectionState, socket.takeSent()], [[peer], "connected", []]);
});

test("a chosen stream is the only one, and is waited for", async () => {
	receiver.listen("old");
	assert.deepEqual(socket.sent, [{ type: "start_receiving", follow: true, stream_id: "old", except: [] }]);
	socket.list(young);
	await connect();
	assert.equal(receiver.state, "waiting");
	socket.list(young, old);
	feed(old);
	assert.deepEqual([receiver.state, receiver.stream, FakePeer.made.length], ["playing", old, 1]);
});

test("another choice is another connection, and the one before plays until that is there", async () => {
	receiver.listen();
	socket.list(old, young);
	const first = await connect(young);
	socket.takeSent();
	receiver.listen("OLD");
	assert.deepEqual([receiver.state, receiver.streamId, socket.takeSent()], ["joining", "old", ["start_receiving"]]);
	const second = await offer(old);
	assert.deepEqual([first.connectionState, receiver.state], ["connected", "joining"]);
	second.becomes("connected");
	await settled();
	assert.deepEqual([first.connectionState, receiver.state, receiver.stream], ["closed", "playing", old]);
	receiver.listen("old one");
	assert.deepEqual([receiver.state, receiver.streamId], ["waiting", null]);
});

test("a choice that changes before the offer is there gets the offer that it needs", async () => {
	receiver.listen("old");
	receiver.listen(null);
	assert.equal(socket.sent.length, 1);
	socket.tell("webrtc_offer", { offer: { type: "offer", sdp: "v=0" }, stream_id: null });
	assert.deepEqual([FakePeer.made, socket.sent.at(-1).stream_id], [[], null]);
	await connect(young);
	assert.deepEqual([FakePeer.made.length, receiver.state], [1, "playing"]);
});

test("one's own streams are never played, and the server is asked anew only if they are others", async () => {
	let except = ["NEW ID"];
	receiver = new VoiceReceiver(socket, { except: () => except });
	receiver.listen();
	assert.deepEqual(socket.sent[0].except, ["NEW ID"]);
	socket.list(young);
	assert.equal(receiver.state, "waiting");
	socket.list(old, young);
	assert.equal(receiver.streamId, "old");
	const first = await connect(old);
	const said = record();
	receiver.listen();
	assert.deepEqual(socket.takeSent(), ["start_receiving", "webrtc_answer"]);
	except = ["new id", "stream_7"];
	receiver.listen();
	assert.deepEqual(socket.sent[0].except, except);
	await connect(old);
	assert.deepEqual([said, first.connectionState, receiver.state], [[], "closed", "playing"]);
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

test("where WebRTC does not connect while nobody talks, the next voice plays by MP3, and WebRTC is tried again", async () => {
	receiver.listen();
	const peer = await offer();
	mock.timers.tick(MEDIA_TIMEOUT_MS);
	assert.deepEqual([receiver.state, peer.connectionState], ["waiting", "closed"]);
	socket.list();
	assert.deepEqual(socket.takeSent(), ["start_receiving", "webrtc_answer"]);
	socket.list(young);
	await settled();
	assert.deepEqual([receiver.state, receiver.route, socket.takeSent()], ["playing", "mp3", ["start_receiving"]]);
	const next = await offer(young);
	next.becomes("failed");
	assert.deepEqual([receiver.state, receiver.route, next.connectionState], ["playing", "mp3", "closed"]);
	socket.list(old);
	await settled();
	assert.deepEqual([receiver.state, receiver.streamId, receiver.route], ["playing", "old", "mp3"]);
	await connect(old);
	assert.deepEqual([receiver.state, receiver.route], ["playing", "webrtc"]);
});

test("while the MP3 plays, WebRTC is tried again, ever more seldom", async () => {
	receiver.listen();
	socket.list(young);
	for (const delayMs of [2_000, 4_000, 8_000]) {
		const peer = await offer(young);
		mock.timers.tick(MP3_AFTER_MS);
		await settled();
		assert.deepEqual([receiver.state, receiver.route], ["playing", "mp3"]);
		peer.becomes("failed");
		socket.takeSent();
		mock.timers.tick(delayMs - 1);
		assert.deepEqual(socket.takeSent(), []);
		mock.timers.tick(1);
		assert.deepEqual(socket.takeSent(), ["start_receiving"]);
	}
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
	await settled();
	assert.deepEqual([receiver.state, receiver.problem.code], ["blocked", "blocked"]); // while nobody talks
	await connect();
	assert.equal(receiver.state, "blocked");
	feed(young);
	assert.equal(receiver.state, "blocked");
	feed(null);
	receiver.audio.refusal = null;
	receiver.unblock();
	await settled();
	assert.deepEqual([receiver.state, receiver.problem], ["waiting", null]);
	feed(young);
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

test("a connection that the server misses is made anew, also while nobody talks", async () => {
	receiver.listen();
	const peer = await connect();
	socket.takeSent();
	socket.tell("error", { code: "connection_lost" });
	assert.deepEqual([receiver.state, receiver.problem.code, peer.connectionState], ["reconnecting", "lost", "closed"]);
	mock.timers.tick(FIRST_RETRY_MS);
	assert.deepEqual([receiver.state, socket.takeSent()], ["waiting", ["stop_stream", "start_receiving"]]);
	await connect(young);
	assert.equal(receiver.state, "playing");
});

/** The socket is lost and comes back, with these streams. */
function interrupt(...streams) {
	socket.takeSent();
	socket.enter("waiting", { code: "lost" });
	socket.list();
	socket.enter("open");
	assert.deepEqual([receiver.state, receiver.stream], ["playing", young]);
	assert.deepEqual(socket.takeSent(), ["start_receiving"]);
	socket.list(...streams);
}

test("what plays goes on without a socket, until the next one's connection plays", async () => {
	receiver.listen();
	socket.list(young);
	const first = await connect(young);
	const { media } = receiver;
	interrupt(old, young);
	(await offer(young)).becomes("new");
	assert.deepEqual([receiver.audio.srcObject, first.connectionState], [media, "connected"]);
	interrupt(old, young); // that was too soon
	assert.deepEqual([FakePeer.last.connectionState, first.connectionState], ["closed", "connected"]);
	(await offer(young)).becomes("connected");
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
	await connect(old);
	assert.deepEqual([receiver.state, receiver.streamId], ["playing", "old"]);
	socket.enter("waiting", { code: "lost" });
	socket.enter("open");
	const peer = await connect();
	assert.equal(receiver.state, "waiting");
	feed(young);
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
	assert.deepEqual([receiver.state, receiver.route], ["playing", "mp3"]);
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

test("an offer that was not asked for is not answered", async () => {
	socket.tell("webrtc_offer", { offer: { type: "offer", sdp: "v=0" }, stream_id: null });
	receiver.listen();
	receiver.stop();
	socket.tell("webrtc_offer", { offer: { type: "offer", sdp: "v=0" }, stream_id: null });
	feed(old);
	assert.deepEqual([FakePeer.made, receiver.state], [[], "idle"]);
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
	receiver.listen();
	socket.tell("webrtc_offer", { offer: { type: "offer", sdp: "v=0" }, stream_id: null });
	receiver.stop(); // before it has answered
	await settled();
	assert.deepEqual(socket.takeSent(), ["start_receiving", "stop_stream"]);
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
	for (const packets of [0, 0, 1, 0, 0]) await pass(packets);
	socket.list({ ...young, paused: true });
	assert.deepEqual(told, [true, false, true, false]);
	socket.list(young);
	feed(null);
	for (let seconds = 0; seconds < 5; seconds += 1) await pass(0);
	assert.deepEqual([receiver.state, receiver.stalled], ["waiting", false]);
	feed(young);
	for (const packets of [50, 0, 0]) await pass(packets);
	assert.equal(receiver.stalled, true);
	receiver.stop();
	assert.equal(receiver.stalled, false);
});

test("in a room it plays whoever is fed, also who is in no list, and knows all of them", async () => {
	receiver.listen("room:Kitchen");
	const { type, room, stream_id } = socket.sent.findLast((message) => message.type === "start_receiving");
	assert.deepEqual([type, room, stream_id], ["start_receiving", "room:Kitchen", undefined]);
	const said = record();
	await connect(null);
	assert.equal(receiver.state, "waiting");
	const voices = [old, young];
	socket.tell("receiving", { ...young, voices });
	await settled();
	assert.equal(receiver.state, "playing");
	assert.deepEqual(receiver.voices, voices);
	socket.tell("receiving", { ...young, voices: [young] });
	assert.deepEqual(receiver.voices, [young]);
	assert.ok(said.length >= 2);
});

test("whoever is not to be disturbed asks for urgent voices alone", async () => {
	receiver.listen("room:Kitchen");
	await connect(null);
	receiver.quiet = true;
	receiver.listen("room:Kitchen");
	assert.equal(socket.sent.findLast(({ type }) => type === "start_receiving").quiet, true);
});

test("where WebRTC does not connect, a room's MP3 plays", async () => {
	receiver.listen("room:Küche");
	mock.timers.tick(MP3_AFTER_MS);
	await settled();
	assert.match(receiver.audio.src, /room\/K%C3%BCche\.mp3/);
});
