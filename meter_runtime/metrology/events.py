"""What metrology tells: the effects of the accumulator, and what became of them on storage.

All of them are published on the :class:`~meter_runtime.events.EventBus`, except
:class:`Snapshot`, which becomes :class:`BoundaryStored` or :class:`BoundaryRefused`.
"""

import enum
from dataclasses import dataclass

from meter_runtime.storage.ring import Flag, Record


class Missing(enum.Enum):
    """Why a boundary has no data."""

    OUTAGE = "the meter was not running"
    CLOCK_STEP = "the clock was stepped over it"
    CLOCK_UNSET = "the clock was not set"
    NO_READING = "the metering unit gave no reading in time"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Registers at the opening of half-hour ``slot``, in 0.1 Wh."""

    slot: int
    forward_dwh: int
    reverse_dwh: int
    flags: Flag


@dataclass(frozen=True, slots=True)
class BoundariesMissed:
    """Half-hours ``first`` to ``last`` (inclusive) have no data."""

    first: int
    last: int
    reason: Missing


@dataclass(frozen=True, slots=True)
class ClockStepped:
    """The wall clock moved by ``by_s`` seconds against monotonic time, before ``wall``."""

    by_s: float
    wall: float


@dataclass(frozen=True, slots=True)
class OutageEnded:
    """Metering resumed at ``until`` (UTC seconds) after its last checkpoint at ``since``."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class UnitReplaced:
    """Another metering unit is in place; the registers are now its own."""

    old_serial: str
    new_serial: str


@dataclass(frozen=True, slots=True)
class ReadingFellBack:
    """The unit says less than it said before; the registers stand, the reading is not used."""

    forward_mwh: int
    reverse_mwh: int
    expected_forward_mwh: int
    expected_reverse_mwh: int


@dataclass(frozen=True, slots=True)
class UnitRestarted:
    """The unit's own registers did begin anew; ours continue from where they stood."""

    forward_mwh: int
    reverse_mwh: int


Effect = (
    Snapshot
    | BoundariesMissed
    | ClockStepped
    | OutageEnded
    | UnitReplaced
    | ReadingFellBack
    | UnitRestarted
)


@dataclass(frozen=True, slots=True)
class BoundaryStored:
    """A boundary's record is durable."""

    slot: int
    record: Record


@dataclass(frozen=True, slots=True)
class BoundaryRefused:
    """A boundary was passed again, or lies out of the ring's reach; ``kept`` stands."""

    slot: int
    kept: Record | None


@dataclass(frozen=True, slots=True)
class StorageFailed:
    """Nothing can be stored; metering continues in memory. Published once per failure."""

    reason: str


@dataclass(frozen=True, slots=True)
class StorageHealed:
    """Everything that waited is stored, but for the ``dropped`` oldest."""

    dropped: int


@dataclass(frozen=True, slots=True)
class UnitSilent:
    """The metering unit cannot be read; published once per silence."""

    reason: str


@dataclass(frozen=True, slots=True)
class UnitAnswers:
    """The metering unit is read again, after ``failures`` vain attempts."""

    failures: int
