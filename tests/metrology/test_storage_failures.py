"""A medium that fails: metering goes on in memory, is told once, and is caught up in order."""

import pytest
from metering_room import SLOT, Room

from meter_runtime.metrology import recorder
from meter_runtime.metrology.events import (
    BoundaryRefused,
    BoundaryStored,
    StorageFailed,
    StorageHealed,
)
from meter_runtime.metrology.service import RETRY_S


@pytest.mark.parametrize("keeps_registers", [True, False])
async def test_metering_goes_on_in_memory_and_catches_up_in_order(keeps_registers: bool) -> None:
    room = Room(keeps_registers=keeps_registers)
    await room.service.poll()
    room.break_storage(True)
    await room.until(7300)
    assert len(room.told(StorageFailed)) == 1
    assert room.faulty()
    assert room.told(BoundaryStored) == []
    assert (room.service.recorder.pending, room.service.version) == (4, 4)
    assert [room.value(n) for n in (1, 4)] == [room.truth_dwh(1200), room.truth_dwh(6600)]
    room.break_storage(False)
    await room.live(int(RETRY_S) + 1)
    assert not room.faulty()
    assert room.told(StorageHealed) == [StorageHealed(0)]
    assert [event.slot - SLOT for event in room.told(BoundaryStored)] == [1, 2, 3, 4]
    assert room.slots() == [1, 2, 3, 4]
    assert room.kept().forward_mwh > 0
    assert room.kept().wall == pytest.approx(room.clock.wall(), abs=RETRY_S)


@pytest.mark.parametrize("keeps_registers", [True, False])
async def test_a_vain_write_is_tried_at_a_bounded_rate(keeps_registers: bool) -> None:
    room = Room(keeps_registers=keeps_registers)
    await room.service.poll()
    room.break_storage(True)
    await room.live(3600)
    vain = room.ring_media.vain + room.register_media.vain
    assert 3600 / RETRY_S / 2 <= vain <= 3600 / RETRY_S + 10
    assert room.service.recorder.failures == vain


async def test_it_is_tried_while_the_unit_is_silent_as_well() -> None:
    room = Room()
    await room.service.poll()
    room.break_storage(True)
    await room.until(1800)
    room.unit.failure = "no answer"
    room.break_storage(False)
    await room.live(int(RETRY_S) + 1)
    assert room.slots() == [1]
    assert room.told(StorageHealed) == [StorageHealed(0)]


async def test_each_failure_is_told_once() -> None:
    room = Room()
    await room.service.poll()
    for n in range(3):
        room.break_storage(True)
        await room.advance(1800)
        room.break_storage(False)
        await room.advance(60)
        assert len(room.told(StorageFailed)) == len(room.told(StorageHealed)) == n + 1


async def test_what_waits_is_bounded_and_losses_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder, "PENDING_LIMIT", 2)
    room = Room()
    await room.service.poll()
    room.break_storage(True)
    await room.until(4 * 1800)
    assert (room.service.recorder.pending, room.service.recorder.dropped) == (2, 2)
    room.break_storage(False)
    await room.live(int(RETRY_S) + 1)
    assert room.told(StorageHealed) == [StorageHealed(2)]
    assert room.slots() == [3, 4]


async def test_a_boundary_passed_again_while_it_waits_is_refused() -> None:
    room = Room()
    await room.service.poll()
    room.break_storage(True)
    await room.until(2100)
    room.clock.step(-600)
    await room.until(2400)
    assert [event.slot for event in room.told(BoundaryRefused)] == [SLOT + 1]
    assert room.value(1) == room.truth_dwh(1200)
    assert room.service.recorder.pending == 1


async def test_a_cut_while_storage_fails_costs_what_waited_and_nothing_before() -> None:
    room = Room()
    await room.service.poll()
    await room.until(3700)
    room.break_storage(True)
    await room.until(5500)
    room.break_storage(False)
    await room.off(60, clean=False)
    assert room.slots() == [1, 2]
    assert room.service.forward_mwh is not None
    assert room.service.forward_mwh // 100 == room.truth_dwh(room.elapsed())[0]


async def test_only_the_registers_failing_does_not_hold_back_boundaries() -> None:
    room = Room()
    await room.service.poll()
    room.register_media.broken = True
    await room.until(3700)
    assert room.slots() == [1, 2]
    assert room.faulty()
    room.register_media.broken = False
    await room.live(int(RETRY_S) + 1)
    assert room.kept().wall == pytest.approx(room.clock.wall(), abs=RETRY_S)


@pytest.mark.parametrize("gap_s", [5, 400, 1000])
async def test_a_medium_that_comes_and_goes_loses_nothing(gap_s: int) -> None:
    room = Room(fine=True)
    await room.service.poll()
    broken = False
    while room.elapsed() < 4 * 3600:
        broken = not broken
        room.break_storage(broken)
        await room.advance(gap_s)
    room.break_storage(False)
    await room.live(int(RETRY_S) + 1)
    room.service.close()
    assert room.slots() == list(range(1, int((room.clock.wall() // 1800) - SLOT) + 1))
    assert all(room.value(n) == room.truth_dwh(n * 1800 - 600) for n in room.slots())
