"""One small value kept twice, so that a cut write never takes the last good one with it.

Two copies lie in separate write units. A save goes to the older copy and carries the next
sequence number; a load believes the valid copy with the highest one. A copy, big-endian::

    magic 4 | version u16 | payload length u16 | sequence u64 | payload | CRC-32

This frame stays the same in every format version: only the payload may change.
"""

import struct
import zlib

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import Media

_HEAD = struct.Struct(">4sHHQ")
_CRC = struct.Struct(">I")
_ALIGN = 16


class Twin:
    """A payload of fixed length on ``media`` from ``offset``."""

    def __init__(
        self, media: Media, offset: int, magic: bytes, version: int, payload_size: int
    ) -> None:
        self._media = media
        self._offset = offset
        self._magic = magic
        self._version = version
        self._payload_size = payload_size
        self._pitch = _pitch(payload_size, media.write_unit)
        self._sequence = 0
        self.damaged = 0
        """Copies that held something, yet nothing believable, at the last load."""

    @staticmethod
    def size_for(payload_size: int, write_unit: int) -> int:
        """Bytes that both copies take."""
        return 2 * _pitch(payload_size, write_unit)

    def load(self) -> bytes | None:
        """The payload saved last; None when no copy can be believed.

        Raises :class:`MeterError` when a newer program wrote it; the medium stays untouched.
        """
        best: bytes | None = None
        self._sequence = 0
        self.damaged = 0
        for copy in range(2):
            raw = self._media.read(self._offset + copy * self._pitch, self._pitch)
            found = self._believe(raw)
            if found is None:
                self.damaged += any(raw)
            elif found[0] > self._sequence:
                self._sequence, best = found
        return best

    def save(self, payload: bytes) -> None:
        """Replace the older copy; durable on return. After a failure the last good copy stands."""
        if len(payload) != self._payload_size:
            raise ValueError(f"a payload has {self._payload_size} bytes, not {len(payload)}")
        sequence = self._sequence + 1
        body = _HEAD.pack(self._magic, self._version, len(payload), sequence) + payload
        self._media.write(
            self._offset + (sequence % 2) * self._pitch, body + _CRC.pack(zlib.crc32(body))
        )
        self._media.flush()
        self._sequence = sequence

    def _believe(self, raw: bytes) -> tuple[int, bytes] | None:
        magic, version, length, sequence = _HEAD.unpack_from(raw)
        end = _HEAD.size + length
        if magic != self._magic or end + _CRC.size > len(raw):
            return None
        if _CRC.unpack_from(raw, end)[0] != zlib.crc32(raw[:end]):
            return None
        if version > self._version:
            raise MeterError(
                f"{self._media.name}: written by a newer meter-runtime (format {version}, this one"
                f" reads {self._version}); install that version, or move the file away"
            )
        if version != self._version or length != self._payload_size:
            return None
        return sequence, raw[_HEAD.size : end]


def _pitch(payload_size: int, write_unit: int) -> int:
    unit = max(_ALIGN, write_unit)
    return -(-(_HEAD.size + payload_size + _CRC.size) // unit) * unit
