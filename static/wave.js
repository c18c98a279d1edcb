/** The lines of a waveform, for a `path` in a box of `peaks.length` by 100.
 *  @param {readonly number[]} peaks 0 to 100 @returns {string} */
export function wavePath(peaks) {
	const lines = peaks.map((peak, index) => {
		const half = Math.max(1, peak / 2);
		return `M${index + 0.5} ${50 - half}V${50 + half}`;
	});
	return lines.join("");
}

/** @param {SVGElement} picture @param {readonly number[]} peaks */
export function drawWave(picture, peaks) {
	picture.setAttribute("viewBox", `0 0 ${Math.max(1, peaks.length)} 100`);
	for (const path of picture.querySelectorAll("path")) path.setAttribute("d", wavePath(peaks));
}
