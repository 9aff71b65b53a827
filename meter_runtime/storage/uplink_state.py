"""How far the utility has this meter's half-hours, kept twice (:mod:`~meter_runtime.storage.twin`).

Payload, big-endian::

    serial 16 (ASCII, NUL-padded) | acknowledged u64 | told u64 | sequences u64

Which of it must be kept when is the uplink's business (:mod:`~meter_runtime.aroute.uplink`).
"""

import struct
from dataclasses import dataclass

from meter_runtime.storage.media import Media
from meter_runtime.storage.twin import Twin

SERIAL_SIZE = 16

_MAGIC = b"Up"
_VERSION = 1
_PAYLOAD = struct.Struct(f">{SERIAL_SIZE}sQQQ")


@dataclass(frozen=True, slots=True)
class UplinkState:
    """Slots and sequences are 0 to 2^64 - 1."""

    serial: str
    """Whose half-hours they are: the metering unit's, at most 16 ASCII characters."""
    acknowledged: int
    """The utility has everything up to this slot as it stands."""
    told: int
    """Nothing was said of any later slot."""
    sequences: int
    """No message bore this number or a higher one."""


class UplinkStateStore:
    """One state on its own medium."""

    def __init__(self, media: Media, offset: int = 0) -> None:
        self._twin = Twin(media, offset, _MAGIC, _VERSION, _PAYLOAD.size)

    @staticmethod
    def size_for(write_unit: int) -> int:
        """Bytes taken on a medium with this write unit."""
        return Twin.size_for(_PAYLOAD.size, write_unit)

    @property
    def damaged(self) -> int:
        """Copies (0 to 2) that could not be believed at the last load."""
        return self._twin.damaged

    def load(self) -> UplinkState | None:
        """The last state; None on a new medium, and where nothing can be believed.

        Raises MeterError when the medium fails or a newer program wrote it.
        """
        payload = self._twin.load()
        if payload is None:
            return None
        serial, acknowledged, told, sequences = _PAYLOAD.unpack(payload)
        text = serial.rstrip(b"\0").decode("ascii", "replace")
        return UplinkState(text, acknowledged, told, sequences)

    def save(self, state: UplinkState) -> None:
        """Durable on return; after a failure (MeterError) the one before still stands.

        To be loaded once before. Raises ValueError for a serial that is too long.
        """
        serial = state.serial.encode("ascii")
        if len(serial) > SERIAL_SIZE:
            raise ValueError(f"a unit's serial has at most {SERIAL_SIZE} characters")
        self._twin.save(_PAYLOAD.pack(serial, state.acknowledged, state.told, state.sequences))
