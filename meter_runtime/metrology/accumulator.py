"""The legally relevant core: readings in, registers and boundary snapshots out.

Energy is integer milliwatt-hours and never decreases. The metering unit's own cumulative
registers are the authority, so that nothing is lost while this program does not run. A half-hour
or minute boundary gets the registers of the first reading at or after it, or nothing: there is no
interpolation and no guess. Which boundary is valid follows one table:

==================================  ================================================
step forward over boundaries        none of them
step back over a boundary           a second snapshot, which storage refuses
not running over boundaries         none of them; registers resume from the unit
no reading within ``LATE_S``        none
clock never set                     none; the registers live all the same
==================================  ================================================

It waits for nothing and stores nothing; see :mod:`~meter_runtime.metrology.service`.
"""

from dataclasses import dataclass

from meter_runtime.clock import Trust, slot_at, slot_start
from meter_runtime.metrology.events import (
    BoundariesMissed,
    ClockStepped,
    Effect,
    Missing,
    OutageEnded,
    ReadingFellBack,
    Snapshot,
    UnitReplaced,
    UnitRestarted,
)
from meter_runtime.storage.registers import Checkpoint
from meter_runtime.storage.ring import Flag
from meter_runtime.units.contracts import Sample

LATE_S = 5.0
"""A reading later than this after a boundary no longer stands for it. *Unverified.*"""

STEP_S = 10.0
"""A larger change of wall against monotonic time is a step; a smaller one counts as slewing."""

RESTART_READINGS = 10
"""Consecutive readings below the last good one that prove a restarted unit, not a bad reading.
*Unverified.*"""

MINUTES_KEPT = 70
"""Minute snapshots in memory: an hour is served, the rest is for a late question."""

MWH_PER_DWH = 100


@dataclass(frozen=True, slots=True)
class Moment:
    """When a reading was asked for: seconds on both clocks, and how far the wall is trusted."""

    monotonic: float
    wall: float
    trust: Trust


class Accumulator:
    """The registers of one meter with the metering unit ``serial``.

    ``resume`` is the last checkpoint, ``newest_slot`` the newest stored boundary. On a one-way
    unit reverse energy stays 0 and only forward energy counts.
    """

    def __init__(
        self,
        serial: str,
        *,
        two_way: bool,
        resume: Checkpoint | None = None,
        newest_slot: int | None = None,
    ) -> None:
        self._serial = serial
        self._two_way = two_way
        self._resume = resume
        self._forward = self._reverse = 0
        self._unit: tuple[int, int] | None = None
        if resume is not None and resume.unit_serial == serial:
            self._forward, self._reverse = resume.forward_mwh, resume.reverse_mwh
            self._unit = resume.unit_forward_mwh, resume.unit_reverse_mwh
        self._live = False
        self._doubtful: list[tuple[int, int]] = []
        self._since = resume.wall if resume is not None else None
        self._last: Moment | None = None
        self._unset = False
        self._newest_slot = newest_slot
        self._flags = Flag.NONE
        self._minutes: dict[int, tuple[int, int]] = {}

    @property
    def forward_mwh(self) -> int | None:
        """Energy taken from the grid; None before the first reading."""
        return self._forward if self._live else None

    @property
    def reverse_mwh(self) -> int | None:
        """Energy given to the grid; None before the first reading."""
        return self._reverse if self._live else None

    def minute(self, minute: int) -> tuple[int, int] | None:
        """Forward and reverse in 0.1 Wh at the opening of ``epoch // 60``, if still known."""
        return self._minutes.get(minute)

    def checkpoint(self, wall: float | None) -> Checkpoint | None:
        """What to keep for the next start; None before the first reading."""
        if self._unit is None or not self._live:
            return None
        return Checkpoint(self._forward, self._reverse, *self._unit, self._serial, wall)

    def take(self, sample: Sample, now: Moment) -> list[Effect]:
        """Account for a reading asked for at ``now``; what follows from it, in order."""
        effects: list[Effect] = []
        reading = (sample.forward_mwh, sample.reverse_mwh if self._two_way else 0)
        if not self._live:
            self._note_replacement(effects)
        if not self._count(reading, effects):
            return effects
        self._live = True
        if now.trust is Trust.UNSET:
            self._unset = True
            return effects
        if self._last is None:
            self._begin(now, effects)
        else:
            self._cross(self._last, now, effects)
        self._last = now
        self._unset = False
        return effects

    def _note_replacement(self, effects: list[Effect]) -> None:
        resume, self._resume = self._resume, None
        if resume is not None and resume.unit_serial != self._serial:
            effects.append(UnitReplaced(resume.unit_serial, self._serial))

    def _count(self, reading: tuple[int, int], effects: list[Effect]) -> bool:
        """Move the registers by what the unit gained; False when the reading is not believed."""
        if self._unit is None:
            self._forward, self._reverse = reading
            self._unit = reading
            return True
        base = self._unit
        if reading[0] < base[0] or reading[1] < base[1]:
            doubtful = self._doubtful
            if not doubtful:
                effects.append(ReadingFellBack(*reading, *base))
            elif reading[0] < doubtful[-1][0] or reading[1] < doubtful[-1][1]:
                doubtful.clear()
            doubtful.append(reading)
            if len(doubtful) < RESTART_READINGS:
                return False
            base = doubtful[0]
            effects.append(UnitRestarted(*base))
        self._doubtful.clear()
        self._forward += reading[0] - base[0]
        self._reverse += reading[1] - base[1]
        self._unit = reading
        return True

    def _begin(self, now: Moment, effects: list[Effect]) -> None:
        """The first reading by a set clock: it opens no boundary, but it ends an outage."""
        since, self._since = self._since, None
        if since is None:
            return
        self._flags |= Flag.POWER_FAIL
        effects.append(OutageEnded(since, now.wall))
        first, last = slot_at(since) + 1, slot_at(now.wall)
        if self._newest_slot is not None and first <= self._newest_slot <= last:
            # The power failed after this boundary was stored, before the next checkpoint was.
            first = self._newest_slot + 1
        if first <= last:
            effects.append(BoundariesMissed(first, last, Missing.OUTAGE))

    def _cross(self, last: Moment, now: Moment, effects: list[Effect]) -> None:
        """Snapshot the boundary between two readings, or say which boundaries were missed."""
        by = (now.wall - last.wall) - (now.monotonic - last.monotonic)
        stepped = abs(by) > STEP_S
        if stepped:
            self._flags |= Flag.ADJUSTED
            effects.append(ClockStepped(by, now.wall))
        minute = int(now.wall // 60)
        if minute <= int(last.wall // 60):
            return
        if not stepped and now.wall - minute * 60 <= LATE_S:
            self._keep_minute(minute)
        first, slot = slot_at(last.wall) + 1, slot_at(now.wall)
        if slot < first:
            return
        valid = not stepped and now.wall - slot_start(slot) <= LATE_S
        missed_to = slot - 1 if valid else slot
        if first <= missed_to:
            effects.append(BoundariesMissed(first, missed_to, self._reason(stepped)))
        if valid:
            effects.append(self._snapshot(slot, now.trust))

    def _reason(self, stepped: bool) -> Missing:
        if stepped:
            return Missing.CLOCK_STEP
        return Missing.CLOCK_UNSET if self._unset else Missing.NO_READING

    def _snapshot(self, slot: int, trust: Trust) -> Snapshot:
        flags = self._flags | (Flag.COARSE if trust is Trust.COARSE else Flag.NONE)
        if self._newest_slot is None or slot > self._newest_slot:
            # A boundary passed again is refused: what happened is told by the next new one.
            self._newest_slot = slot
            self._flags = Flag.NONE
        return Snapshot(slot, self._forward // MWH_PER_DWH, self._reverse // MWH_PER_DWH, flags)

    def _keep_minute(self, minute: int) -> None:
        if minute in self._minutes:
            return
        if len(self._minutes) >= MINUTES_KEPT:
            del self._minutes[next(iter(self._minutes))]
        self._minutes[minute] = (self._forward // MWH_PER_DWH, self._reverse // MWH_PER_DWH)
