"""What metrology tells: the effects of the accumulator, and what became of them on storage.

All of them are published on the :class:`~meter_runtime.events.EventBus`, except what storage is
asked to do: :class:`Snapshot` becomes :class:`BoundaryStored` or :class:`BoundaryRefused`,
:class:`Withdraw` becomes :class:`BoundariesWithdrawn`, and :class:`MinuteTaken` is kept in silence.
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


class Untrue(enum.Enum):
    """Why boundaries are taken back."""

    COARSE = "the clock was known only roughly, and turned out to be wrong"
    FUTURE = "the clock turned out to have been far ahead"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Registers at the opening of half-hour ``slot``, in 0.1 Wh."""

    slot: int
    forward_dwh: int
    reverse_dwh: int
    flags: Flag


@dataclass(frozen=True, slots=True)
class MinuteTaken:
    """Registers at the opening of ``minute`` (``epoch // 60``), in 0.1 Wh."""

    minute: int
    forward_dwh: int
    reverse_dwh: int
    flags: Flag


@dataclass(frozen=True, slots=True)
class Withdraw:
    """What was taken at boundaries after ``after`` was taken by a clock that was wrong.

    ``COARSE``: of the boundaries taken since the start by a coarse clock, those up to ``until``
    (inclusive, UTC seconds). ``FUTURE``: all of them.
    """

    reason: Untrue
    after: float
    until: float | None = None


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
    """Metering resumed at ``until`` (UTC seconds) after its last checkpoint at ``since``.

    Where the unit keeps its registers, a checkpoint is up to half an hour older than the outage.
    """

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class UnitReplaced:
    """Another metering unit is in place; the registers are now its own.

    ``old_serial`` is None where the load profile does not know it either.
    """

    old_serial: str | None
    new_serial: str


@dataclass(frozen=True, slots=True)
class ReadingFellBack:
    """The unit says less than it said before; the registers stand, the reading is not used."""

    forward_mwh: int
    reverse_mwh: int
    expected_forward_mwh: int
    expected_reverse_mwh: int


@dataclass(frozen=True, slots=True)
class ReadingLeapt:
    """The unit says more than it can have counted; the registers stand, it is not used."""

    forward_mwh: int
    reverse_mwh: int
    last_forward_mwh: int
    last_reverse_mwh: int


@dataclass(frozen=True, slots=True)
class UnitRestarted:
    """The unit's own registers go on from another place; ours continue from where they stood."""

    forward_mwh: int
    reverse_mwh: int


Effect = (
    Snapshot
    | MinuteTaken
    | Withdraw
    | BoundariesMissed
    | ClockStepped
    | OutageEnded
    | UnitReplaced
    | ReadingFellBack
    | ReadingLeapt
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
class BoundariesWithdrawn:
    """These half-hours, oldest first, have no value any more, and may get a true one."""

    slots: tuple[int, ...]
    reason: Untrue


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
