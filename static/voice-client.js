/**
 * The browser's side of the voice relay, for these pages and for others:
 *
 *   import { VoiceSocket, VoiceReceiver } from "http://relay:8080/static/voice-client.js";
 *   const socket = new VoiceSocket();           // finds the server by the address of this file
 *   const receiver = new VoiceReceiver(socket); // a socket carries one sender or one receiver
 *   receiver.on("state", () => console.log(receiver.state, receiver.problem?.code));
 *   socket.open();
 *   button.onclick = () => receiver.listen();   // to the newest stream, now and after it has ended
 *
 * Each class is an EventTarget; a change of its `state`, or of the cause `problem`, is a "state" event.
 */
export { VoiceSocket, isSameStream } from "./voice-socket.js";
export { VoiceSender } from "./voice-sender.js";
export { VoiceReceiver } from "./voice-receiver.js";
