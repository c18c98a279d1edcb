"""The connections to Redis or Valkey, and what is wrong with them, in words for people."""

from __future__ import annotations

import ssl
from typing import Any

from redis import asyncio as redis
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from yarl import URL

from ..settings.model import ClusterSettings, ConfigError

TIMEOUT_S = 2.0
"""For a connection and for each answer. Leases last three times as long."""
OLDEST = (6, 2)
"""Of Redis: the one that Debian 11 has. Valkey says 7.2 of itself."""

FAILURES = (exceptions.RedisError, OSError, TimeoutError)
"""What a call may raise when Redis is away, or not willing."""


class Unusable(Exception):
    """There is a Redis, and it is of no use."""


def connect(settings: ClusterSettings) -> redis.Redis:
    """A client of the Redis that the settings name; it connects when it is used. Raises ConfigError for `ca_file`."""
    url = URL(settings.url)
    options: dict[str, Any] = {
        "db": int(url.path.strip("/") or 0),
        "username": settings.user or None,
        "password": settings.password or None,
        "decode_responses": True,
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),  # Whoever calls knows better what to do.
    }
    if url.scheme == "rediss":
        try:
            ssl.create_default_context(cafile=settings.ca_file or None)
        except OSError as error:
            raise ConfigError(f'cluster.ca_file is "{settings.ca_file}": {error.strerror or error}') from None
        options |= {"ssl": True, "ssl_ca_certs": settings.ca_file or None}
    if not settings.sentinels:
        return redis.Redis(host=url.host or "", port=url.port or 6379, **options)
    sentinels = [(host, int(port)) for host, _, port in (text.rpartition(":") for text in settings.sentinels)]
    of_sentinels = {name: value for name, value in options.items() if name not in ("db", "username", "password")}
    sentinel: Any = Sentinel(sentinels, sentinel_kwargs=of_sentinels, **options)  # type: ignore[no-untyped-call]
    return sentinel.master_for(url.host or "", **options)  # type: ignore[no-any-return]


async def check_version(client: redis.Redis) -> None:
    """Raises Unusable for a Redis that is too old, and FAILURES."""
    information = await client.info("server")
    version = str(information.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        raise Unusable(f"Redis {version} is too old: {'.'.join(map(str, OLDEST))} or newer is needed")


def explained(error: BaseException) -> str:
    """For `/health` and the log; without the password."""
    match error:
        case Unusable():
            return str(error)
        case exceptions.AuthenticationError() | exceptions.AuthorizationError():
            return "Redis refuses cluster.user or cluster.password"
        case exceptions.NoPermissionError():
            return f"Redis' ACL does not allow what is needed: {error}"
        case exceptions.TimeoutError() | TimeoutError():
            return "Redis does not answer"
        case exceptions.ResponseError():
            return f"Redis refuses: {error}"
        case _:
            return f"Redis cannot be reached: {error}"
