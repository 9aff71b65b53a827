"""The vault: one small secret at rest, sealed, and replaced whole or not at all.

Two slots lie in separate write units. At rest one is sealed and the other is zero: what was
replaced is erased. A slot, big-endian::

    magic 2 | version u8 | length u8 | sequence u32
    | nonce 12 | AES-256-GCM ciphertext 201 | tag 16 | CRC-32

The plaintext is the content's length (u8), the content and zeros, so that every slot is alike. The
head and the slot's index are authenticated with it: a slot cannot be moved or renumbered. The
CRC-32, over all before it, tells a torn slot (CRC wrong) from a wrong key (CRC right, tag wrong).
Up to the CRC the frame stays the same in every format version. The key is derived from the device
key (:mod:`~meter_runtime.device_key`).

What the vault cannot see: that an old copy of the whole medium was put back.
"""

import enum
import logging
import os
import struct
import zlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from meter_runtime.device_key import derive
from meter_runtime.errors import MeterError
from meter_runtime.storage.media import Media

log = logging.getLogger(__name__)

MAX_CONTENT = 200
"""Bytes that the vault can hold."""

_PURPOSE = "meter-runtime vault 1"
_MAGIC = b"Va"
_VERSION = 1
_HEAD = struct.Struct(">2sBBI")
_NONCE_SIZE = 12
_TAG_SIZE = 16
_PLAIN_SIZE = 1 + MAX_CONTENT
_SEALED_SIZE = _NONCE_SIZE + _PLAIN_SIZE + _TAG_SIZE
_CRC = struct.Struct(">I")
_FRAME_SIZE = _HEAD.size + _SEALED_SIZE + _CRC.size
_ALIGN = 16


class _Unusable(enum.Enum):
    """Why a slot gives nothing."""

    EMPTY = "zero throughout"
    TORN = "no frame, or half of one"
    FOREIGN = "whole, and sealed under another key"


@dataclass(frozen=True, slots=True)
class _Held:
    """What a slot gave."""

    slot: int
    sequence: int
    content: bytes = field(repr=False)


class Vault:
    """One sealed value of at most :data:`MAX_CONTENT` bytes."""

    def __init__(self, media: Media, aead: AESGCM) -> None:
        self._media = media
        self._aead = aead
        self._pitch = _pitch(media.write_unit)
        self._held: _Held | None = None
        self.damaged = False
        """Something is on the medium and nothing can be believed; until the next store."""
        self.unerased = False
        """What was replaced could not be erased yet; the next store or open tries again."""

    @classmethod
    def open(cls, media: Media, key: bytes) -> "Vault":
        """The vault on ``media`` under the device key ``key``.

        What a power cut left beside the valid slot is erased. Raises :class:`MeterError`, with the
        medium untouched, when it was sealed under another device key or by a newer program.
        """
        vault = cls(media, AESGCM(derive(key, _PURPOSE)))
        vault._recover()
        return vault

    @staticmethod
    def size_for(write_unit: int) -> int:
        """Bytes taken on a medium with this write unit."""
        return 2 * _pitch(write_unit)

    @property
    def name(self) -> str:
        """What a person calls the medium."""
        return self._media.name

    @property
    def version(self) -> int:
        """How often the content was stored; 0 when there is none."""
        return 0 if self._held is None else self._held.sequence

    def load(self) -> bytes | None:
        """The content stored last; None when there is none or it is damaged."""
        return None if self._held is None else self._held.content

    def store(self, content: bytes) -> None:
        """Replace the content; durable on return, and the one before is erased.

        Raises :class:`MeterError` when the medium fails before the new content is durable: the old
        one then stands. That the old one could not be erased is no failure of the new one: it is
        logged and ``unerased`` is set.
        """
        if len(content) > MAX_CONTENT:
            raise ValueError(f"the vault holds {MAX_CONTENT} bytes, not {len(content)}")
        slot = 0 if self._held is None else 1 - self._held.slot
        held = _Held(slot, self.version + 1, content)
        frame = self._seal(held)
        try:
            self._media.write(slot * self._pitch, frame.ljust(self._pitch, b"\0"))
            self._media.flush()
        except MeterError:
            # Else the next start might find the content whose storing was reported as failed.
            self._erase(slot)
            raise
        self._held = held
        self.damaged = False
        self._erase(1 - slot)

    def _recover(self) -> None:
        slots = [self._media.read(slot * self._pitch, self._pitch) for slot in range(2)]
        found = [self._unseal(slot, raw) for slot, raw in enumerate(slots)]
        self._held = max(
            (one for one in found if isinstance(one, _Held)),
            key=lambda held: held.sequence,
            default=None,
        )
        if self._held is not None:
            other = 1 - self._held.slot
            if found[other] is not _Unusable.EMPTY:
                self._erase(other)
        elif _Unusable.FOREIGN in found:
            raise MeterError(
                f"{self.name}: sealed under another device key; put the right key back, or move"
                " the file away"
            )
        elif _Unusable.TORN in found:
            self.damaged = True
            log.error("%s: damaged: nothing in it can be believed; nothing was erased", self.name)

    def _seal(self, held: _Held) -> bytes:
        head = _HEAD.pack(_MAGIC, _VERSION, _SEALED_SIZE, held.sequence)
        plain = bytes((len(held.content),)) + held.content.ljust(MAX_CONTENT, b"\0")
        nonce = os.urandom(_NONCE_SIZE)
        frame = head + nonce + self._aead.encrypt(nonce, plain, _associated(head, held.slot))
        return frame + _CRC.pack(zlib.crc32(frame))

    def _unseal(self, slot: int, raw: bytes) -> _Held | _Unusable:
        if not any(raw):
            return _Unusable.EMPTY
        magic, version, length, sequence = _HEAD.unpack_from(raw)
        end = _HEAD.size + length
        if magic != _MAGIC or end + _CRC.size > len(raw):
            return _Unusable.TORN
        if _CRC.unpack_from(raw, end)[0] != zlib.crc32(raw[:end]):
            return _Unusable.TORN
        if version > _VERSION:
            raise MeterError(
                f"{self.name}: written by a newer meter-runtime (format {version}, this one"
                f" reads {_VERSION}); install that version, or move the file away"
            )
        if version != _VERSION or length != _SEALED_SIZE:
            return _Unusable.TORN
        head, sealed = raw[: _HEAD.size], raw[_HEAD.size : end]
        try:
            plain = self._aead.decrypt(
                sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], _associated(head, slot)
            )
        except InvalidTag:
            return _Unusable.FOREIGN
        return _Held(slot, sequence, plain[1 : 1 + plain[0]])

    def _erase(self, slot: int) -> None:
        try:
            self._media.write(slot * self._pitch, bytes(self._pitch))
            self._media.flush()
        except MeterError as failure:
            self.unerased = True
            log.error("%s: what it no longer holds is not erased yet: %s", self.name, failure)
        else:
            self.unerased = False


def _associated(head: bytes, slot: int) -> bytes:
    return head + bytes((slot,))


def _pitch(write_unit: int) -> int:
    unit = max(_ALIGN, write_unit)
    return -(-_FRAME_SIZE // unit) * unit
