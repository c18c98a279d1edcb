"""Sends a track's packets to all of its WebRTC receivers, in one call that awaits nothing.

All receivers of a track share its header and payload: an SSRC need only be unique within an RTP session, and each
receiver is a session of its own (RFC 3550 section 3). What differs is the SRTP key, so a packet is copied once for each
receiver, protected in place, and all copies are sent in one system call.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from pylibsrtp import Session

from ..media.opus import CLOCK_RATE_HZ, OpusPacket
from ..streams.relay import VoiceRelay
from ..streams.timeline import MAX_MISORDER
from ..streams.track import OpusTrack
from .batch import SLOT_BYTES, Batch
from .rtp import HEADER_BYTES, SenderReport, ntp_time, pack_header
from .shared_socket import Address, SharedSocket
from .srtp import MAX_TRAILER_BYTES, BatchProtection

MAX_PAYLOAD_BYTES = SLOT_BYTES - HEADER_BYTES - MAX_TRAILER_BYTES
"""Beyond it, libsrtp would write into the next row."""
_HALF = 0x8000
"""Half of the sequence numbers."""


@dataclass
class Drops:
    """Packets that were not sent to a receiver, by reason."""

    oversized: int = 0
    """Payload longer than MAX_PAYLOAD_BYTES."""
    unprotected: int = 0
    """Refused by SRTP: older than the replay window, or the key's packet limit is reached (RFC 3711 section 9.2)."""
    untaken: int = 0
    """Refused by the socket: it was full, or the address cannot be reached."""

    @property
    def total(self) -> int:
        return self.oversized + self.unprotected + self.untaken

    def add(self, other: Drops) -> None:
        self.oversized += other.oversized
        self.unprotected += other.unprotected
        self.untaken += other.untaken


@dataclass(eq=False)
class Destination:
    """A receiver's route, SRTP session and counters."""

    shared: SharedSocket
    address: Address
    session: Session
    payload_type: int
    dropped: int = 0
    """Packets that SRTP or the socket refused; without oversized ones, which are sent to no receiver."""
    dropped_octets: int = 0
    """Their payload bytes."""
    packets_before: int = 0
    """Packets and payload bytes of the track that were sent before this receiver joined."""
    octets_before: int = 0


class _Group:
    """The destinations that get identical packets from one socket: same payload type, same half of sequence numbers."""

    def __init__(self, shared: SharedSocket, payload_type: int, sequence_offset: int) -> None:
        self.payload_type = payload_type
        self.sequence_offset = sequence_offset
        self.destinations: list[Destination] = []
        self._batch = Batch(shared)
        self._protection = BatchProtection()

    def add(self, destination: Destination) -> None:
        slots = self._batch.slots
        index = self._batch.add(destination.address)
        self._protection.add(destination.session, self._batch.slot_address(index), self._batch.length_address(index))
        if self._batch.slots is not slots:
            self._protection.move(
                [(self._batch.slot_address(i), self._batch.length_address(i)) for i in range(index + 1)]
            )
        self.destinations.append(destination)

    def remove(self, destination: Destination) -> None:
        index = self.destinations.index(destination)
        self._batch.remove(index)
        self._protection.remove(index)
        last = self.destinations.pop()
        if last is not destination:
            self.destinations[index] = last

    def send(self, ssrc: int, packet: OpusPacket, drops: Drops) -> int:
        """Sends the packet to every destination. Returns to how many it was sent; the others are added to `drops`."""
        size = self._batch.size
        sequence = packet.sequence + self.sequence_offset
        header = pack_header(self.payload_type, packet.marker, sequence, packet.timestamp, ssrc)
        self._batch.fill(header + packet.payload)
        refused = self._protection.protect()
        if refused:
            # Those rows are not encrypted and must not be sent: the others are sent one by one.
            plaintext = set(refused)
            untaken = [row for row in range(size) if row not in plaintext and not self._batch.send_row(row)]
        else:
            untaken = self._batch.send()
        drops.unprotected += len(refused)
        drops.untaken += len(untaken)
        for row in (*refused, *untaken):
            self.destinations[row].dropped += 1
            self.destinations[row].dropped_octets += len(packet.payload)
        return size - len(refused) - len(untaken)


class Fanout:
    """The receivers of one track. It is attached to the track while it has any."""

    def __init__(self, relay: VoiceRelay, track: OpusTrack) -> None:
        self.ssrc = random.randrange(1, 1 << 32)
        self.packets = 0
        """Packets sent, each counted once for all receivers."""
        self.octets = 0
        self.forwarded = 0
        """Packets times receivers."""
        self.drops = Drops()
        self._relay = relay
        self._track = track
        self._groups: dict[tuple[SharedSocket, int, int], _Group] = {}
        self._group_of: dict[Destination, _Group] = {}
        self._newest: OpusPacket | None = None

    def __len__(self) -> int:
        return len(self._group_of)

    def add(self, destination: Destination) -> None:
        """Sends the destination every packet from the next one on."""
        # A session that starts near the wrap of sequence numbers and loses the first packets on one side of it would
        # never again agree on the rollover counter (RFC 3711 section 3.3.1). So it starts in the lower half, always,
        # and not so low that a late packet is from behind the wrap.
        offset = (self._track.sequence - MAX_MISORDER) & _HALF
        destination.packets_before, destination.octets_before = self.packets, self.octets
        self._join(destination, offset)
        if len(self._group_of) == 1:
            self._relay.attach(self._track, self)

    def remove(self, destination: Destination) -> None:
        """Stops sending to the destination; safe when it was not added."""
        if destination in self._group_of:
            self._leave(destination)
            if not self._group_of:
                self._relay.detach(self._track, self)

    def redirect(self, destination: Destination, shared: SharedSocket, address: Address) -> None:
        """Sends the destination's packets to this address from now on, as ICE nominated another pair."""
        group = self._group_of.get(destination)
        if group is not None:
            self._leave(destination)
        destination.shared, destination.address = shared, address
        if group is not None:
            self._join(destination, group.sequence_offset)

    def renumber(self, destination: Destination, payload_type: int) -> None:
        """The receiver calls Opus by another payload type from now on."""
        group = self._group_of.get(destination)
        if group is not None and payload_type != destination.payload_type:
            self._leave(destination)
            destination.payload_type = payload_type
            self._join(destination, group.sequence_offset)

    def _join(self, destination: Destination, offset: int) -> None:
        key = (destination.shared, destination.payload_type, offset)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(destination.shared, destination.payload_type, offset)
        group.add(destination)
        self._group_of[destination] = group

    def _leave(self, destination: Destination) -> None:
        group = self._group_of.pop(destination)
        group.remove(destination)
        if not group.destinations:
            self._groups = {key: other for key, other in self._groups.items() if other is not group}

    def on_packet(self, packet: OpusPacket) -> None:
        if len(packet.payload) > MAX_PAYLOAD_BYTES:
            self.drops.oversized += len(self._group_of)
            return
        for group in self._groups.values():
            self.forwarded += group.send(self.ssrc, packet, self.drops)
        self.packets += 1
        self.octets += len(packet.payload)
        if self._newest is None or packet.sequence > self._newest.sequence:
            self._newest = packet

    def on_end(self) -> None:
        """A no-op: receivers are closed by their owner."""

    def sender_report(self, destination: Destination, now_s: float) -> SenderReport | None:
        """What has been sent to the destination (RFC 3550 section 6.4.1); None before its first packet.

        The timestamp is that of `now_s` (monotonic seconds), extrapolated from the newest packet's arrival.
        """
        packets = self.packets - destination.packets_before - destination.dropped
        if self._newest is None or packets <= 0:
            return None
        ticks = self._newest.timestamp + round((now_s - self._newest.arrived_s) * CLOCK_RATE_HZ)
        octets = self.octets - destination.octets_before - destination.dropped_octets
        return SenderReport(self.ssrc, ntp_time(), ticks & 0xFFFF_FFFF, packets & 0xFFFF_FFFF, octets & 0xFFFF_FFFF)
