"""Which boundaries passed between two readings, and what each of them gets.

See the table of :mod:`~meter_runtime.metrology.accumulator`.
"""

from collections.abc import Callable, Mapping

from meter_runtime.clock import Trust, slot_at, slot_start
from meter_runtime.metrology.counter import MWH_PER_DWH, Registers
from meter_runtime.metrology.events import (
    BoundariesMissed,
    ClockStepped,
    Effect,
    MinuteTaken,
    Missing,
    OutageEnded,
    Snapshot,
)
from meter_runtime.metrology.hindsight import Hindsight
from meter_runtime.metrology.moment import Moment
from meter_runtime.storage.ring import Flag

LATE_S = 5.0
"""A reading later than this after a boundary no longer stands for it. *Unverified.*"""

MINUTE_S = 60


class Boundaries:
    """Follows the clocks from one believed reading to the next.

    ``since`` is when the meter was last known to run (UTC seconds), ``newest`` tells the newest
    half-hour that has a value.
    """

    def __init__(self, since: float | None, newest: Callable[[], int | None]) -> None:
        self._since = since
        self._newest = newest
        self._hindsight = Hindsight()
        self._last: Moment | None = None
        self._unset = False
        self._flags = Flag.NONE
        self._minute_flags = Flag.NONE

    @property
    def known_at(self) -> float | None:
        """The last wall time that was known, be it from before the start."""
        return self._since if self._last is None else self._last.wall

    def reach(
        self, now: Moment, registers: Registers, logged: Mapping[int, Registers]
    ) -> list[Effect]:
        """What the time up to a reading of ``registers`` at ``now`` brings, in order.

        ``logged`` holds the registers at boundaries which the unit logged since the last reading.
        """
        if now.trust is Trust.UNSET:
            self._unset = True
            return []
        effects: list[Effect] = []
        last, self._last = self._last, now
        if last is None:
            self._begin(now, effects)
        else:
            self._cross(last, now, registers, logged, effects)
        self._unset = False
        return effects

    def _begin(self, now: Moment, effects: list[Effect]) -> None:
        """The first reading by a set clock: it opens no boundary, but it ends an outage."""
        effects += self._hindsight.look(None, now, self._newest())
        since, self._since = self._since, None
        if since is None:
            return
        self._flag(Flag.POWER_FAIL)
        effects.append(OutageEnded(since, now.wall))
        first, last = slot_at(since) + 1, slot_at(now.wall)
        newest = self._newest()
        if newest is not None and first <= newest <= last:
            # The power failed after this boundary was stored, before the next checkpoint was.
            first = newest + 1
        if first <= last:
            effects.append(BoundariesMissed(first, last, Missing.OUTAGE))

    def _cross(
        self,
        last: Moment,
        now: Moment,
        registers: Registers,
        logged: Mapping[int, Registers],
        effects: list[Effect],
    ) -> None:
        """Snapshot the boundary between two readings, or say which boundaries were missed."""
        by = last.step_until(now)
        if by:
            self._flag(Flag.ADJUSTED)
            effects.append(ClockStepped(by, now.wall))
        effects += self._hindsight.look(last, now, self._newest())
        minute = int(now.wall // MINUTE_S)
        if not by and minute > last.wall // MINUTE_S and now.wall - minute * MINUTE_S <= LATE_S:
            effects.append(self._minute(minute, registers, now.trust))
        first, slot = slot_at(last.wall) + 1, slot_at(now.wall)
        if slot < first:
            return
        in_time = not by and now.wall - slot_start(slot) <= LATE_S
        missed_to = slot - 1 if in_time else slot
        if by or self._unset:
            logged = {}
        for known in sorted(known for known in logged if first <= known <= missed_to):
            self._miss(first, known - 1, by, effects)
            effects.append(self._snapshot(known, logged[known], now.trust))
            first = known + 1
        self._miss(first, missed_to, by, effects)
        if in_time:
            effects.append(self._snapshot(slot, registers, now.trust))

    def _miss(self, first: int, last: int, by: float, effects: list[Effect]) -> None:
        if first > last:
            return
        if by:
            reason = Missing.CLOCK_STEP
        elif self._unset:
            reason = Missing.CLOCK_UNSET
        else:
            reason = Missing.NO_READING
        effects.append(BoundariesMissed(first, last, reason))

    def _flag(self, flag: Flag) -> None:
        self._flags |= flag
        self._minute_flags |= flag

    def _snapshot(self, slot: int, registers: Registers, trust: Trust) -> Snapshot:
        flags, newest = self._flags | _coarse(trust), self._newest()
        if newest is None or slot > newest:
            # A boundary passed again is refused: what happened is told by the next new one.
            self._flags = Flag.NONE
        return Snapshot(slot, registers[0] // MWH_PER_DWH, registers[1] // MWH_PER_DWH, flags)

    def _minute(self, minute: int, registers: Registers, trust: Trust) -> MinuteTaken:
        flags, self._minute_flags = self._minute_flags | _coarse(trust), Flag.NONE
        return MinuteTaken(minute, registers[0] // MWH_PER_DWH, registers[1] // MWH_PER_DWH, flags)


def _coarse(trust: Trust) -> Flag:
    return Flag.COARSE if trust is Trust.COARSE else Flag.NONE
