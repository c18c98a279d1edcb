"""The pages as they are sent: each in the visitor's language."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache

from aiohttp import ETag, hdrs, web

from .languages import TRANSLATED, VARY, language_of, script, translate
from .static_files import REVALIDATED, STATIC_FOLDER


def routes() -> list[web.AbstractRouteDef]:
    """What pages load, on either port."""
    return [
        web.get(f"/static/words-{{language:{'|'.join(TRANSLATED)}}}.js", _words),
        web.static("/static", STATIC_FOLDER),
    ]


def page(request: web.Request, name: str, headers: Mapping[str, str] = REVALIDATED) -> web.Response:
    """A file of `static/` in the language of the request, which the headers tell."""
    language = language_of(request)
    vary = ", ".join(filter(None, (headers.get(hdrs.VARY), VARY)))
    told: dict[str, str] = {hdrs.CONTENT_LANGUAGE: language, hdrs.VARY: vary}
    return _answer(request, _page(name, language), "text/html", {**headers, **told})


async def _words(request: web.Request) -> web.Response:
    return _answer(request, script(request.match_info["language"]), "text/javascript", REVALIDATED)


@cache
def _page(name: str, language: str) -> bytes:
    return translate((STATIC_FOLDER / name).read_text(encoding="utf-8"), language).encode()


def _answer(request: web.Request, body: bytes, content_type: str, headers: Mapping[str, str]) -> web.Response:
    """The body, or 304 where the browser has it already (RFC 9110 section 13.1.2)."""
    tag = ETag(hashlib.sha256(body).hexdigest()[:16])
    if tag in (request.if_none_match or ()):
        response = web.Response(status=304, headers=headers)
    else:
        response = web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)
    response.etag = tag
    return response
