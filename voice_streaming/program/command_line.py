"""The command line: arguments to settings, log, exit codes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .. import __version__
from ..access.tcp_ports import MAX_REFUSALS, SPARE_CONNECTIONS
from ..access.tokens import new_token
from ..network.supervisor import chosen_ports
from ..network.tls import renew_authority
from ..network.tls_context import TlsUnavailable
from ..process.log import start_log
from ..process.refusal import Refused
from ..process.resources import FILES_BESIDE_CONNECTIONS, raise_file_limit
from ..settings.model import MIN_SECRET_CHARACTERS, AccessSettings, ConfigError, ServerSettings, Settings
from ..streams.grants import Scope
from ..streams.names import stream_name
from .configuration import DEFAULT_CONFIG, load
from .ports import StartError
from .reload import ReloadRequests

EXIT_CANNOT_START = 1
EXIT_WRONG_SETTING = 2
MAX_TOKEN_DAYS = 3650
"""Ten years; for a token without an end there are opaque tokens in the settings."""

ReadSettings = Callable[[], Settings]
Serve = Callable[[Settings, bool, ReadSettings, ReloadRequests], Coroutine[Any, Any, None]]


def run(serve: Serve, arguments: Sequence[str] | None = None) -> int:
    """Reads the settings, then runs `serve` to its end; returns the exit code.

    `serve` gets the settings, whether there is a demo stream, what reads the settings again, and the requests to do so.
    """
    parsed = _parser().parse_args(arguments)
    requests = ReloadRequests()
    with requests.received():
        return _run(serve, parsed, requests)


def _run(serve: Serve, parsed: argparse.Namespace, requests: ReloadRequests) -> int:
    read = _settings_reader(parsed)
    try:
        settings = read()
    except ConfigError as error:
        return _fail(error, EXIT_WRONG_SETTING)
    if parsed.command == "token":
        return _print_token(settings.access, parsed)
    if parsed.command == "renew-authority":
        return _renew_authority(settings.server)
    start_log(settings.server.log_level, settings.server.log_format)
    files = settings.server.max_connections + settings.audio.max_listeners
    files += SPARE_CONNECTIONS + MAX_REFUSALS + FILES_BESIDE_CONNECTIONS
    if (shortage := raise_file_limit(files)) is not None:
        logging.warning("%s", shortage)
    try:
        asyncio.run(serve(settings, parsed.demo, read, requests))
    except StartError as error:
        return _fail(error, EXIT_CANNOT_START)
    except ConfigError as error:
        return _fail(error, EXIT_WRONG_SETTING)
    except KeyboardInterrupt:
        return 130
    return 0


def _settings_reader(parsed: argparse.Namespace) -> ReadSettings:
    """The Supervisor is asked for the ports once; what reads the settings then does not wait for anything."""
    config_path = parsed.config or os.environ.get("CONFIG")
    overrides = {
        "server.host": parsed.host,
        "server.port": parsed.port,
        "audio.port": parsed.audio_port,
        "server.log_level": parsed.log_level,
    }
    return partial(
        load,
        Path(config_path) if config_path else None,
        os.environ,
        overrides,
        addon_ports=chosen_ports(os.environ),
        default_path=DEFAULT_CONFIG,
    )


def _fail(error: Exception, code: int) -> int:
    sys.stderr.write(f"error: {error}\n")
    return code


def _print_token(access: AccessSettings, parsed: argparse.Namespace) -> int:
    if not access.token_secret:
        example = f'{{"access": {{"token_secret": "{secrets.token_urlsafe(MIN_SECRET_CHARACTERS)}"}}}}'
        text = f"access.token_secret is not set: put a secret of your own into the settings, such as {example}"
        return _fail(ConfigError(text), EXIT_WRONG_SETTING)
    try:
        streams = [stream_name(name) for name in parsed.stream]
    except Refused as refusal:
        return _fail(refusal, EXIT_WRONG_SETTING)
    sys.stdout.write(new_token(access.token_secret, parsed.scope, streams, parsed.days) + "\n")
    return 0


def _renew_authority(server: ServerSettings) -> int:
    try:
        folder = renew_authority(server, os.environ)
    except ConfigError as error:
        return _fail(error, EXIT_WRONG_SETTING)
    except TlsUnavailable as error:
        return _fail(error, EXIT_CANNOT_START)
    sys.stdout.write(
        f"A new certificate authority is in {folder}. Restart the server, then open /certificate on each device.\n"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="webrtc_server_relay.py",
        description="Takes voices over WebRTC and relays them live: to browsers over WebRTC, to players as MP3.",
    )
    parser.add_argument("--host", help="address to listen on (default 0.0.0.0: every IPv4 address; *: every address)")
    parser.add_argument("--port", type=int, help="port of pages and signalling (default 8080)")
    parser.add_argument("--audio-port", type=int, help="port of the MP3 streams (default 8081)")
    parser.add_argument("--config", metavar="FILE", help="settings as JSON (default: config.json beside the program)")
    parser.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR (default INFO)")
    parser.add_argument("--demo", action="store_true", help="publish a spoken sample as the stream `demo`")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", title="commands", metavar="")
    token = commands.add_parser("token", help="print a token for those who may talk, listen or read the figures")
    token.add_argument("--scope", action="append", required=True, choices=[scope.value for scope in Scope])
    token.add_argument("--stream", action="append", default=[], metavar="NAME", help="only for this stream; repeatable")
    token.add_argument("--days", type=_days, default=30, help="how long it is valid (default 30)")
    token.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="settings with access.token_secret")
    renewal = commands.add_parser("renew-authority", help="make a new certificate authority, which devices must trust")
    renewal.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="settings with server.data_dir")
    return parser


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days <= MAX_TOKEN_DAYS:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {MAX_TOKEN_DAYS}")
    return days
