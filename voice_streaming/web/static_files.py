"""What pages load, as files."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

STATIC_FOLDER = Path(__file__).parents[2] / "static"
"""The pages and what they load."""

REVALIDATED = {"Cache-Control": "no-cache"}
"""Of pages and what they load: asked for by its ETag each time, so that no old script runs beside a new page."""


async def revalidate_scripts(request: web.Request, response: web.StreamResponse) -> None:
    """A signal handler for `Application.on_response_prepare`."""
    if request.path.startswith("/static/"):
        response.headers.update(REVALIDATED)
