import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { VoiceSender } from "../../static/voice-sender.js";
import { FakeMedia, FakePeer, FakeSocket, FakeTrack, installBrowser, settled } from "./fakes.js";

const MEDIA_TIMEOUT_MS = 10_000;
const FIRST_RETRY_MS = 500;
const GRACE_MS = 3_000;

let socket, sender, page, mediaDevices, states;

beforeEach(() => {
	mock.timers.reset();
	mock.timers.enable({ apis: ["setTimeout"] });
	({ page, mediaDevices } = installBrowser());
	socket = new FakeSocket();
	sender = new VoiceSender(socket);
	sender.name = "Kitchen";
	states = [];
	sender.on("state", () => states.push(sender.state));
});

const kitchen = { stream_id: "stream_kitchen", name: "Kitchen" };

/** Starts it, up to the offer. */
async function offer() {
	await sender.start();
	socket.tell("sender_ready", { connection_id: "1", stream_id: "stream_kitchen" });
	await settled();
	return FakePeer.last;
}

async function goLive() {
	const peer = await offer();
	socket.tell("webrtc_answer", { answer: { type: "answer", sdp: "v=0" } });
	peer.becomes("connected");
	socket.list(kitchen);
	return peer;
}

test("it is live once the server has its packets, not before", async () => {
	const peer = await offer();
	assert.deepEqual(socket.sent.slice(0, 2), [
		{ type: "start_sending", name: "Kitchen" },
		{ type: "webrtc_offer", offer: { type: "offer", sdp: "v=0" } },
	]);
	socket.tell("webrtc_answer", { answer: { type: "answer", sdp: "v=0" } });
	peer.becomes("connected");
	socket.list({ ...kitchen, paused: true });
	assert.equal(sender.state, "connecting");
	socket.list(kitchen);
	assert.deepEqual(states, ["asking", "connecting", "live"]);
});

test("without a name the stream has the connection's", async () => {
	sender.name = "";
	await sender.start();
	assert.deepEqual(socket.sent, [{ type: "start_sending" }]);
	socket.tell("sender_ready", { connection_id: "7" });
	assert.equal(sender.streamId, "stream_7");
});

test("its own stream is known by its name until it has an address, and then by that", async () => {
	assert.equal(sender.owns(kitchen), false);
	await sender.start();
	assert.equal(sender.owns(kitchen), true);
	socket.tell("sender_ready", { connection_id: "1", stream_id: "stream_2" });
	assert.equal(sender.owns(kitchen), false);
	assert.equal(sender.owns({ stream_id: "stream_2", name: "any" }), true);
});

test("stopping releases the microphone and says so to the server", async () => {
	const peer = await goLive();
	const [track] = sender.media.getTracks();
	socket.takeSent();
	sender.stop();
	assert.deepEqual(socket.takeSent(), ["stop_stream"]);
	assert.deepEqual([sender.state, sender.media, track.stopped, peer.connectionState], ["idle", null, true, "closed"]);
});

test("a microphone that comes after the stop is released", async () => {
	const track = new FakeTrack();
	let grant;
	mediaDevices.getUserMedia = () => new Promise((resolve) => (grant = resolve));
	const started = sender.start();
	sender.stop();
	grant(new FakeMedia([track]));
	await started;
	assert.deepEqual([sender.state, sender.media, track.stopped], ["idle", null, true]);
});

test("why a microphone does not open has a code", async () => {
	const codes = {
		NotAllowedError: "denied",
		NotFoundError: "no-microphone",
		NotReadableError: "busy",
		TypeError: "microphone",
	};
	for (const [name, code] of Object.entries(codes)) {
		mediaDevices.getUserMedia = async () => {
			throw new DOMException("no", name);
		};
		await sender.start();
		assert.deepEqual([sender.state, sender.problem.code], ["idle", code]);
	}
	navigator.mediaDevices = undefined;
	await sender.start();
	assert.equal(sender.problem.code, "insecure");
});

test("a chosen microphone that is gone gives way to the system's", async () => {
	const asked = [];
	mediaDevices.getUserMedia = async ({ audio }) => {
		asked.push(audio.deviceId);
		if (audio.deviceId) throw new DOMException("gone", "OverconstrainedError");
		return new FakeMedia([new FakeTrack()]);
	};
	sender.settings = { deviceId: "usb" };
	await sender.start();
	assert.deepEqual(asked, [{ exact: "usb" }, undefined]);
	assert.equal(sender.state, "connecting");
});

test("muting keeps the stream and silences the microphone, the next one too", async () => {
	await goLive();
	sender.muted = true;
	assert.equal(sender.media.getTracks()[0].enabled, false);
	await sender.change({ echoCancellation: false });
	assert.equal(sender.media.getTracks()[0].enabled, false);
	assert.equal(sender.state, "live");
});

test("a change of the microphone takes effect while live, and the old one is released", async () => {
	const peer = await goLive();
	const [old] = sender.media.getTracks();
	assert.equal(await sender.change({ noiseSuppression: false }), null);
	assert.notEqual(sender.media.getTracks()[0], old);
	assert.equal(peer.getSenders()[0].track, sender.media.getTracks()[0]);
	assert.equal(old.stopped, true);
	assert.deepEqual(sender.settings, { noiseSuppression: false });
});

test("a change that fails leaves the microphone in use, and the settings as they were", async () => {
	await goLive();
	const { media } = sender;
	mediaDevices.getUserMedia = async () => {
		throw new DOMException("busy", "NotReadableError");
	};
	assert.equal((await sender.change({ deviceId: "other" })).code, "busy");
	assert.deepEqual([sender.media, sender.settings, sender.state], [media, {}, "live"]);
});

test("a microphone that the connection does not take is released", async () => {
	const peer = await goLive();
	const { media } = sender;
	const track = new FakeTrack();
	mediaDevices.getUserMedia = async () => new FakeMedia([track]);
	peer.getSenders()[0].replaceTrack = async () => {
		throw new DOMException("other kind", "InvalidModificationError");
	};
	assert.equal((await sender.change({})).code, "microphone");
	assert.deepEqual([track.stopped, sender.media, media.getTracks()[0].stopped], [true, media, false]);
});

test("a connection that closes during a change is no fault of the microphone", async () => {
	const peer = await goLive();
	const { replaceTrack } = peer.getSenders()[0];
	peer.getSenders()[0].replaceTrack = (track) => {
		socket.tell("error", { code: "connection_lost" });
		return replaceTrack(track);
	};
	await sender.media.getTracks()[0].onended();
	assert.equal(sender.state, "reconnecting");
	assert.equal(sender.media.getTracks()[0].stopped, false);
});

test("a connection that is made during a change gets the new microphone", async () => {
	const peer = await goLive();
	peer.getSenders()[0].replaceTrack = async () => {
		socket.enter("waiting", { code: "lost" });
		socket.enter("open");
		socket.tell("sender_ready", { connection_id: "2", stream_id: "stream_kitchen" });
	};
	assert.equal(await sender.change({}), null);
	const [track] = sender.media.getTracks();
	assert.notEqual(FakePeer.last, peer);
	assert.equal(FakePeer.last.getSenders()[0].track, track);
	assert.equal(track.stopped, false);
});

test("a microphone that is unplugged is replaced, or ends the stream", async () => {
	await goLive();
	const first = sender.media.getTracks()[0];
	await first.onended();
	assert.equal(sender.state, "live");
	mediaDevices.getUserMedia = async () => {
		throw new DOMException("none", "NotFoundError");
	};
	await sender.media.getTracks()[0].onended();
	assert.deepEqual([sender.state, sender.problem.code], ["idle", "unplugged"]);
});

test("without media in time it tries again, with a connection of its own", async () => {
	const first = await offer();
	mock.timers.tick(MEDIA_TIMEOUT_MS);
	assert.deepEqual([sender.state, sender.problem.code, first.connectionState], ["reconnecting", "no-media", "closed"]);
	mock.timers.tick(FIRST_RETRY_MS);
	assert.equal(sender.state, "connecting");
});

test("a connection that heals within three seconds is kept", async () => {
	const peer = await goLive();
	peer.becomes("disconnected");
	mock.timers.tick(GRACE_MS - 1);
	peer.becomes("connected");
	mock.timers.tick(GRACE_MS);
	assert.equal(sender.state, "live");
	peer.becomes("disconnected");
	mock.timers.tick(GRACE_MS);
	assert.deepEqual([sender.state, sender.problem.code], ["reconnecting", "lost"]);
});

test("what is under way begins again with the socket, and keeps the microphone open meanwhile", async () => {
	await offer();
	socket.enter("waiting", { code: "unreachable" });
	assert.deepEqual([sender.state, sender.problem.code], ["reconnecting", "unreachable"]);
	assert.equal(sender.media.getTracks()[0].stopped, false);
	socket.takeSent();
	socket.enter("open");
	assert.equal(sender.state, "connecting");
	assert.deepEqual(socket.takeSent(), ["start_sending"]);
});

test("while live, the voice goes on without a socket, until the next one's connection carries it", async () => {
	const first = await goLive();
	socket.enter("waiting", { code: "lost" });
	socket.list();
	assert.deepEqual([sender.state, first.connectionState], ["live", "connected"]);
	socket.takeSent();
	socket.enter("open");
	socket.tell("sender_ready", { connection_id: "2", stream_id: "stream_kitchen" });
	await settled();
	assert.deepEqual(socket.takeSent().slice(0, 2), ["start_sending", "webrtc_offer"]);
	assert.equal(first.connectionState, "connected");
	socket.tell("webrtc_answer", { answer: { type: "answer", sdp: "v=0" } });
	FakePeer.last.becomes("connected");
	assert.deepEqual([sender.state, first.connectionState, FakePeer.last.connectionState], ["live", "closed", "connected"]);
	mock.timers.tick(MEDIA_TIMEOUT_MS);
	assert.equal(sender.state, "live");
	assert.deepEqual(states, ["asking", "connecting", "live"]);
});

test("a voice without a socket that breaks is lost, and so is one whose next connection does not come", async () => {
	const first = await goLive();
	socket.enter("waiting", { code: "lost" });
	first.becomes("failed");
	assert.equal(sender.state, "reconnecting");
	sender.stop();
	socket.enter("open");
	await goLive();
	socket.enter("waiting", { code: "lost" });
	socket.enter("open");
	socket.tell("sender_ready", { connection_id: "2", stream_id: "stream_kitchen" });
	mock.timers.tick(MEDIA_TIMEOUT_MS);
	assert.deepEqual([sender.state, sender.problem.code], ["reconnecting", "no-media"]);
});

test("a socket that is closed on purpose ends the voice", async () => {
	const peer = await goLive();
	socket.enter("closed");
	assert.deepEqual([sender.state, peer.connectionState], ["reconnecting", "closed"]);
});

test("a changed network restarts ICE of the same connection", async () => {
	const peer = await goLive();
	socket.takeSent();
	page.dispatchEvent(new Event("online"));
	await settled();
	assert.equal(peer.restarts, 1);
	assert.deepEqual(socket.takeSent(), ["webrtc_offer"]);
	socket.tell("webrtc_answer", { answer: { type: "answer", sdp: "v=0" } });
	for (const lost of ["disconnected", "failed"]) {
		peer.becomes(lost);
		await settled();
		assert.deepEqual([socket.takeSent(), sender.state], [["webrtc_offer"], "live"]);
		socket.tell("webrtc_answer", { answer: { type: "answer", sdp: "v=0" } });
		peer.becomes("connected");
	}
	mock.timers.tick(GRACE_MS);
	assert.deepEqual([sender.state, FakePeer.made.length], ["live", 1]);
	peer.becomes("failed");
	mock.timers.tick(GRACE_MS);
	assert.equal(sender.state, "reconnecting");
});

test("its key is brought each time it comes back, also to the next page of the tab, and to no copy of the tab", async () => {
	const asked = () => socket.sent.findLast(({ type }) => type === "start_sending");
	await sender.start();
	assert.equal("resume" in asked(), false);
	for (const key of ["first", "second"]) {
		socket.tell("sender_ready", { connection_id: "1", stream_id: "stream_kitchen", resume: key });
		socket.enter("waiting", { code: "lost" });
		socket.enter("open");
		assert.equal(asked().resume, key);
	}
	assert.deepEqual(sessionStorage, {});
	page.dispatchEvent(new Event("pagehide"));
	sender = new VoiceSender(socket);
	sender.name = "kitchen";
	await sender.start();
	assert.equal(asked().resume, "second");
	assert.deepEqual(sessionStorage, {});
	sender.stop();
	sender.name = "attic";
	await sender.start();
	assert.equal("resume" in asked(), false);
});

test("a name that is taken may be taken over, once, and is kept where the server says no to that", async () => {
	await sender.start();
	socket.tell("error", { code: "name_taken", message: "in use" });
	assert.deepEqual([sender.state, sender.problem.code, sender.media], ["idle", "name_taken", null]);
	await sender.start({ takeOver: true });
	assert.deepEqual(socket.sent.at(-1), { type: "start_sending", name: "Kitchen", take_over: true });
	socket.tell("error", { code: "name_taken", message: "in use" });
	assert.deepEqual([sender.state, sender.problem.code], ["idle", "name_kept"]);
	await sender.start({ takeOver: true });
	socket.tell("sender_ready", { connection_id: "1", stream_id: "stream_kitchen" });
	socket.enter("waiting", { code: "lost" });
	socket.enter("open");
	assert.equal("take_over" in socket.sent.at(-1), false);
});

test("a name that was lost while the socket was gone is asked about", async () => {
	const peer = await goLive();
	socket.enter("waiting", { code: "lost" });
	socket.enter("open");
	socket.tell("error", { code: "name_taken", message: "in use" });
	assert.deepEqual([sender.state, sender.problem.code, peer.connectionState], ["idle", "name_taken", "closed"]);
});

test("a stream that the server ends comes back, unless somebody took its name or nobody listened", async () => {
	for (const [reason, state, code] of [
		["connection lost", "reconnecting", "lost"],
		["the server is stopping", "reconnecting", "stopping"],
		["replaced by another sender", "idle", "replaced"],
		["idle for too long", "idle", "idle"],
	]) {
		sender.stop();
		await goLive();
		socket.tell("stream_ended", { stream_id: "stream_other", reason });
		assert.equal(sender.state, "live");
		socket.tell("stream_ended", { stream_id: "stream_kitchen", reason });
		assert.deepEqual([sender.state, sender.problem.code], [state, code]);
	}
});

test("an offer that the server refuses ends it with the server's words", async () => {
	await offer();
	socket.tell("error", { code: "full", message: "100 streams" });
	assert.deepEqual([sender.state, sender.problem], ["idle", { code: "full", message: "100 streams" }]);
});
