"""Who signs and who opens: the meter's own keys, and the signing keys of issuers and carriers.

The meter's two private keys follow from its device key, so that there is nothing else to keep and
nothing else to lose. Private keys never leave the objects of this module.
"""

import hashlib
import os
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from meter_runtime.aroute.cose import HPKE_SUITE
from meter_runtime.device_key import derive
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.secret import MASK

PUBLIC_KEY_SIZE = 32

_SEALING_PURPOSE = "meter-runtime command sealing 1"
_SIGNING_PURPOSE = "meter-runtime result signing 1"
_READ_LIMIT = 4096
_WORLD = 0o007


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """A meter's public keys, raw, 32 bytes each."""

    sealing: bytes
    """X25519: commands are sealed to it."""
    signing: bytes
    """Ed25519: results are signed by its other half."""

    def __post_init__(self) -> None:
        if (len(self.sealing), len(self.signing)) != (PUBLIC_KEY_SIZE, PUBLIC_KEY_SIZE):
            raise UsageError(f"a public key has {PUBLIC_KEY_SIZE} bytes")

    def fingerprint(self) -> str:
        """For two people to compare: eight groups of four hex digits, SHA-256 of both keys."""
        digest = hashlib.sha256(self.sealing + self.signing).hexdigest().upper()
        return " ".join(digest[at : at + 4] for at in range(0, 32, 4))

    def as_json(self) -> dict[str, str]:
        """Both keys in hex, by name."""
        return {"sealing": self.sealing.hex(), "signing": self.signing.hex()}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> "PublicKeys":
        """What :meth:`as_json` made; other names in it are ignored. Raises UsageError."""
        return cls(_from_hex(document, "sealing"), _from_hex(document, "signing"))


class MeterIdentity:
    """The meter's private keys: opens what is sealed to it, signs what it tells."""

    __slots__ = ("_sealing", "_signing", "public")

    def __init__(self, sealing: X25519PrivateKey, signing: Ed25519PrivateKey) -> None:
        self._sealing = sealing
        self._signing = signing
        self.public = PublicKeys(
            sealing.public_key().public_bytes_raw(), signing.public_key().public_bytes_raw()
        )

    @classmethod
    def from_device_key(cls, key: bytes) -> "MeterIdentity":
        """The identity that belongs to a device key; always the same one."""
        return cls(
            X25519PrivateKey.from_private_bytes(derive(key, _SEALING_PURPOSE)),
            Ed25519PrivateKey.from_private_bytes(derive(key, _SIGNING_PURPOSE)),
        )

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """What HPKE sealed to this meter, single-shot: encapsulated key 32, ciphertext.

        Raises ``cryptography``'s InvalidTag, or ValueError for a key that is none.
        """
        return HPKE_SUITE.decrypt(sealed, self._sealing, info)

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature, 64 bytes."""
        return self._signing.sign(message)

    def __repr__(self) -> str:
        return f"MeterIdentity({self.public.fingerprint()})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("private keys are not serialised")


class SigningKey:
    """An issuer's or a carrier's Ed25519 key."""

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()
        """Raw, 32 bytes."""

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new random key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_file(cls, path: Path) -> "SigningKey":
        """The key in a PKCS #8 PEM file.

        Raises UsageError where there is none or others can reach it; the message quotes nothing.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(_READ_LIMIT)
        except OSError as failure:
            raise UsageError(
                f"{path}: the signing key cannot be read: {failure.strerror}"
            ) from None
        if mode & _WORLD:
            raise UsageError(
                f"{path}: everyone can reach the signing key; chmod 600 {shlex.quote(str(path))}"
            )
        try:
            key = load_pem_private_key(text, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise UsageError(
                f"{path}: not an Ed25519 key in an unencrypted PKCS #8 PEM file; put the right"
                " file there"
            )
        return cls(key)

    def to_file(self, path: Path) -> None:
        """Write the key to a new file (PKCS #8 PEM, mode 0600), whole or not at all.

        Raises UsageError where there is a file already, MeterError where none can be made.
        """
        pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            fd, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(pem)
                    file.flush()
                    os.fsync(fd)
                # A link, unlike a rename, never replaces a file.
                path.hardlink_to(fresh)
            finally:
                Path(fresh).unlink()
        except FileExistsError:
            raise UsageError(
                f"{path}: there is a file already, and a key overwritten is lost;"
                " move it away first"
            ) from None
        except OSError as failure:
            raise MeterError(
                f"{path}: the signing key cannot be written: {failure.strerror}"
            ) from None

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature, 64 bytes."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({MASK})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a private key is not serialised")


def _from_hex(document: Mapping[str, object], name: str) -> bytes:
    text = document.get(name)
    try:
        return bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        raise UsageError(f"{name}: a public key is {2 * PUBLIC_KEY_SIZE} hex digits") from None
