"""The life of a meter's metrology over all its stores, and what it owes after a power cut."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise, takewhile

from power import Contents, Cut, Supply

from meter_runtime.clock import HALF_HOUR_S, SLOTS_PER_DAY, Timer, Trust, slot_at, slot_start
from meter_runtime.events import EventBus
from meter_runtime.metrology.events import BoundariesMissed, BoundariesWithdrawn, BoundaryStored
from meter_runtime.metrology.hindsight import FUTURE_KEPT_S
from meter_runtime.metrology.service import MeteringService
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import Record, Ring
from meter_runtime.units.contracts import Nameplate, Sample, UnitKind
from meter_runtime.units.metering.simulated import Load, SimulatedMeteringUnit

DEPTH = 30
FINE_DEPTHS = {60: 810, 300: 170}
START = slot_start(994_000) + 1700.0
NAMEPLATE = Nameplate(UnitKind.METERING, "SIM-1", "M0000001")
PROMISED_MWH = 1000
PROMISED_S = 10.0
"""The checkpoint of a unit that forgets is behind what anyone had seen by less than both."""

DARK_S = 20.0
"""How long the power stays away."""


class HandClock:
    """Stands where it is put; monotonic time begins at power-on. It is wrong by ``ahead`` s."""

    def __init__(self, at: float) -> None:
        self._start = self.at = at
        self.ahead = 0.0
        self.trust = Trust.SYNCED

    def monotonic(self) -> float:
        return self.at - self._start

    def wall(self) -> float:
        return self.at + self.ahead

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        raise AssertionError("reading a unit by hand waits for nothing")

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        raise AssertionError("reading a unit by hand waits for nothing")


class Household:
    """Much, little, feeding in, some: for ten minutes each, then again."""

    _POWERS_W = (4000, 20, -900, 300, 10)
    _SPAN_MS = 600_000
    _FORWARD = tuple(accumulate((max(0, p) for p in _POWERS_W), initial=0))
    _REVERSE = tuple(accumulate((max(0, -p) for p in _POWERS_W), initial=0))

    def power(self, at_ms: int) -> Load:
        return Load(self._POWERS_W[at_ms // self._SPAN_MS % len(self._POWERS_W)], 0, 0)

    def energy(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        return (
            self._until(to_ms, self._FORWARD) - self._until(from_ms, self._FORWARD),
            self._until(to_ms, self._REVERSE) - self._until(from_ms, self._REVERSE),
        )

    def _until(self, at_ms: int, sums: tuple[int, ...]) -> int:
        cycles, span = divmod(at_ms // self._SPAN_MS, len(self._POWERS_W))
        rate = sums[span + 1] - sums[span]
        return (cycles * sums[-1] + sums[span]) * self._SPAN_MS + rate * (at_ms % self._SPAN_MS)


class Chip:
    """A unit whose registers survive a power cut, or begin at zero as those of most chips do."""

    nameplate = NAMEPLATE

    def __init__(self, clock: HandClock, *, lasting: bool) -> None:
        self.keeps_registers = lasting
        fitted = HandClock(START if lasting else clock.at)
        state = SimulatedMeteringUnit(fitted, Household(), NAMEPLATE, fitted.at).snapshot()
        self._unit = SimulatedMeteringUnit.restore(state, clock, Household(), NAMEPLATE, clock.at)

    async def read(self) -> Sample:
        return await self._unit.read()

    async def self_test(self) -> list[str]:
        return []

    async def close(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True, slots=True)
class Restart:
    """The program ends and starts again; ``clean`` when it had the time to say good-bye."""

    clean: bool


@dataclass(frozen=True, slots=True)
class SetClock:
    """From now on the wall clock is wrong by ``ahead`` seconds, and trusted so far."""

    ahead: float
    trust: Trust = Trust.SYNCED


Step = float | Restart | SetClock
"""When the unit is read (true UTC seconds), or what happens in between."""


def day(boundaries: int, readings: int = 1) -> tuple[Step, ...]:
    """So many half-hours: readings about each boundary and ``readings`` between; two restarts."""
    steps: list[Step] = [START]
    first = slot_at(START) + 1
    for n, slot in enumerate(range(first, first + boundaries)):
        opens = slot_start(slot)
        steps += (opens - 1.0, float(opens), opens + 1.0, opens + 12.0)
        if n == boundaries // 3:
            steps += (Restart(clean=True), opens + 13.0)
        if n == boundaries // 2:
            steps += (Restart(clean=False), opens + 15.0)
        span = HALF_HOUR_S / (readings + 1)
        steps += (opens + span * k for k in range(1, readings + 1))
    return tuple(steps)


def spell(first: int, count: int) -> tuple[Step, ...]:
    """Readings at so many boundaries from the ``first`` after the start, and just before each."""
    opens = [slot_start(slot_at(START) + n) for n in range(first, first + count)]
    return tuple(at for slot in opens for at in (slot - 1.0, float(slot)))


WHOLE_DAY = day(SLOTS_PER_DAY)
SHORT_DAY = day(3, readings=2)
MINUTES = (START, *(slot_start(slot_at(START) + 1) + 60.0 * n for n in range(-1, 64)))
"""Each minute of two half-hours and a little more."""

COARSE_TIME = (
    SetClock(-3 * 3600.0, Trust.COARSE),
    START,
    *spell(1, 2),
    SetClock(0.0),
    *spell(3, 2),
)
WRONG_TIME = (
    START,
    *spell(1, 3),
    SetClock(90 * 86_400.0),
    *spell(4, 2),
    Restart(clean=False),
    *spell(6, 1),
    SetClock(0.0),
    *spell(7, 2),
)


def recovery(at: float) -> tuple[Step, ...]:
    """Readings for as long as it takes to see that a unit restarted; then a boundary."""
    opens = slot_start(slot_at(at + 15) + 1)
    return (*(at + n for n in range(12)), opens - 1.0, float(opens), opens + 1.0)


@dataclass(frozen=True, slots=True)
class Seen:
    """The registers after a reading: from then on anyone may have read them.

    ``fine`` is what rings of finer values have stored by then.
    """

    operations: int
    at: float
    wall: float
    forward_mwh: int
    reverse_mwh: int
    fine: tuple[Mapping[int, Record], ...]


@dataclass(frozen=True, slots=True)
class Owed:
    """What the stores promise across a cut; ``tried`` were being written."""

    records: Mapping[int, Record] = field(default_factory=dict)
    tried: tuple[Record, ...] = ()
    doubtful: frozenset[int] = frozenset()
    """Slots that were being withdrawn: they may be there or not."""
    seen: Seen | None = None
    fine_tried: tuple[Mapping[int, Record], ...] = ()


@dataclass(frozen=True, slots=True)
class Plant:
    """What does not change with a cut."""

    lasting: bool
    write_unit: int
    fine: bool
    runner: asyncio.Runner


class MeterLife:
    """One run of a meter from power-on."""

    def __init__(
        self, contents: Contents, steps: tuple[Step, ...], owed: Owed, plant: Plant
    ) -> None:
        self.supply = Supply(contents, plant.write_unit)
        self._owed = owed
        self._plant = plant
        self._seen: list[Seen] = []
        self._told: list[tuple[int, BoundaryStored | BoundariesMissed | BoundariesWithdrawn]] = []
        self._kept: list[tuple[int, int, Record | None]] = []
        """Operations until then, slot, and its record from then on: None was taken back."""
        self._clock = HandClock(next(step for step in steps if isinstance(step, float)))
        for step in takewhile(lambda step: isinstance(step, SetClock), steps):
            self._set(step)
        self._unit = Chip(self._clock, lasting=plant.lasting)
        self._fine: tuple[Ring, ...] = ()
        self._service = self._started()
        self._check_rings()
        plant.runner.run(self._play(steps))

    @classmethod
    def new(cls, steps: tuple[Step, ...], plant: Plant) -> "MeterLife":
        sizes = [Ring.size_for(DEPTH, plant.write_unit), RegisterStore.size_for(plant.write_unit)]
        if plant.fine:
            sizes += [Ring.size_for(depth, plant.write_unit) for depth in FINE_DEPTHS.values()]
        life = cls(tuple(bytes(size) for size in sizes), steps, Owed(), plant)
        assert all(len(ring) > 0 for ring in life._fine), "no finer value was stored"
        return life

    def after(self, cut: Cut, contents: Contents) -> Iterator["MeterLife"]:
        seen = next((s for s in reversed(self._seen) if s.operations <= cut.at), self._owed.seen)
        reading = next((s for s in self._seen if s.operations > cut.at), self._seen[-1])
        coming = [(slot, r) for done, slot, r in self._kept if cut.at < done <= reading.operations]
        owed = Owed(
            self._records(cut.at),
            (*self._owed.tried, *(record for _, record in coming if record is not None)),
            frozenset(slot for slot, record in coming if record is None),
            seen,
            reading.fine,
        )
        self._check_registers(contents, seen)
        yield MeterLife(contents, recovery(reading.at + DARK_S), owed, self._plant)

    async def _play(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            match step:
                case Restart(clean):
                    if clean:
                        self._service.close()
                    self._service = self._started()
                case SetClock():
                    self._set(step)
                case float():
                    self._clock.at = step
                    await self._service.poll()
                    self._look()
        assert self._kept, "no boundary was stored"
        self._check_kept()

    def _look(self) -> None:
        """What is known after a reading, and whether it may be."""
        self._check_told()
        forward, reverse = self._service.forward_mwh, self._service.reverse_mwh
        if forward is None or reverse is None:
            return
        self._check_reading(forward, reverse)
        self._check_future()
        fine = tuple({record.slot: record for record in ring.records()} for ring in self._fine)
        self._seen.append(
            Seen(self.supply.now, self._clock.at, self._clock.wall(), forward, reverse, fine)
        )

    def _records(self, operations: int) -> dict[int, Record]:
        """What is owed after so many operations."""
        records = dict(self._owed.records)
        for done, slot, record in self._kept:
            if done <= operations:
                records.pop(slot, None)
                if record is not None:
                    records[slot] = record
        return records

    def _set(self, step: Step) -> None:
        assert isinstance(step, SetClock)
        self._clock.ahead, self._clock.trust = step.ahead, step.trust

    def _started(self) -> MeteringService:
        bus = EventBus()
        bus.subscribe(BoundaryStored, self._note)
        bus.subscribe(BoundariesMissed, self._note)
        bus.subscribe(BoundariesWithdrawn, self._note)
        ring = self._open(0, HALF_HOUR_S, DEPTH)
        registers = RegisterStore(self.supply.media[1])
        if self._plant.fine:
            self._fine = tuple(
                self._open(number, interval_s, depth)
                for number, (interval_s, depth) in enumerate(FINE_DEPTHS.items(), 2)
            )
        return MeteringService(self._unit, self._clock, ring, registers, bus, fine=self._fine)

    def _open(self, medium: int, interval_s: int, depth: int) -> Ring:
        slot = int(self._clock.wall() // interval_s)
        return Ring.open(self.supply.media[medium], interval_s, depth, NAMEPLATE.serial, slot)

    def _note(self, event: BoundaryStored | BoundariesMissed | BoundariesWithdrawn) -> None:
        # Judged after the reading: what a subscriber raises stays on the bus.
        self._told.append((self.supply.now, event))

    def _check_told(self) -> None:
        for done, event in self._told:
            match event:
                case BoundariesMissed(first, last):
                    for slot in range(first, last + 1):
                        assert self._service.record(slot) is None, f"{slot} is not missing"
                case BoundariesWithdrawn(slots):
                    left = [slot for slot in slots if self._service.ring.get(slot) is not None]
                    assert not left, f"withdrawn, yet stored: {left}"
                    # It is told before it is durable.
                    self._kept += ((self.supply.now, slot, None) for slot in slots)
                case BoundaryStored(slot, record):
                    self._kept.append((done, slot, record))
                    self._check_record(slot, record)
        self._told.clear()

    def _check_record(self, slot: int, record: Record) -> None:
        if self._plant.lasting:
            forward, reverse = _used_mwh(slot_start(slot) - self._clock.ahead)
            told = (record.forward_dwh, record.reverse_dwh)
            assert told == (forward // 100, reverse // 100), "not what the unit said"
        for earlier, later in pairwise(self._service.ring.records()):
            assert earlier.forward_dwh <= later.forward_dwh, f"fell back at {later.slot}"
            assert earlier.reverse_dwh <= later.reverse_dwh, f"fell back at {later.slot}"

    def _check_rings(self) -> None:
        """Every boundary that is owed is there, and none that is not."""
        owed, ring = self._owed, self._service.ring
        rings = (ring, *self._fine)
        assert not (owed.seen and any(ring.header_lost for ring in rings)), "a header was lost"
        assert not any(ring.replaced for ring in rings), "the unit is taken for another one"
        served = {record.slot: record for record in ring.records()}
        for slot, record in served.items():
            assert record in owed.tried or record == owed.records.get(slot), f"{slot} is invented"
        newest = max(served, default=0)
        overwritten = {record.slot - DEPTH for record in owed.tried}
        for slot in owed.records.keys() - overwritten - owed.doubtful:
            assert slot in served or slot <= newest - DEPTH, f"{slot} is lost"
        if owed.seen is None:
            return
        for fine, kept, tried in zip(self._fine, owed.seen.fine, owed.fine_tried, strict=True):
            found = {record.slot: record for record in fine.records()}
            assert kept.items() <= found.items(), "a finer value is lost"
            assert found.items() <= {**kept, **tried}.items(), "a finer value is invented"

    def _check_kept(self) -> None:
        """In the end each boundary is served that was stored and not taken back."""
        ring = self._service.ring
        newest = ring.newest()
        assert newest is not None
        uncertain = {record.slot - DEPTH for record in self._owed.tried} | self._owed.doubtful
        for slot, record in self._records(self.supply.now).items():
            if slot > newest.slot - DEPTH and slot not in uncertain:
                assert ring.get(slot) == record, f"{slot} is not served again"

    def _check_future(self) -> None:
        """A clock that is known leaves nothing standing a day and more ahead of it."""
        newest = self._service.ring.newest()
        if self._clock.trust is Trust.SYNCED and newest is not None:
            ahead = slot_start(newest.slot) - self._clock.wall()
            assert ahead <= FUTURE_KEPT_S, "the future is not withdrawn"

    def _check_registers(self, contents: Contents, seen: Seen | None) -> None:
        """The checkpoint is at most an interval behind what anyone had seen."""
        kept = RegisterStore(Supply(contents, self._plant.write_unit).media[1]).load()
        if seen is None:
            return
        assert kept is not None, "the registers were lost"
        assert kept.wall is not None
        behind = seen.forward_mwh + seen.reverse_mwh - kept.forward_mwh - kept.reverse_mwh
        if behind < 0:
            return  # it is newer, by whatever clock
        if self._plant.lasting:
            assert slot_at(kept.wall) >= slot_at(seen.wall), "no checkpoint at the last boundary"
        else:
            assert behind < PROMISED_MWH, "too much energy since the checkpoint"
            assert seen.wall - kept.wall < PROMISED_S, "too long since the checkpoint"

    def _check_reading(self, forward: int, reverse: int) -> None:
        """Registers never fall back, but for what a unit forgot since the last checkpoint."""
        if self._plant.lasting:
            assert (forward, reverse) == _used_mwh(self._clock.at), "not the unit's registers"
        if self._seen:
            assert forward >= self._seen[-1].forward_mwh
            assert reverse >= self._seen[-1].reverse_mwh
        elif self._owed.seen is not None:
            before = self._owed.seen
            assert before.forward_mwh + before.reverse_mwh - forward - reverse < PROMISED_MWH


def _used_mwh(at: float) -> tuple[int, int]:
    """What a lasting unit says at this instant."""
    forward, reverse = Household().energy(round(START * 1000), round(at * 1000))
    return forward // 3600, reverse // 3600
