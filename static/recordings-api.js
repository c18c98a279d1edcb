/**
 * @typedef {{id: string, stream: string, talker: string, started_at: string, seconds: number, bytes: number,
 *   state: "recording" | "finished", rooms: string[]}} Recording
 */

/** What the server refused, in its words. */
export class RefusedError extends Error {}

/** `/api/recordings`. */
export class RecordingsApi {
	#address;

	/** @param {(path: string) => string} address of a path on the server, with the token */
	constructor(address) {
		this.#address = address;
	}

	/** The newest that have this in their name, and the cursor of those that follow.
	 *  @param {string} stream @param {string | null} [cursor] @returns {Promise<{recordings: Recording[], cursor: string | null}>} */
	list(stream, cursor) {
		const query = new URLSearchParams({ stream, ...(cursor ? { cursor } : {}) });
		return this.#ask("GET", `?${query}`);
	}

	/** @param {string} stream @returns {Promise<Recording>} */
	start(stream) {
		return this.#ask("POST", "", { body: JSON.stringify({ stream }) });
	}

	/** @param {string} id @returns {Promise<Recording>} */
	stop(id) {
		return this.#ask("POST", `/${id}/stop`);
	}

	/** @param {string} id @returns {Promise<{seconds: number, peaks: number[]}>} */
	peaks(id) {
		return this.#ask("GET", `/${id}/peaks`);
	}

	/** Also when the page is being left. @param {string} id */
	remove(id) {
		return this.#ask("DELETE", `/${id}`, { keepalive: true });
	}

	/** @param {string} id @param {"opus" | "mp3"} ending @param {boolean} [download] */
	sound(id, ending, download = false) {
		return this.#address(`api/recordings/${id}.${ending}${download ? "?download=1" : ""}`);
	}

	/** @param {string} method @param {string} path @param {RequestInit} [more] @returns {Promise<any>} */
	async #ask(method, path, more) {
		const reply = await fetch(this.#address(`api/recordings${path}`), { method, ...more });
		if (reply.ok) return reply.status === 204 ? null : reply.json();
		const text = await reply.text();
		let said = text;
		try {
			said = JSON.parse(text).detail ?? text;
		} catch {
			// Plain text says it as well.
		}
		throw new RefusedError(said.trim());
	}
}
