"""The DTLS certificate that all peers share."""

from __future__ import annotations

import time

from aiortc import rtcdtlstransport
from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    RTCCertificate,
)

from .substitution import substitute

CERTIFICATE_AGE_S = 86_400.0
"""A new one is made once a day, long before aiortc's 30 days of validity are over."""

SRTP_PROFILES = [
    profile
    for profile in (SRTP_AEAD_AES_128_GCM, SRTP_AEAD_AES_256_GCM, SRTP_AES128_CM_SHA1_80)
    if profile in rtcdtlstransport.SRTP_PROFILES
]
"""Cheapest first: with AES in the CPU, GCM costs about 0.6 us a packet and SHA-1 0.4 us more."""


CIPHERS = b":".join(
    b"ECDHE-%s-%s" % (key, cipher)
    for cipher in (b"AES128-GCM-SHA256", b"CHACHA20-POLY1305", b"AES128-SHA", b"AES256-SHA")
    for key in (b"ECDSA", b"RSA")
)
"""aiortc's, and each for servers with an RSA key, too: as a DTLS client we meet their certificates."""


class SharedCertificate:
    """Makes the certificate at the first use, and a new one when it is CERTIFICATE_AGE_S old."""

    def __init__(self) -> None:
        self._certificate: RTCCertificate | None = None
        self._made_s = 0.0

    def current(self) -> RTCCertificate:
        now_s = time.monotonic()
        if self._certificate is None or now_s - self._made_s > CERTIFICATE_AGE_S:
            certificate = RTCCertificate.generateCertificate()
            # One context for all handshakes: each one costs a millisecond and memory of its own.
            context = certificate._create_ssl_context(SRTP_PROFILES)
            context.set_cipher_list(CIPHERS)
            # Of several, some clients take the first or the last, whichever hash it is of.
            fingerprints = [f for f in certificate.getFingerprints() if f.algorithm == "sha-256"]
            substitute(certificate, "_create_ssl_context", lambda srtp_profiles: context)
            substitute(certificate, "getFingerprints", lambda: fingerprints)
            self._certificate, self._made_s = certificate, now_s
        return self._certificate
