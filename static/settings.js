/** What this browser keeps of the visitor's choices, from visit to visit. */

/** A setting of an earlier visit. @param {string} key @param {any} fallback */
export function recall(key, fallback) {
	try {
		return JSON.parse(localStorage[`voice.${key}`]);
	} catch {
		return fallback; // none yet, or a browser that keeps none
	}
}

/** @param {string} key @param {string | number | boolean | string[]} value */
export function remember(key, value) {
	try {
		localStorage[`voice.${key}`] = JSON.stringify(value);
	} catch {
		// A private window may refuse; this page then forgets.
	}
}

/** A choice that the server has to know, as it makes the pages: a cookie, for this server's pages alone.
 *  @param {string} key @param {string} value of letters @returns {boolean} whether this browser keeps it */
export function rememberForServer(key, value) {
	const cookie = `voice.${key}=${value}`;
	const { pathname } = new URL("../", import.meta.url);
	document.cookie = `${cookie}; path=${pathname}; max-age=31536000; samesite=lax`;
	return document.cookie.split("; ").includes(cookie);
}
