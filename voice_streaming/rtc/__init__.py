"""WebRTC peers: the tap on a sender, the direct write to a receiver.

aiortc negotiates, aioice connects and OpenSSL agrees on keys as ever; from then on media does not pass through them.
Their sockets are replaced by shared ones (`shared_socket`), a sender's datagrams go from the socket to its track in one
call, and a receiver's packets from the track to the socket (`fanout`): no jitter buffer, decoder, encoder, queue, task
or thread for either.

This is the only package that touches private names of aiortc and aioice; `tests/rtc/test_contract_*.py` hold the
installed versions to each of them.
"""

from .peer import LEFT
from .peers import Peers
from .receiver import ReceiverPeer
from .sender import SenderPeer

__all__ = ["LEFT", "Peers", "ReceiverPeer", "SenderPeer"]
