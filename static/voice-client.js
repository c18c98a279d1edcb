// @ts-check
/**
 * The browser's side of the voice relay, for these pages and for any other (a Home Assistant card, say):
 *
 *   import { VoiceSocket, VoiceSender, VoiceReceiver } from "http://relay:8080/static/voice-client.js";
 *   const socket = new VoiceSocket();                     // addresses are relative to this file's
 *   const receiver = new VoiceReceiver(socket);           // a socket carries one sender or one receiver
 *   receiver.addEventListener("state", () => console.log(receiver.state, receiver.problem?.code));
 *   socket.open();
 *   button.onclick = () => receiver.listen();             // to the newest stream, now and after it has ended
 *
 * Every class is an EventTarget with a `state`; each change of it, or of its cause `problem`, is a "state" event.
 * Nothing here draws or speaks to people.
 */
export { VoiceSocket } from "./voice-socket.js";
export { VoiceSender } from "./voice-sender.js";
export { VoiceReceiver } from "./voice-receiver.js";
