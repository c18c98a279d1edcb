"""A WHIP or WHEP endpoint of another server, as its client (RFC 9725, draft-ietf-wish-whep)."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass

import aiohttp
from aiohttp import hdrs
from yarl import URL

from ..settings.model import ConfigError

logger = logging.getLogger(__name__)

SDP_TYPE = "application/sdp"
POST_TIMEOUT_S = 10.0
"""Servers answer when they have gathered candidates, some only after they have asked a STUN server."""
DELETE_TIMEOUT_S = 1.0
"""Less than the server's own end may take: a session that is not deleted ends at the other side by its timeouts."""
MAX_ANSWER_BYTES = 256 * 1024
MAX_REDIRECTS = 3
_REDIRECTS = (307, 308)
"""Those that keep method and body (RFC 9110 sections 15.4.8 and 15.4.9)."""


class EndpointError(Exception):
    """The other server cannot be reached, or does not do what it is asked for; the text names no token."""

    def __init__(self, message: str, *, has_answered: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.has_answered = has_answered
        """By HTTP: it is there, and has not got what was asked for."""
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class RemoteSession:
    """A session at the other server."""

    answer: str
    url: URL | None
    """What is deleted at its end; None if the other server gave none of its own."""


class Endpoint:
    """Begins and ends sessions. Only the origin of its URL is ever asked, so that only that gets the token."""

    def __init__(self, url: str, token: str = "", ca_file: str = "", tls: aiohttp.Fingerprint | bool = True) -> None:
        """`tls`: the only certificate to take, whoever vouches for it; True: what authorities vouch for, those of
        `ca_file` instead of the system's where that is given.

        Raises ConfigError when `ca_file` cannot be read.
        """
        self._url = URL(url)
        self._headers = {hdrs.AUTHORIZATION: f"Bearer {token}"} if token else {}
        self._tls: ssl.SSLContext | aiohttp.Fingerprint | bool = tls
        if ca_file:
            try:
                self._tls = ssl.create_default_context(cafile=ca_file)
            except OSError as error:
                raise ConfigError(f'ca_file is "{ca_file}": {error.strerror or error}') from None

    @property
    def origin(self) -> str:
        """For people. The path is left out: with some services it is a key."""
        return str(self._url.origin())

    async def begin(self, http: aiohttp.ClientSession, offer: str) -> RemoteSession:
        """Posts the offer. Raises EndpointError."""
        try:
            return await self._post(http, offer)
        except TimeoutError:
            raise EndpointError(f"It has not answered within {POST_TIMEOUT_S:g} s") from None
        except aiohttp.ClientConnectorError as error:
            raise EndpointError(str(error)) from None
        except aiohttp.ClientError as error:
            # Its text may have the address, with what is secret in there.
            raise EndpointError(f"The request failed: {type(error).__name__}") from None

    async def end(self, http: aiohttp.ClientSession, session: RemoteSession) -> None:
        """Deletes the session; where that fails, it ends at the other side by itself."""
        if session.url is None:
            return
        timeout = aiohttp.ClientTimeout(total=DELETE_TIMEOUT_S)
        try:
            async with http.delete(
                session.url, headers=self._headers, ssl=self._tls, allow_redirects=False, timeout=timeout
            ):
                pass
        except (aiohttp.ClientError, TimeoutError) as error:
            logger.debug("A session at %s was not deleted: %s", self.origin, type(error).__name__)

    async def _post(self, http: aiohttp.ClientSession, offer: str) -> RemoteSession:
        url = self._url
        headers = self._headers | {hdrs.CONTENT_TYPE: SDP_TYPE}
        timeout = aiohttp.ClientTimeout(total=POST_TIMEOUT_S)
        for _ in range(1 + MAX_REDIRECTS):
            async with http.post(
                url, data=offer, headers=headers, ssl=self._tls, allow_redirects=False, timeout=timeout
            ) as response:
                if response.status not in _REDIRECTS:
                    return await self._read(response)
                target = self._join(url, response.headers.get(hdrs.LOCATION, ""))
            if target is None:
                raise EndpointError("It redirects to another host, which is not followed", has_answered=True)
            url = target
        raise EndpointError("It redirects too often", has_answered=True)

    async def _read(self, response: aiohttp.ClientResponse) -> RemoteSession:
        if response.status != 201:
            text = f"It answered {response.status} {response.reason or ''}".strip()
            raise EndpointError(text, has_answered=True, retry_after_s=_retry_after_s(response))
        body = b""
        async for chunk in response.content.iter_chunked(2**14):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise EndpointError("Its answer is too long", has_answered=True)
        location = response.headers.get(hdrs.LOCATION)
        url = self._join(response.url, location) if location else None
        return RemoteSession(body.decode(errors="replace"), url)

    def _join(self, url: URL, reference: str) -> URL | None:
        """What the reference means, None if that is of another origin, or nothing."""
        try:
            target = url.join(URL(reference, encoded=True))
            return target if target.origin() == self._url.origin() else None
        except ValueError:
            return None


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    """`Retry-After` in seconds, 0 without it or with a date."""
    text = response.headers.get(hdrs.RETRY_AFTER, "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
