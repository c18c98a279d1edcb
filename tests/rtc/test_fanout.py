"""The fan-out, with real SRTP sessions and real sockets: what each receiver decrypts is what was published."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from pylibsrtp import Error as SrtpError
from pylibsrtp import Policy, Session

from tests.support.publishing import hand_out
from voice_streaming.media.opus import OpusPacket
from voice_streaming.rtc import batch, rtp, srtp
from voice_streaming.rtc.fanout import MAX_PAYLOAD_BYTES, Destination, Fanout
from voice_streaming.rtc.shared_socket import Address, SharedSocket
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.track import OpusTrack

UNREACHABLE: Address = ("127.0.0.1", 0)
"""No datagram can be sent to port 0."""
PAYLOAD_TYPE = 96


@pytest.fixture(params=["sendmmsg", "sendto"], autouse=True)
def way_out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of sending a batch: Linux's system call, and one call for each datagram, as on macOS."""
    if request.param == "sendto":
        monkeypatch.setattr(batch, "_sendmmsg", None)
    elif batch._sendmmsg is None:
        pytest.skip("this system has no sendmmsg")


class Receiver:
    """A client: a socket, and its end of the keys."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.address: Address = self.socket.getsockname()[:2]
        key = random.randbytes(28)
        self.sending, self._receiving = (
            Session(Policy(key=key, ssrc_type=kind, srtp_profile=Policy.SRTP_PROFILE_AEAD_AES_128_GCM))
            for kind in (Policy.SSRC_ANY_OUTBOUND, Policy.SSRC_ANY_INBOUND)
        )

    def destination(self, shared: SharedSocket, payload_type: int = PAYLOAD_TYPE) -> Destination:
        return Destination(shared, self.address, self.sending, payload_type)

    def datagrams(self) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096))
            except BlockingIOError:
                return found

    def packets(self) -> list[rtp.RtpPacket]:
        """What arrived, decrypted; fails on what does not decrypt."""
        parsed = [rtp.parse_rtp(self._receiving.unprotect(datagram)) for datagram in self.datagrams()]
        assert None not in parsed
        return [packet for packet in parsed if packet is not None]

    def payloads(self) -> list[bytes]:
        return [packet.payload for packet in self.packets()]


@pytest.fixture
def new_receiver() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(host: str = "127.0.0.1") -> Receiver:
        made.append(Receiver(host))
        return made[-1]

    yield make
    for one in made:
        one.socket.close()


class Voice:
    """A track with its fan-out, and a source that can be placed anywhere in the sequence numbers."""

    def __init__(self, first_sequence: int) -> None:
        self.shared = SharedSocket("127.0.0.1")
        self.relay = VoiceRelay()
        self.track = OpusTrack()
        self.track._timeline.sequence = self.sequence = first_sequence
        self.fanout = Fanout(self.relay, self.track)

    def send(self, payload: bytes = b"voice", *, step: int = 1, marker: bool = False) -> OpusPacket:
        """Publishes the packet `step` places behind the newest, as a sender's peer does."""
        sequence = self.sequence + step
        self.sequence = max(self.sequence, sequence)
        packet = OpusPacket(payload, sequence, sequence * 960, marker, sequence * 0.02)
        hand_out(self.track, packet)
        return packet

    def join(self, receiver: Receiver, payload_type: int = PAYLOAD_TYPE) -> Destination:
        destination = receiver.destination(self.shared, payload_type)
        self.fanout.add(destination)
        return destination


@pytest.fixture
async def new_voice() -> AsyncIterator[Callable[..., Voice]]:
    made: list[Voice] = []

    def make(first_sequence: int = 5_000) -> Voice:
        made.append(Voice(first_sequence))
        return made[-1]

    yield make
    for one in made:
        one.shared.close()


@pytest.fixture
async def voice(new_voice: Callable[..., Voice]) -> Voice:
    return new_voice()


async def test_every_receiver_gets_every_packet_byte_for_byte(
    voice: Voice, new_receiver: Callable[[], Receiver]
) -> None:
    receivers = [new_receiver() for _ in range(30)]
    for receiver in receivers:
        voice.join(receiver)
    sent = [voice.send(random.randbytes(number % 200 + 1), marker=number == 0) for number in range(60)]
    for receiver in receivers:
        packets = receiver.packets()
        assert [packet.payload for packet in packets] == [packet.payload for packet in sent]
        assert [packet.timestamp for packet in packets] == [packet.timestamp & 0xFFFFFFFF for packet in sent]
        assert [packet.sequence for packet in packets] == [packet.sequence for packet in sent]
        assert [packet.marker for packet in packets] == [True] + [False] * 59
        assert {(packet.ssrc, packet.payload_type) for packet in packets} == {(voice.fanout.ssrc, PAYLOAD_TYPE)}
    assert (voice.fanout.packets, voice.fanout.forwarded, voice.fanout.drops.total) == (60, 1800, 0)
    assert voice.fanout.octets == sum(len(packet.payload) for packet in sent)


async def test_holes_pauses_and_late_packets_stay_as_they_were(
    voice: Voice, new_receiver: Callable[[], Receiver]
) -> None:
    receiver = new_receiver()
    voice.join(receiver)
    steps = (1, 1, 3, -1, 5, -2, 1)
    sent = [voice.send(step=step) for step in steps]
    assert [packet.sequence for packet in receiver.packets()] == [packet.sequence & 0xFFFF for packet in sent]


async def test_receivers_come_and_go_in_the_middle(voice: Voice, new_receiver: Callable[[], Receiver]) -> None:
    """Growth, swaps and regrouping: at every step each receiver decrypts what it should, and nothing else."""
    chance = random.Random(3)
    clients = [new_receiver() for _ in range(40)]
    there: dict[Receiver, Destination] = {}
    for _ in range(250):
        absent, left = [one for one in clients if one not in there], None
        if absent and chance.random() < 0.55:
            there[absent[0]] = voice.join(absent[0], chance.choice([96, 109, 111]))
        elif there:
            left = chance.choice(list(there))
            voice.fanout.remove(there.pop(left))
        # Once in a while across a boundary of sequence numbers, so that newcomers form groups of their own.
        sent = voice.send(chance.randbytes(20), step=chance.choice([1, 1, 1, 2_000]))
        assert len(voice.fanout) == len(there)
        for one in clients:
            packets = one.packets()
            if one in there:
                assert [packet.payload for packet in packets] == [sent.payload]
                assert packets[0].payload_type == there[one].payload_type
            else:
                assert packets == []
        if left is not None:
            # Who comes back does so with new keys.
            clients[clients.index(left)] = new_receiver()


async def test_it_is_attached_only_while_it_has_lanes(voice: Voice, new_receiver: Callable[[], Receiver]) -> None:
    receivers = [new_receiver(), new_receiver()]
    voice.send()
    assert voice.fanout.packets == 0
    destinations = [voice.join(receiver) for receiver in receivers]
    voice.send()
    voice.fanout.remove(destinations[0])
    voice.fanout.remove(destinations[0])
    voice.send()
    voice.fanout.remove(destinations[1])
    voice.send()
    assert voice.fanout.packets == 2
    assert voice.track._sinks == ()
    third = new_receiver()
    voice.join(third)
    voice.send(b"again")
    assert (third.payloads(), voice.fanout.packets) == ([b"again"], 3)


@pytest.mark.parametrize("first", [0x7FFE, 0x7FFF, 0x8000, 0x8001, 0xFFFE, 0xFFFF, 0x10000, 0x17FFF, 0x18000])
@pytest.mark.parametrize("lost", [0, 1, 5])
async def test_who_joins_near_a_wrap_understands_what_comes_even_if_the_first_packets_are_lost(
    first: int, lost: int, new_voice: Callable[[int], Voice], new_receiver: Callable[[], Receiver]
) -> None:
    """Or its rollover counter would never again agree with ours (RFC 3711 section 3.3.1)."""
    voice, receiver = new_voice(first), new_receiver()
    voice.join(receiver)
    for _ in range(lost):
        voice.send()
    assert len(receiver.datagrams()) == lost
    sent = [voice.send(b"%d" % number) for number in range(20)]
    assert receiver.payloads() == [packet.payload for packet in sent]


@pytest.mark.parametrize("first", [0x8000, 0x8001, 0x8003, 0x10000, 0x10002])
async def test_a_late_packet_right_after_joining_near_a_wrap_may_be_lost(
    first: int, new_voice: Callable[[int], Voice], new_receiver: Callable[[], Receiver]
) -> None:
    """It has a number from before the first one's: from behind the wrap, if the first one's is just past it."""
    voice, receiver = new_voice(first), new_receiver()
    voice.join(receiver)
    voice.send(step=1)
    voice.send(step=-7)
    assert len(receiver.datagrams()) == 2
    sent = [voice.send(b"%d" % number) for number in range(20)]
    assert receiver.payloads() == [packet.payload for packet in sent]


async def test_one_receiver_stays_for_three_wraps(
    new_voice: Callable[[int], Voice], new_receiver: Callable[[], Receiver]
) -> None:
    voice, receiver = new_voice(0x7F00), new_receiver()
    voice.join(receiver)
    for _ in range(3 * 0x10000 // 500):
        sent = voice.send(step=500)
        assert [packet.sequence for packet in receiver.packets()] == [sent.sequence & 0xFFFF]


async def test_what_srtp_refuses_never_leaves_in_the_clear(voice: Voice, new_receiver: Callable[[], Receiver]) -> None:
    receivers = [new_receiver() for _ in range(4)]
    destinations = [voice.join(receiver) for receiver in receivers]
    # These two keys have been used with the number that comes next, and a number is never used twice.
    for spoilt in (0, 2):
        used = rtp.pack_header(PAYLOAD_TYPE, False, voice.sequence + 1, 0, voice.fanout.ssrc)
        receivers[spoilt].sending.protect(used + b"other")
    voice.send(b"secret words")
    assert [receiver.datagrams() for receiver in receivers][0::2] == [[], []]
    assert [destination.dropped for destination in destinations] == [1, 0, 1, 0]
    assert (voice.fanout.drops.total, voice.fanout.forwarded) == (2, 2)
    voice.send(b"next")
    assert [receiver.payloads() for receiver in receivers] == [[b"next"]] * 4


async def test_an_unreachable_receiver_is_counted_and_its_neighbours_are_served(
    voice: Voice, new_receiver: Callable[[], Receiver]
) -> None:
    receivers = [new_receiver() for _ in range(3)]
    destinations = [voice.join(receiver) for receiver in receivers]
    gone = Destination(voice.shared, UNREACHABLE, new_receiver().sending, PAYLOAD_TYPE)
    voice.fanout.add(gone)
    voice.fanout.remove(destinations[1])
    for _ in range(5):
        voice.send()
    assert (gone.dropped, voice.fanout.drops.total, voice.fanout.forwarded) == (5, 5, 10)
    assert [len(receiver.payloads()) for receiver in receivers] == [5, 0, 5]


async def test_a_payload_that_no_datagram_has_room_for_is_dropped_and_nothing_else(
    voice: Voice, new_receiver: Callable[[], Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    receivers = [new_receiver() for _ in range(9)]
    for receiver in receivers:
        voice.join(receiver)
    for size in (MAX_PAYLOAD_BYTES + 1, batch.SLOT_BYTES - rtp.HEADER_BYTES, batch.SLOT_BYTES, 60_000):
        voice.send(bytes(size))
    assert (voice.fanout.drops.total, voice.fanout.forwarded, voice.fanout.packets) == (4 * 9, 0, 0)
    longest = voice.send(random.randbytes(MAX_PAYLOAD_BYTES)).payload
    for receiver in receivers:
        (datagram,) = receiver.datagrams()
        assert len(datagram) == rtp.HEADER_BYTES + len(longest) + 16
    assert caplog.records == []


async def test_a_lane_is_redirected_on_the_same_timeline(voice: Voice, new_receiver: Callable[[], Receiver]) -> None:
    receiver, neighbour, elsewhere = new_receiver(), new_receiver(), new_receiver()
    destination = voice.join(receiver)
    voice.join(neighbour)
    first = voice.send(b"here")
    assert receiver.payloads() == [b"here"]
    another = SharedSocket("127.0.0.1")
    voice.fanout.redirect(destination, another, elsewhere.address)
    second = voice.send(b"there")
    assert receiver.datagrams() == []
    (datagram,) = elsewhere.datagrams()
    packet = rtp.parse_rtp(receiver._receiving.unprotect(datagram))
    assert packet is not None
    assert (packet.payload, packet.sequence - first.sequence) == (b"there", second.sequence - first.sequence)
    assert neighbour.payloads() == [b"here", b"there"]
    voice.fanout.remove(destination)
    voice.fanout.redirect(destination, voice.shared, receiver.address)
    voice.send()
    assert (receiver.datagrams(), elsewhere.datagrams()) == ([], [])
    another.close()


async def test_ipv6_and_ipv4_receivers_of_one_track(voice: Voice, new_receiver: Callable[..., Receiver]) -> None:
    six = SharedSocket("::1")
    receivers = [new_receiver("::1"), new_receiver("127.0.0.1"), new_receiver("::1")]
    for receiver in receivers:
        voice.fanout.add(receiver.destination(six if ":" in receiver.address[0] else voice.shared))
    sent = [voice.send(b"%d" % number).payload for number in range(5)]
    assert [receiver.payloads() for receiver in receivers] == [sent] * 3
    six.close()


async def test_a_report_has_the_true_counters(voice: Voice, new_receiver: Callable[[], Receiver]) -> None:
    early, late = voice.join(new_receiver()), new_receiver()
    gone = Destination(voice.shared, UNREACHABLE, new_receiver().sending, PAYLOAD_TYPE)
    assert voice.fanout.sender_report(early, 0.0) is None
    for _ in range(3):
        voice.send(b"12345")
    voice.fanout.add(gone)
    joined = voice.join(late)
    assert voice.fanout.sender_report(joined, 0.0) is None
    newest = voice.send(b"1234567")
    for destination, packets, octets in ((early, 4, 22), (joined, 1, 7)):
        report = voice.fanout.sender_report(destination, newest.arrived_s + 0.5)
        assert report is not None
        assert (report.ssrc, report.packets, report.octets) == (voice.fanout.ssrc, packets, octets)
        assert report.rtp_timestamp == (newest.timestamp + 24_000) & 0xFFFFFFFF
        assert abs(report.ntp - rtp.ntp_time()) < 5 << 32
    assert voice.fanout.sender_report(gone, 0.0) is None


async def test_a_report_counts_no_bytes_that_were_not_sent(voice: Voice, new_receiver: Callable[[], Receiver]) -> None:
    receiver = new_receiver()
    destination = voice.join(receiver)
    used = rtp.pack_header(PAYLOAD_TYPE, False, voice.sequence + 1, 0, voice.fanout.ssrc)
    receiver.sending.protect(used + b"other")
    voice.send(b"refused by SRTP")
    sent = voice.send(b"sent")
    report = voice.fanout.sender_report(destination, sent.arrived_s)
    assert report is not None
    assert (report.packets, report.octets) == (1, 4)


async def test_a_late_packet_does_not_set_a_report_back(voice: Voice, new_receiver: Callable[[], Receiver]) -> None:
    destination = voice.join(new_receiver())
    newest = voice.send(step=5)
    voice.send(step=-3)
    report = voice.fanout.sender_report(destination, newest.arrived_s)
    assert report is not None
    assert report.rtp_timestamp == newest.timestamp & 0xFFFFFFFF


async def test_a_track_that_has_ended_takes_lanes_and_gives_them_back(
    voice: Voice, new_receiver: Callable[[], Receiver]
) -> None:
    voice.track.stop()
    destination = voice.join(new_receiver())
    voice.send()
    voice.fanout.remove(destination)
    assert len(voice.fanout) == 0


def test_the_model_of_a_client_refuses_what_is_not_for_it() -> None:
    """Or the tests above would prove nothing."""
    mine, other = Receiver(), Receiver()
    datagram = mine.sending.protect(rtp.pack_header(96, False, 1, 1, 1) + b"voice")
    with pytest.raises(SrtpError):
        other._receiving.unprotect(datagram)
    mine.socket.close()
    other.socket.close()


def test_the_longest_payload_leaves_room_for_the_header_and_the_longest_trailer() -> None:
    """Else libsrtp would write into the next receiver's packet."""
    assert rtp.HEADER_BYTES + MAX_PAYLOAD_BYTES + srtp.MAX_TRAILER_BYTES == batch.SLOT_BYTES
