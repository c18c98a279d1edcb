import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { EVERYONE, RoomList, hasRoom, isRoom, roomName } from "../../static/rooms.js";
import { roomFacts, whomText } from "../../static/words.js";
import { FakeSocket } from "./fakes.js";

const empty = { receivers: 0, listeners: 0, quiet_receivers: 0, quiet_until: null, exclusive: false, voices: [] };
const everyone = { ...empty, room: "room:Everyone", name: "Everyone" };
const kitchen = { ...empty, room: "room:Kitchen", name: "Kitchen" };
const attic = { ...empty, room: "room:Attic", name: "Attic" };

let socket, list, changes;

beforeEach(() => {
	socket = new FakeSocket();
	changes = 0;
	list = new RoomList(socket, () => changes++);
});

test("rooms have ids that no stream has", () => {
	assert.ok(isRoom("room:Kitchen"));
	assert.ok(!isRoom("Kitchen"));
	assert.ok(!isRoom(null));
	assert.equal(roomName("room:Kitchen"), "Kitchen");
	assert.ok(hasRoom(["Kitchen"], "kitchen"));
	assert.ok(!hasRoom(["Kitchen"], "Attic"));
});

test("the list follows what the server tells, by name and without everyone", () => {
	socket.tell("rooms", { rooms: [everyone, kitchen, attic] });
	assert.deepEqual(list.named.map(({ name }) => name), ["Attic", "Kitchen"]);
	assert.equal(list.get(EVERYONE), everyone);
	assert.equal(list.get("room:KITCHEN"), kitchen);
	socket.tell("room_changed", { room: { ...kitchen, receivers: 2 } });
	assert.equal(list.get("room:Kitchen").receivers, 2);
	socket.tell("room_forgotten", { room: "room:Attic" });
	assert.deepEqual(list.named.map(({ name }) => name), ["Kitchen"]);
	assert.equal(changes, 3);
	socket.tell("rooms", { rooms: [everyone] });
	assert.deepEqual(list.named, []);
});

test("a room says who is there, who talks, and that nobody is to be disturbed", () => {
	assert.equal(roomFacts(kitchen, []), "nobody is there");
	assert.equal(roomFacts({ ...kitchen, receivers: 2, listeners: 1 }, []), "2 receivers, 1 MP3 listener");
	const talk = roomFacts({ ...kitchen, receivers: 1, exclusive: true }, [{ name: "attic" }, { name: "garage" }]);
	assert.equal(talk, "1 receiver · “attic” and “garage” are talking · one at a time");
	assert.match(roomFacts({ ...kitchen, quiet_until: 1, quiet_receivers: 3 }, []), /^nobody is there · do not disturb until /);
	assert.match(roomFacts({ ...kitchen, receivers: 3, quiet_receivers: 3 }, []), /3 do not want to be disturbed$/);
});

test("the round button says whom it talks to", () => {
	assert.equal(whomText([], false), "The round button talks to everyone");
	assert.equal(whomText(["Kitchen", "Attic"], false), "The round button talks to Kitchen and Attic alone");
	assert.equal(whomText(["Kitchen"], true), "Only for Kitchen");
	assert.equal(whomText([], true), "");
});
