"""What the supply's switch was last told, kept twice (:mod:`~meter_runtime.storage.twin`).

Where the contacts are, only the switch itself knows. Payload, big-endian::

    wanted u8 (1 closed, 2 open) | origin u8 | trips u8
    | wall time u48 (ms of the UTC epoch, 0 = not known)
"""

import enum
import struct
from dataclasses import dataclass

from meter_runtime.storage.media import Media
from meter_runtime.storage.twin import Twin

MAX_TRIPS = 255

_MAGIC = b"SW"
_VERSION = 1
_PAYLOAD = struct.Struct(">BBB6s")
_CLOSED, _OPEN = 1, 2
_WALLS_MS = 1 << 48


class Origin(enum.IntEnum):
    """Who wanted it."""

    NOBODY = 0
    """Nothing was ever stored, or it cannot be believed."""
    COMMAND = 1
    LIMIT = 2
    """The contract-current limiter."""


@dataclass(frozen=True, slots=True)
class SwitchState:
    """What is wanted of the switch; ``trips`` (0 to 255) of the limiter count towards its last.

    ``since`` is UTC seconds, None when the clock had not been set.
    """

    wanted_open: bool = False
    origin: Origin = Origin.NOBODY
    trips: int = 0
    since: float | None = None


class SwitchStateStore:
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

    def load(self) -> SwitchState | None:
        """The last state; None on a new medium, and where nothing can be believed.

        Raises MeterError when the medium fails or a newer program wrote it.
        """
        payload = self._twin.load()
        if payload is None:
            return None
        wanted, origin, trips, wall = _PAYLOAD.unpack(payload)
        if wanted not in {_CLOSED, _OPEN} or origin not in tuple(Origin):
            return None
        wall_ms = int.from_bytes(wall, "big")
        return SwitchState(
            wanted == _OPEN, Origin(origin), trips, wall_ms / 1000 if wall_ms else None
        )

    def save(self, state: SwitchState) -> None:
        """Durable on return; after a failure (MeterError) the one before still stands.

        To be loaded once before. More trips than fit are stored as 255; a time that does not fit
        (before 1970, after the year 10 000) as not known.
        """
        self._twin.save(
            _PAYLOAD.pack(
                _OPEN if state.wanted_open else _CLOSED,
                state.origin,
                min(state.trips, MAX_TRIPS),
                _wall_ms(state.since).to_bytes(6, "big"),
            )
        )


def _wall_ms(wall: float | None) -> int:
    if wall is None or not 0 < wall < _WALLS_MS / 1000 - 1:
        return 0
    return round(wall * 1000)
