"""Inputs to begin with: one of each kind that real clients send."""

from __future__ import annotations

import json

from aioice import stun

from tests.support.descriptions import browser_sdp
from voice_streaming.rtc import rtp

_OPUS = b"\xf8\xff\xfe"
_OFFERS = ("chromium_audio", "firefox_audio", "chromium_video_audio_data", "firefox_video_audio_data")
_ANSWERS = ("chromium_answer", "firefox_answer")
_CANDIDATE = "candidate:1 1 udp 2130706431 127.0.0.1 9 typ host generation 0 ufrag abcd"


def seeds() -> dict[str, list[bytes]]:
    """By target."""
    packets = _rtp_packets()
    compounds = _rtcp_compounds()
    requests = _stun_messages()
    return {
        "signalling": _conversations(),
        "offer": [*(browser_sdp(name).encode() for name in (*_OFFERS, *_ANSWERS)), _CANDIDATE.encode()],
        "whip": _posts(),
        "fragment": _fragments(),
        "rtp": packets,
        "rtcp": compounds,
        "stun": requests,
        "datagram": [packets[0], compounds[0], requests[0], b"\x16\xfe\xfd" + bytes(40), b"\x40\x00"],
    }


def _posts() -> list[bytes]:
    return [
        *(b"whip hall\n\n" + browser_sdp(name).encode() for name in _OFFERS),
        *(b"whep live\n\n" + browser_sdp(name).encode() for name in ("chromium_recvonly", "firefox_recvonly")),
        b"whip kitchen\nStream-Resume-Key: x\nAuthorization: Bearer y\n\n" + browser_sdp("firefox_audio").encode(),
        b"whep latest\nOrigin: https://page.example\n\n" + browser_sdp("chromium_recvonly").encode(),
        b"whip stream_x\nContent-Type: text/plain\n\nv=0",
    ]


def _fragments() -> list[bytes]:
    candidate = f"a={_CANDIDATE}\r\na=end-of-candidates\r\n".encode()
    restart = b"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
    return [
        b"\n\na=ice-ufrag:abcd\r\n" + candidate,
        b"\nIf-Match: *\n\n" + restart + candidate,
        b'\nIf-Match: "stale"\n\n' + candidate,
        b"\nIf-Match: *\n\n" + candidate,
        b"\nIf-Match: *\n\na=ice-ufrag:\xff\r\na=ice-pwd: \r\n",
    ]


def _conversations() -> list[bytes]:
    offer: dict[str, object] = {
        "type": "webrtc_offer",
        "offer": {"type": "offer", "sdp": browser_sdp("chromium_audio")},
    }
    answer: dict[str, object] = {
        "type": "webrtc_answer",
        "answer": {"type": "answer", "sdp": browser_sdp("chromium_answer")},
    }
    candidate: dict[str, object] = {
        "candidate": _CANDIDATE,
        "sdpMid": "0",
        "sdpMLineIndex": 0,
        "usernameFragment": "abcd",
    }
    conversations: list[list[dict[str, object]]] = [
        [{"type": "get_available_streams"}, {"type": "stop_stream"}],
        [{"type": "start_sending", "name": "Küche 1"}, offer, {"type": "ice_candidate", "candidate": candidate}],
        [{"type": "start_sending"}, {"type": "ice_candidate", "candidate": None}, {"type": "stop_stream"}],
        [{"type": "start_receiving", "stream_id": "live"}, answer, {"type": "ice_candidate", "candidate": candidate}],
        [{"type": "start_receiving", "stream_id": None}, {"type": "start_receiving"}],
        [{"type": "subscribe_visualization", "stream_id": "live"}, {"type": "unsubscribe_visualization"}],
    ]
    return ["\n".join(map(json.dumps, conversation)).encode() for conversation in conversations]


def _rtp_packets() -> list[bytes]:
    header = rtp.pack_header(111, True, 7, 960, 1)
    extended = bytes([header[0] | 0x10]) + header[1:] + b"\xbe\xde\x00\x01\x10\xff\x00\x00"
    padded = bytes([header[0] | 0x20]) + header[1:]
    sources = bytes([header[0] | 0x02]) + header[1:] + bytes(8)
    two_frames, many_frames = b"\xf9" + bytes(40), b"\xfb\x83" + bytes(60)
    return [
        header + _OPUS,
        extended + _OPUS,
        padded + _OPUS + b"\x00\x00\x03",
        sources + _OPUS,
        header + two_frames,
        header + many_frames,
        header,
    ]


def _rtcp_compounds() -> list[bytes]:
    block = rtp.ReportBlock(1, 0, 0, 1, 0, 0, 0)
    return [
        rtp.pack_sender_report(rtp.SenderReport(1, 1 << 40, 960, 1, 3), "name"),
        rtp.pack_receiver_report(1, block, "voice"),
        rtp.pack_bye(1, "voice"),
    ]


def _stun_messages() -> list[bytes]:
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    request.attributes["USERNAME"] = "user:other"
    request.attributes["PRIORITY"] = 1
    request.attributes["ICE-CONTROLLING"] = 1
    request.attributes["USE-CANDIDATE"] = None
    request.add_message_integrity(b"password")
    request.add_fingerprint()
    response = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.RESPONSE)
    response.attributes["XOR-MAPPED-ADDRESS"] = ("127.0.0.1", 9)
    error = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.ERROR)
    error.attributes["ERROR-CODE"] = (487, "Role Conflict")
    return [bytes(request), bytes(response), bytes(error)]
