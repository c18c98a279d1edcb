"""X.509 certificates that browsers accept: a local authority, and server certificates that it signs. No I/O.

Rules followed: RFC 5280; CA/Browser Forum Baseline Requirements 7.1; Apple HT211025 (398 days) and HT210176
(serverAuth, names in the SAN). All times are aware datetimes in UTC.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397
"""Less than the 398 days that browsers accept, `BACKDATED` included."""
RENEWAL_DAYS = 30
"""A certificate with less than this left is replaced."""
BACKDATED = timedelta(days=1)
"""How long before it is made a certificate becomes valid, as a phone's clock may be slow."""

VOUCHED_SUFFIXES = ("local", "localhost", "home.arpa", "lan", "internal")
"""Names under these are nobody's on the Internet: RFC 6762, RFC 6761, RFC 8375; ICANN's resolution of 2024-07-29."""
VOUCHED_NETWORKS = (
    # Private (RFC 1918, RFC 4193), of providers and VPNs (RFC 6598), link-local (RFC 3927, RFC 4291), loopback.
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
)

_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key. A file has both in one PEM text, so that they always match."""

    certificate: x509.Certificate
    key: PrivateKeyTypes

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """From the first certificate in the text. Raises ValueError: damaged, encrypted, or not a pair."""
        return cls.from_pems(pem, pem)

    @classmethod
    def from_pems(cls, certificate_pem: bytes, key_pem: bytes) -> Self:
        """From the first certificate in one text and the key in the other. Raises ValueError that names the reason."""
        try:
            certificate = x509.load_pem_x509_certificates(certificate_pem)[0]
        except ValueError as error:
            raise ValueError("there is no certificate in PEM format") from error
        try:
            key = load_pem_private_key(key_pem, password=None)
        except TypeError as error:
            raise ValueError("the private key is encrypted; decrypt it first") from error
        except Exception as error:
            raise ValueError("there is no private key in PEM format") from error
        if _public_bytes(certificate.public_key()) != _public_bytes(key.public_key()):
            raise ValueError("the private key is not the certificate's")
        return cls(certificate, key)

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, in hexadecimal digits."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def to_pem(self) -> bytes:
        """The key first, so that a truncated text is never taken for complete."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key + self.certificate_pem()

    def expires_within(self, days: float, now: datetime) -> bool:
        return self.certificate.not_valid_after_utc - now <= timedelta(days=days)

    def is_authority(self) -> bool:
        """Whether it can sign server certificates."""
        try:
            constraints = self.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except x509.ExtensionNotFound:
            return False
        return constraints.ca and isinstance(self.key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)

    def is_signed_by(self, authority: Identity) -> bool:
        try:
            self.certificate.verify_directly_issued_by(authority.certificate)
        except Exception:  # noqa: BLE001 - InvalidSignature, ValueError, TypeError: whichever, it is not
            return False
        return True

    def may_vouch_for(self, name: str) -> bool:
        """Whether its name constraints (RFC 5280 section 4.2.1.10) let it sign for the name or address."""
        constraints = self._name_constraints()
        if constraints is None:
            return True
        permitted = [tree for tree in constraints.permitted_subtrees or () if _is_of_kind(tree, name)]
        excluded = [tree for tree in constraints.excluded_subtrees or () if _is_of_kind(tree, name)]
        if any(_is_within(tree, name) for tree in excluded):
            return False
        return not permitted or any(_is_within(tree, name) for tree in permitted)

    @property
    def is_constrained(self) -> bool:
        """Whether there are sites that it may not vouch for."""
        return self._name_constraints() is not None

    def _name_constraints(self) -> x509.NameConstraints | None:
        try:
            return self.certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            return None

    def names(self) -> frozenset[str]:
        """DNS names and addresses that the certificate is good for."""
        try:
            alternatives = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return frozenset()
        addresses = (str(address) for address in alternatives.get_values_for_type(x509.IPAddress))
        return frozenset(alternatives.get_values_for_type(x509.DNSName)) | frozenset(addresses)


def make_authority(name: str, now: datetime, names: Sequence[str] = ()) -> Identity:
    """A new authority, for whatever is private (`VOUCHED_SUFFIXES`, `VOUCHED_NETWORKS`) and these names and addresses.

    `name` is what people see in their system's list of authorities; a random mark after it tells two of them apart.
    """
    own = [_general_name(own) for own in names]
    networks = [x509.IPAddress(ip_network(network)) for network in VOUCHED_NETWORKS]
    networks += [x509.IPAddress(ip_network(own.value)) for own in own if isinstance(own, x509.IPAddress)]
    suffixes = [x509.DNSName(suffix) for suffix in VOUCHED_SUFFIXES]
    suffixes += [own for own in own if isinstance(own, x509.DNSName)]
    permitted = [*dict.fromkeys([*suffixes, *networks])]
    subject = _subject(f"{name[:57]} {secrets.token_hex(3)}")
    key = ec.generate_private_key(ec.SECP256R1())
    begins = now - BACKDATED
    builder = (
        _builder(subject, key, begins, begins + timedelta(days=AUTHORITY_DAYS))
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
    )
    return Identity(builder.sign(key, hashes.SHA256()), key)


def make_server_identity(authority: Identity, names: Sequence[str], now: datetime) -> Identity:
    """A new key, and a certificate for TLS servers of these DNS names and addresses, that the authority signs.

    It is valid only while the authority is. `names` must not be empty; the first DNS name becomes the subject.
    """
    issuer, signer = authority.certificate, authority.key
    if not isinstance(signer, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError(f"an authority's key is EC or RSA, and this one is {type(signer).__name__}")
    key = ec.generate_private_key(ec.SECP256R1())
    begins = max(now - BACKDATED, issuer.not_valid_before_utc)
    ends = min(begins + timedelta(days=SERVER_DAYS), issuer.not_valid_after_utc)
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in dict.fromkeys(names)])
    # Without a DNS name among the alternatives OpenSSL takes a subject that looks like one for a DNS name, and holds it
    # to the name constraints: an address would void the certificate.
    subject = next((name.value for name in alternatives if isinstance(name, x509.DNSName)), "Voice streaming server")
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = (
        _builder(_subject(subject[:64]), key, begins, ends)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(issuer_key, critical=False)
    )
    return Identity(builder.sign(signer, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in allowed for usage in _KEY_USAGES})


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _is_of_kind(tree: x509.GeneralName, name: str) -> bool:
    return type(tree) is type(_general_name(name))


def _is_within(tree: x509.GeneralName, name: str) -> bool:
    """Of two of one kind."""
    if isinstance(tree, x509.DNSName):
        suffix = tree.value.lower().lstrip(".")
        return name.lower() == suffix or name.lower().endswith(f".{suffix}")
    return isinstance(tree, x509.IPAddress) and ip_address(name) in ip_network(str(tree.value))


def _public_bytes(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]
