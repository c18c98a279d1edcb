"""One webrtcbin of GStreamer, for the system's Python (PyGObject): `send` or `receive`, and who `offer`s.

JSON lines: descriptions come and go as {"type", "sdp"}; {"packets": n, "peak": p} tells twice a second what was
received. It ends with its standard input.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

SENDING = (
    "webrtcbin name=rtc bundle-policy=max-bundle audiotestsrc is-live=true freq=997 ! audioconvert ! audioresample"
    " ! opusenc ! rtpopuspay pt=97 ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! rtc."
)
OPUS = "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000"


def say(**words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


class Client:
    def __init__(self, sends: bool, offers: bool) -> None:
        self.pipeline: Any = Gst.parse_launch(SENDING) if sends else Gst.Pipeline()
        if sends:
            self.rtc = self.pipeline.get_by_name("rtc")
        else:
            self.rtc = Gst.ElementFactory.make("webrtcbin", "rtc")
            self.rtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
            self.pipeline.add(self.rtc)
            if offers:
                direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
                self.rtc.emit("add-transceiver", direction, Gst.Caps.from_string(OPUS))
        self.packets, self.peak, self.asked = 0, 0, False
        self.rtc.connect("pad-added", self.on_pad)
        self.rtc.connect("notify::ice-gathering-state", self.on_gathering)
        self.rtc.connect("notify::connection-state", self.on_state)
        if offers:
            self.rtc.connect("on-negotiation-needed", self.on_negotiation_needed)
        self.pipeline.set_state(Gst.State.PLAYING)
        if offers and not sends:
            self.on_negotiation_needed(self.rtc)
        GLib.timeout_add(500, self.tell)

    def on_negotiation_needed(self, rtc: Any) -> None:
        if not self.asked:
            self.asked = True
            rtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self.on_description, "offer"))

    def on_description(self, promise: Any, kind: str) -> None:
        # The reply owns the description: it must outlive the call.
        reply = promise.get_reply()
        self.rtc.emit("set-local-description", reply.get_value(kind), Gst.Promise.new())

    def on_gathering(self, rtc: Any, _: Any) -> None:
        if rtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            local = rtc.get_property("local-description")
            kind = "offer" if local.type == GstWebRTC.WebRTCSDPType.OFFER else "answer"
            say(type=kind, sdp=local.sdp.as_text())

    def on_state(self, rtc: Any, _: Any) -> None:
        say(state=rtc.get_property("connection-state").value_nick)

    def take(self, words: dict[str, str]) -> None:
        _, message = GstSdp.SDPMessage.new()
        GstSdp.sdp_message_parse_buffer(words["sdp"].encode(), message)
        kind = GstWebRTC.WebRTCSDPType.OFFER if words["type"] == "offer" else GstWebRTC.WebRTCSDPType.ANSWER
        remote = GstWebRTC.WebRTCSessionDescription.new(kind, message)
        if words["type"] == "answer":
            self.rtc.emit("set-remote-description", remote, Gst.Promise.new())
        else:
            self.rtc.emit("set-remote-description", remote, Gst.Promise.new_with_change_func(self.on_offer))

    def on_offer(self, promise: Any) -> None:
        self.rtc.emit("create-answer", None, Gst.Promise.new_with_change_func(self.on_description, "answer"))

    def on_pad(self, rtc: Any, pad: Any) -> None:
        if pad.direction != Gst.PadDirection.SRC:
            return
        tail = Gst.parse_bin_from_description(
            "rtpopusdepay ! opusdec ! audioconvert ! audio/x-raw,format=S16LE"
            " ! appsink name=sink emit-signals=true sync=false",
            True,
        )
        tail.get_by_name("sink").connect("new-sample", self.on_sample)
        self.pipeline.add(tail)
        tail.sync_state_with_parent()
        pad.link(tail.get_static_pad("sink"))

    def on_sample(self, sink: Any) -> Any:
        buffer = sink.emit("pull-sample").get_buffer()
        samples = memoryview(buffer.extract_dup(0, buffer.get_size())).cast("h")
        self.packets += 1
        self.peak = max(self.peak, max(samples, default=0))
        return Gst.FlowReturn.OK

    def tell(self) -> bool:
        say(packets=self.packets, peak=self.peak)
        return True


def read(client: Client, loop: Any) -> None:
    for line in sys.stdin:
        GLib.idle_add(client.take, json.loads(line))
    GLib.idle_add(loop.quit)


Gst.init(None)
loop = GLib.MainLoop()
client = Client("send" in sys.argv, "offer" in sys.argv)
threading.Thread(target=read, args=(client, loop), daemon=True).start()
loop.run()
client.pipeline.set_state(Gst.State.NULL)
