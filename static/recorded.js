import { beep } from "./beep.js";
import { show } from "./page.js";
import { words } from "./words.js";

/** Says on the page that a voice is recorded, with a tone at its begin where the server's settings say so.
 *  @param {import("./voice-socket.js").VoiceSocket} socket
 *  @param {() => boolean} isRecorded whether the voice of this page is */
export function sayWhatIsRecorded(socket, isRecorded) {
	let before = false;
	let withTone = false;
	socket.on("health", ({ recording }) => (withTone = recording?.cue === true));
	socket.on("streams", () => {
		const now = isRecorded();
		if (now && !before && withTone) beep();
		before = now;
		show("recorded", now ? words.recorded : "");
	});
}
