"""The languages of the pages: which one a visitor gets, and what the pages say in it.

English is what the HTML files and `static/words-en.js` say. Each other language has a file `static/words-….json`:
`pages` has a translation for each English text of the HTML files, `scripts` one for each key of `words-en.js`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from html import escape, unescape
from typing import Any

from aiohttp import hdrs, web

from .static_files import STATIC_FOLDER

ENGLISH = "en"
TRANSLATED = tuple(sorted(path.stem.removeprefix("words-") for path in STATIC_FOLDER.glob("words-*.json")))
LANGUAGES = (ENGLISH, *TRANSLATED)

COOKIE = "voice.language"
"""Set by `static/language.js`: what the visitor chose."""
QUERY = "lang"
"""The same for one address: for dashboards, and where a browser keeps no cookies."""
VARY = f"{hdrs.ACCEPT_LANGUAGE}, {hdrs.COOKIE}"

_MAX_HEADER_CHARACTERS = 1024
"""Browsers write less than 200."""
_RANGE = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]*)?\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?))?\s*")
"""RFC 9110 section 12.5.4, without `*`, which leaves the choice to us."""
_TAG = re.compile(r"(<code>.*?</code>|<[^>]*>)", re.DOTALL)
"""What stays as it is, but for some attributes."""
_SAID_ATTRIBUTE = re.compile(r'\b(aria-label|alt|title|placeholder)="([^"]*)"')


_FIRST_SCRIPT = re.compile(r'(<script type="module" src="(?:\.\./)?static/)')


def preferred(accept_language: str) -> str:
    """The language that a browser's `Accept-Language` prefers, of those we have; English if it names none of them.

    A region does not matter. What is not well-formed is skipped.
    """
    best, best_quality = ENGLISH, 0.0
    for part in accept_language[:_MAX_HEADER_CHARACTERS].split(","):
        found = _RANGE.fullmatch(part)
        if found is None or found[1].lower() not in LANGUAGES:
            continue
        quality = min(1.0, float(found[2] or 1))
        if quality > best_quality:
            best, best_quality = found[1].lower(), quality
    return best


def language_of(request: web.Request) -> str:
    """What the visitor chose, or else what the browser prefers."""
    for chosen in (request.query.get(QUERY), request.cookies.get(COOKIE)):
        if chosen in LANGUAGES:
            return chosen
    return preferred(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))


@cache
def words(language: str) -> dict[str, Any]:
    """The file of a language that is translated."""
    content: dict[str, Any] = json.loads((STATIC_FOLDER / f"words-{language}.json").read_text(encoding="utf-8"))
    return content


def script(language: str) -> bytes:
    """A module that gives `static/words.js` the words of a language; pages load it before their own."""
    return f"globalThis.voiceWords = {json.dumps(words(language)['scripts'], ensure_ascii=False)};\n".encode()


def texts(html: str) -> list[str]:
    """The English texts of a page, in order, with those of attributes."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    _map_texts(html, note)
    return found


def translate(html: str, language: str) -> str:
    """A page in another language. What has no translation stays English."""
    if language == ENGLISH:
        return html
    pages = words(language)["pages"]
    html = _map_texts(html, lambda text: pages.get(text, text))
    html = html.replace(f'<html lang="{ENGLISH}">', f'<html lang="{language}">', 1)
    return _FIRST_SCRIPT.sub(rf'\1words-{language}.js"></script>\n\1', html, count=1)


def _map_texts(html: str, change: Callable[[str], str]) -> str:
    """Calls `change` with each text that has letters, unescaped and without the white space around it."""

    def changed(text: str) -> str:
        stripped = text.strip()
        if not re.search(r"[^\W\d_]", stripped):
            return text
        return text.replace(stripped, escape(change(unescape(stripped)), quote=True), 1)

    def change_attribute(found: re.Match[str]) -> str:
        return f'{found[1]}="{changed(found[2])}"'

    parts = _TAG.split(html)
    for index, part in enumerate(parts):
        is_tag = index % 2 == 1
        parts[index] = _SAID_ATTRIBUTE.sub(change_attribute, part) if is_tag else changed(part)
    return "".join(parts)
