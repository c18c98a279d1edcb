/** @import { VoiceSocket } from "./voice-socket.js" */

/**
 * @typedef {{room: string, name: string, receivers: number, listeners: number, quiet_receivers: number,
 *   quiet_until: number | null, exclusive: boolean, voices: {stream_id: string, name: string}[]}} Room
 */

const PREFIX = "room:";
/** The room of voices that are for no room in particular; case does not count in ids. */
export const EVERYONE = "room:everyone";

/** Whether an id is a room's: names of streams hold no colon. @param {string | null} id */
export const isRoom = (id) => id?.startsWith(PREFIX) ?? false;

/** @param {string} id of a room */
export const roomName = (id) => id.slice(PREFIX.length);

/** Whether the name is one of these: case does not count. @param {readonly string[]} names @param {string} name */
export const hasRoom = (names, name) => names.some((one) => one.toLowerCase() === name.toLowerCase());

/** The rooms that the server tells of, for as long as the socket is there. */
export class RoomList {
	/** By id, in small letters. @type {Map<string, Room>} */
	#rooms = new Map();

	/** @param {VoiceSocket} socket @param {() => void} changed */
	constructor(socket, changed) {
		socket.on("state", () => socket.send({ type: "subscribe_rooms" }));
		socket.on("rooms", ({ rooms }) => {
			this.#rooms = new Map(rooms.map((/** @type {Room} */ room) => [room.room.toLowerCase(), room]));
			changed();
		});
		socket.on("room_changed", ({ room }) => {
			this.#rooms.set(room.room.toLowerCase(), room);
			changed();
		});
		socket.on("room_forgotten", ({ room }) => {
			this.#rooms.delete(room.toLowerCase());
			changed();
		});
	}

	/** @param {string | null} id */
	get(id) {
		return id ? this.#rooms.get(id.toLowerCase()) : undefined;
	}

	/** All but everyone's, by name. @returns {Room[]} */
	get named() {
		const named = [...this.#rooms].filter(([id]) => id !== EVERYONE).map(([, room]) => room);
		return named.sort((one, other) => one.name.localeCompare(other.name));
	}
}
