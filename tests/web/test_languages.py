"""The languages of the pages: which one is chosen, and that each page says all of it in that language."""

from __future__ import annotations

from pathlib import Path

import pytest

from voice_streaming.web import languages
from voice_streaming.web.languages import ENGLISH, LANGUAGES, TRANSLATED, preferred, texts, translate, words
from voice_streaming.web.static_files import STATIC_FOLDER

PAGES = sorted(STATIC_FOLDER.glob("*.html"))
EVERY_TEXT = {text for page in PAGES for text in texts(page.read_text(encoding="utf-8"))}


@pytest.mark.parametrize(
    ("accept_language", "language"),
    [
        ("", "en"),
        ("en-GB", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.5", "de"),
        ("en-US,en;q=0.9,de;q=0.8", "en"),
        ("ja,fr;q=0.4,es;q=0.8", "es"),
        ("FR-ca", "fr"),
        ("de;q=0, fr ; q=0.1", "fr"),
        ("de;q=0.000", "en"),
        ("ja", "en"),
        ("*", "en"),
        ("ja, *;q=0.5", "en"),
        (";q=1,,de;;q=1,fr;q=7,es;q=0.2", "es"),
        ("x" * 100_000 + ",de", "en"),
    ],
)
def test_a_browser_gets_the_language_that_it_prefers_of_those_we_have(accept_language: str, language: str) -> None:
    assert preferred(accept_language) == language


def test_there_are_four_languages() -> None:
    assert LANGUAGES == (ENGLISH, "de", "es", "fr")


@pytest.mark.parametrize("language", TRANSLATED)
def test_each_text_of_the_pages_has_its_translation_and_no_other_has(language: str) -> None:
    """What is missing is hard-coded English; what is superfluous was a text once."""
    translated = set(words(language)["pages"])
    assert (EVERY_TEXT - translated, translated - EVERY_TEXT) == (set(), set())
    assert all(words(language)["pages"].values())


@pytest.mark.parametrize("language", TRANSLATED)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_in_one_language(page: Path, language: str) -> None:
    html = page.read_text(encoding="utf-8")
    translated = translate(html, language)
    assert texts(translated) == [words(language)["pages"][text] for text in texts(html)]
    assert f'<html lang="{language}">' in translated
    first = f'static/words-{language}.js"></script>\n<script type="module" src="'
    assert translated.count(first) == translated.count("words-") == 1


def test_english_is_what_the_files_say() -> None:
    for page in PAGES:
        html = page.read_text(encoding="utf-8")
        assert translate(html, ENGLISH) == html
        assert f'<html lang="{ENGLISH}">' in html


def test_texts_of_attributes_are_translated_and_escaped_and_code_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"Level & more": 'Pegel & "mehr"', "Talk": "<Sprechen>", "Hello": "Hallo"}
    monkeypatch.setattr(languages, "words", lambda language: {"pages": pages})
    html = '<p title="Level &amp; more" id="Talk">\n Talk <code>Hello</code> … Hello<b>12</b></p>'
    assert translate(html, "de") == (
        '<p title="Pegel &amp; &quot;mehr&quot;" id="Talk">\n &lt;Sprechen&gt; <code>Hello</code> … Hello<b>12</b></p>'
    )
