import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import {
	audience,
	cardText,
	connectionText,
	duration,
	heard,
	intercomText,
	keyText,
	listenLabel,
	newerText,
	othersText,
	problemText,
	receiverText,
	senderText,
	streamFacts,
	turnText,
	waitingText,
} from "../../static/words.js";

const kitchen = { stream_id: "stream_kitchen", name: "Kitchen" };
const ear = { stream: undefined, streamId: "x", stalled: false, audio: { volume: 1 } };

test("no problem has no words, and an unknown one those of the server", () => {
	assert.equal(problemText(null), "");
	const unknown = { code: "new", message: "the disk is full" };
	assert.equal(problemText(unknown), "The server says: the disk is full. Press to try again.");
	assert.equal(problemText({ code: "new" }), "The server says: new. Press to try again.");
});

test("each problem that the pages make by themselves has words of its own", () => {
	const modules = ["sender.js", "voice-socket.js", "microphone.js", "voice-sender.js", "voice-receiver.js"];
	const read = (name) => readFileSync(new URL(`../../static/${name}`, import.meta.url), "utf8");
	const sources = modules.map(read).join("");
	const codes = [...sources.matchAll(/\bcode: "([\w-]+)"/g)].map(([, code]) => code);
	const tables = [...sources.matchAll(/const codes = \{([^}]*)\}/g)];
	const mapped = tables.flatMap(([, table]) => table.match(/(?<=: ")[\w-]+/g));
	assert.ok(codes.includes("no-media") && mapped.includes("denied") && mapped.includes("full"));
	const unnamed = [...codes, ...mapped].filter((code) => problemText({ code }).startsWith("The server says"));
	assert.deepEqual(unnamed, []);
});

test("an audience is counted by kind", () => {
	assert.equal(audience(), "nobody listens yet");
	assert.equal(audience({ receivers: 1 }), "1 receiver");
	assert.equal(audience({ receivers: 2, listeners: 1 }), "2 receivers, 1 MP3 listener");
});

test("a stream says since when it is live, where the server tells", () => {
	const started_at = new Date(2024, 0, 1, 14, 5).getTime() / 1000;
	assert.match(streamFacts({ ...kitchen, started_at, receivers: 1 }), /^Since \d?\d:05( PM)? · 1 receiver$/);
	assert.equal(streamFacts({ ...kitchen, receivers: 1 }), "1 receiver");
});

test("a stream is called by its name, or by its id where it is not listed", () => {
	assert.equal(heard({ ...ear, stream: kitchen }), "You hear “Kitchen”");
	assert.equal(heard({ ...ear, streamId: "stream_kitchen" }), "You hear “stream_kitchen”");
});

test("a receiver that plays nothing that can be heard does not say that it is heard", () => {
	const plays = { ...ear, stream: kitchen };
	assert.equal(heard({ ...plays, stream: { ...kitchen, paused: true } }), "“Kitchen” is silent for now…");
	assert.equal(heard({ ...plays, stalled: true }), "No sound arrives from “Kitchen”. Does the network let UDP through?");
	assert.equal(heard({ ...plays, audio: { volume: 0 } }), "“Kitchen” plays at volume 0");
	assert.match(cardText("playing", null, true), /^No sound arrives/);
});

test("whoever takes over is named, and from whom", () => {
	assert.equal(turnText("Garage", "Kitchen"), "“Garage” talks now, after “Kitchen”");
});

test("the connection is on, coming or off", () => {
	assert.equal(connectionText("open"), "Connected");
	assert.equal(connectionText("connecting"), "Connecting…");
	for (const state of ["closed", "waiting", "locked"]) assert.equal(connectionText(state), "Offline");
});

test("whoever talks is told whether others hear it", () => {
	const live = { state: "live", muted: false, stream: kitchen, streamId: "x" };
	assert.equal(senderText(live), "Live as “Kitchen”");
	assert.equal(senderText({ ...live, stream: undefined }), "Live as “x”");
	assert.match(senderText({ ...live, stream: { ...kitchen, paused: true } }), /^Paused/);
	assert.equal(senderText({ ...live, muted: true }), "Muted – listeners hear silence");
	assert.equal(senderText({ ...live, state: "idle" }), "Off – nobody hears you");
});

test("a receiver that waits says for what, and whether a voice has ended", () => {
	const waiting = { ...ear, state: "waiting", chosen: null, stream: undefined, streamId: null };
	assert.equal(receiverText(waiting, null), "Waiting for the next voice…");
	assert.equal(receiverText(waiting, "a"), "The voice ended. Waiting for the next voice…");
	assert.equal(receiverText({ ...waiting, chosen: "a" }, "a"), "The voice ended. Waiting for “a”…");
	assert.equal(receiverText({ ...waiting, chosen: "b" }, "a"), "Waiting for “b”…");
});

test("a listen button says what a press does", () => {
	assert.equal(listenLabel("idle"), "Listen");
	assert.equal(listenLabel("blocked"), "Tap to hear");
	for (const state of ["waiting", "joining", "playing", "reconnecting"]) assert.equal(listenLabel(state), "Stop");
});

test("a card of the overview and the intercom say why nothing is heard", () => {
	const problem = { code: "lost" };
	assert.equal(cardText("idle", problem), "");
	assert.equal(cardText("playing", null), "You hear this voice.");
	assert.equal(cardText("reconnecting", problem), problemText(problem));
	const joining = { ...ear, state: "joining", problem: null };
	assert.equal(intercomText(joining), "Joining…");
	assert.equal(intercomText({ ...joining, state: "reconnecting", problem }), problemText(problem));
	assert.equal(intercomText({ ...joining, state: "waiting" }), "Nobody else is talking");
	assert.equal(intercomText({ ...joining, state: "idle", problem }), "");
});

test("the player's page tells a server that does not answer from one where nobody talks", () => {
	const headline = (live, pressed) => waitingText(live, pressed)[0];
	assert.deepEqual([undefined, false, true].map((live) => [headline(live, false), headline(live, true)]), [
		["The server does not answer", "The server does not answer"],
		["Nobody is talking yet", "Nobody is talking now"],
		["A voice is live", "Joining…"],
	]);
});

test("a duration has hours, minutes and seconds", () => {
	assert.equal(duration(0), "00:00:00");
	assert.equal(duration(3_723_999), "01:02:03");
});

test("a stream that has been live for days says so, and a clock that was set back is no day", () => {
	assert.equal(duration(25 * 3_600_000), "25:00:00");
	assert.equal(duration(123 * 3_600_000 + 59_000), "123:00:59");
	assert.equal(duration(-1), "00:00:00");
});

test("who else talks is told before one talks, and who is newer while one does", () => {
	const streams = ["garage", "attic", "hall", "barn", "shed"].map((name) => ({ stream_id: name, name }));
	assert.equal(othersText([]), "");
	assert.equal(othersText(streams.slice(0, 1)), "“garage” is talking");
	assert.equal(othersText(streams.slice(0, 2)), "“garage” and “attic” are talking");
	assert.equal(othersText(streams), "“hall”, “barn”, “shed”, and 2 more are talking");
	assert.equal(newerText(), "");
	assert.match(newerText(streams[0]), /^“garage” talks now: whoever follows the newest voice hears it instead$/);
});

test("a key is called by its code while one is chosen", () => {
	assert.deepEqual([keyText("", false), keyText("F13", false)], ["Choose…", "F13"]);
	assert.equal(keyText("F13", true), "Press the key now…");
});
