"""The voltage unit's service: reads it each second, keeps half-hours, tells crossings of the band.

It is for the utility: nothing of it is on the B-route. A half-hour is stored when the next one
begins; what was read of the one under way is lost with the power.
"""

import enum
import logging
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from meter_runtime.clock import Clock, Trust, slot_at
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.functions.bands import (
    STATUTORY_100V,
    STATUTORY_200V,
    Band,
    BandWatch,
    Side,
)
from meter_runtime.functions.calls import Silence
from meter_runtime.functions.half_hours import MIN_READINGS, HalfHours
from meter_runtime.functions.pace import Pace
from meter_runtime.storage.voltage_log import VoltageLog, VoltageRecord
from meter_runtime.units.contracts import UnitFailure, VoltageSample, VoltageUnit
from meter_runtime.units.failures import READ_BOUND_S, bounded

log = logging.getLogger(__name__)

STALE_S = 10.0
"""The present voltages are unknown once the last reading is older."""

WAITING_MAX = 96
"""Half-hours that wait for storage to heal: two days. Beyond, the oldest is dropped."""

STORE_RETRY_S = 10.0


class Line(enum.Enum):
    """Between which conductors."""

    R_N = "R-N"
    T_N = "T-N"
    R_T = "R-T"


STATUTORY: Mapping[Line, Band] = {
    Line.R_N: STATUTORY_100V,
    Line.T_N: STATUTORY_100V,
    Line.R_T: STATUTORY_200V,
}

_NO_READING = VoltageSample(None, None, None)


@dataclass(frozen=True, slots=True)
class VoltageOutOfBand:
    """A line's voltage left its band, to BELOW or ABOVE."""

    line: Line
    side: Side
    voltage_mv: int


@dataclass(frozen=True, slots=True)
class VoltageBackInBand:
    """It is back."""

    line: Line
    voltage_mv: int


@dataclass(frozen=True, slots=True)
class VoltageStored:
    """A half-hour's record is durable."""

    record: VoltageRecord


@dataclass(frozen=True, slots=True)
class VoltageStatus:
    """The voltages at a glance."""

    fitted: bool
    sample: VoltageSample | None
    """None while the unit is silent."""
    sides: Mapping[Line, Side]
    waiting: int
    """Half-hours that wait for storage to heal."""
    dropped: int
    """Half-hours lost because it failed for too long."""


class VoltageService:
    """The voltages of one meter. ``unit`` None: none is fitted yet.

    ``bands`` has one for each line to watch; a line has half-hours of ``fewest`` readings or more.
    """

    def __init__(
        self,
        unit: VoltageUnit | None,
        clock: Clock,
        bus: EventBus,
        store: VoltageLog,
        *,
        bands: Mapping[Line, Band] = STATUTORY,
        fewest: int = MIN_READINGS,
    ) -> None:
        self._unit = unit
        self._clock = clock
        self._bus = bus
        self._store = store
        self._bands = bands
        self._pace = Pace(clock)
        self._silence = Silence(bus)
        self._watches = self._new_watches()
        self._half_hours = HalfHours(fewest)
        self._sample: VoltageSample | None = None
        self._sampled_at = 0.0
        self._waiting: deque[VoltageRecord] = deque()
        self._dropped = 0
        self._failing = False
        self._tried_at = 0.0

    @property
    def sample(self) -> VoltageSample | None:
        """The present voltages; None while the unit is silent."""
        if self._sample is None or self._clock.monotonic() - self._sampled_at > STALE_S:
            return None
        return self._sample

    @property
    def status(self) -> VoltageStatus:
        return VoltageStatus(
            fitted=self._unit is not None,
            sample=self.sample,
            sides={line: watch.side for line, watch in self._watches.items()},
            waiting=len(self._waiting),
            dropped=self._dropped,
        )

    def fit(self, unit: VoltageUnit) -> None:
        """This unit is in the slot now. The half-hour under way goes on with it."""
        self.removed()
        self._unit = unit

    def removed(self) -> None:
        """No unit is in the slot: nobody knows of a line whether it is in its band."""
        self._unit = None
        self._sample = None
        self._watches = self._new_watches()
        self._silence.forget()

    def records(self, first: int, last: int) -> list[VoltageRecord]:
        """Half-hours ``first`` to ``last`` (inclusive), stored or waiting to be, oldest first.

        MeterError when the medium fails.
        """
        found = {record.slot: record for record in self._store.records(first, last)}
        for record in self._waiting:
            if first <= record.slot <= last:
                found[record.slot] = record
        return [found[slot] for slot in sorted(found)]

    async def run(self) -> None:
        """Read the unit each second until cancelled."""
        await self._pace.keep(self.poll)

    def held(self) -> AbstractContextManager[None]:
        """While the clock is moved by hand: :meth:`run` rests, only :meth:`poll` reads."""
        return self._pace.hold

    async def poll(self, stands_for_s: int = 1) -> None:
        """Read the unit once; the reading counts for so many seconds of its half-hour.

        Neither unit nor store makes it raise.
        """
        slot = self._slot()
        sample = None if self._unit is None else await self._read(self._unit)
        self._watch(sample)
        done = self._half_hours.take(slot, sample, stands_for_s)
        if done is not None:
            self._waiting.append(done)
            if len(self._waiting) > WAITING_MAX:
                self._waiting.popleft()
                self._dropped += 1
        rested = self._clock.monotonic() - self._tried_at >= STORE_RETRY_S
        if self._waiting and (done is not None or rested):
            self._catch_up()

    def _slot(self) -> int | None:
        """The half-hour under way; None where nobody knows the time, or it is none."""
        slot = slot_at(self._clock.wall())
        return slot if slot >= 0 and self._clock.trust is not Trust.UNSET else None

    async def _read(self, unit: VoltageUnit) -> VoltageSample | None:
        """What the unit that is still fitted says."""
        at = self._clock.monotonic()
        try:
            sample = await bounded(unit.read, READ_BOUND_S, "the voltage unit")
        except UnitFailure as failure:
            if self._unit is unit:
                self._silence.missed(str(failure))
            return None
        if self._unit is not unit:
            return None
        self._silence.heard()
        self._sample, self._sampled_at = sample, at
        return sample

    def _watch(self, reading: VoltageSample | None) -> None:
        sample = reading or _NO_READING
        voltages = {Line.R_N: sample.r_n_mv, Line.T_N: sample.t_n_mv, Line.R_T: sample.r_t_mv}
        for line, watch in self._watches.items():
            mv = voltages[line]
            side = watch.feed(mv)
            if side is None or mv is None:
                continue
            if side is Side.WITHIN:
                log.info("%s: %.1f V, back in its band", line.value, mv / 1000)
                self._bus.publish(VoltageBackInBand(line, mv))
            else:
                log.warning("%s: %.1f V, %s its band", line.value, mv / 1000, side.value)
                self._bus.publish(VoltageOutOfBand(line, side, mv))

    def _catch_up(self) -> None:
        """Store what waits, oldest first."""
        self._tried_at = self._clock.monotonic()
        try:
            while self._waiting:
                record = self._waiting[0]
                if self._store.store(record):
                    self._bus.publish(VoltageStored(record))
                self._waiting.popleft()
        except MeterError as failure:
            if not self._failing:
                log.error("%s; voltages wait in memory", failure)
            self._failing = True
        else:
            self._failing = False

    def _new_watches(self) -> dict[Line, BandWatch]:
        return {line: BandWatch(band) for line, band in self._bands.items()}
