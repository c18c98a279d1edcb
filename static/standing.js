import { byId, show } from "./page.js";
import { EVERYONE, RoomList, isRoom, roomName } from "./rooms.js";
import { isSameStream } from "./voice-client.js";
import { isolate, quietText, words } from "./words.js";

/** @import { VoiceReceiver } from "./voice-receiver.js" */
/** @import { VoiceSocket } from "./voice-socket.js" */

/** The room that the listen page stands in: which ones there are, and that nobody is to be disturbed. */
export class Standing {
	#list;
	#socket;
	#receiver;
	#wanted;
	#timer = 0;
	/** @type {HTMLSelectElement} */
	#quiet = byId("quiet");
	/** Until when this receiver hears urgent voices only, in Unix milliseconds. */
	#untilMs = 0;
	/** The room for which this page asked that. */
	#hushedRoom = "";

	/** @param {VoiceSocket} socket @param {VoiceReceiver} receiver @param {() => string} wanted @param {() => void} changed */
	constructor(socket, receiver, wanted, changed) {
		this.#socket = socket;
		this.#receiver = receiver;
		this.#wanted = wanted;
		this.#list = new RoomList(socket, changed);
		this.#quiet.onchange = byId("quiet-room").onchange = () => this.#setQuiet();
	}

	/** The id as the server writes it. @param {string} id */
	idOf(id) {
		return [EVERYONE, ...this.#list.named.map(({ room }) => room)].find((room) => isSameStream(room, id)) ?? id;
	}

	/** For the choice: all voices, and each room. @param {string} wanted is among them @returns {HTMLElement[]} */
	options(wanted) {
		const named = this.#list.named;
		const known = [EVERYONE, ...named.map(({ room }) => room)];
		if (isRoom(wanted) && this.idOf(wanted) === wanted && !known.includes(wanted)) known.push(wanted);
		if (!this.#list.get(EVERYONE) && known.length === 1 && !isRoom(wanted)) return [];
		const group = document.createElement("optgroup");
		group.label = words.rooms;
		group.append(
			...known.map((id) => new Option(id === EVERYONE ? words.allVoices : isolate(roomName(id)), id)),
		);
		return [group];
	}

	describe() {
		const wanted = this.idOf(this.#wanted());
		byId("quiet-settings").hidden = !isRoom(wanted);
		const untilS = Math.max(this.#untilMs / 1000, this.#list.get(wanted)?.quiet_until ?? 0);
		show("quiet-state", isRoom(wanted) && untilS * 1000 > Date.now() ? quietText(untilS) : "");
	}

	/** For this receiver, or for its room. */
	#setQuiet() {
		const minutes = Number(this.#quiet.value);
		const untilMs = minutes ? Date.now() + minutes * 60_000 : 0;
		const forRoom = byId("quiet-room").checked;
		const room = this.idOf(this.#wanted());
		const until = forRoom && untilMs ? untilMs / 1000 : null;
		if (this.#hushedRoom && (this.#hushedRoom !== room || !until)) this.#setRoom(this.#hushedRoom, null);
		if (until) this.#setRoom(room, until);
		this.#hush(forRoom ? 0 : untilMs);
	}

	/** @param {string} room @param {number | null} until Unix seconds */
	#setRoom(room, until) {
		this.#hushedRoom = until ? room : "";
		this.#socket.send({ type: "set_do_not_disturb", room, until });
	}

	/** @param {number} untilMs */
	#hush(untilMs) {
		clearTimeout(this.#timer);
		this.#untilMs = untilMs;
		this.#receiver.quiet = untilMs > 0;
		if (untilMs) {
			this.#timer = setTimeout(() => {
				this.#quiet.value = "0";
				this.#hush(0);
			}, untilMs - Date.now());
		}
		if (this.#receiver.state !== "idle") this.#receiver.listen(this.#receiver.chosen);
		this.describe();
	}
}
