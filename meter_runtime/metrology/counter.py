"""The meter's registers against the metering unit's: which reading is believed, what it adds.

The unit's own cumulative registers are the authority, so that nothing is lost while this program
does not run. A reading below the last believed one, or above it by more than any unit can have
counted meanwhile, is doubtful: the registers stand and an alarm is told. Where ``RESTART_READINGS``
doubtful readings in a row agree with each other, the unit does count on from another place: the
registers go on from where they stood, and the jump itself never becomes energy, down or up. One
case is left to the unit: a gain over an outage, of which only a wall clock says that it is too
much. Clocks are wrong more often than registers, so a unit that insists is believed.
"""

from dataclasses import dataclass

from meter_runtime.clock import Trust
from meter_runtime.metrology.events import (
    Effect,
    ReadingFellBack,
    ReadingLeapt,
    UnitRestarted,
)
from meter_runtime.metrology.moment import Moment
from meter_runtime.storage.registers import MAX_REGISTER_MWH, Checkpoint
from meter_runtime.storage.ring import MAX_ENERGY_DWH

RESTART_READINGS = 10
"""Consecutive doubtful readings that prove a unit counting from another place. *Unverified.*"""

LEAP_W = 250_000
"""More power than any unit measures: six times 120 A on three phases. *Unverified.*"""

LEAP_MARGIN_MWH = 10_000
"""What a unit that counts in coarse pulses may add at once. *Unverified.*"""

UNKNOWN_OUTAGE_S = 40 * 86_400
"""How long an outage may have lasted that no clock has measured. *Unverified.*"""

MWH_PER_DWH = 100

REGISTER_LIMIT_MWH = min(MAX_REGISTER_MWH, MAX_ENERGY_DWH * MWH_PER_DWH)
"""Neither a unit's register nor the meter's is believed to reach this: storage could not hold it,
and no unit counts so far."""

Registers = tuple[int, int]
"""Forward and reverse, mWh."""


def most_gained(elapsed_s: float) -> int:
    """The most energy, in mWh, that both registers together can gain in this time."""
    return LEAP_MARGIN_MWH + max(0, int(elapsed_s * LEAP_W / 3.6))


@dataclass(frozen=True, slots=True)
class _Doubtful:
    reading: Registers
    at: float


class Counter:
    """Forward and reverse registers in mWh; they never decrease.

    ``resume`` is the last checkpoint of this same unit, if there is one. A ``forgetful`` unit
    counts from zero after each pause: that is its nature, and no alarm.
    """

    def __init__(self, resume: Checkpoint | None, *, forgetful: bool = False) -> None:
        self.registers: Registers = (0, 0)
        self.unit: Registers | None = None
        """The unit's registers at the last believed reading."""
        if resume is not None:
            self.registers = resume.forward_mwh, resume.reverse_mwh
            self.unit = resume.unit_forward_mwh, resume.unit_reverse_mwh
        self._may_begin_anew = forgetful
        self._left_at = resume.wall if resume is not None else None
        self._believed_at: float | None = None
        self._doubtful: list[_Doubtful] = []
        self._alarmed = False

    def paused(self, *, forgetful: bool) -> None:
        """The unit was out of its slot, or its driver was started again."""
        self._may_begin_anew = forgetful

    def count(self, reading: Registers, now: Moment, effects: list[Effect]) -> bool:
        """Move the registers by what the unit gained; False when the reading is not believed."""
        if not all(0 <= register < REGISTER_LIMIT_MWH for register in reading):
            return self._refuse(reading, effects)
        base = self.unit
        if base is None:
            self.registers = reading
        elif _follows(base, reading, self._elapsed(now)):
            self._gain(base, reading)
        elif self._may_begin_anew and _follows((0, 0), reading, self._elapsed(now)):
            self._gain((0, 0), reading)
        else:
            start = self._insists(reading, now.monotonic)
            if start is None:
                return self._doubt(reading, effects)
            if self._believed_at is None and _rose(base, start):
                start = base
            else:
                effects.append(UnitRestarted(*start))
            self._gain(start, reading)
        self.unit = reading
        self._may_begin_anew = False
        self._believed_at = now.monotonic
        self._doubtful.clear()
        self._alarmed = False
        return True

    def _elapsed(self, now: Moment) -> float:
        """Seconds since the last believed reading; at most, where nobody can say.

        Across an outage only the wall clock can, and only one that is known now and not behind
        what it showed before.
        """
        if self._believed_at is not None:
            return now.monotonic - self._believed_at
        if self._left_at is None or now.trust is not Trust.SYNCED or now.wall < self._left_at:
            return UNKNOWN_OUTAGE_S
        return now.wall - self._left_at

    def _gain(self, base: Registers, reading: Registers) -> None:
        forward, reverse = self.registers
        self.registers = (
            min(forward + reading[0] - base[0], REGISTER_LIMIT_MWH - 1),
            min(reverse + reading[1] - base[1], REGISTER_LIMIT_MWH - 1),
        )

    def _insists(self, reading: Registers, at: float) -> Registers | None:
        """Where the unit counts from, once enough doubtful readings follow one another."""
        doubtful = self._doubtful
        if doubtful and not _follows(doubtful[-1].reading, reading, at - doubtful[-1].at):
            doubtful.clear()
        doubtful.append(_Doubtful(reading, at))
        return doubtful[0].reading if len(doubtful) >= RESTART_READINGS else None

    def _refuse(self, reading: Registers, effects: list[Effect]) -> bool:
        self._doubtful.clear()
        return self._doubt(reading, effects)

    def _doubt(self, reading: Registers, effects: list[Effect]) -> bool:
        if not self._alarmed:
            self._alarmed = True
            base = self.unit or (0, 0)
            kind = ReadingLeapt if _rose(base, reading) else ReadingFellBack
            effects.append(kind(*reading, *base))
        return False


def _rose(before: Registers, after: Registers) -> bool:
    return after[0] >= before[0] and after[1] >= before[1]


def _follows(before: Registers, after: Registers, elapsed_s: float) -> bool:
    """A unit can have counted from ``before`` to ``after`` in this time."""
    return _rose(before, after) and sum(after) - sum(before) <= most_gained(elapsed_s)
