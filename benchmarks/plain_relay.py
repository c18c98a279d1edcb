"""A plain aiortc voice relay, as aiortc's documentation shows one: what the server is measured against.

Frames go through `MediaRelay` and `addTrack`, so that every receiver gets an Opus encoder of its own. It speaks enough
of the server's signalling for `fanout.py` to drive both alike, and takes the same `--config` file.
"""

import argparse
import asyncio
import json
import signal
import uuid
from pathlib import Path
from typing import Any

import aioice.ice
from aiohttp import WSMsgType, web
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaRelay


class PlainRelay:
    """One stream per sender, one re-encoded copy of it per receiver."""

    def __init__(self) -> None:
        self._relay = MediaRelay()
        self._tracks: dict[str, MediaStreamTrack] = {}
        self._sockets: set[web.WebSocketResponse] = set()

    async def serve_socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.add(socket)
        session = _Session(self, socket)
        await socket.send_json({"type": "available_streams", "streams": list(self._tracks)})
        try:
            async for frame in socket:
                if frame.type == WSMsgType.TEXT:
                    await session.answer(json.loads(frame.data))
        finally:
            self._sockets.discard(socket)
            await session.close()
        return socket

    async def publish(self, stream_id: str, track: MediaStreamTrack) -> None:
        self._tracks[stream_id] = track
        for socket in list(self._sockets):
            await socket.send_json({"type": "stream_available", "stream_id": stream_id, "name": stream_id})

    def withdraw(self, stream_id: str) -> None:
        self._tracks.pop(stream_id, None)

    def subscribe(self, stream_id: str | None) -> MediaStreamTrack | None:
        """A new proxy of that stream's track, of the newest one's without an id, or None where there is none."""
        if stream_id is None and self._tracks:
            stream_id = list(self._tracks)[-1]
        track = self._tracks.get(stream_id or "")
        return self._relay.subscribe(track) if track else None


class _Session:
    """One WebSocket, and the peer connection that it has negotiated."""

    def __init__(self, relay: PlainRelay, socket: web.WebSocketResponse) -> None:
        self._relay = relay
        self._socket = socket
        self._stream_id = ""
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))

    async def answer(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "start_sending":
                self._stream_id = message.get("name") or f"stream_{uuid.uuid4()}"
                await self._socket.send_json({"type": "sender_ready", "connection_id": self._stream_id})
            case "webrtc_offer":
                await self._accept_sender(message["offer"])
            case "start_receiving":
                await self._offer_to_receiver(message.get("stream_id"))
            case "webrtc_answer":
                await self._peer.setRemoteDescription(RTCSessionDescription(**message["answer"]))

    async def _accept_sender(self, offer: dict[str, str]) -> None:
        tracks: list[MediaStreamTrack] = []
        self._peer.on("track", tracks.append)
        await self._peer.setRemoteDescription(RTCSessionDescription(**offer))
        await self._peer.setLocalDescription(await self._peer.createAnswer())
        await self._send_description("webrtc_answer", "answer")
        for track in tracks:
            await self._relay.publish(self._stream_id, track)

    async def _offer_to_receiver(self, stream_id: str | None) -> None:
        track = self._relay.subscribe(stream_id)
        if track is None:
            await self._socket.send_json({"type": "error", "code": "no_stream", "message": "No audio stream available"})
            return
        self._peer.addTrack(track)
        await self._peer.setLocalDescription(await self._peer.createOffer())
        await self._send_description("webrtc_offer", "offer")

    async def _send_description(self, message_type: str, key: str) -> None:
        description = self._peer.localDescription
        await self._socket.send_json({"type": message_type, key: {"sdp": description.sdp, "type": description.type}})

    async def close(self) -> None:
        self._relay.withdraw(self._stream_id)
        await self._peer.close()


async def _report_health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _serve(host: str, port: int) -> None:
    relay = PlainRelay()
    app = web.Application()
    app.add_routes([web.get("/ws", relay.serve_socket), web.get("/health", _report_health)])
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the server's JSON configuration file")
    config = json.loads(parser.parse_args().config.read_text())
    addresses = config.get("webrtc", {}).get("host_addresses")
    if addresses:
        # aioice gathers no candidate on loopback, where the benchmark runs.
        aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: list(addresses)
    asyncio.run(_serve(config["server"]["host"], config["server"]["port"]))


if __name__ == "__main__":
    main()
