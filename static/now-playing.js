/** @import { VoiceReceiver } from "./voice-receiver.js" */
/** @import { VoiceSocket } from "./voice-socket.js" */

import { isolate } from "./words.js";

/** The page's title, and the device's own controls where it has some, say what plays; those also start and stop it.
 *  @param {VoiceSocket} socket @param {VoiceReceiver} receiver @param {() => void} toggle starts or stops it */
export function sayWhatPlays(socket, receiver, toggle) {
	const { title } = document;
	const { mediaSession } = navigator;
	const say = () => {
		const { state, stream, streamId } = receiver;
		const name = state === "playing" ? (stream?.name ?? streamId) : null;
		document.title = name ? `${isolate(name)} · Voice` : title;
		if (!mediaSession) return;
		mediaSession.metadata = name ? new MediaMetadata({ title: name, artist: "Voice" }) : null;
		mediaSession.playbackState = state === "idle" ? "none" : name ? "playing" : "paused";
	};
	receiver.on("state", say);
	socket.on("streams", say);
	/** @type {MediaSessionAction[]} */
	const actions = ["play", "pause", "stop"];
	for (const action of actions) {
		mediaSession?.setActionHandler(action, () => {
			const idle = receiver.state === "idle" || receiver.state === "blocked";
			if (idle === (action === "play")) toggle();
		});
	}
}
