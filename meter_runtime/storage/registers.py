"""The register checkpoint: what the meter must know of its energy after a power cut.

Written often, twice over (:mod:`~meter_runtime.storage.twin`). What the numbers mean is the
metrology core's business. Payload, big-endian::

    forward u64 | reverse u64 | unit's forward u64 | unit's reverse u64 (mWh)
    | wall time u64 (ms of the UTC epoch, 0 = not known) | unit serial 16 (ASCII, NUL-padded)
"""

import struct
from dataclasses import dataclass

from meter_runtime.storage.media import Media
from meter_runtime.storage.twin import Twin

_MAGIC = b"MReg"
_VERSION = 1
_PAYLOAD = struct.Struct(">QQQQQ16s")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The registers at one moment, in mWh.

    ``forward_mwh`` and ``reverse_mwh`` are the meter's; ``unit_…`` what the metering unit said
    when they had these values. ``wall`` is UTC seconds, None when the clock had not been set.
    """

    forward_mwh: int
    reverse_mwh: int
    unit_forward_mwh: int
    unit_reverse_mwh: int
    unit_serial: str
    wall: float | None


class RegisterStore:
    """One checkpoint on its own medium."""

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

    def load(self) -> Checkpoint | None:
        """The last checkpoint; None on a new medium or when both copies are damaged."""
        payload = self._twin.load()
        if payload is None:
            return None
        forward, reverse, unit_forward, unit_reverse, wall_ms, serial = _PAYLOAD.unpack(payload)
        return Checkpoint(
            forward,
            reverse,
            unit_forward,
            unit_reverse,
            serial.rstrip(b"\0").decode("ascii", "replace"),
            wall_ms / 1000 if wall_ms else None,
        )

    def save(self, checkpoint: Checkpoint) -> None:
        """Durable on return; after a failure the one before still stands."""
        wall_ms = 0 if checkpoint.wall is None else max(0, round(checkpoint.wall * 1000))
        self._twin.save(
            _PAYLOAD.pack(
                checkpoint.forward_mwh,
                checkpoint.reverse_mwh,
                checkpoint.unit_forward_mwh,
                checkpoint.unit_reverse_mwh,
                wall_ms,
                checkpoint.unit_serial.encode("ascii"),
            )
        )
