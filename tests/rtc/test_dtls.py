"""Handshakes: with RSA keys, in both roles, and why they fail."""

from __future__ import annotations

import datetime
import logging
from typing import Any

import pytest
from aiortc.rtcdtlstransport import RTCCertificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from tests.support.rtc_client import wait_until_connected
from tests.support.stage import Client, Stage, on_stage, until
from voice_streaming.rtc import SenderPeer

USUAL_CIPHERS = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
"""A TLS stack's; aiortc's are for its own kind of key."""


def rsa_certificate(ciphers: bytes = USUAL_CIPHERS) -> RTCCertificate:
    """As GStreamer makes it, and pion where it is told to."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
    now = datetime.datetime.now(tz=datetime.UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    certificate = RTCCertificate(key, built.sign(key, hashes.SHA256()))  # type: ignore[arg-type]
    make = certificate._create_ssl_context

    def create(srtp_profiles: Any) -> SSL.Context:
        context = make(srtp_profiles)
        context.set_cipher_list(ciphers)
        return context

    certificate._create_ssl_context = create  # type: ignore[method-assign]
    return certificate


async def connect(stage: Stage, client: Client, setup: str) -> SenderPeer:
    peer = stage.peers.sender(stage.track)
    stage._open += [peer, client.peer]
    peer.on_gone = stage.gone.append
    offer = (await client.offer()).replace("a=setup:actpass", f"a=setup:{setup}")
    await client.take_answer(await peer.answer(offer))
    return peer


@pytest.mark.parametrize("setup", ["active", "passive", "actpass"])
async def test_a_client_with_an_rsa_key_connects_in_either_role(setup: str) -> None:
    async with on_stage() as stage:
        client = Client()
        client.peer._RTCPeerConnection__certificates = [rsa_certificate()]  # type: ignore[attr-defined]
        await connect(stage, client, setup)
        await wait_until_connected(client.peer)
        client.say(b"voice")
        await until(lambda: stage.track.packets == 1, "the voice")


async def test_a_failed_handshake_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "voice_streaming")
    async with on_stage() as stage:
        client = Client()
        certificate = rsa_certificate(b"DHE-RSA-AES128-GCM-SHA256")
        client.peer._RTCPeerConnection__certificates = [certificate]  # type: ignore[attr-defined]
        await connect(stage, client, "active")
        await until(lambda: stage.gone == ["connection failed"], "the failure")
    (record,) = [record for record in caplog.records if record.name.endswith("rtc.dtls")]
    assert record.getMessage() == "A DTLS handshake as server failed: no shared cipher"
    assert record.levelno == logging.INFO


async def test_a_wrong_fingerprint_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "voice_streaming")
    async with on_stage() as stage:
        peer, client = stage.peers.sender(stage.track), Client()
        stage._open += [peer, client.peer]
        peer.on_gone = stage.gone.append
        offer = (await client.offer()).replace("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 00:")
        await client.take_answer(await peer.answer(offer))
        await until(lambda: stage.gone == ["connection failed"], "the failure")
    assert "the certificate does not have the fingerprint of the description" in caplog.text


async def test_our_descriptions_carry_the_sha_256_fingerprint_alone() -> None:
    async with on_stage() as stage:
        peer = stage.peers.receiver(stage.track)
        stage._open.append(peer)
        prints = [line for line in (await peer.offer()).splitlines() if line.startswith("a=fingerprint:")]
        assert len(prints) == 1
        assert prints[0].startswith("a=fingerprint:sha-256 ")
