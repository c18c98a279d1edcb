"""A WebRTC peer that costs next to nothing: one UDP socket, no thread, no task, no queue, no codec.

It is as much of a browser as the server can see: it answers and makes ICE checks, shakes hands in DTLS, speaks SRTP,
keeps its consent fresh and reports what it received. Its owner reads the socket, feeds `take` with every datagram that
is not RTP, and calls `tick` now and then.
"""

import datetime
import socket
import struct
import sys
import time
from dataclasses import dataclass

import light_stun
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from light_sdp import Local, Remote
from OpenSSL import SSL
from pylibsrtp import Policy, Session

# libwebrtc (and so Chromium and Firefox) pings a stable pair this often, and reports on audio this often.
CONSENT_INTERVAL_S = 2.5
REPORT_INTERVAL_S = 5.0
# First ICE check and its repetition: RFC 8445 section 14.2, Ta = 50 ms.
_CHECK_INTERVAL_S = 0.05
_RECEIVE_BUFFER_BYTES = 1 << 20
# Linux's SO_TIMESTAMPNS (asm-generic/socket.h), which Python's socket module does not name.
_SO_TIMESTAMPNS = 35


@dataclass(frozen=True)
class _SrtpProfile:
    name: bytes
    libsrtp: int
    key_bytes: int
    salt_bytes: int


# In the order in which Chromium offers them.
_PROFILES = (
    _SrtpProfile(b"SRTP_AES128_CM_SHA1_80", Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14),
    _SrtpProfile(b"SRTP_AEAD_AES_256_GCM", Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12),
    _SrtpProfile(b"SRTP_AEAD_AES_128_GCM", Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12),
)


class Identity:
    """A certificate and its DTLS context, shared by every peer of a process."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "light peer")])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        certificate = builder.not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
        self.fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
        self.context = SSL.Context(SSL.DTLS_METHOD)
        # The server's certificate is not compared with its fingerprint: a load generator has nothing to protect.
        self.context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        self.context.use_certificate(certificate)
        self.context.use_privatekey(key)
        self.context.set_tlsext_use_srtp(b":".join(profile.name for profile in _PROFILES))


class LightPeer:
    """One peer on 127.0.0.1, whose socket stamps what arrives, where the system can.

    `ready` once media can flow; `closed` once the other side has said goodbye in DTLS.
    """

    def __init__(self, identity: Identity, controlling: bool) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        if sys.platform == "linux":
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.port: int = self.socket.getsockname()[1]
        self.local = Local.random(self.port, identity.fingerprint)
        self.ready = False
        self.closed = False
        self.srtp_profile = ""
        self._controlling = controlling
        self._ssl = SSL.Connection(identity.context)
        self._remote: Remote | None = None
        self._pair_valid = False
        self._next_check_s = 0.0

    def connect(self, remote: Remote) -> None:
        """Begin to check the other side's first candidate; it becomes the only address that this socket hears."""
        self._remote = remote
        self.socket.connect(remote.address)
        if remote.takes_dtls_server_role(self._controlling):
            self._ssl.set_connect_state()
        else:
            self._ssl.set_accept_state()
        self.tick(time.monotonic())

    def tick(self, now_s: float) -> None:
        """Send what is due at that monotonic time: an ICE check, a consent request, a DTLS retransmission."""
        if self._remote is None or self.closed:
            return
        if now_s >= self._next_check_s:
            self._next_check_s = now_s + (CONSENT_INTERVAL_S if self.ready else _CHECK_INTERVAL_S)
            username = f"{self._remote.ice_ufrag}:{self.local.ice_ufrag}"
            self.send(light_stun.binding_request(username, self._remote.ice_pwd, self._controlling))
        if self._pair_valid and not self.ready:
            timeout_s = self._ssl.DTLSv1_get_timeout()
            if timeout_s is not None and timeout_s <= 0:
                self._ssl.DTLSv1_handle_timeout()
                self._flush_dtls()

    def take(self, datagram: bytes) -> None:
        """A datagram that is neither RTP nor RTCP: STUN or DTLS (RFC 7983)."""
        first = datagram[0]
        if first < 4:
            self._take_stun(datagram)
        elif 20 <= first <= 63:
            self._ssl.bio_write(datagram)
            self._advance_dtls()

    def send(self, datagram: bytes) -> bool:
        """False where the kernel would not take it; the datagram is then lost, as on any network."""
        try:
            self.socket.send(datagram)
        except (BlockingIOError, ConnectionRefusedError):
            return False
        return True

    def protect(self, packet: bytes) -> bytes:
        protected: bytes = self._outbound.protect(packet)
        return protected

    def unprotect(self, datagram: bytes) -> bytes:
        """The RTP packet, checked and decrypted. Raises `pylibsrtp.Error` for a forged or repeated one."""
        packet: bytes = self._inbound.unprotect(datagram)
        return packet

    def unprotect_rtcp(self, datagram: bytes) -> bytes:
        packet: bytes = self._inbound.unprotect_rtcp(datagram)
        return packet

    def send_rtcp(self, packet: bytes) -> bool:
        return self.send(self._outbound.protect_rtcp(packet))

    def close(self) -> None:
        """Close as a browser does: a DTLS alert, then silence."""
        if self.ready and not self.closed:
            self._ssl.shutdown()
            self._flush_dtls()
        self.closed = True
        self.socket.close()

    def _take_stun(self, datagram: bytes) -> None:
        kind = light_stun.message_type(datagram)
        if self._remote is None:
            return
        if kind == light_stun.BINDING_REQUEST:
            self.send(light_stun.binding_response(datagram, self._remote.address, self.local.ice_pwd))
        elif kind == light_stun.BINDING_RESPONSE and not self._pair_valid:
            self._pair_valid = True
            self._advance_dtls()

    def _advance_dtls(self) -> None:
        try:
            if self.ready:
                self._ssl.recv(1500)
            else:
                self._ssl.do_handshake()
                self._derive_srtp()
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed = True
        self._flush_dtls()

    def _flush_dtls(self) -> None:
        try:
            while True:
                self.send(self._ssl.bio_read(4096))
        except SSL.WantReadError:
            return

    def _derive_srtp(self) -> None:
        """Keys as RFC 5764 section 4.2 lays them out: client key, server key, client salt, server salt."""
        chosen = self._ssl.get_selected_srtp_profile()
        profile = next(profile for profile in _PROFILES if profile.name == chosen)
        key, salt = profile.key_bytes, profile.salt_bytes
        material = self._ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))

        def session(side: int, direction: int) -> Session:
            secret = material[side * key :][:key] + material[2 * key + side * salt :][:salt]
            return Session(Policy(key=secret, ssrc_type=direction, srtp_profile=profile.libsrtp))

        assert self._remote is not None
        own_side = 0 if self._remote.takes_dtls_server_role(self._controlling) else 1
        self._outbound = session(own_side, Policy.SSRC_ANY_OUTBOUND)
        self._inbound = session(1 - own_side, Policy.SSRC_ANY_INBOUND)
        self.srtp_profile = profile.name.decode()
        self.ready = True


def receiver_report(own_ssrc: int, source_ssrc: int, highest_sequence: int, lost: int) -> bytes:
    """An RTCP receiver report with one block (RFC 3550 section 6.4.2); `highest_sequence` is the extended one."""
    return struct.pack(
        "!BBHIIIIIII", 0x81, 201, 7, own_ssrc, source_ssrc, max(lost, 0) & 0xFFFFFF, highest_sequence, 0, 0, 0
    )


def sender_report(ssrc: int, rtp_timestamp: int, packets: int, octets: int) -> bytes:
    """An RTCP sender report without blocks (RFC 3550 section 6.4.1), for now."""
    # Seconds from 1900, where NTP's time begins, to 1970.
    ntp = int((time.time() + 2_208_988_800) * (1 << 32))
    return struct.pack("!BBHIQIII", 0x80, 200, 6, ssrc, ntp, rtp_timestamp & 0xFFFFFFFF, packets, octets)
