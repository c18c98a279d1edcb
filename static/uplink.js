/** The connection that carries a voice, and its successor until that does. */
export class Uplink {
	/** The newest. @type {RTCPeerConnection | null} */
	peer = null;
	/** Whether the voice goes on although its socket is gone, or the successor not yet connected. */
	renews = false;
	/** The one before, while there are two. @type {RTCPeerConnection | null} */
	#outgoing = null;

	get carries() {
		return (this.#outgoing ?? this.peer)?.connectionState === "connected";
	}

	/** @param {RTCPeerConnection} peer */
	add(peer) {
		if (this.renews) this.#outgoing = this.peer;
		this.peer = peer;
	}

	/** Back to the connection that carries the voice, until the next one is added. */
	renew() {
		this.renews = true;
		if (!this.#outgoing) return;
		this.peer?.close();
		this.peer = this.#outgoing;
		this.#outgoing = null;
	}

	/** The successor carries the voice. @returns {boolean} false if it is the old one that is connected again */
	endRenewal() {
		if (!this.#outgoing) return false;
		this.#outgoing.close();
		this.#outgoing = null;
		this.renews = false;
		return true;
	}

	/** @param {MediaStreamTrack | null} track what is sent from now on; null: no packets */
	feed(track) {
		const fed = [this.peer, this.#outgoing].map((peer) => peer?.getSenders()[0]?.replaceTrack(track));
		Promise.all(fed).catch(() => {}); // closed meanwhile: its successor is fed when it is made
	}

	close() {
		this.peer?.close();
		this.#outgoing?.close();
		this.peer = this.#outgoing = null;
		this.renews = false;
	}
}
