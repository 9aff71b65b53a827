"""The shell around the accumulator: reads the unit each second, keeps and tells what follows.

:meth:`MeteringService.run` is the live meter: one reading on each second of the wall clock, and
so one right at each boundary. :meth:`MeteringService.poll` is one such reading, for whoever moves
the clock by hand. Neither ever ends because a unit or a medium fails.
"""

import asyncio
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

from meter_runtime.clock import Clock, Trust, sleep_until
from meter_runtime.events import EventBus
from meter_runtime.metrology.accumulator import Accumulator, Moment
from meter_runtime.metrology.events import (
    BoundariesMissed,
    ReadingFellBack,
    Snapshot,
    UnitAnswers,
    UnitRestarted,
    UnitSilent,
)
from meter_runtime.metrology.recorder import Recorder, resume
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import Record, Ring
from meter_runtime.units.contracts import MeteringUnit, Sample, UnitFailure

log = logging.getLogger(__name__)

READ_BOUND_S = 1.5
"""A driver answers within a second; one that does not is cut off here."""

CHECKPOINT_S = 10.0
CHECKPOINT_MWH = 1000
"""Registers are stored when this time has passed or this energy has flowed, and at boundaries."""

STALE_S = 10.0
"""Present power and current are unknown once the last reading is older."""


class MeteringService:
    """One meter's metering: ``unit`` read by ``clock`` into ``ring`` and ``registers``.

    ``ring`` must have been opened with the unit's serial. The service writes both stores and
    nobody else does; whoever opened their media closes them.
    """

    def __init__(
        self,
        unit: MeteringUnit,
        clock: Clock,
        ring: Ring,
        registers: RegisterStore,
        bus: EventBus,
    ) -> None:
        nameplate = unit.nameplate
        if ring.serial != nameplate.serial:
            raise ValueError(f"the ring is of unit {ring.serial}, not of {nameplate.serial}")
        newest = ring.newest()
        self._unit = unit
        self._clock = clock
        self._bus = bus
        self._recorder = Recorder(ring, registers, bus)
        self._accumulator = Accumulator(
            nameplate.serial,
            two_way=nameplate.two_way,
            resume=resume(ring, registers),
            newest_slot=newest.slot if newest else None,
        )
        self._sample: Sample | None = None
        self._sampled_at = 0.0
        self._saved_at = -math.inf
        self._saved_mwh = 0
        self._silent = 0
        self._holds = 0
        self._unheld = asyncio.Event()
        self._unheld.set()
        self.read_failures = 0
        """Readings the unit did not give."""

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
        """The forward register; None before the first reading."""
        return self._accumulator.forward_mwh

    @property
    def reverse_mwh(self) -> int | None:
        """The reverse register; None before the first reading."""
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
        return self._accumulator.minute(minute)

    async def run(self) -> None:
        """Read the unit on each second of the wall clock, until cancelled."""
        while True:
            await self._unheld.wait()
            await self.poll()
            wall = self._clock.wall()
            # From where the clocks stand now: a step is followed within a second.
            await sleep_until(self._clock, self._clock.monotonic() + math.floor(wall) + 1 - wall)

    async def poll(self) -> None:
        """Read the unit once and act on what it says; never raises for the unit or a medium."""
        # Taken before the reading: it then holds at this moment or later, never earlier.
        now = Moment(self._clock.monotonic(), self._clock.wall(), self._clock.trust)
        try:
            # Real time on purpose: a hung driver hangs in it, whatever the clock is told.
            async with asyncio.timeout(READ_BOUND_S):
                sample = await self._unit.read()
        except UnitFailure as error:
            self._miss(str(error))
        except TimeoutError:
            self._miss(f"the metering unit did not answer within {READ_BOUND_S} s")
        except Exception as error:
            log.debug("the metering unit's driver failed", exc_info=True)
            self._miss(f"the metering unit's driver failed: {type(error).__name__}")
        else:
            self._take(sample, now)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While the clock is moved by hand: :meth:`run` rests, only :meth:`poll` reads.

        Time then passes faster than any disk, so the registers are stored at the end only;
        boundaries are stored as ever.
        """
        self._holds += 1
        self._unheld.clear()
        try:
            yield
        finally:
            self._holds -= 1
            if self._holds == 0:
                self._unheld.set()
            self._save()

    def close(self) -> None:
        """Store the registers as they are."""
        self._save()

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
        boundary = False
        for effect in self._accumulator.take(sample, now):
            if isinstance(effect, Snapshot):
                boundary = True
                self._recorder.keep(effect)
                continue
            if isinstance(effect, ReadingFellBack | UnitRestarted | BoundariesMissed):
                log.warning("%s", effect)
            self._bus.publish(effect)
        if self._unheld.is_set() and (boundary or self._checkpoint_due(now.monotonic)):
            self._save()

    def _checkpoint_due(self, monotonic: float) -> bool:
        energy = (self.forward_mwh or 0) + (self.reverse_mwh or 0)
        return (
            monotonic - self._saved_at >= CHECKPOINT_S or energy - self._saved_mwh >= CHECKPOINT_MWH
        )

    def _save(self) -> None:
        wall = None if self._clock.trust is Trust.UNSET else self._clock.wall()
        checkpoint = self._accumulator.checkpoint(wall)
        if checkpoint is None:
            return
        self._saved_at = self._clock.monotonic()
        self._saved_mwh = checkpoint.forward_mwh + checkpoint.reverse_mwh
        self._recorder.checkpoint(checkpoint)

    def _miss(self, reason: str) -> None:
        self.read_failures += 1
        self._silent += 1
        if self._silent == 1:
            log.error("%s; read again each second", reason)
            self._bus.publish(UnitSilent(reason))
