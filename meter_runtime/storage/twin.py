"""One small value kept twice, so that a cut write never takes the last good one with it.

Two copies lie in separate write units. A save goes to the older copy and carries the next
sequence number; a load believes the valid copy with the later one. A copy, big-endian::

    magic 2 | version u8 | payload length u8 | sequence u32 | payload | CRC-32

The CRC is over all before it. Sequence numbers wrap, and a number's parity names the copy that it
lies in. This frame stays the same in every later format version: only the payload may change.
"""

import struct
import zlib

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import Media

_HEAD = struct.Struct(">2sBBI")
_CRC = struct.Struct(">I")
_ALIGN = 16
_SEQUENCES = 1 << 32
_LONGEST = _HEAD.size + 255 + _CRC.size


class Twin:
    """A payload of fixed length (1 to 255 bytes) on ``media`` from ``offset``."""

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
        self._alone = True
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
            raw = self._read(copy)
            found = self._believe(raw, copy)
            if found is None:
                # A bus may have been disturbed: the older copy must not count for that.
                raw = self._read(copy)
                found = self._believe(raw, copy)
            if found is None:
                self.damaged += any(raw[: self._pitch])
            elif best is None or _later(found[0], self._sequence):
                self._sequence, best = found
        self._alone = best is None
        return best

    def save(self, payload: bytes) -> None:
        """Replace the older copy; durable on return. After a failure the last good copy stands.

        Where no copy was believed both are written: one that could not be read for a while must
        not come back with a later number.
        """
        if len(payload) != self._payload_size:
            raise ValueError(f"a payload has {self._payload_size} bytes, not {len(payload)}")
        self._write(payload)
        if self._alone:
            self._write(payload)
            self._alone = False

    def _read(self, copy: int) -> bytes:
        start = self._offset + copy * self._pitch
        # A newer program's payload may be longer than ours, and is to be recognised as well.
        return self._media.read(start, min(_LONGEST, self._media.size - start))

    def _write(self, payload: bytes) -> None:
        sequence = (self._sequence + 1) % _SEQUENCES
        body = _HEAD.pack(self._magic, self._version, len(payload), sequence) + payload
        self._media.write(
            self._offset + (sequence % 2) * self._pitch, body + _CRC.pack(zlib.crc32(body))
        )
        self._media.flush()
        self._sequence = sequence

    def _believe(self, raw: bytes, copy: int) -> tuple[int, bytes] | None:
        magic, version, length, sequence = _HEAD.unpack_from(raw)
        end = _HEAD.size + length
        if magic != self._magic or end + _CRC.size > len(raw):
            return None
        if _CRC.unpack_from(raw, end)[0] != zlib.crc32(raw[:end]):
            return None
        if version > self._version:
            raise MeterError(
                f"{self._media.name}: written by a newer meter-runtime (format {version}, this one"
                f" reads {self._version}); install that version, or move it away"
            )
        if version != self._version or length != self._payload_size or sequence % 2 != copy:
            return None
        return sequence, raw[_HEAD.size : end]


def _later(sequence: int, other: int) -> bool:
    """Serial number arithmetic (RFC 1982): later by less than half of all numbers."""
    return 0 < (sequence - other) % _SEQUENCES < _SEQUENCES // 2


def _pitch(payload_size: int, write_unit: int) -> int:
    unit = max(_ALIGN, write_unit)
    return -(-(_HEAD.size + payload_size + _CRC.size) // unit) * unit
