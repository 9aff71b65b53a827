"""Whole lives of a meter against an oracle that knows the true load and when the clock said what.

A script is some weeks of running, steps of the clock, outages, swaps of the unit and spells
without a true answer from it. The oracle follows it with no idea of how the meter works: the value
of a boundary is what had flowed when a running meter's trusted clock first came by it.
``METER_MODEL_EXAMPLES`` sets how many lives are lived; a failing one is printed and shrunk.
"""

import asyncio
import os
from collections.abc import Callable
from itertools import cycle

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meter_runtime.bench.load import LoadModel
from meter_runtime.clock import HALF_HOUR_S, Timer, Trust, slot_at
from meter_runtime.events import EventBus
from meter_runtime.metrology.service import MeteringService
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import Ring
from meter_runtime.units.contracts import Nameplate, Sample, UnitFailure, UnitKind
from meter_runtime.units.metering.simulated import SimulatedMeteringUnit

EXAMPLES = int(os.environ.get("METER_MODEL_EXAMPLES", "500"))
DEPTH = 96
DAY_S = 86_400
START = 994_000 * HALF_HOUR_S + 630
"""All happens at half a minute, never in the seconds in which a late reading still counts."""
SETTLING_S = 11
"""Readings a second apart at the beginning of each stretch, as a running meter takes them."""
HOUSE = LoadModel(3, 4.0)
"""Of all lives: each of its days is drawn once."""


class HandClock:
    """True time, and how far the wall clock is off it; moved by hand."""

    def __init__(self) -> None:
        self.true = START
        self.off_by = 0
        self.trust = Trust.SYNCED

    def monotonic(self) -> float:
        return float(self.true)

    def wall(self) -> float:
        return float(self.true + self.off_by)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        raise AssertionError("reading a unit by hand waits for nothing")

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        raise AssertionError("nobody but a running service follows steps")


class Oracle:
    """What ought to be served, place by place of a ring that keeps the newest over the oldest."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.values: dict[int, tuple[int, tuple[int, int]]] = {}
        self.coarse: list[tuple[int, int]] = []

    def passes(self, slot: int, value: tuple[int, int]) -> bool:
        """The clock came by this boundary; True when it was the first time."""
        newest = max((slot for slot, _ in self.values.values()), default=None)
        if newest is None:
            self.first = min(self.first, slot)
        known = self.values.get(slot % DEPTH, (None, None))[0] == slot
        if known or slot < self.first or (newest is not None and slot <= newest - DEPTH):
            return False
        self.values[slot % DEPTH] = slot, value
        return True

    def forget(self, wrong: Callable[[int], bool]) -> None:
        self.values = {place: kept for place, kept in self.values.items() if not wrong(kept[0])}

    def learn(self, wall: int, off_by: int) -> None:
        """The time is known now: what a wrong clock booked is not true."""
        invented = {slot for slot, by in self.coarse if by != off_by}
        self.coarse.clear()
        self.forget(lambda slot: slot in invented)
        if any(slot * HALF_HOUR_S > wall + DAY_S for slot, _ in self.values.values()):
            self.forget(lambda slot: slot * HALF_HOUR_S > wall)

    def served(self) -> dict[int, tuple[int, int]]:
        newest = max((slot for slot, _ in self.values.values()), default=0)
        return dict(kept for kept in self.values.values() if kept[0] > newest - DEPTH)


class Life:
    """A meter that follows a script, and the oracle beside it."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.ring_media = MemoryMedia(Ring.size_for(DEPTH, 1))
        self.register_media = MemoryMedia(RegisterStore.size_for(1))
        self.units = 0
        self.swap()

    def swap(self) -> None:
        """Another unit, with registers of its own."""
        self.units += 1
        self.fitted_at = self.clock.true
        self.fitted_with = 1_000_000_000 // self.units
        self.unit = SimulatedMeteringUnit(
            self.clock,
            HOUSE,
            Nameplate(UnitKind.METERING, "SIM-1", f"M{self.units}"),
            self.clock.true,
            start_forward_mwh=self.fitted_with,
        )
        self.answers = self.unit.read
        self.readable = True
        self.highest = 0
        self.oracle = Oracle(slot_at(self.clock.wall()))
        self.start()

    def start(self) -> None:
        serial = self.unit.nameplate.serial
        at_slot = slot_at(self.clock.wall())
        ring = Ring.open(self.ring_media, HALF_HOUR_S, DEPTH, serial, at_slot)
        registers = RegisterStore(self.register_media)
        self.oracle.coarse.clear()
        self.service = MeteringService(self.unit, self.clock, ring, registers, EventBus())

    def silence(self, *, garbled: bool) -> None:
        """The unit answers no more, or nothing but nonsense."""
        nonsense = cycle((5, 10**13))

        async def read() -> Sample:
            if garbled:
                return Sample(next(nonsense), 0, 0, None, None)
            raise UnitFailure("no answer")

        self.unit.read = read  # type: ignore[method-assign]
        self.readable = False

    def answer(self) -> None:
        self.unit.read = self.answers  # type: ignore[method-assign]
        self.readable = True

    def flowed(self, true: int) -> tuple[int, int]:
        forward, reverse = HOUSE.energy(self.fitted_at * 1000, true * 1000)
        return self.fitted_with + forward // 3600, reverse // 3600

    async def run(self, minutes: int) -> None:
        """The meter runs, and reads each second of which it matters that it does."""
        clock, oracle = self.clock, self.oracle
        begin, end = clock.true, clock.true + 60 * minutes
        off_by = clock.off_by
        passed = range(slot_at(begin + off_by) + 1, slot_at(end + off_by) + 1)
        moments = {*range(begin, begin + SETTLING_S), end}
        for slot in passed:
            at = slot * HALF_HOUR_S - off_by
            moments |= {at - 1, at, at + 1}
        if self.readable and clock.trust is Trust.SYNCED:
            oracle.learn(begin + off_by, off_by)
        for clock.true in sorted(moment for moment in moments if begin <= moment <= end):
            await self.service.poll()
            self.check_registers()
        if not self.readable:
            return
        for slot in passed if clock.trust is not Trust.UNSET else ():
            forward, reverse = self.flowed(slot * HALF_HOUR_S - off_by)
            first = oracle.passes(slot, (forward // 100, reverse // 100))
            if first and clock.trust is Trust.COARSE:
                oracle.coarse.append((slot, off_by))
        assert self.service.forward_mwh is not None, "the registers are not known"
        self.check_served()

    def check_registers(self) -> None:
        forward, reverse = self.service.forward_mwh, self.service.reverse_mwh
        if forward is None or reverse is None:
            return
        assert forward + reverse >= self.highest, "a register decreased"
        self.highest = forward + reverse
        if self.readable:
            assert (forward, reverse) == self.flowed(self.clock.true), "the registers are wrong"

    def check_served(self) -> None:
        ring = Ring.open(self.ring_media, HALF_HOUR_S, DEPTH, self.unit.nameplate.serial)
        stored = {r.slot: (r.forward_dwh, r.reverse_dwh) for r in ring.records()}
        assert stored == self.oracle.served()
        for slot in range(min(stored, default=0) - 3, max(stored, default=0) + 4):
            record = self.service.record(slot)
            served = None if record is None else (record.forward_dwh, record.reverse_dwh)
            assert served == stored.get(slot)

    async def follow(self, action: tuple[str, int, bool]) -> None:
        what, minutes, clean = action
        clock = self.clock
        match what:
            case "run":
                await self.run(abs(minutes) % 4000 + 1)
            case "step" if clock.trust is Trust.SYNCED:
                clock.off_by += 60 * minutes
            case "sync":
                clock.trust, clock.off_by = Trust.SYNCED, 0
            case "silent" | "garbled":
                self.silence(garbled=what == "garbled")
                await self.run(abs(minutes) % 4000 + 1)
                if not clean:
                    self.start()
                    await self.run(1)
                self.answer()
            case "off" | "off-coarse" | "off-unset" | "swap":
                if clean:
                    self.service.close()
                clock.true += 60 * (abs(minutes) % 4000 + 1)
                if what == "off-coarse":
                    clock.trust, clock.off_by = Trust.COARSE, 60 * minutes
                elif what == "off-unset":
                    clock.trust, clock.off_by = Trust.UNSET, -START + 630
                if what == "swap":
                    self.swap()
                else:
                    self.start()
            case _:
                pass
        await self.run(40)


def live(script: list[tuple[str, int, bool]]) -> None:
    async def follow() -> None:
        life = Life()
        await life.run(1)
        for action in script:
            await life.follow(action)

    asyncio.run(follow())


near, days, far = (st.integers(-most, most) for most in (200, 6_000, 100_000))
actions = st.tuples(
    st.sampled_from(
        [
            "run",
            "step",
            "step",
            "sync",
            "silent",
            "garbled",
            "off",
            "off-coarse",
            "off-unset",
            "swap",
        ]
    ),
    st.one_of(near, days, far),
    st.booleans(),
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(actions, min_size=4, max_size=14))
def test_every_boundary_served_is_true_and_every_true_one_is_served(
    script: list[tuple[str, int, bool]],
) -> None:
    live(script)


def test_an_untrue_coarse_boundary_behind_the_newest_does_not_come_back_into_sight() -> None:
    live(
        [
            ("off-coarse", 104, False),
            ("run", 1435, False),
            ("run", 1435, False),
            ("silent", 27, True),
            ("sync", 0, False),
        ]
    )
