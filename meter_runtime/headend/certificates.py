"""The laboratory's certificates: one authority, and whom it vouches for (RFC 5280 profiles).

EC P-256 throughout. The common name (CN) says who somebody is: a role, or a meter's id. The
organisational unit (OU) says on which side of the relay he stands. What the names allow is decided
by those who ask for a certificate: the broker's access list and the relay.
"""

import enum
import hashlib
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from meter_runtime.errors import MeterError, UsageError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

AUTHORITY_LIFE = timedelta(days=3653)
"""Ten years, the life of a metering unit between certifications."""
_BACKDATED = timedelta(days=1)
"""A meter's clock may be a little slow when it first connects."""


class Unit(enum.StrEnum):
    """The organisational unit of a certificate."""

    BUSINESS = "business"
    CONTROL = "control"
    METER = "meter"
    TERMINAL = "terminal"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What may be shown of a certificate."""

    name: str
    unit: str
    expires: datetime
    fingerprint: str
    """SHA-256 of the certificate, hex."""


class Authority:
    """The one who signs: ``ca.pem`` and ``ca.key`` in a folder."""

    def __init__(self, certificate: "x509.Certificate", key: "ec.EllipticCurvePrivateKey") -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, folder: Path, name: str) -> "Authority":
        """A new authority; its files are made in ``folder``."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name, None)
        usage = _key_usage(signs_certificates=True)
        certificate = (
            _builder(subject, subject, key.public_key(), datetime.now(UTC) + AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, _sha256())
        )
        _write_pair(folder / "ca.pem", folder / "ca.key", certificate, key)
        return cls(certificate, key)

    @classmethod
    def open(cls, folder: Path) -> "Authority":
        """The authority whose files are in ``folder``."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            certificate = x509.load_pem_x509_certificate(_read(folder / "ca.pem"))
            key = load_pem_private_key(_read(folder / "ca.key"), password=None)
        except (ValueError, TypeError):
            raise MeterError(
                f"{folder}: ca.pem or ca.key is no PEM file of an authority; restore both"
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise MeterError(f"{folder / 'ca.key'}: not an EC key; restore the authority's own")
        return cls(certificate, key)

    def issue(
        self, folder: Path, stem: str, name: str, unit: Unit, *, hosts: Sequence[str] = ()
    ) -> None:
        """Write ``stem.pem`` and ``stem.key`` for ``name``; with ``hosts`` it may be a server.

        The certificate ends when the authority does.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID

        key = ec.generate_private_key(ec.SECP256R1())
        ends = self._certificate.not_valid_after_utc
        builder = _builder(_name(name, unit), self._certificate.subject, key.public_key(), ends)
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if hosts:
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(issuer_key, critical=False)
            .sign(self._key, _sha256())
        )
        _write_pair(folder / f"{stem}.pem", folder / f"{stem}.key", certificate, key)


def facts(path: Path) -> CertificateFacts:
    """What may be shown of the certificate in ``path``."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        certificate = x509.load_pem_x509_certificate(_read(path))
    except ValueError:
        raise MeterError(f"{path}: not a certificate in PEM; restore it") from None

    def told(oid: "x509.ObjectIdentifier") -> str:
        return ", ".join(
            str(each.value) for each in certificate.subject.get_attributes_for_oid(oid)
        )

    return CertificateFacts(
        told(NameOID.COMMON_NAME),
        told(NameOID.ORGANIZATIONAL_UNIT_NAME),
        certificate.not_valid_after_utc,
        certificate.fingerprint(_sha256()).hex(),
    )


def key_fingerprint(public: bytes) -> str:
    """Of a raw public key, for two people to compare: SHA-256, eight groups of four hex digits."""
    digest = hashlib.sha256(public).hexdigest().upper()
    return " ".join(digest[at : at + 4] for at in range(0, 32, 4))


def write_new(path: Path, content: bytes) -> None:
    """Write a file that must not be there yet, its owner's alone, durable on return."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
    except FileExistsError:
        raise UsageError(f"{path}: there is a file already; move it away first") from None
    except OSError as failure:
        raise MeterError(f"{path}: cannot be written: {failure.strerror}") from None


def _sha256() -> "hashes.SHA256":
    from cryptography.hazmat.primitives import hashes

    return hashes.SHA256()


def _name(name: str, unit: Unit | None) -> "x509.Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if unit is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit.value))
    return x509.Name(attributes)


def _builder(
    subject: "x509.Name",
    issuer: "x509.Name",
    public: "ec.EllipticCurvePublicKey",
    ends: datetime,
) -> "x509.CertificateBuilder":
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _BACKDATED)
        .not_valid_after(ends)
    )


def _key_usage(*, signs_certificates: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_pair(
    certificate_path: Path,
    key_path: Path,
    certificate: "x509.Certificate",
    key: "ec.EllipticCurvePrivateKey",
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    write_new(key_path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_new(certificate_path, certificate.public_bytes(Encoding.PEM))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise MeterError(f"{path}: cannot be read: {failure.strerror}") from None
