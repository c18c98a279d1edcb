const SECONDS = 0.12;

/** A soft and short tone, on this device alone. */
export function beep() {
	const context = new AudioContext();
	const tone = new OscillatorNode(context, { frequency: 880 });
	const volume = new GainNode(context, { gain: 0.08 });
	volume.gain.linearRampToValueAtTime(0, context.currentTime + SECONDS);
	tone.connect(volume).connect(context.destination);
	tone.onended = () => context.close();
	tone.start();
	tone.stop(context.currentTime + SECONDS);
}
