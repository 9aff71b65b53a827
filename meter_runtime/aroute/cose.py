"""COSE_Sign1 and COSE_Encrypt (RFC 9052) in the one form in which they are used here.

A signed message has ``alg`` EdDSA and ``kid`` in its protected header and nothing unprotected; what
it was signed for stands in the external data, so that a signature of one kind never passes for
another. An encrypted one has A128GCM content, a routing header that is authenticated and not
hidden, and one recipient: HPKE in Key Encryption mode (draft-ietf-cose-hpke-23) with
DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-128-GCM (RFC 9180)::

    18([<< {1: -8, 4: kid} >>, {}, payload, signature 64])
    96([<< {1: 1, -65537: routing} >>, {5: iv 12}, ciphertext,
        [[<< {1: 49} >>, {-4: ek 32}, content key sealed 32]]])

The algorithm's number 49, the label -4 and the Recipient_structure are the draft's: *unverified*
until it is an RFC. Keys are held by :mod:`~meter_runtime.aroute.identity`; what is signed and
sealed is not this module's business.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from meter_runtime.aroute.cbor import MalformedError, decode, encode
from meter_runtime.errors import MeterError

MAX_MESSAGE_BYTES = 4096
"""The largest message that is looked at."""

HPKE_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)

_SIGN1 = b"\xd2"
"""Tag 18."""
_ENCRYPT = b"\xd8\x60"
"""Tag 96."""
_ALG = 1
_KID = 4
_IV = 5
_EK = -4
_ROUTING = -65_537
"""The first label for private use (RFC 9052, section 11.1)."""
_EDDSA = -8
_A128GCM = 1
_HPKE_3_KE = 49
_RECIPIENT_HEADER = encode({_ALG: _HPKE_3_KE})

_NAME = re.compile(rb"[!-~]{1,64}")
_SIGNATURE_SIZE = 64
_IV_SIZE = 12
_EK_SIZE = 32
_KEY_SIZE = 16
_TAG_SIZE = 16


class NotAuthenticError(MeterError):
    """Well-formed, and not from whom or for whom it should be; the message does not say why."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed message, not yet verified."""

    kid: str
    """The signer's name as it claims: 1 to 64 printable ASCII characters without spaces."""
    payload: bytes = field(repr=False)
    protected: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def verify(self, public: bytes, context: bytes) -> bytes:
        """The payload, if the owner of ``public`` signed it for this context.

        Raises :class:`NotAuthenticError`.
        """
        try:
            key = Ed25519PublicKey.from_public_bytes(public)
            key.verify(self.signature, _to_be_signed(self.protected, context, self.payload))
        except (InvalidSignature, ValueError):
            raise NotAuthenticError("the signature is not the signer's") from None
        return self.payload


@dataclass(frozen=True, slots=True)
class Encrypted:
    """An encrypted message, not yet opened."""

    routing: Any
    """What carriers may read, as decoded; nobody vouches for it before :meth:`open`."""
    protected: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)
    sealed_key: bytes = field(repr=False)
    """The encapsulated key and the encrypted content key, as HPKE's single-shot form has them."""

    def open(self, open_key: Callable[[bytes, bytes], bytes]) -> bytes:
        """The plaintext; ``open_key`` takes the sealed key and HPKE's info.

        Raises :class:`NotAuthenticError`.
        """
        try:
            key = open_key(self.sealed_key, recipient_info())
            content = AESGCM(key)
            return content.decrypt(self.iv, self.ciphertext, _associated(self.protected))
        except (InvalidTag, ValueError):
            raise NotAuthenticError("not sealed to this key, or not left as it was") from None


def sign(payload: bytes, kid: str, context: bytes, by: Callable[[bytes], bytes]) -> bytes:
    """A COSE_Sign1 of ``payload``; ``by`` signs bytes with Ed25519.

    Raises ValueError for a name or a length that :func:`read_signed` would refuse.
    """
    if not _NAME.fullmatch(kid.encode()):
        raise ValueError("a signer's name is 1 to 64 printable ASCII characters without spaces")
    protected = encode({_ALG: _EDDSA, _KID: kid.encode()})
    signature = by(_to_be_signed(protected, context, payload))
    return _sized(_SIGN1 + encode([protected, {}, payload, signature]))


def read_signed(message: bytes) -> Signed:
    """The parts of a COSE_Sign1; raises :class:`~meter_runtime.aroute.cbor.MalformedError`."""
    match _decode(message, _SIGN1):
        case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)] if (
            not unprotected and len(signature) == _SIGNATURE_SIZE
        ):
            pass
        case _:
            raise MalformedError("COSE: not a signed message")
    kid = _header(protected, _EDDSA, _KID)
    if not isinstance(kid, bytes) or not _NAME.fullmatch(kid):
        raise MalformedError("COSE: a signer without a name")
    return Signed(kid.decode("ascii"), payload, protected, signature)


def encrypt(plaintext: bytes, routing: Any, to: bytes) -> bytes:
    """A COSE_Encrypt of ``plaintext`` to the X25519 key ``to``; ``routing`` stands open in it."""
    protected = encode({_ALG: _A128GCM, _ROUTING: routing})
    key = os.urandom(_KEY_SIZE)
    iv = os.urandom(_IV_SIZE)
    sealed = HPKE_SUITE.encrypt(key, X25519PublicKey.from_public_bytes(to), recipient_info())
    recipient = [_RECIPIENT_HEADER, {_EK: sealed[:_EK_SIZE]}, sealed[_EK_SIZE:]]
    ciphertext = AESGCM(key).encrypt(iv, plaintext, _associated(protected))
    return _sized(_ENCRYPT + encode([protected, {_IV: iv}, ciphertext, [recipient]]))


def read_encrypted(message: bytes) -> Encrypted:
    """The parts of a COSE_Encrypt; raises :class:`~meter_runtime.aroute.cbor.MalformedError`."""
    match _decode(message, _ENCRYPT):
        case [
            bytes(protected),
            {5: bytes(iv), **other},
            bytes(ciphertext),
            [[bytes(header), {-4: bytes(ek), **another}, bytes(key)]],
        ] if not (other or another) and (len(iv), len(ek), len(key), header) == (
            _IV_SIZE,
            _EK_SIZE,
            _KEY_SIZE + _TAG_SIZE,
            _RECIPIENT_HEADER,
        ):
            pass
        case _:
            raise MalformedError("COSE: not an encrypted message")
    routing = _header(protected, _A128GCM, _ROUTING)
    return Encrypted(routing, protected, iv, ciphertext, ek + key)


def recipient_info() -> bytes:
    """HPKE's info: the Recipient_structure for A128GCM content and no further context."""
    return encode(["HPKE Recipient", _A128GCM, _RECIPIENT_HEADER, b""])


def _decode(message: bytes, tag: bytes) -> Any:
    if len(message) > MAX_MESSAGE_BYTES:
        raise MalformedError(f"COSE: more than {MAX_MESSAGE_BYTES} bytes")
    if not message.startswith(tag):
        raise MalformedError("COSE: another kind of message")
    return decode(message[len(tag) :])


def _sized(message: bytes) -> bytes:
    if len(message) > MAX_MESSAGE_BYTES:
        raise ValueError(f"{len(message)} bytes are more than a message may have")
    return message


def _header(protected: bytes, alg: int, label: int) -> Any:
    """The value at ``label`` in a header that has this algorithm and nothing else."""
    header = decode(protected)
    value = header.get(label) if isinstance(header, dict) else None
    if encode({_ALG: alg, label: value}) != protected:
        raise MalformedError("COSE: another algorithm, or more in the header")
    return value


def _to_be_signed(protected: bytes, context: bytes, payload: bytes) -> bytes:
    """The Sig_structure (RFC 9052, section 4.4)."""
    return encode(["Signature1", protected, context, payload])


def _associated(protected: bytes) -> bytes:
    """The Enc_structure (RFC 9052, section 5.3)."""
    return encode(["Encrypt", protected, b""])
