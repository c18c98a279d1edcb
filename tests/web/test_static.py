"""The files of the pages: small, complete, and of nobody else's server."""

from __future__ import annotations

import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import pytest

from voice_streaming.web.languages import ENGLISH, LANGUAGES, script, translate
from voice_streaming.web.static_files import STATIC_FOLDER

LARGEST_PAGE_BYTES = 130_000
"""Of a page with all that it loads, as it is sent in one language, without the pictures: a promise to people with slow
devices."""
LARGEST_TOTAL_BYTES = 190_000
"""The same of all pages together: one for recordings, and rooms, came to the four."""

PAGES = sorted(STATIC_FOLDER.glob("*.html"))
SCRIPTS = sorted(STATIC_FOLDER.glob("*.js"))
STYLES = sorted(STATIC_FOLDER.glob("*.css"))


class Elements(HTMLParser):
    """All start tags of a page, as (tag, attributes, text that follows)."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(page.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1][2].append(data)

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes, _ in self.found if name in attributes]


def name_of(path: Path) -> str:
    return path.name


def ids_on(page: Path) -> set[str]:
    """Those in the page and those that its scripts make."""
    made = {found for script in scripts_of(page) for found in re.findall(r'\bid="([\w-]+)"', script.read_text())}
    return {*Elements(page).attributes("id"), *made}


def scripts_of(page: Path) -> set[Path]:
    """The page's script, and all that it imports."""
    waiting = [(page.parent / Path(source).name) for source in Elements(page).attributes("src")]
    known: set[Path] = set()
    while waiting:
        script = waiting.pop()
        if script not in known:
            known.add(script)
            waiting += [script.parent / name for name in re.findall(r'from "\./([\w.-]+)"', script.read_text())]
    return known


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_of_it_is_small(language: str) -> None:
    files = [path for path in STATIC_FOLDER.rglob("*") if path.is_file() and path.suffix not in {".svg", ".png"}]
    assert {path.suffix for path in files} == {".html", ".js", ".css", ".webmanifest", ".json"}
    as_they_are = sum(path.stat().st_size for path in files if path.suffix not in {".html", ".json"})
    pages = sum(len(translate(page.read_text(encoding="utf-8"), language).encode()) for page in PAGES)
    words = 0 if language == ENGLISH else len(script(language))
    assert as_they_are + pages + words < LARGEST_TOTAL_BYTES
    for page in PAGES:
        loaded = sum(path.stat().st_size for path in (*scripts_of(page), *STYLES))
        text = translate(page.read_text(encoding="utf-8"), language)
        assert loaded + len(text.encode()) + words < LARGEST_PAGE_BYTES, page


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_nothing_is_inline_so_that_the_security_policy_can_forbid_it(page: Path) -> None:
    for tag, attributes, text in Elements(page).found:
        assert tag != "style"
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "script":
            assert attributes["src"]
            assert not "".join(text).strip()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_address_is_relative_so_that_it_works_under_a_path_prefix(page: Path) -> None:
    elements = Elements(page)
    addresses = [address for name in ("href", "src", "action") for address in elements.attributes(name)]
    assert addresses
    for address in addresses:
        assert not re.match(r"/|[a-z]+:", address), address


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    elements = Elements(page)
    addresses = [address for name in ("href", "src") for address in elements.attributes(name)]
    for address in addresses:
        if "static/" in address:
            assert (STATIC_FOLDER / address.partition("static/")[2]).is_file(), address


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_ids_that_a_page_refers_to_are_there_once(page: Path) -> None:
    elements = Elements(page)
    ids = elements.attributes("id")
    assert len(ids) == len(set(ids))
    for name in ("for", "aria-describedby", "aria-labelledby"):
        assert set(elements.attributes(name)) <= set(ids)


@pytest.mark.parametrize("page", [page for page in PAGES if len(Elements(page).attributes("id"))], ids=name_of)
def test_ids_that_a_script_refers_to_are_there(page: Path) -> None:
    shared = STATIC_FOLDER / "page.js"
    own = scripts_of(page) - {shared}
    used = {found for script in own for found in re.findall(r'(?:byId|show)\("([\w-]+)"', script.read_text())}
    assert used
    assert used <= ids_on(page)
    if any("openSocket" in script.read_text() for script in own):
        used = set(re.findall(r'(?:byId|show)\("([\w-]+)"', shared.read_text()))
        assert used <= ids_on(page)


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_scripts_load_nothing_from_elsewhere(script: Path) -> None:
    text = re.sub(r"/\*.*?\*/", "", script.read_text(encoding="utf-8"), flags=re.DOTALL)
    # An address of the server itself is made from its name.
    assert re.findall(r"https?://(?!\$\{location\.hostname\})[^\s\"'`]*", text) == []
    for imported in re.findall(r'(?:from|import) ?\(?"([^"]+)"', text):
        assert imported.startswith("./")
        assert (STATIC_FOLDER / imported).is_file()
    assert not re.search(r"\beval\(|new Function\(|javascript:", text)


@pytest.mark.parametrize("style", STYLES, ids=name_of)
def test_styles_load_nothing(style: Path) -> None:
    assert not re.search(r"url\(|@import|@font-face", style.read_text(encoding="utf-8"))


def test_the_manifest_names_icons_of_the_size_it_says() -> None:
    for icon in json.loads((STATIC_FOLDER / "manifest.webmanifest").read_text())["icons"]:
        content = (STATIC_FOLDER / icon["src"]).read_bytes()
        if icon["type"] == "image/png":
            # The header chunk (ISO/IEC 15948, 11.2.2): width and height.
            assert icon["sizes"] == "{}x{}".format(*struct.unpack(">II", content[16:24]))


def test_each_script_and_style_is_used() -> None:
    named = {address.rpartition("/")[2] for page in PAGES for address in Elements(page).attributes("href")}
    used = {script.name for page in PAGES for script in scripts_of(page)}
    assert used == {script.name for script in SCRIPTS}
    assert {style.name for style in STYLES} <= named
