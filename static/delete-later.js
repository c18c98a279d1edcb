/** Deletes some seconds after it is told to, unless that is undone: one at a time. */
export class DeleteLater {
	/** @type {{id: string, timer: number} | null} */
	#waiting = null;
	#remove;
	#delayMs;

	/** @param {(id: string) => void} remove @param {number} delayMs */
	constructor(remove, delayMs) {
		this.#remove = remove;
		this.#delayMs = delayMs;
	}

	/** Whoever waits already is deleted at once. @param {string} id */
	add(id) {
		this.flush();
		this.#waiting = { id, timer: setTimeout(() => this.flush(), this.#delayMs) };
	}

	/** @returns {string | null} whose deletion was undone */
	undo() {
		const waiting = this.#waiting;
		if (waiting) clearTimeout(waiting.timer);
		this.#waiting = null;
		return waiting && waiting.id;
	}

	/** Deletes now what waits: the page is being left. */
	flush() {
		const id = this.undo();
		if (id) this.#remove(id);
	}
}
