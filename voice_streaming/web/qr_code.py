"""Pictures of addresses, which a phone's camera reads."""

from __future__ import annotations

import io

import segno

LONGEST_TEXT = 500
"""Characters. A longer one makes a picture that cameras fail to read from a screen."""


def qr_code_svg(text: str) -> bytes:
    """An SVG document with a white margin. Raises ValueError: the text is empty, or longer than LONGEST_TEXT."""
    if not 0 < len(text) <= LONGEST_TEXT:
        raise ValueError(f"a text of 1 to {LONGEST_TEXT} characters is needed")
    picture = io.BytesIO()
    segno.make_qr(text, error="m").save(picture, kind="svg", border=4, scale=4, light="#fff", xmldecl=False)
    return picture.getvalue()
