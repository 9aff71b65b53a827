"""The metering service on real stores, a simulated unit and the bench clock."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.load import LoadModel
from meter_runtime.clock import Trust
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.metrology import recorder
from meter_runtime.metrology.events import (
    BoundariesMissed,
    BoundaryRefused,
    BoundaryStored,
    ClockStepped,
    OutageEnded,
    StorageFailed,
    StorageHealed,
    UnitAnswers,
    UnitSilent,
)
from meter_runtime.metrology.service import MeteringService
from meter_runtime.storage.media import FileMedia, MemoryMedia
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import Flag, Ring
from meter_runtime.units.contracts import Nameplate, Sample, UnitKind
from meter_runtime.units.metering.simulated import SimulatedMeteringUnit

SLOT = 994_000
T0 = SLOT * 1800.0
DEPTH = 200
NAMEPLATE = Nameplate(UnitKind.METERING, "SIM-1", "M0000001")


class BrittleMedia(MemoryMedia):
    broken = False
    flushes = 0

    def flush(self) -> None:
        if self.broken:
            raise MeterError("card: cannot write: gone; replace it")
        self.flushes += 1


class Bench:
    """One meter; the media outlive a restart of it."""

    def __init__(self, start: float = T0 + 600) -> None:
        self.clock = BenchClock(start)
        self.ring_media = BrittleMedia(Ring.size_for(DEPTH, 1))
        self.register_media = BrittleMedia(RegisterStore.size_for(1))
        self.unit = SimulatedMeteringUnit(
            self.clock, LoadModel(3, 4.0), NAMEPLATE, start, start_forward_mwh=10**9
        )
        self.events: list[object] = []
        self.bus = EventBus()
        self.service = self.started()

    def started(self) -> MeteringService:
        self.bus = bus = EventBus()
        for kind in (
            BoundariesMissed,
            BoundaryRefused,
            BoundaryStored,
            ClockStepped,
            OutageEnded,
            StorageFailed,
            StorageHealed,
            UnitAnswers,
            UnitSilent,
        ):
            bus.subscribe(kind, self.events.append)
        ring = Ring.open(self.ring_media, 1800, DEPTH, NAMEPLATE.serial, SLOT)
        return MeteringService(self.unit, self.clock, ring, RegisterStore(self.register_media), bus)

    async def advance(self, seconds: float) -> None:
        with self.service.held():
            await self.clock.advance(seconds, self.service.poll)

    def break_storage(self, broken: bool) -> None:
        self.ring_media.broken = self.register_media.broken = broken

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


async def test_nothing_is_known_before_the_first_reading() -> None:
    service = Bench().service
    assert service.forward_mwh is None
    assert service.reverse_mwh is None
    assert service.power_w is None
    assert service.current_r_ma is None


async def test_each_boundary_is_stored_told_and_counted() -> None:
    bench = Bench()
    await bench.service.poll()
    await bench.advance(7200)
    assert [event.slot for event in bench.told(BoundaryStored)] == [SLOT + n for n in (1, 2, 3, 4)]
    assert bench.service.version == 4
    assert bench.service.ring.get(SLOT + 4) == bench.told(BoundaryStored)[-1].record
    assert bench.told(BoundariesMissed) == []


async def test_a_boundary_holds_exactly_what_the_unit_said_at_it() -> None:
    bench = Bench()
    await bench.service.poll()
    await bench.advance(7200)
    load = LoadModel(3, 4.0)
    for slot in range(SLOT + 1, SLOT + 5):
        forward, reverse = load.energy(round((T0 + 600) * 1000), slot * 1_800_000)
        record = bench.service.record(slot)
        assert record is not None
        # The bench's own start takes some real milliseconds.
        assert abs(record.forward_dwh - (10**9 + forward // 3600) // 100) <= 1
        assert abs(record.reverse_dwh - reverse // 360_000) <= 1


async def test_minutes_are_known_for_the_last_hour() -> None:
    bench = Bench()
    await bench.service.poll()
    await bench.advance(7200)
    last = int((T0 + 600 + 7200) // 60)
    assert all(bench.service.minute(last - n) for n in range(61))


async def test_run_reads_each_second_and_right_at_the_boundary() -> None:
    bench = Bench(T0 + 1795.3)
    read_at: list[float] = []
    read = bench.unit.read

    async def noted() -> Sample:
        read_at.append(bench.clock.wall() - T0)
        return await read()

    bench.unit.read = noted  # type: ignore[method-assign]
    task = asyncio.create_task(bench.service.run())
    await asyncio.sleep(0)

    await bench.clock.advance(7, no_visit)
    task.cancel()
    assert [round(at, 3) for at in read_at[1:]] == [1796, 1797, 1798, 1799, 1800, 1801, 1802]
    assert [event.slot for event in bench.told(BoundaryStored)] == [SLOT + 1]


async def test_while_held_only_polls_read_the_unit() -> None:
    bench = Bench(T0 + 0.5)
    task = asyncio.create_task(bench.service.run())
    await asyncio.sleep(0)
    polls = 0

    async def count() -> None:
        nonlocal polls
        polls += 1
        await bench.service.poll()

    with bench.service.held():
        await bench.clock.advance(3600, count)
    task.cancel()
    assert polls == 61
    assert bench.service.version == 2


async def test_the_version_has_changed_when_a_boundary_is_told() -> None:
    bench = Bench()
    versions: list[int] = []
    bench.bus.subscribe(BoundaryStored, lambda _: versions.append(bench.service.version))
    await bench.service.poll()
    await bench.advance(3600)
    assert versions == [1, 2]


async def test_of_two_holds_the_last_one_lets_go() -> None:
    bench = Bench(T0 + 0.5)
    task = asyncio.create_task(bench.service.run())
    await asyncio.sleep(0)
    await asyncio.gather(bench.advance(1800), bench.advance(1800))
    failures = bench.service.read_failures
    bench.unit.failure = "read by run()"
    await bench.clock.advance(2.0, no_visit)
    task.cancel()
    assert bench.service.read_failures - failures >= 2


async def no_visit() -> None:
    pass


async def test_a_second_pass_of_a_boundary_is_told_and_changes_nothing() -> None:
    bench = Bench()
    await bench.service.poll()
    await bench.advance(1500)
    first = bench.service.record(SLOT + 1)
    bench.clock.step(-600)
    await bench.advance(900)
    assert bench.told(BoundaryRefused) == [BoundaryRefused(SLOT + 1, first)]
    assert bench.service.record(SLOT + 1) == first
    assert bench.service.version == 1
    assert len(bench.told(ClockStepped)) == 1


async def test_a_wall_step_creates_no_energy() -> None:
    bench = Bench()
    await bench.service.poll()
    before = bench.service.forward_mwh
    bench.clock.step(86_400)
    await bench.service.poll()
    assert before is not None
    assert bench.service.forward_mwh is not None
    assert bench.service.forward_mwh - before < 100
    assert bench.told(BoundariesMissed)[0].last == SLOT + 48


async def test_a_silent_unit_is_told_once_and_metering_goes_on_when_it_answers() -> None:
    bench = Bench()
    await bench.service.poll()
    bench.unit.failure = "no answer"
    await bench.advance(1800)
    assert bench.service.read_failures == 31
    assert bench.service.power_w is None
    assert bench.service.forward_mwh is not None
    bench.unit.failure = None
    await bench.advance(1800)
    assert len(bench.told(UnitSilent)) == 1
    assert bench.told(UnitAnswers) == [UnitAnswers(31)]
    assert [event.first for event in bench.told(BoundariesMissed)] == [SLOT + 1]
    assert [event.slot for event in bench.told(BoundaryStored)] == [SLOT + 2]


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("bus")])
async def test_a_broken_driver_does_not_stop_metering(error: Exception) -> None:
    bench = Bench()

    async def broken() -> Sample:
        raise error

    bench.unit.read = broken  # type: ignore[method-assign]
    await bench.service.poll()
    [silent] = bench.told(UnitSilent)
    assert type(error).__name__ in silent.reason


async def test_a_hung_driver_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meter_runtime.metrology.service.READ_BOUND_S", 0.01)
    bench = Bench()

    async def hung() -> Sample:
        await asyncio.Event().wait()
        raise AssertionError

    bench.unit.read = hung  # type: ignore[method-assign]
    await bench.service.poll()
    assert "did not answer within" in bench.told(UnitSilent)[0].reason


async def test_while_storage_fails_metering_goes_on_and_catches_up() -> None:
    bench = Bench()
    await bench.service.poll()
    bench.break_storage(True)
    await bench.advance(5400)
    assert len(bench.told(StorageFailed)) == 1
    assert bench.told(BoundaryStored) == []
    assert bench.service.recorder.pending == 3
    assert bench.service.version == 3
    waiting = bench.service.record(SLOT + 2)
    assert waiting is not None
    bench.break_storage(False)
    await bench.advance(10)
    assert bench.told(StorageHealed) == [StorageHealed(0)]
    assert [event.slot for event in bench.told(BoundaryStored)] == [SLOT + n for n in (1, 2, 3)]
    assert bench.service.ring.get(SLOT + 2) == waiting


async def test_what_waits_for_storage_is_bounded_and_losses_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder, "PENDING_LIMIT", 2)
    bench = Bench()
    await bench.service.poll()
    bench.break_storage(True)
    await bench.advance(4 * 1800)
    assert (bench.service.recorder.pending, bench.service.recorder.dropped) == (2, 2)
    bench.break_storage(False)
    await bench.advance(10)
    assert bench.told(StorageHealed) == [StorageHealed(2)]
    assert [r.slot for r in bench.service.ring.records()] == [SLOT + 3, SLOT + 4]


async def test_a_boundary_passed_again_while_it_waits_is_refused() -> None:
    bench = Bench()
    await bench.service.poll()
    bench.break_storage(True)
    await bench.advance(1500)
    bench.clock.step(-600)
    await bench.advance(900)
    assert [event.slot for event in bench.told(BoundaryRefused)] == [SLOT + 1]
    assert bench.service.recorder.pending == 1


async def test_registers_are_stored_by_time_and_by_energy() -> None:
    bench = Bench(T0 + 19.5 * 3600)

    async def saves_per_minute() -> int:
        before = bench.register_media.flushes
        for _ in range(60):
            await bench.clock.advance(1, no_visit)
            await bench.service.poll()
        return bench.register_media.flushes - before

    await bench.service.poll()
    assert 5 <= await saves_per_minute() <= 40
    bench.unit.failure = "no answer"
    assert await saves_per_minute() == 0


async def test_a_restart_resumes_from_the_unit_and_tells_the_outage() -> None:
    bench = Bench()
    await bench.service.poll()
    await bench.advance(1500)
    bench.service.close()
    before = bench.service.forward_mwh
    kept = bench.service.record(SLOT + 1)
    bench.events.clear()

    async def off() -> None:
        pass

    await bench.clock.advance(3600, off)
    bench.service = bench.started()
    await bench.service.poll()
    assert bench.service.record(SLOT + 1) == kept
    assert before is not None
    assert bench.service.forward_mwh is not None
    assert bench.service.forward_mwh >= before
    assert [(m.first, m.last) for m in bench.told(BoundariesMissed)] == [(SLOT + 2, SLOT + 3)]
    await bench.advance(1800)
    record = bench.service.record(SLOT + 4)
    assert record is not None
    assert record.flags == Flag.POWER_FAIL


async def test_without_trust_in_the_clock_nothing_is_stored() -> None:
    bench = Bench()
    bench.clock.trust = Trust.UNSET
    await bench.service.poll()
    await bench.advance(7200)
    assert len(bench.service.ring) == 0
    assert bench.service.forward_mwh is not None


async def test_a_ring_of_another_unit_is_refused() -> None:
    bench = Bench()
    ring = Ring.open(MemoryMedia(Ring.size_for(4, 1)), 1800, 4, "OTHER", SLOT)
    with pytest.raises(ValueError, match="the ring is of unit OTHER"):
        MeteringService(
            bench.unit, bench.clock, ring, RegisterStore(bench.register_media), EventBus()
        )


async def test_forty_days_of_history_come_quickly_and_without_a_gap(tmp_path: Path) -> None:
    days = 40
    depth = 42 * 48
    start = T0 - 1.0
    clock = BenchClock(start)
    unit = SimulatedMeteringUnit(clock, LoadModel(5, 4.5), NAMEPLATE, start)
    ring_media = FileMedia(tmp_path / "ring", Ring.size_for(depth, 512))
    register_media = FileMedia(tmp_path / "registers", RegisterStore.size_for(512))
    ring = Ring.open(ring_media, 1800, depth, NAMEPLATE.serial, SLOT - 1)
    service = MeteringService(unit, clock, ring, RegisterStore(register_media), EventBus())
    await service.poll()
    loop = asyncio.get_running_loop()
    began = loop.time()
    visit: Callable[[], Awaitable[None]] = service.poll
    with service.held():
        await clock.advance(days * 86_400, visit)
    took = loop.time() - began
    records = list(ring.records())
    ring_media.close()
    register_media.close()
    assert [r.slot for r in records] == list(range(SLOT, SLOT + 48 * days))
    assert all(r.flags == Flag.NONE for r in records)
    assert records == sorted(records, key=lambda r: (r.forward_dwh, r.reverse_dwh))
    assert took < 20
