"""The metering service on real stores, a simulated unit and the bench clock."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from metering_room import NAMEPLATE, SLOT, T0, Room, nobody

from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.load import LoadModel
from meter_runtime.events import EventBus
from meter_runtime.metrology.events import (
    BoundariesMissed,
    BoundaryStored,
    ClockStepped,
    UnitAnswers,
    UnitReplaced,
    UnitSilent,
)
from meter_runtime.metrology.service import CHECKPOINT_MWH, CHECKPOINT_S, MeteringService
from meter_runtime.storage.media import FileMedia, MemoryMedia
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import Flag, Ring
from meter_runtime.units.contracts import Nameplate, Sample, UnitKind
from meter_runtime.units.metering.simulated import SimulatedMeteringUnit

DEPTH = 200


async def test_nothing_is_known_before_the_first_reading() -> None:
    service = Room().service
    assert service.forward_mwh is None
    assert service.reverse_mwh is None
    assert service.power_w is None
    assert service.current_r_ma is None


async def test_each_boundary_is_stored_told_and_counted() -> None:
    room = Room()
    await room.service.poll()
    await room.advance(7200)
    assert [event.slot for event in room.told(BoundaryStored)] == [SLOT + n for n in (1, 2, 3, 4)]
    assert room.service.version == 4
    assert room.service.ring.get(SLOT + 4) == room.told(BoundaryStored)[-1].record
    assert room.told(BoundariesMissed) == []


async def test_a_boundary_holds_exactly_what_the_unit_said_at_it() -> None:
    room = Room()
    await room.service.poll()
    await room.advance(7200)
    assert [room.value(n) for n in (1, 2, 3, 4)] == [
        room.truth_dwh(n * 1800 - 600) for n in (1, 2, 3, 4)
    ]


async def test_run_reads_each_second_and_right_at_the_boundary() -> None:
    room = Room(1795.3)
    read_at: list[float] = []
    read = room.unit.read

    async def noted() -> Sample:
        read_at.append(room.clock.wall() - T0)
        return await read()

    room.unit.read = noted  # type: ignore[method-assign]
    task = asyncio.create_task(room.service.run())
    await asyncio.sleep(0)

    await room.clock.advance(7, nobody)
    task.cancel()
    assert [round(at, 3) for at in read_at[1:]] == [1796, 1797, 1798, 1799, 1800, 1801, 1802]
    assert [event.slot for event in room.told(BoundaryStored)] == [SLOT + 1]


async def test_a_step_is_followed_in_the_same_turn_of_the_loop() -> None:
    room = Room(0.25)
    task = asyncio.create_task(room.service.run())
    await turns()
    before = room.clock.monotonic()
    for by in (-900, 3600):
        room.clock.step(by)
        await turns()
        assert room.told(ClockStepped)[-1].by_s == by
    assert room.clock.monotonic() == before
    await room.clock.advance(0.75, nobody)
    assert room.elapsed() == 0.75
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_meter_that_stopped_is_not_told_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room()
    listening: list[Callable[[], None]] = []
    on_step = room.clock.on_step

    def listen(callback: Callable[[], None]) -> Callable[[], None]:
        stop = on_step(callback)
        listening.append(callback)

        def stopped() -> None:
            listening.remove(callback)
            stop()

        return stopped

    monkeypatch.setattr(room.clock, "on_step", listen)
    task = asyncio.create_task(room.service.run())
    await turns()
    assert len(listening) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert listening == []


async def turns() -> None:
    """What a task that waits for an event needs to go on and wait again."""
    for _ in range(8):
        await asyncio.sleep(0)


async def test_a_unit_that_forgets_is_checkpointed_by_time_and_by_energy() -> None:
    room = Room(19.5 * 3600, keeps_registers=False)
    await room.service.poll()
    for _ in range(200):
        await room.live(1)
        kept = room.kept()
        assert kept.wall is not None
        assert room.clock.wall() - kept.wall < CHECKPOINT_S
        forward, reverse = room.service.forward_mwh, room.service.reverse_mwh
        assert forward is not None
        assert reverse is not None
        assert forward + reverse - kept.forward_mwh - kept.reverse_mwh < CHECKPOINT_MWH
    room.unit.failure = "no answer"
    saved = room.register_media.flushes
    await room.live(60)
    assert room.register_media.flushes == saved


async def test_a_unit_that_keeps_its_registers_is_checkpointed_at_start_boundaries_and_end() -> (
    None
):
    room = Room()
    walls = []
    for seconds in (1, 1100, 150, 1700, 150):
        await room.live(seconds)
        walls.append(room.kept().wall)
    start = T0 + 601
    assert walls == [start, start, T0 + 1800, T0 + 1800, T0 + 3600]
    room.service.close()
    assert room.kept().wall == room.clock.wall()


async def test_a_step_of_the_clock_is_checkpointed() -> None:
    room = Room()
    await room.service.poll()
    room.clock.step(-400)
    await room.service.poll()
    assert room.kept().wall == room.clock.wall()


async def test_what_a_unit_that_keeps_its_registers_counted_survives_any_cut() -> None:
    room = Room()
    await room.service.poll()
    for seconds in (1, 10, 599, 1800, 5000):
        await room.live(20)
        await room.off(seconds, clean=False)
        forward, reverse = room.service.forward_mwh, room.service.reverse_mwh
        assert forward is not None
        assert reverse is not None
        assert (forward // 100, reverse // 100) == room.truth_dwh(room.elapsed())


async def test_a_replaced_unit_is_named_and_the_earlier_history_is_not_served() -> None:
    room = Room()
    await room.service.poll()
    await room.until(7300)
    room.service.close()
    other = Nameplate(UnitKind.METERING, "SIM-1", "M0000002")
    room.unit = SimulatedMeteringUnit(
        room.clock, room.load, other, room.clock.wall(), start_forward_mwh=5_000_000
    )
    room.service = room.opened(other.serial)
    await room.service.poll()
    assert room.told(UnitReplaced) == [UnitReplaced("M0000001", "M0000002")]
    assert room.service.forward_mwh == 5_000_000
    assert room.slots() == []
    await room.until(9000)
    assert room.slots() == [5]


async def test_while_held_only_polls_read_the_unit() -> None:
    room = Room(0.5)
    task = asyncio.create_task(room.service.run())
    await asyncio.sleep(0)
    polls = 0

    async def count() -> None:
        nonlocal polls
        polls += 1
        await room.service.poll()

    with room.service.held():
        await room.clock.advance(3600, count)
    task.cancel()
    assert polls == 61
    assert room.service.version == 2


async def test_the_version_has_changed_when_a_boundary_is_told() -> None:
    room = Room()
    versions: list[int] = []
    room.bus.subscribe(BoundaryStored, lambda _: versions.append(room.service.version))
    await room.service.poll()
    await room.advance(3600)
    assert versions == [1, 2]


async def test_of_two_holds_the_last_one_lets_go() -> None:
    room = Room(0.5)
    task = asyncio.create_task(room.service.run())
    await asyncio.sleep(0)
    await asyncio.gather(room.advance(1800), room.advance(1800))
    failures = room.service.read_failures
    room.unit.failure = "read by run()"
    await room.clock.advance(2.0, nobody)
    task.cancel()
    assert room.service.read_failures - failures >= 2


async def test_a_wall_step_creates_no_energy() -> None:
    room = Room()
    await room.service.poll()
    before = room.service.forward_mwh
    room.clock.step(86_400)
    await room.service.poll()
    assert before is not None
    assert room.service.forward_mwh is not None
    assert room.service.forward_mwh - before < 100
    assert room.told(BoundariesMissed)[0].last == SLOT + 48


async def test_a_silent_unit_is_told_once_and_metering_goes_on_when_it_answers() -> None:
    room = Room()
    await room.service.poll()
    room.unit.failure = "no answer"
    await room.advance(1800)
    assert room.service.read_failures == 30
    assert room.service.power_w is None
    assert room.service.forward_mwh is not None
    room.unit.failure = None
    await room.advance(1800)
    assert len(room.told(UnitSilent)) == 1
    assert room.told(UnitAnswers) == [UnitAnswers(30)]
    assert [event.first for event in room.told(BoundariesMissed)] == [SLOT + 1]
    assert [event.slot for event in room.told(BoundaryStored)] == [SLOT + 2]


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("bus")])
async def test_a_broken_driver_does_not_stop_metering(error: Exception) -> None:
    room = Room()

    async def broken() -> Sample:
        raise error

    room.unit.read = broken  # type: ignore[method-assign]
    await room.service.poll()
    [silent] = room.told(UnitSilent)
    assert type(error).__name__ in silent.reason


async def test_a_hung_driver_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meter_runtime.metrology.service.READ_BOUND_S", 0.01)
    room = Room()

    async def hung() -> Sample:
        await asyncio.Event().wait()
        raise AssertionError

    room.unit.read = hung  # type: ignore[method-assign]
    await room.service.poll()
    assert "did not answer within" in room.told(UnitSilent)[0].reason


async def test_a_ring_of_another_unit_is_refused() -> None:
    room = Room()
    ring = Ring.open(MemoryMedia(Ring.size_for(DEPTH, 1)), 1800, DEPTH, "OTHER", SLOT)
    with pytest.raises(ValueError, match="the ring is of unit OTHER"):
        MeteringService(room.unit, room.clock, ring, RegisterStore(room.register_media), EventBus())


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
