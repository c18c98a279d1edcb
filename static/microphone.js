/** @import { Problem } from "./voice-socket.js" */
/** @typedef {Omit<MediaTrackConstraints, "deviceId"> & {deviceId?: string}} MicrophoneSettings */

/** Chromium heeds an exact wish only. @param {MicrophoneSettings} settings */
export async function openMicrophone({ deviceId, ...audio }) {
	if (!navigator.mediaDevices) throw new DOMException("not a secure page", "SecurityError");
	/** @param {MediaTrackConstraints} [wish] */
	const open = (wish) => navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...audio, ...wish } });
	return open(deviceId ? { deviceId: { exact: deviceId } } : {}).catch((error) => {
		if (error.name !== "OverconstrainedError") throw error;
		return open(); // it is gone
	});
}

/** @param {MediaStream | null} media */
export const release = (media) => media?.getTracks().forEach((track) => track.stop());

/** @param {unknown} error @returns {Problem} */
export function microphoneProblem(error) {
	const { name, message } = error instanceof Error ? error : new Error(String(error));
	/** @type {Record<string, string>} */
	const codes = {
		SecurityError: "insecure",
		NotAllowedError: "denied",
		NotFoundError: "no-microphone",
		NotReadableError: "busy",
		AbortError: "busy",
	};
	return { code: codes[name] ?? "microphone", message };
}
