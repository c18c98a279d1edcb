"""Which names there may be, and which of them are one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voice_streaming.process.refusal import Refused
from voice_streaming.streams.grants import Grant
from voice_streaming.streams.names import MAX_NAME_BYTES, name_key, stream_name
from voice_streaming.streams.stream import Stream, find
from voice_streaming.streams.track import OpusTrack

CASES = json.loads((Path(__file__).parents[1] / "cases" / "names.json").read_text())


def refusal(text: str) -> str:
    with pytest.raises(Refused) as refused:
        stream_name(text)
    assert refused.value.code == "bad_name"
    return str(refused.value)


@pytest.mark.parametrize(
    "name", [*CASES["accepted"], "kitchen", "Küche 2", "x" * 64, "living-room_1", "客厅", "آشپزخانه‌"]
)
def test_a_good_name_is_taken_as_it_is(name: str) -> None:
    assert stream_name(name) == name


@pytest.mark.parametrize(("first", "second"), CASES["same"])
def test_two_ways_to_write_one_name(first: str, second: str) -> None:
    assert name_key(stream_name(first)) == name_key(stream_name(second))


def test_a_name_is_composed_so_that_its_address_is_one() -> None:
    assert stream_name("Ku\u0308che") == "K\u00fcche"
    assert stream_name("台所\u3000二") == "台所 二"


@pytest.mark.parametrize("name", CASES["refused"])
def test_a_bad_name_is_refused(name: str) -> None:
    refusal(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x/y", 'A stream\'s name cannot contain "/" (U+002F SOLIDUS)'),
        ("a\nb", "A stream's name cannot contain U+000A (a control character)"),
        ("a\0b", "A stream's name cannot contain U+0000 (a control character)"),
        (
            "a\u202eb",
            "A stream's name cannot contain U+202E (RIGHT-TO-LEFT OVERRIDE, an invisible character, such as those "
            "that change the direction of writing)",
        ),
        ("<b>", 'A stream\'s name cannot contain "<" (U+003C LESS-THAN SIGN)'),
        ("a\ud800", "A stream's name cannot contain U+D800 (half of a character)"),
        ("\u3164", 'A stream\'s name cannot contain "\u3164" (U+3164 HANGUL FILLER)'),
        ("..", 'A stream\'s name cannot begin with "." (U+002E FULL STOP)'),
        ("STATUS", 'The name "STATUS" is reserved: choose another'),
        ("stream_1", 'The name "stream_1" is reserved: choose another'),
        ("a.MP3", 'The name "a.MP3" is reserved: choose another'),
        ("  ", "A stream's name needs at least one character that is not a space"),
        ("x" * 65, "This name is too long: it may have 64 characters and 200 bytes in UTF-8"),
        ("𠮷" * 51, "This name is too long: it may have 64 characters and 200 bytes in UTF-8"),
    ],
)
def test_the_refusal_says_what_is_the_matter(name: str, said: str) -> None:
    assert refusal(name) == said


@given(st.text())
def test_any_name_is_refused_or_safe(text: str) -> None:
    try:
        name = stream_name(text)
    except Refused:
        # What it says can be sent.
        refusal(text).encode()
        return
    assert stream_name(name) == name
    assert name_key(name) == name_key(text) == name_key(name_key(name))
    assert 1 <= len(name.encode()) <= MAX_NAME_BYTES
    assert name[0] != "."
    assert not set(name) & set('/\\:*?"%;<>|\r\n\t\0\u202e\u2028')


def test_grants_compare_names_without_case() -> None:
    grant = Grant(frozenset(), frozenset({" KÜCHE", "Kid's room"}))
    assert grant.covers("Ku\u0308che")
    assert grant.covers("KID'S ROOM")
    assert not grant.covers("Kids room")
    assert not grant.covers(None)


def test_a_stream_is_found_however_its_name_is_written() -> None:
    kitchen, other = Stream("Kitchen", "Kitchen", OpusTrack(), "a"), Stream("attic", "attic", OpusTrack(), "b")
    streams = {stream.id: stream for stream in (other, kitchen)}
    for name in ("Kitchen", "kitchen", "KITCHEN", " kitchen "):
        assert find(streams, name) is kitchen
    assert find(streams, "kitchens") is None
    assert find(streams, None) is None
