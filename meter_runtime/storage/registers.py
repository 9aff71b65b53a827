"""The register checkpoint: what the meter must know of its energy after a power cut.

Written often, twice over (:mod:`~meter_runtime.storage.twin`), and so kept small: 48 bytes a copy
with the frame. What the numbers mean is the metrology core's business. Payload, big-endian::

    forward u48 | reverse u48 | unit's forward u48 | unit's reverse u48 (mWh)
    | wall time u48 (ms of the UTC epoch, 0 = not known) | unit mark 6
"""

import hashlib
from dataclasses import dataclass

from meter_runtime.storage.media import Media
from meter_runtime.storage.twin import Twin

UNIT_MARK_SIZE = 6
MAX_REGISTER_MWH = (1 << 48) - 1
"""Largest stored register: 281 474 976 kWh, above the eight digits of any meter."""

_MAGIC = b"RG"
_VERSION = 2
_FIELD = 6
_WALLS_MS = 1 << 48
_PAYLOAD_SIZE = 5 * _FIELD + UNIT_MARK_SIZE


def unit_mark(serial: str) -> bytes:
    """What a checkpoint remembers of its metering unit: 6 bytes of the serial's SHA-256.

    They tell two units apart (a mistake in 2^48) and name none: the load profile has the serial.
    """
    return hashlib.sha256(serial.encode()).digest()[:UNIT_MARK_SIZE]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The registers at one moment, in mWh (0 to ``MAX_REGISTER_MWH``).

    ``forward_mwh`` and ``reverse_mwh`` are the meter's; ``unit_…`` what the metering unit with the
    mark ``unit`` said when they had these values. ``wall`` is UTC seconds, None when the clock had
    not been set.
    """

    forward_mwh: int
    reverse_mwh: int
    unit_forward_mwh: int
    unit_reverse_mwh: int
    unit: bytes
    wall: float | None


class RegisterStore:
    """One checkpoint on its own medium."""

    def __init__(self, media: Media, offset: int = 0) -> None:
        self._twin = Twin(media, offset, _MAGIC, _VERSION, _PAYLOAD_SIZE)

    @staticmethod
    def size_for(write_unit: int) -> int:
        """Bytes taken on a medium with this write unit."""
        return Twin.size_for(_PAYLOAD_SIZE, write_unit)

    @property
    def damaged(self) -> int:
        """Copies (0 to 2) that could not be believed at the last load."""
        return self._twin.damaged

    def load(self) -> Checkpoint | None:
        """The last checkpoint; None on a new medium or when both copies are damaged."""
        payload = self._twin.load()
        if payload is None:
            return None
        forward, reverse, unit_forward, unit_reverse, wall_ms = (
            int.from_bytes(payload[at : at + _FIELD], "big") for at in range(0, 5 * _FIELD, _FIELD)
        )
        return Checkpoint(
            forward,
            reverse,
            unit_forward,
            unit_reverse,
            payload[5 * _FIELD :],
            wall_ms / 1000 if wall_ms else None,
        )

    def save(self, checkpoint: Checkpoint) -> None:
        """Durable on return; after a failure the one before still stands.

        Raises ValueError for a register or a unit mark out of range. A wall time that does not fit
        (before 1970, after the year 10 000) is stored as not known.
        """
        registers = (
            checkpoint.forward_mwh,
            checkpoint.reverse_mwh,
            checkpoint.unit_forward_mwh,
            checkpoint.unit_reverse_mwh,
        )
        for register in registers:
            if not 0 <= register <= MAX_REGISTER_MWH:
                raise ValueError(f"a register of {register} mWh is out of range")
        if len(checkpoint.unit) != UNIT_MARK_SIZE:
            raise ValueError(f"a unit's mark has {UNIT_MARK_SIZE} bytes, not {checkpoint.unit!r}")
        fields = (*registers, _wall_ms(checkpoint.wall))
        self._twin.save(
            b"".join(field.to_bytes(_FIELD, "big") for field in fields) + checkpoint.unit
        )


def _wall_ms(wall: float | None) -> int:
    if wall is None or not 0 < wall < _WALLS_MS / 1000 - 1:
        return 0
    return round(wall * 1000)
