import { label, write } from "./copy.js";
import { byId, show } from "./page.js";
import { listenToButton } from "./presses.js";
import { PushToTalk } from "./push-to-talk.js";
import { RoomList, hasRoom } from "./rooms.js";
import { recall, remember } from "./settings.js";
import { roomFacts, whomText, words } from "./words.js";

/** @import { Room } from "./rooms.js" */
/** @import { VoiceSender } from "./voice-sender.js" */
/** @import { VoiceSocket } from "./voice-socket.js" */

/**
 * The rooms of the talk page: each has a button that talks to it alone, and a box that has the round button talk to it.
 * Nothing is shown where there are no rooms.
 */
export class TalkRooms {
	#list;
	#sender;
	/** Starts the voice, as a press of the round button does. @type {() => boolean} */
	#start;
	#chosenAnew;
	/** Names of those that the round button talks to. @type {string[]} */
	#chosen;
	/** By id. @type {Map<string, HTMLElement>} */
	#cards = new Map();
	#urgent = byId("urgent");

	/** @param {VoiceSocket} socket @param {VoiceSender} sender @param {() => boolean} start
	 *  @param {() => void} chosenAnew the round button talks to others than before */
	constructor(socket, sender, start, chosenAnew) {
		this.#sender = sender;
		this.#start = start;
		this.#chosenAnew = chosenAnew;
		const asked = new URL(location.href).searchParams.getAll("rooms").flatMap((names) => names.split(","));
		const names = asked.map((name) => name.trim()).filter(Boolean);
		this.#chosen = names.length ? names : recall("rooms", []);
		this.#list = new RoomList(socket, () => this.draw());
		this.#urgent.onchange = () => this.#confirmUrgent();
		sender.on("talking", () => this.draw());
		sender.on("state", () => this.draw());
	}

	/** The id of the room that somebody stands in who talks to it alone. */
	get toHear() {
		return this.#chosen.length === 1 ? `room:${this.#chosen[0]}` : null;
	}

	/** Before a press of the round button: whom it talks to. */
	aim() {
		this.#sender.rooms = this.#chosen;
		this.#sender.urgent = this.#urgent.checked;
	}

	draw() {
		const rooms = this.#list.named;
		byId("rooms").hidden = !rooms.length;
		for (const [id, card] of this.#cards) {
			if (rooms.some(({ room }) => room === id)) continue;
			card.remove();
			this.#cards.delete(id);
		}
		for (const room of rooms) this.#drawCard(this.#cards.get(room.room) ?? this.#newCard(room), room);
		const { talking } = this.#sender;
		const names = talking ? this.#sender.rooms : this.#chosen;
		show("whom", rooms.length || names.length ? whomText(names, talking) : "");
	}

	/** @param {Room} room @returns {HTMLElement} */
	#newCard({ room, name }) {
		const card = byId("room").content.firstElementChild.cloneNode(true);
		card.dataset.name = name;
		write(card.querySelector(".name"), name);
		const box = card.querySelector("input");
		box.checked = hasRoom(this.#chosen, name);
		box.onchange = () => this.#choose(name, box.checked);
		const presses = new PushToTalk(this.#sender, () => {
			this.aim();
			this.#sender.rooms = [name];
			return this.#start();
		});
		listenToButton(card.querySelector("button"), presses);
		byId("room-list").append(card);
		this.#cards.set(room, card);
		return card;
	}

	/** @param {HTMLElement} card @param {Room} room */
	#drawCard(card, room) {
		const { talking, rooms, stream } = this.#sender;
		const others = room.voices.filter(({ stream_id }) => stream_id !== stream?.stream_id);
		write(/** @type {HTMLElement} */ (card.querySelector(".facts")), roomFacts(room, others));
		const button = /** @type {HTMLButtonElement} */ (card.querySelector("button"));
		const isHeard = talking && hasRoom(rooms, room.name);
		button.disabled = byId("talk").disabled;
		button.dataset.state = isHeard ? "live" : "";
		label(button, isHeard ? words.stop : words.talk);
		card.dataset.quiet = room.quiet_until ? "yes" : "";
	}

	/** @param {string} name @param {boolean} isChosen */
	#choose(name, isChosen) {
		this.#chosen = this.#chosen.filter((one) => !hasRoom([one], name));
		if (isChosen) this.#chosen.push(name);
		remember("rooms", this.#chosen);
		this.draw();
		this.#chosenAnew();
	}

	/** Once: who is disturbed without need does not listen the next time. */
	#confirmUrgent() {
		if (!this.#urgent.checked || recall("urgentAsked", false)) return;
		this.#urgent.checked = confirm(words.urgentSure);
		remember("urgentAsked", this.#urgent.checked);
	}
}
