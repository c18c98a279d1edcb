"""WebRTC peers: senders, whose packets are published on a track, and receivers, which are sent a track's packets.

aiortc negotiates, aioice does ICE and OpenSSL does DTLS, but media bypasses them. Their sockets are replaced by shared
ones (`shared_socket`). A sender's datagrams get from the socket to its track in one call, and a track's packets to all
receivers in another (`fanout`): no jitter buffer, decoder, encoder, queue, task or thread for either.

This is the only package that uses private names of aiortc and aioice; `tests/rtc/test_contract_*.py` check that the
installed versions have each of them.
"""

from .peer import LEFT
from .peers import Peers
from .receiver import ReceiverPeer
from .sender import SenderPeer

__all__ = ["LEFT", "Peers", "ReceiverPeer", "SenderPeer"]
