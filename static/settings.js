/** What this browser keeps of the visitor's choices, from visit to visit. */

/** A setting of an earlier visit. @param {string} key @param {any} fallback */
export function recall(key, fallback) {
	try {
		return JSON.parse(localStorage[`voice.${key}`]);
	} catch {
		return fallback; // none yet, or a browser that keeps none
	}
}

/** @param {string} key @param {string | number | boolean} value */
export function remember(key, value) {
	try {
		localStorage[`voice.${key}`] = JSON.stringify(value);
	} catch {
		// A private window may refuse; this page then forgets.
	}
}
