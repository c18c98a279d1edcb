"""A Redis of the test's own, on loopback, which can be killed, frozen and started again."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis import asyncio as redis
from redis.exceptions import AuthenticationError, RedisError

from tests.support.availability import require_program
from tests.support.ports import free_port
from tests.support.process import ChildProcess, child_process

START_TIMEOUT_S = 10.0


class RedisServer:
    """Keeps nothing on the disk: when it is started again it is empty."""

    def __init__(self, port: int, folder: Path, options: tuple[str, ...], host: str) -> None:
        self.port = port
        self.host = host
        self.process: ChildProcess | None = None
        self._folder = folder
        self._options = options

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def client(self, **options: object) -> redis.Redis:
        return redis.Redis(host=self.host, port=self.port, decode_responses=True, **options)  # type: ignore[arg-type]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RedisServer]:
        """While the block runs; may be entered again after that."""
        program = require_program("redis-server")
        options = [
            "--port",
            str(self.port),
            "--bind",
            self.host,
            "--protected-mode",
            "no",
            "--save",
            "",
            "--dir",
            str(self._folder),
        ]
        async with child_process([program, *options, *self._options]) as self.process:
            await self._until_it_answers()
            yield self

    async def _until_it_answers(self) -> None:
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                client = self.client()
                try:
                    await client.ping()
                    return
                except AuthenticationError:
                    return
                except RedisError:
                    await asyncio.sleep(0.02)
                finally:
                    await client.aclose()


@asynccontextmanager
async def redis_folder(*options: str, host: str = "127.0.0.1") -> AsyncIterator[RedisServer]:
    """One that is not started yet."""
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    try:
        yield RedisServer(free_port(), folder, options, host)
    finally:
        shutil.rmtree(folder)


@asynccontextmanager
async def redis_server(*options: str, host: str = "127.0.0.1") -> AsyncIterator[RedisServer]:
    """One that runs."""
    async with redis_folder(*options, host=host) as server, server.running():
        yield server
