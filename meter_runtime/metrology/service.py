"""The shell around the accumulator: reads the unit each second, keeps and tells what follows.

:meth:`MeteringService.run` is the live meter: one reading on each second of the wall clock, and so
one right at each boundary, and one at once after a step of it. :meth:`MeteringService.poll` is one
such reading, for whoever moves the clock by hand. Neither ever ends because a unit or a medium
fails.

What a power cut costs depends on the unit. One that forgets its registers is checkpointed every
:data:`CHECKPOINT_S` or :data:`CHECKPOINT_MWH`: that much is lost at most. One that keeps them is
the authority after a cut as before it, and nothing is lost; checkpoints at the start, at
boundaries, at steps of the clock and at the end spare the medium (two pages a half-hour instead of
180). The price is a double fault: where power *and* the unit's registers are lost together, the
meter goes on from the last boundary, up to half an hour behind what it showed (EPC E0), and tells
an alarm (:class:`ReadingFellBack`, :class:`UnitRestarted`).
"""

import asyncio
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from meter_runtime.clock import Clock, Hold, Trust, wait_for_event
from meter_runtime.events import EventBus
from meter_runtime.metrology.accumulator import Accumulator
from meter_runtime.metrology.boundaries import MINUTE_S
from meter_runtime.metrology.events import (
    BoundariesMissed,
    ClockStepped,
    Effect,
    MinuteTaken,
    ReadingFellBack,
    ReadingLeapt,
    Snapshot,
    UnitAnswers,
    UnitReplaced,
    UnitRestarted,
    UnitSilent,
    Withdraw,
)
from meter_runtime.metrology.fine import MINUTES_KEPT
from meter_runtime.metrology.moment import Moment
from meter_runtime.metrology.recorder import Recorder, resume
from meter_runtime.storage.registers import Checkpoint, RegisterStore
from meter_runtime.storage.ring import Record, Ring
from meter_runtime.units.contracts import MeteringUnit, Sample, UnitFailure
from meter_runtime.units.failures import READ_BOUND_S, bounded

log = logging.getLogger(__name__)

CHECKPOINT_S = 10.0
CHECKPOINT_MWH = 1000
"""The registers of a unit that forgets its own are stored when this time has passed or this energy
has flowed."""

RETRY_S = 10.0
"""While storage fails it is tried anew this often, and at boundaries."""

STALE_S = 10.0
"""Present power and current are unknown once the last reading is older."""


class MeteringService:
    """One meter's metering: ``unit`` read by ``clock`` into ``ring`` and ``registers``.

    ``ring`` must have been opened with the unit's serial, and so the rings in ``fine``, which keep
    values of whole minutes (60 or 300 s). The service writes all these stores and nobody else does;
    whoever opened their media closes them.
    """

    def __init__(
        self,
        unit: MeteringUnit,
        clock: Clock,
        ring: Ring,
        registers: RegisterStore,
        bus: EventBus,
        *,
        fine: Sequence[Ring] = (),
    ) -> None:
        self._unit = unit
        self._clock = clock
        self._bus = bus
        self._registers = registers
        self._recorder, self._accumulator = self._opened(unit, ring, fine)
        self._sample: Sample | None = None
        self._sampled_at = 0.0
        self._saved_at = -math.inf
        self._saved_mwh = 0
        self._tried_at = -math.inf
        self._silent = 0
        self._hold = Hold()
        self.read_failures = 0
        """Readings the unit did not give."""

    def _opened(
        self, unit: MeteringUnit, ring: Ring, fine: Sequence[Ring]
    ) -> tuple[Recorder, Accumulator]:
        nameplate = unit.nameplate
        for each in (ring, *fine):
            if each.serial != nameplate.serial:
                raise ValueError(f"the ring is of unit {each.serial}, not of {nameplate.serial}")
        recorder = Recorder(ring, self._registers, self._bus, fine)
        accumulator = Accumulator(
            nameplate.serial,
            two_way=nameplate.two_way,
            forgetful=not unit.keeps_registers,
            resume=resume(ring, self._registers),
            newest=recorder.newest,
            previous_serial=ring.previous_serial,
        )
        return recorder, accumulator

    def refit(self, unit: MeteringUnit) -> None:
        """The same unit again, by another driver or after a rest: the registers go on."""
        if unit.nameplate.serial != self.ring.serial:
            raise ValueError("another unit has another history: see replace_unit")
        self._unit = unit
        self._accumulator.paused(forgetful=not unit.keeps_registers)

    def replace_unit(self, unit: MeteringUnit, ring: Ring, fine: Sequence[Ring] = ()) -> None:
        """Another unit is in the slot; ``ring`` and ``fine`` were opened anew with its serial.

        The old unit's last values must have been stored by :meth:`close` before.
        """
        version = self._recorder.version
        self._recorder, self._accumulator = self._opened(unit, ring, fine)
        # What was derived from the old unit's history must not outlive it.
        self._recorder.version = version + 1
        self._unit = unit
        self._sample = None
        self._saved_at = self._tried_at = -math.inf
        self._saved_mwh = 0

    @property
    def unit(self) -> MeteringUnit:
        """Whom it reads."""
        return self._unit

    @property
    def ring(self) -> Ring:
        return self._recorder.ring

    @property
    def faulty(self) -> bool:
        """The unit is silent, or storage fails."""
        return self._silent > 0 or self._recorder.failing

    @property
    def recorder(self) -> Recorder:
        """Counts what waits for storage and what it failed."""
        return self._recorder

    @property
    def version(self) -> int:
        """Increments before a new boundary is told: a key for what is derived from them."""
        return self._recorder.version

    @property
    def forward_mwh(self) -> int | None:
        """The forward register; None before the first reading that is believed."""
        return self._accumulator.forward_mwh

    @property
    def reverse_mwh(self) -> int | None:
        """The reverse register; None before the first reading that is believed."""
        return self._accumulator.reverse_mwh

    @property
    def power_w(self) -> int | None:
        """Present power, negative towards the grid; None while the unit is silent."""
        sample = self._fresh()
        return None if sample is None else sample.power_w

    @property
    def current_r_ma(self) -> int | None:
        """Present current of line R; None while the unit is silent."""
        sample = self._fresh()
        return None if sample is None else sample.current_r_ma

    @property
    def current_t_ma(self) -> int | None:
        """Present current of line T; None while the unit is silent, or without such a line."""
        sample = self._fresh()
        return None if sample is None else sample.current_t_ma

    def record(self, slot: int) -> Record | None:
        """The registers at the opening of half-hour ``slot``, also while storage fails."""
        return self._recorder.record(slot)

    def minute(self, minute: int) -> tuple[int, int] | None:
        """Forward and reverse in 0.1 Wh at the opening of ``epoch // 60``, for the last hour."""
        if minute <= self._clock.wall() // MINUTE_S - MINUTES_KEPT:
            return None
        record = self._recorder.fine.record(MINUTE_S, minute)
        return None if record is None else (record.forward_dwh, record.reverse_dwh)

    def fine_record(self, interval_s: int, slot: int) -> Record | None:
        """The registers at the opening of ``epoch // interval_s``, where a fine ring keeps it."""
        return self._recorder.fine.record(interval_s, slot)

    async def run(self) -> None:
        """Read the unit on each second of the wall clock, and at its steps, until cancelled."""
        stepped = asyncio.Event()
        forget = self._clock.on_step(stepped.set)
        try:
            while True:
                await self._hold.ended()
                stepped.clear()
                await self.poll()
                wall = self._clock.wall()
                due = self._clock.monotonic() + math.floor(wall) + 1 - wall
                await wait_for_event(self._clock, stepped, due)
        finally:
            forget()

    async def poll(self) -> None:
        """Read the unit once and act on what it says; never raises for the unit or a medium."""
        # Taken before the reading: it then holds at this moment or later, never earlier.
        now = Moment(self._clock.monotonic(), self._clock.wall(), self._clock.trust)
        unit = self._unit
        try:
            sample = await bounded(unit.read, READ_BOUND_S, "the metering unit")
        except UnitFailure as failure:
            self._miss(str(failure))
        else:
            if unit is self._unit:  # what a unit says after it was replaced is not the new one's
                self._take(sample, now)
        self._retry()

    @contextmanager
    def held(self) -> Iterator[None]:
        """While the clock is moved by hand: :meth:`run` rests, only :meth:`poll` reads.

        Time then passes faster than any disk, so the registers are stored at the end only;
        boundaries are stored as ever.
        """
        try:
            with self._hold:
                yield
        finally:
            self._save()

    def close(self) -> None:
        """Store the registers as they are, and every value taken."""
        self._save()
        self._recorder.close()

    def _fresh(self) -> Sample | None:
        if self._sample is None or self._clock.monotonic() - self._sampled_at > STALE_S:
            return None
        return self._sample

    def _take(self, sample: Sample, now: Moment) -> None:
        if self._silent:
            failures, self._silent = self._silent, 0
            log.warning("the metering unit is read again after %d failures", failures)
            self._bus.publish(UnitAnswers(failures))
        self._sample = sample
        self._sampled_at = now.monotonic
        turn = False
        for effect in self._accumulator.take(sample, now):
            turn |= self._act(effect)
        if turn:
            self._recorder.store()
        if not self._hold.on and (turn or self._checkpoint_due(now.monotonic)):
            self._save()

    def _act(self, effect: Effect) -> bool:
        """Keep or tell it; True when the stores must know before the next checkpoint is due."""
        match effect:
            case Snapshot():
                self._recorder.keep(effect)
                return True
            case Withdraw():
                self._recorder.withdraw(effect)
                return True
            case MinuteTaken():
                self._recorder.keep_minute(effect)
                return False
            case BoundariesMissed() | ReadingFellBack() | ReadingLeapt() | UnitRestarted():
                log.warning("%s", effect)
            case _:
                pass
        self._bus.publish(effect)
        return isinstance(effect, ClockStepped | UnitReplaced | UnitRestarted)

    def _checkpoint_due(self, monotonic: float) -> bool:
        if self._unit.keeps_registers:
            return self._saved_at == -math.inf
        if monotonic - self._saved_at >= CHECKPOINT_S:
            return True
        energy = (self.forward_mwh or 0) + (self.reverse_mwh or 0)
        return not self._recorder.failing and energy - self._saved_mwh >= CHECKPOINT_MWH

    def _checkpoint(self) -> Checkpoint | None:
        wall = None if self._clock.trust is Trust.UNSET else self._clock.wall()
        return self._accumulator.checkpoint(wall)

    def _save(self) -> None:
        checkpoint = self._checkpoint()
        if checkpoint is None:
            return
        self._saved_at = self._tried_at = self._clock.monotonic()
        self._saved_mwh = checkpoint.forward_mwh + checkpoint.reverse_mwh
        self._recorder.checkpoint(checkpoint)

    def _retry(self) -> None:
        now = self._clock.monotonic()
        if self._recorder.failing and not self._hold.on and now - self._tried_at >= RETRY_S:
            self._tried_at = now
            self._recorder.retry(self._checkpoint())

    def _miss(self, reason: str) -> None:
        self.read_failures += 1
        self._silent += 1
        if self._silent == 1:
            log.error("%s; read again each second", reason)
            self._bus.publish(UnitSilent(reason))
