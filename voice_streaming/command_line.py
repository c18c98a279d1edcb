"""The command line: arguments to settings, log, exit codes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from . import __version__
from .config import DEFAULT_CONFIG, ConfigError, Settings, load
from .process import FILES_BESIDE_CONNECTIONS, raise_file_limit
from .startup import StartError
from .supervisor import chosen_ports

EXIT_CANNOT_START = 1
EXIT_WRONG_SETTING = 2

Serve = Callable[[Settings, bool], Awaitable[None]]


def run(serve: Serve, arguments: Sequence[str] | None = None) -> int:
    """Reads the settings, then runs `serve(settings, demo)` to its end; returns the exit code."""
    parsed = _parser().parse_args(arguments)
    config_path = parsed.config or os.environ.get("CONFIG") or None
    overrides = {
        "server.host": parsed.host,
        "server.port": parsed.port,
        "audio.port": parsed.audio_port,
        "server.log_level": parsed.log_level,
    }
    try:
        settings = load(
            Path(config_path) if config_path else None,
            os.environ,
            overrides,
            addon_ports=chosen_ports(os.environ),
            default_path=DEFAULT_CONFIG,
        )
    except ConfigError as error:
        return _fail(error, EXIT_WRONG_SETTING)
    logging.basicConfig(
        level=settings.server.log_level, format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr
    )
    # These two speak of every connectivity check at INFO.
    for name in ("aioice", "aiortc"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    files = settings.server.max_connections + settings.audio.max_listeners + FILES_BESIDE_CONNECTIONS
    if (shortage := raise_file_limit(files)) is not None:
        logging.warning("%s", shortage)
    try:
        asyncio.run(_until_end(serve, settings, parsed.demo))
    except StartError as error:
        return _fail(error, EXIT_CANNOT_START)
    except ConfigError as error:
        return _fail(error, EXIT_WRONG_SETTING)
    except KeyboardInterrupt:
        return 130
    return 0


async def _until_end(serve: Serve, settings: Settings, demo: bool) -> None:
    await serve(settings, demo)


def _fail(error: Exception, code: int) -> int:
    sys.stderr.write(f"error: {error}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="webrtc_server_relay.py",
        description="Takes voices over WebRTC and relays them live: to browsers over WebRTC, to players as MP3.",
    )
    parser.add_argument("--host", help="address to listen on (default 0.0.0.0: every address)")
    parser.add_argument("--port", type=int, help="port of pages and signalling (default 8080)")
    parser.add_argument("--audio-port", type=int, help="port of the MP3 streams (default 8081)")
    parser.add_argument("--config", metavar="FILE", help="settings as JSON (default: config.json beside the program)")
    parser.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR (default INFO)")
    parser.add_argument("--demo", action="store_true", help="publish a spoken sample as the stream `demo`")
    parser.add_argument("--version", action="version", version=__version__)
    return parser
