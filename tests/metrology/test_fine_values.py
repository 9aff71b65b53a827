"""Minutes and five minutes: in memory, in their rings, across restarts and failures."""

import pytest
from metering_room import T0, Room

from meter_runtime.events import EventBus
from meter_runtime.metrology.events import MinuteTaken, StorageFailed, StorageHealed
from meter_runtime.metrology.fine import MINUTES_KEPT, WAITING_S, FineValues
from meter_runtime.metrology.service import MeteringService
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import FINE_DEPTHS, Flag, Ring

MINUTE0 = int(T0 // 60)


def ring_of(interval_s: int, serial: str = "A1") -> Ring:
    depth = FINE_DEPTHS[interval_s]
    return Ring.open(MemoryMedia(Ring.size_for(depth, 1)), interval_s, depth, serial)


def minutes(room: Room, first: int, last: int) -> list[int]:
    """Which of these minutes after T0 are served."""
    return [n for n in range(first, last + 1) if room.service.minute(MINUTE0 + n) is not None]


@pytest.mark.parametrize("fine", [True, False])
async def test_the_minutes_of_the_last_hour_are_served_exactly(fine: bool) -> None:
    room = Room(fine=fine)
    await room.service.poll()
    await room.until(150 * 60)
    assert minutes(room, 0, 160) == list(range(151 - MINUTES_KEPT, 151))
    for n in (100, 149, 150):
        assert room.service.minute(MINUTE0 + n) == room.truth_dwh((n - 10) * 60)


async def test_the_first_pass_of_a_minute_stands() -> None:
    room = Room()
    await room.service.poll()
    await room.until(1200)
    first = room.service.minute(MINUTE0 + 20)
    room.clock.step(-120)
    await room.until(1260)
    assert room.service.minute(MINUTE0 + 20) == first
    assert room.service.minute(MINUTE0 + 21) == room.truth_dwh(660 + 120)


async def test_the_first_pass_of_five_minutes_stands_while_it_waits() -> None:
    room = Room(fine=True)
    await room.service.poll()
    await room.until(1300)
    five = MINUTE0 // 5 + 4
    first = room.service.fine_record(300, five)
    assert first is not None
    room.clock.step(-200)
    await room.until(2000)
    assert room.service.fine_record(300, five) == first


async def test_each_half_hour_of_them_is_one_flush_of_each_ring() -> None:
    room = Room(fine=True)
    await room.service.poll()
    await room.until(3600)
    before = {interval: media.flushes for interval, media in room.fine_media.items()}
    await room.until(7199)
    assert [m.flushes - before[i] for i, m in room.fine_media.items()] == [1, 1]
    await room.until(7200)
    assert [m.flushes - before[i] for i, m in room.fine_media.items()] == [2, 2]


async def test_five_minute_values_are_kept_for_days() -> None:
    room = Room(fine=True)
    await room.service.poll()
    await room.advance(2 * 86_400)
    for five in (3, 100, 500):
        record = room.service.fine_record(300, MINUTE0 // 5 + five)
        assert record is not None
        truth = room.truth_dwh(five * 300 - 600)
        assert (record.forward_dwh, record.reverse_dwh) == truth
    assert room.service.fine_record(60, MINUTE0 + 100) is None, "deeper than its ring"
    assert room.service.fine_record(900, 1) is None, "no such ring"


async def test_after_a_clean_restart_no_minute_is_lost() -> None:
    room = Room(fine=True)
    await room.service.poll()
    await room.until(50 * 60 + 20)
    await room.off(30)
    assert minutes(room, 11, 50) == list(range(11, 51))


async def test_a_power_cut_loses_the_running_half_hours_minutes_at_most() -> None:
    room = Room(fine=True)
    await room.service.poll()
    await room.until(50 * 60 + 20)
    await room.off(30, clean=False)
    assert minutes(room, 11, 50) == list(range(11, 31))
    assert room.service.forward_mwh is not None
    assert room.service.forward_mwh // 100 == room.truth_dwh(room.elapsed())[0]


async def test_without_rings_minutes_begin_anew_with_the_program() -> None:
    room = Room()
    await room.service.poll()
    await room.until(50 * 60)
    await room.off(30)
    assert minutes(room, 11, 50) == []


async def test_while_their_medium_fails_minutes_wait_and_the_registers_are_kept_all_the_same() -> (
    None
):
    room = Room(fine=True, keeps_registers=False)
    await room.service.poll()
    room.fine_media[60].broken = True
    await room.until(3600)
    await room.live(60)
    assert len(room.told(StorageFailed)) == 1
    assert room.told(StorageHealed) == []
    assert room.slots() == [1, 2]
    assert room.service.recorder.pending == 0
    assert room.kept().wall == pytest.approx(room.clock.wall(), abs=10)
    assert 5 <= room.fine_media[60].vain <= 10
    assert minutes(room, 11, 61) == list(range(11, 62))
    room.fine_media[60].broken = False
    await room.live(11)
    assert room.told(StorageHealed) == [StorageHealed(0)]
    await room.off(5, clean=False)
    assert minutes(room, 11, 60) == list(range(11, 61))


async def test_a_failing_fine_ring_does_not_wear_the_registers() -> None:
    room = Room(fine=True)
    await room.service.poll()
    room.fine_media[300].broken = True
    await room.until(1900)
    saved = room.register_media.flushes
    await room.live(100)
    assert room.fine_media[300].vain > 5
    assert room.register_media.flushes == saved


def test_what_waits_is_bounded_and_what_is_dropped_is_counted() -> None:
    fine = FineValues([ring_of(300)])
    limit = WAITING_S // 300
    for n in range(5 * (limit + 3)):
        fine.keep(MinuteTaken(MINUTE0 + n, n, 0, Flag.NONE))
    assert fine.dropped == 3
    fine.store()
    assert [fine.record(300, MINUTE0 // 5 + n) is not None for n in range(5)] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_a_five_minute_value_tells_what_happened_in_any_of_its_minutes() -> None:
    fine = FineValues([ring_of(300)])
    happened = {1: Flag.ADJUSTED, 3: Flag.POWER_FAIL | Flag.COARSE, 7: Flag.ADJUSTED}
    for n in range(16):
        fine.keep(MinuteTaken(MINUTE0 + n, n, 0, happened.get(n, Flag.NONE)))
    flags = [
        record.flags
        for five in range(4)
        if (record := fine.record(300, MINUTE0 // 5 + five)) is not None
    ]
    assert flags == [Flag.NONE, Flag.ADJUSTED | Flag.POWER_FAIL, Flag.ADJUSTED, Flag.NONE]


def test_rings_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="the same interval"):
        FineValues([ring_of(60), ring_of(60)])
    odd = Ring.open(MemoryMedia(Ring.size_for(2000, 1)), 90, 2000, "A1")
    with pytest.raises(ValueError, match="whole minutes, not of 90 s"):
        FineValues([odd])


async def test_a_fine_ring_of_another_unit_is_refused() -> None:
    room = Room()
    registers = RegisterStore(room.register_media)
    with pytest.raises(ValueError, match="the ring is of unit A1"):
        MeteringService(
            room.unit, room.clock, room.service.ring, registers, EventBus(), fine=[ring_of(60)]
        )
