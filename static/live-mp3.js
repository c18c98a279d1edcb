/** How often to ask how late it is. */
const ASK_MS = 2_000;
/** When it is so much later than at first, it starts anew. */
const MOST_GROWTH_S = 2;

/** Plays an MP3 without an end in an element, and never late: after a pause, a stall, or whatever else made it so, it
 *  starts anew. */
export class LiveMp3 {
	/** How late it is what is heard now, as the server tells; null until it does. @type {number | null} */
	behindS = null;
	/** @type {number | null} */
	#firstS = null;
	#audio;
	#address = "";
	/** What the server knows this player by; a new one whenever it starts. */
	#id = "";
	#timer = 0;

	/** @param {HTMLAudioElement} audio */
	constructor(audio) {
		this.#audio = audio;
	}

	/** From now on, live. @param {string} [address] of the MP3; the same one again if left out */
	async play(address = this.#address) {
		this.stop();
		this.#address = address;
		this.#id = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
		this.#timer = setInterval(() => this.#measure(), ASK_MS);
		this.#audio.src = this.#of(".", { listener: this.#id });
		await this.#audio.play();
	}

	stop() {
		clearInterval(this.#timer);
		this.#id = "";
		this.#firstS = this.behindS = null;
	}

	/** @param {"." | "position"} path "." is the MP3 itself @param {Record<string, string>} query */
	#of(path, query) {
		const url = new URL(this.#address, import.meta.url);
		if (path === "position") url.pathname = url.pathname.replace(/[^/]*$/, path);
		for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
		return url.href;
	}

	async #measure() {
		const { currentTime, paused } = this.#audio;
		const id = this.#id;
		if (!currentTime || paused) return;
		const reply = await fetch(this.#of("position", { listener: id, played: currentTime.toFixed(3) })).catch(() => null);
		if (!reply?.ok || id !== this.#id) return;
		const lateS = Number((await reply.json()).behind_s);
		if (id !== this.#id) return;
		this.behindS = lateS;
		this.#firstS ??= lateS;
		if (lateS > this.#firstS + MOST_GROWTH_S) this.play().catch(() => {}); // the element tells what went wrong
	}
}
