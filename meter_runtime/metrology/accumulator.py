"""The legally relevant core: readings in, registers and boundary snapshots out.

Energy is integer milliwatt-hours and never decreases (:mod:`~meter_runtime.metrology.counter`). A
half-hour or minute boundary gets the registers of the first reading at or after it, or nothing:
there is no interpolation and no guess. Which boundary is valid follows one table:

==========================================  ==================================================
step forward or back inside a slot          the boundary that closes it, flagged ADJUSTED
step forward over boundaries                none of them
step back over a boundary                   a second snapshot, which storage refuses
not running over boundaries                 none of them; registers resume from the unit
not running inside a slot                   the boundary that closes it, flagged POWER_FAIL
no reading within ``LATE_S``                none, unless the unit itself logged one there
clock never set                             none; the registers live all the same
clock known roughly                         flagged COARSE; withdrawn when SYNCED by a step
SYNCED clock, boundaries more than a day    withdrawn, and all that lie after it with them
ahead of it
==========================================  ==================================================

It waits for nothing and stores nothing; see :mod:`~meter_runtime.metrology.service`.
"""

from collections.abc import Callable

from meter_runtime.metrology.boundaries import Boundaries
from meter_runtime.metrology.counter import Counter
from meter_runtime.metrology.events import Effect, UnitReplaced
from meter_runtime.metrology.moment import Moment
from meter_runtime.metrology.stamped import State, logged
from meter_runtime.storage.registers import Checkpoint, unit_mark
from meter_runtime.units.contracts import Sample


def _nothing() -> int | None:
    return None


class Accumulator:
    """The registers of one meter with the metering unit ``serial``.

    A ``forgetful`` unit counts from zero after each pause. ``resume`` is the last checkpoint,
    ``newest`` tells the newest half-hour that has a value, and ``previous_serial`` names
    the unit before this one. On a one-way unit reverse energy stays 0 and only forward counts.
    """

    def __init__(
        self,
        serial: str,
        *,
        two_way: bool,
        forgetful: bool = False,
        resume: Checkpoint | None = None,
        newest: Callable[[], int | None] = _nothing,
        previous_serial: str | None = None,
    ) -> None:
        self._serial = serial
        self._mark = unit_mark(serial)
        self._two_way = two_way
        same = resume is not None and resume.unit == self._mark
        self._counter = Counter(resume if same else None, forgetful=forgetful)
        self._boundaries = Boundaries(None if resume is None else resume.wall, newest)
        self._replaced: UnitReplaced | None = None
        if resume is not None and not same:
            self._replaced = UnitReplaced(previous_serial, serial)
        self._live = False

    @property
    def forward_mwh(self) -> int | None:
        """Energy taken from the grid; None before the first reading that is believed."""
        return self._counter.registers[0] if self._live else None

    @property
    def reverse_mwh(self) -> int | None:
        """Energy given to the grid; None before the first reading that is believed."""
        return self._counter.registers[1] if self._live else None

    def paused(self, *, forgetful: bool) -> None:
        """The unit was out of its slot, or its driver was started again."""
        self._counter.paused(forgetful=forgetful)

    def checkpoint(self, wall: float | None) -> Checkpoint | None:
        """What to keep for the next start; None before the first reading that is believed.

        ``wall`` is None while the clock is not set: the last time known then stays the last one.
        """
        unit = self._counter.unit
        if unit is None or not self._live:
            return None
        known = self._boundaries.known_at if wall is None else wall
        return Checkpoint(*self._counter.registers, *unit, self._mark, known)

    def take(self, sample: Sample, now: Moment) -> list[Effect]:
        """Account for a reading asked for at ``now``; what follows from it, in order."""
        effects: list[Effect] = []
        if self._replaced is not None:
            effects.append(self._replaced)
            self._replaced = None
        before = self._state()
        reading = (sample.forward_mwh, sample.reverse_mwh if self._two_way else 0)
        if not self._counter.count(reading, now, effects):
            return effects
        self._live = True
        known = logged(sample.snapshots, before, self._state(), two_way=self._two_way)
        effects += self._boundaries.reach(now, self._counter.registers, known)
        return effects

    def _state(self) -> State:
        return State(self._counter.registers, self._counter.unit)
