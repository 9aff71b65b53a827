"""Which communication unit the home's credentials were set with.

Payload, ASCII, NUL-padded: serial 32. Kept twice (:mod:`~meter_runtime.storage.twin`).
"""

import struct

from meter_runtime.storage.media import Media
from meter_runtime.storage.twin import Twin

SERIAL_SIZE = 32

_MAGIC = b"Un"
_VERSION = 1
_PAYLOAD = struct.Struct(f">{SERIAL_SIZE}s")


class UnitMemory:
    """The serial on ``media``."""

    def __init__(self, media: Media) -> None:
        self._twin = Twin(media, 0, _MAGIC, _VERSION, _PAYLOAD.size)
        stored = self._twin.load()
        self._serial = "" if stored is None else _text(stored)

    @staticmethod
    def size_for(write_unit: int) -> int:
        """Bytes taken on a medium with this write unit."""
        return Twin.size_for(_PAYLOAD.size, write_unit)

    @property
    def communication_serial(self) -> str:
        """The communication unit's; "" where none is remembered."""
        return self._serial

    def remember(self, serial: str) -> None:
        """Durable on return, and written only where it is news. Raises MeterError."""
        if serial == self._serial:
            return
        encoded = serial.encode("ascii")
        if len(encoded) > SERIAL_SIZE:
            raise ValueError(f"a unit's serial has at most {SERIAL_SIZE} characters")
        self._twin.save(_PAYLOAD.pack(encoded))
        self._serial = serial


def _text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode("ascii", "replace")
