from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voice_streaming.process.refusal import Refused
from voice_streaming.web import sdp_fragments
from voice_streaming.web.sdp_fragments import MAX_CHARACTERS, Fragment, parse, write

CANDIDATE = "1 1 udp 2130706431 127.0.0.1 40000 typ host"
FRAGMENT = (
    "a=ice-options:trickle\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n"
    f"m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:{CANDIDATE}\r\na=end-of-candidates\r\n"
)


def test_a_fragment_as_rfc_9725_shows_it() -> None:
    assert parse(FRAGMENT) == Fragment("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1", (CANDIDATE,), "0")


def test_candidates_alone_or_their_end_alone_are_a_fragment() -> None:
    assert parse(f"a=candidate:{CANDIDATE}\n") == Fragment(None, None, (CANDIDATE,))
    assert parse("a=end-of-candidates\n") == Fragment(None, None, ())


@pytest.mark.parametrize(
    "text", ["", "\r\n", "hello", "a=mid:0\r\n", "candidate:1 1 udp 1 ::1 9 typ host", "==\r\n", "a"]
)
def test_what_is_no_fragment_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(text)
    assert refused.value.code == "bad_fragment"


def test_a_long_one_is_refused() -> None:
    with pytest.raises(Refused, match="at most"):
        parse("a=candidate:1\n" * MAX_CHARACTERS)


@given(st.text())
def test_any_text_is_a_fragment_or_refused(text: str) -> None:
    with contextlib.suppress(Refused):
        assert isinstance(parse(text), Fragment)


def test_what_we_write_is_what_we_read() -> None:
    text = write("ours", "secret of twenty-four characters", [CANDIDATE], "mic")
    assert parse(text) == Fragment("ours", "secret of twenty-four characters", (CANDIDATE,), "mic")
    assert text.endswith("\r\n")
    assert sdp_fragments.CONTENT_TYPE == "application/trickle-ice-sdpfrag"
