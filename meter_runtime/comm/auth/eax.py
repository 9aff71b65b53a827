"""AES-128 in EAX mode, composed of CMAC and CTR (Bellare, Rogaway, Wagner, 2004).

The cryptographic library has no EAX. OMAC^t(m) is CMAC over the block number ``t`` and ``m``; the
tag is OMAC⁰(nonce) ⊕ OMAC¹(header) ⊕ OMAC²(ciphertext), and OMAC⁰(nonce) is the first counter.
"""

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.cmac import CMAC

TAG_BYTES = 16


class TagMismatch(Exception):  # noqa: N818 - the protocol's word for it
    """The tag does not fit: wrong key, wrong header, or a changed ciphertext."""


def cmac(key: bytes, message: bytes) -> bytes:
    """AES-CMAC (RFC 4493), 16 bytes."""
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()


def encrypt(key: bytes, nonce: bytes, header: bytes, plaintext: bytes) -> tuple[bytes, bytes]:
    """Ciphertext and 16-byte tag."""
    first_counter = _omac(key, 0, nonce)
    ciphertext = _ctr(key, first_counter, plaintext)
    return ciphertext, _tag(key, first_counter, header, ciphertext)


def decrypt(key: bytes, nonce: bytes, header: bytes, ciphertext: bytes, tag: bytes) -> bytes:
    """The plaintext; raises :class:`TagMismatch` before anything is decrypted."""
    first_counter = _omac(key, 0, nonce)
    if not hmac.compare_digest(_tag(key, first_counter, header, ciphertext), tag):
        raise TagMismatch
    return _ctr(key, first_counter, ciphertext)


def _omac(key: bytes, block_number: int, message: bytes) -> bytes:
    return cmac(key, bytes(15) + bytes((block_number,)) + message)


def _tag(key: bytes, first_counter: bytes, header: bytes, ciphertext: bytes) -> bytes:
    parts = (first_counter, _omac(key, 1, header), _omac(key, 2, ciphertext))
    return bytes(a ^ b ^ c for a, b, c in zip(*parts, strict=True))


def _ctr(key: bytes, first_counter: bytes, data: bytes) -> bytes:
    stream = Cipher(AES(key), CTR(first_counter)).encryptor()
    return stream.update(data) + stream.finalize()
