/** Calls back when the device is on another network, or on one again, or this tab goes on after it was frozen. @param {() => void} listener */
export function onNetworkChange(listener) {
	addEventListener("online", listener);
	document.addEventListener("resume", listener);
	/** @type {any} not in every browser */
	const { connection } = navigator;
	let type = connection?.type;
	connection?.addEventListener("change", () => {
		if (type === connection.type) return; // only its estimates of speed
		type = connection.type;
		listener();
	});
}
