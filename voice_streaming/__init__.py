"""A live-voice relay: WebRTC in, WebRTC and one live MP3 out."""

__version__ = "0.2.0"
"""The only copy of the version; the add-on's is checked against it."""
