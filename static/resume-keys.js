const STORED = "voice.resume";

/** The keys with which this tab goes on with its streams, by name. The storage has them only from one page of the tab
 *  to the next: a tab that is duplicated gets a copy of the storage, and must not get the names with it. */
export class ResumeKeys {
	/** @type {Map<string, string>} */
	#keys = new Map();

	constructor() {
		this.#take();
		addEventListener("pagehide", () => this.#keep());
		addEventListener("pageshow", () => this.#take()); // back from the browser's cache of pages
	}

	/** @param {string} name which counts without its case, as streams do */
	get(name) {
		return this.#keys.get(name.toLowerCase());
	}

	/** @param {string} name @param {string} key */
	set(name, key) {
		this.#keys.set(name.toLowerCase(), key);
	}

	#keep() {
		try {
			sessionStorage[STORED] = JSON.stringify([...this.#keys]);
		} catch {
			// A browser that keeps nothing: the next page asks before it takes the name over.
		}
	}

	#take() {
		try {
			const stored = JSON.parse(sessionStorage[STORED] ?? "[]");
			delete sessionStorage[STORED];
			for (const [name, key] of stored) this.#keys.set(name, key);
		} catch {
			// The same, or something else that was stored under our name.
		}
	}
}
