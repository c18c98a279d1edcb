"""SRTP in place: the arithmetic, and what is used of pylibsrtp that it does not promise to keep."""

from __future__ import annotations

import ctypes
import random
import struct

import numpy as np
import pylibsrtp
import pytest
from pylibsrtp import Policy, Session

from voice_streaming.rtc.rtp import pack_header
from voice_streaming.rtc.srtp import MAX_TRAILER_BYTES, BatchProtection, Incoming

PROFILES = {
    "aes128-sha1": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30, 10),
    "aes128-gcm": (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 28, 16),
    "aes256-gcm": (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 44, 16),
}
ROW_BYTES = 512
LOOK_AT = "voice_streaming/rtc/srtp.py uses names that pylibsrtp does not promise to keep: see what became of"


def session_pair(profile: str = "aes128-gcm") -> tuple[Session, Session]:
    """Two ends with one key of their own: who protects, who unprotects."""
    number, key_bytes, _ = PROFILES[profile]
    key = random.randbytes(key_bytes)
    return (
        Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=number)),
        Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=number)),
    )


class Rows:
    """Memory for datagrams and their eight-byte lengths."""

    def __init__(self, count: int) -> None:
        self.slots = np.zeros((count, ROW_BYTES), np.uint8)
        self.lengths = np.zeros(count, np.uint64)

    def addresses(self, index: int) -> tuple[int, int]:
        return int(self.slots.ctypes.data) + index * ROW_BYTES, int(self.lengths.ctypes.data) + index * 8

    def fill(self, datagram: bytes) -> None:
        self.slots[:, : len(datagram)] = np.frombuffer(datagram, np.uint8)
        self.lengths[:] = len(datagram)

    def datagram(self, index: int) -> bytes:
        return self.slots[index, : int(self.lengths[index])].tobytes()


def voice(sequence: int, payload: bytes = b"voice") -> bytes:
    return pack_header(96, False, sequence, sequence * 960, 77) + payload


@pytest.mark.parametrize("profile", PROFILES)
def test_each_packet_is_protected_for_its_own_session(profile: str) -> None:
    rows, places = Rows(5), BatchProtection()
    pairs = [session_pair(profile) for _ in range(5)]
    for index, (sender, _) in enumerate(pairs):
        places.add(sender, *rows.addresses(index))
    for sequence in range(65_500, 65_600):
        datagram = voice(sequence, random.randbytes(sequence % 60))
        rows.fill(datagram)
        assert places.protect() == []
        for index, (_, receiver) in enumerate(pairs):
            protected = rows.datagram(index)
            assert len(protected) == len(datagram) + PROFILES[profile][2]
            assert len(protected) - len(datagram) <= MAX_TRAILER_BYTES
            assert receiver.unprotect(protected) == datagram


def test_a_packet_is_the_same_as_pylibsrtps_own() -> None:
    number, key_bytes, _ = PROFILES["aes128-gcm"]
    key = random.randbytes(key_bytes)
    ours, theirs = (Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=number)) for _ in range(2))
    rows, places = Rows(1), BatchProtection()
    places.add(ours, *rows.addresses(0))
    rows.fill(voice(1))
    assert places.protect() == []
    assert rows.datagram(0) == theirs.protect(voice(1))


def test_what_is_refused_is_named_and_left_in_the_clear() -> None:
    rows, places = Rows(4), BatchProtection()
    pairs = [session_pair() for _ in range(4)]
    for index, (sender, _) in enumerate(pairs):
        places.add(sender, *rows.addresses(index))
    # A sequence that these two have sent already: libsrtp refuses to use a key's number twice.
    for index in (1, 3):
        pairs[index][0].protect(voice(9))
    rows.fill(voice(9))
    assert places.protect() == [1, 3]
    for index, (_, receiver) in enumerate(pairs):
        if index in (1, 3):
            assert rows.datagram(index) == voice(9)
        else:
            assert receiver.unprotect(rows.datagram(index)) == voice(9)


def test_sessions_come_and_go_while_places_stay() -> None:
    """The last session takes the row of the one that is removed, as `Batch.remove` does with addresses."""
    chance = random.Random(7)
    rows, places = Rows(40), BatchProtection()
    there: list[tuple[Session, Session]] = []
    for sequence in range(300):
        if len(there) < 40 and chance.random() < 0.55:
            there.append(session_pair())
            places.add(there[-1][0], *rows.addresses(len(there) - 1))
        elif there:
            index = chance.randrange(len(there))
            places.remove(index)
            last = there.pop()
            if index < len(there):
                there[index] = last
        rows.fill(voice(sequence))
        assert places.protect() == []
        for index, (_, receiver) in enumerate(there):
            assert receiver.unprotect(rows.datagram(index)) == voice(sequence)
        for index in range(len(there), 40):
            assert rows.datagram(index) == voice(sequence), "no place is left behind"


def test_memory_may_move() -> None:
    rows, places = Rows(3), BatchProtection()
    pairs = [session_pair() for _ in range(3)]
    for index, (sender, _) in enumerate(pairs):
        places.add(sender, *rows.addresses(index))
    moved = Rows(3)
    places.move([moved.addresses(index) for index in range(3)])
    rows.fill(voice(1))
    moved.fill(voice(1))
    assert places.protect() == []
    for index, (_, receiver) in enumerate(pairs):
        assert rows.datagram(index) == voice(1)
        assert receiver.unprotect(moved.datagram(index)) == voice(1)


def test_a_session_lives_as_long_as_its_place() -> None:
    rows, places = Rows(1), BatchProtection()
    sender, receiver = session_pair()
    places.add(sender, *rows.addresses(0))
    del sender
    for sequence in range(20):
        # Whatever takes the memory of a session that was freed.
        session_pair()
        rows.fill(voice(sequence))
        assert places.protect() == []
        assert receiver.unprotect(rows.datagram(0)) == voice(sequence)


# Decrypting what came in


def incoming(datagram: bytes) -> Incoming:
    one = Incoming(2048)
    one.memory[: len(datagram)] = datagram
    one.hold(len(datagram), 7.0)
    return one


@pytest.mark.parametrize("profile", PROFILES)
def test_a_packet_is_decrypted_where_it_lies_and_only_once(profile: str) -> None:
    sender, receiver = session_pair(profile)
    for sequence in range(65_500, 65_600):
        datagram = voice(sequence, random.randbytes(sequence % 60))
        protected = sender.protect(datagram)
        one = incoming(protected)
        assert one.unprotect(receiver)
        assert bytes(one.datagram) == datagram
        assert not incoming(protected).unprotect(receiver), "a replay"


def test_a_report_is_decrypted_where_it_lies() -> None:
    sender, receiver = session_pair()
    report = struct.pack("!BBHI", 0x80, 201, 1, 77)
    one = incoming(sender.protect_rtcp(report))
    assert one.unprotect_rtcp(receiver)
    assert bytes(one.datagram) == report
    assert not incoming(report).unprotect_rtcp(receiver)


def test_what_is_forged_or_none_is_refused() -> None:
    sender, receiver = session_pair()
    good = sender.protect(voice(1))
    for cut in range(len(good)):
        assert not incoming(good[:cut]).unprotect(receiver)
        assert not incoming(good[:cut]).unprotect_rtcp(receiver)
    for at in range(len(good)):
        bent = bytearray(good)
        bent[at] ^= 0x10
        assert not incoming(bytes(bent)).unprotect(receiver)
    for _ in range(500):
        assert not incoming(random.randbytes(random.randrange(2049))).unprotect(receiver)
    assert incoming(good).unprotect(receiver)


def test_a_copy_is_kept_when_the_next_one_comes() -> None:
    one = incoming(b"first")
    copy = one.copy()
    one.memory[:6] = b"second"
    assert (bytes(copy.datagram), copy.arrived_s) == (b"first", 7.0)
    assert bytes(incoming(b"").copy().datagram) == b""


# What is used of pylibsrtp 1.0 beyond its documentation


def test_pylibsrtp_still_binds_libsrtp_by_cffi() -> None:
    binding = getattr(pylibsrtp, "_binding", None)
    assert binding is not None, f"{LOOK_AT} pylibsrtp._binding"
    assert hasattr(binding, "ffi"), f"{LOOK_AT} pylibsrtp._binding.ffi"
    ffi = binding.ffi
    for name in ("srtp_protect", "srtp_unprotect", "srtp_unprotect_rtcp"):
        function = getattr(getattr(binding, "lib", None), name, None)
        assert function is not None, f"{LOOK_AT} pylibsrtp._binding.lib.{name}"
        kind = ffi.typeof(function)
        assert [argument.kind for argument in kind.args] == ["pointer", "pointer", "pointer"], (
            f"{LOOK_AT} the arguments of {name}: libsrtp 3 takes other ones"
        )
        assert kind.args[1].cname == "void *", f"{LOOK_AT} the second argument of {name}, the packet"
        assert kind.args[2].cname == "int *", f"{LOOK_AT} the third argument of {name}, the length"
    assert ffi.sizeof("int") == ctypes.sizeof(ctypes.c_int32), f"{LOOK_AT} the size of a length"


def test_pylibsrtps_session_still_holds_its_handle() -> None:
    from pylibsrtp._binding import ffi, lib

    sender, receiver = session_pair()
    handle = getattr(sender, "_srtp", None)
    assert handle is not None, f"{LOOK_AT} Session._srtp"
    length = ffi.new("int *", len(voice(1)))
    memory = ffi.new("char[]", voice(1) + bytes(MAX_TRAILER_BYTES))
    assert lib.srtp_protect(handle[0], memory, length) == 0, f"{LOOK_AT} Session._srtp[0]"
    assert receiver.unprotect(bytes(ffi.buffer(memory, length[0]))) == voice(1)


def test_a_trailer_is_no_longer_than_libsrtp_says() -> None:
    longest = getattr(pylibsrtp, "SRTP_MAX_TRAILER_LEN", None)
    assert longest == MAX_TRAILER_BYTES, f"{LOOK_AT} pylibsrtp.SRTP_MAX_TRAILER_LEN"
