"""What a clock that is known at last takes back: coarse boundaries, and a wrong future."""

import pytest
from metering_room import DAY_S, SLOT, T0, Room, nobody

from meter_runtime.clock import Trust
from meter_runtime.metrology.backlog import Backlog
from meter_runtime.metrology.events import BoundariesWithdrawn, BoundaryStored, Untrue, Withdraw
from meter_runtime.metrology.hindsight import FUTURE_KEPT_S
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.ring import Flag, Record, Ring


async def coarse(*, fine: bool = False) -> Room:
    """A meter that has run for two hours by a coarse clock."""
    room = Room(fine=fine)
    room.clock.trust = Trust.COARSE
    await room.service.poll()
    await room.until(7200 + 300)
    return room


async def test_boundaries_by_a_coarse_clock_are_served_and_marked() -> None:
    room = await coarse()
    assert room.slots() == [1, 2, 3, 4]
    assert {record.flags for record in room.service.ring.records()} == {Flag.COARSE}


@pytest.mark.parametrize("by", [-10.0, 0.0, 10.0])
async def test_they_stand_when_the_true_time_is_near(by: float) -> None:
    room = await coarse()
    room.clock.step(by)
    room.clock.trust = Trust.SYNCED
    await room.service.poll()
    assert room.told(BoundariesWithdrawn) == []
    await room.until(9000)
    assert room.slots() == [1, 2, 3, 4, 5]
    assert room.record(5).flags == Flag.NONE


@pytest.mark.parametrize("by", [-5 * DAY_S, -7000, -600, -11, 11, 600, 60 * DAY_S])
async def test_they_are_withdrawn_when_the_clock_has_to_be_stepped(by: float) -> None:
    room = await coarse()
    version = room.service.version
    room.clock.step(by)
    room.clock.trust = Trust.SYNCED
    await room.service.poll()
    slots = (SLOT + 1, SLOT + 2, SLOT + 3, SLOT + 4)
    assert room.told(BoundariesWithdrawn) == [BoundariesWithdrawn(slots, Untrue.COARSE)]
    assert room.slots() == []
    assert room.service.version > version
    again = Ring.open(room.ring_media, 1800, room.depth, room.unit.nameplate.serial)
    assert len(again) == 0


async def test_a_withdrawn_boundary_gets_its_true_value_when_it_comes() -> None:
    room = await coarse()
    invented = room.value(3)
    room.clock.step(-3600)
    room.clock.trust = Trust.SYNCED
    await room.until(7200)
    assert room.slots() == [3, 4]
    assert room.value(3) == room.truth_dwh(4800 + 3600)
    assert room.value(3) != invented
    assert room.record(3).flags == Flag.ADJUSTED
    assert room.record(4).flags == Flag.NONE


async def test_only_the_coarse_time_that_was_wrong_is_withdrawn() -> None:
    room = Room()
    room.clock.trust = Trust.COARSE
    await room.service.poll()
    await room.until(4000)
    room.clock.step(DAY_S / 2)
    await room.advance(3600)
    room.clock.trust = Trust.SYNCED
    await room.service.poll()
    assert room.slots() == [27, 28]
    assert [event.slots for event in room.told(BoundariesWithdrawn)] == [(SLOT + 1, SLOT + 2)]


async def test_coarse_time_that_was_right_stands_before_a_wrong_one() -> None:
    room = Room()
    room.clock.trust = Trust.COARSE
    await room.service.poll()
    await room.until(4000)
    room.clock.step(DAY_S / 2)
    await room.advance(3600)
    room.clock.step(-DAY_S / 2)
    room.clock.trust = Trust.SYNCED
    await room.service.poll()
    assert room.slots() == [1, 2]


async def test_once_confirmed_they_stand_whatever_the_clock_does_later() -> None:
    room = await coarse()
    room.clock.trust = Trust.SYNCED
    await room.service.poll()
    room.clock.step(600)
    await room.service.poll()
    assert room.slots() == [1, 2, 3, 4]


async def test_a_wrong_coarse_future_does_not_take_the_first_pass_of_today_with_it() -> None:
    room = Room()
    await room.service.poll()
    await room.until(5500)
    room.service.close()
    room.clock.step(40 * DAY_S)
    room.clock.trust = Trust.COARSE
    await room.off(60)
    await room.advance(1800)
    room.clock.set_wall(T0 + 2000)
    room.clock.trust = Trust.SYNCED
    await room.service.poll()
    await room.until(2100)
    assert room.slots() == [1, 2, 3]


async def test_what_was_stored_before_the_coarse_time_stands() -> None:
    room = Room()
    await room.service.poll()
    await room.until(4000)
    room.clock.trust = Trust.COARSE
    await room.until(7400)
    room.clock.step(1000)
    room.clock.trust = Trust.SYNCED
    await room.service.poll()
    assert room.slots() == [1, 2]


async def test_they_are_withdrawn_also_where_a_newer_one_hides_them() -> None:
    """A ring that has gone round keeps the old record where its place was passed in silence."""
    room = Room(depth=30)
    room.clock.trust = Trust.COARSE
    await room.service.poll()
    await room.until(31 * 1800)
    await room.clock.advance(3600, nobody)
    await room.service.poll()
    await room.until(34 * 1800)
    assert room.slots() == [*range(5, 32), 33, 34]
    room.clock.step(-600)
    room.clock.trust = Trust.SYNCED
    await room.service.poll()
    assert room.slots() == []
    assert SLOT + 2 in room.told(BoundariesWithdrawn)[0].slots


async def test_a_withdrawal_waits_while_storage_fails_but_nothing_is_served() -> None:
    room = await coarse()
    room.break_storage(True)
    room.clock.step(-3600)
    room.clock.trust = Trust.SYNCED
    await room.service.poll()
    assert [room.value(n) for n in range(1, 5)] == [None] * 4
    await room.until(5400)
    assert room.value(3) == room.truth_dwh(4800 + 3600)
    room.break_storage(False)
    await room.live(11)
    assert room.slots() == [3]
    assert room.value(3) == room.truth_dwh(4800 + 3600)
    assert [event.slot for event in room.told(BoundaryStored)][-1] == SLOT + 3


async def test_what_is_withdrawn_while_it_waits_is_never_stored() -> None:
    room = Room()
    room.break_storage(True)
    room.clock.trust = Trust.COARSE
    await room.service.poll()
    await room.until(7300)
    room.clock.step(3600)
    room.clock.trust = Trust.SYNCED
    await room.service.poll()
    room.break_storage(False)
    await room.live(11)
    assert room.told(BoundaryStored) == []
    assert room.slots() == []


def test_a_true_value_in_the_place_of_a_coarse_one_is_not_coarse() -> None:
    ring = Ring.open(MemoryMedia(Ring.size_for(48, 1)), 1800, 48, "A1")
    backlog = Backlog(ring, 10)
    wrong = Withdraw(Untrue.COARSE, T0, T0 + 3600)
    backlog.add(Record(SLOT + 1, 1, 1, Flag.COARSE))
    assert backlog.withdraw(wrong) == (SLOT + 1,)
    backlog.add(Record(SLOT + 1, 2, 2))
    assert backlog.withdraw(wrong) == ()
    backlog.store()
    assert ring.get(SLOT + 1) == Record(SLOT + 1, 2, 2)


@pytest.mark.parametrize("days", [2, 30, 60, 400])
async def test_a_wrong_future_is_forgotten_after_a_step_back(days: int) -> None:
    room = Room()
    await room.service.poll()
    await room.until(3700)
    room.clock.step(days * DAY_S)
    await room.advance(3600)
    room.clock.step(-days * DAY_S)
    await room.service.poll()
    assert [event.reason for event in room.told(BoundariesWithdrawn)] == [Untrue.FUTURE]
    assert room.slots() == [1, 2]
    await room.until(7400 + 3600)
    assert room.slots() == [1, 2, 5, 6]
    assert room.value(5) == room.truth_dwh(5 * 1800 - 600)


async def test_a_step_back_of_less_than_a_day_keeps_the_first_pass() -> None:
    room = Room()
    await room.service.poll()
    await room.advance(DAY_S - 1800)
    first = room.record(20)
    room.clock.step(-(DAY_S - 1800))
    await room.advance(DAY_S)
    assert room.told(BoundariesWithdrawn) == []
    assert room.record(20) == first


async def test_the_bound_is_the_day() -> None:
    for ahead, kept in ((FUTURE_KEPT_S, [49]), (FUTURE_KEPT_S + 1, [])):
        room = Room(at=1700)
        await room.service.poll()
        room.clock.step(DAY_S)
        await room.advance(110)
        room.clock.set_wall(T0 + 1800 + DAY_S - ahead)
        await room.service.poll()
        assert room.slots() == kept


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("days", [43, 90])
async def test_a_clock_wrong_by_months_does_not_cost_the_true_history(
    days: int, clean: bool
) -> None:
    """Across restarts: true days, a life in the wrong future, and the true time again."""
    room = Room()
    await room.service.poll()
    await room.advance(3 * DAY_S)
    true = {record.slot: record for record in room.service.ring.records()}
    room.clock.step(days * DAY_S)
    await room.off(60, clean=clean)
    await room.advance(2 * 3600)
    assert room.service.ring.newest() is not None
    assert room.value(1) is None, "hidden behind the wrong newest"
    room.clock.step(-days * DAY_S)
    await room.off(60, clean=clean)
    [withdrawn] = room.told(BoundariesWithdrawn)
    places = {slot % room.depth for slot in withdrawn.slots}
    survivors = {slot: record for slot, record in true.items() if slot % room.depth not in places}
    assert len(survivors) >= len(true) - len(withdrawn.slots)
    await room.advance(3 * 3600)
    for slot, record in survivors.items():
        assert room.service.record(slot) == record
    newest = room.service.ring.newest()
    assert newest is not None
    assert newest.slot == int(room.clock.wall() // 1800)
    assert (newest.forward_dwh, newest.reverse_dwh) == room.truth_dwh(newest.slot * 1800 - T0 - 600)
    assert room.value(int((room.clock.wall() - T0) // 1800)) is not None


async def test_two_wrong_futures_behind_each_other_are_both_forgotten() -> None:
    room = Room()
    await room.service.poll()
    await room.until(3700)
    for days in (50, 100):
        room.clock.step(days * DAY_S)
        await room.advance(1800)
    room.clock.step(-150 * DAY_S)
    await room.service.poll()
    assert room.slots() == [1, 2]


async def test_without_synced_time_the_future_is_kept() -> None:
    room = Room()
    await room.service.poll()
    room.clock.step(10 * DAY_S)
    await room.advance(1800)
    room.clock.trust = Trust.COARSE
    room.clock.step(-10 * DAY_S)
    await room.service.poll()
    assert room.told(BoundariesWithdrawn) == []
    assert len(room.slots()) == 1


async def test_finer_values_of_coarse_time_go_with_it() -> None:
    room = await coarse(fine=True)
    minute = int(T0 // 60) + 100
    assert room.service.minute(minute) is not None
    assert room.service.fine_record(300, minute // 5) is not None
    room.clock.step(600)
    room.clock.trust = Trust.SYNCED
    await room.service.poll()
    assert room.service.minute(minute) is None
    assert room.service.fine_record(300, minute // 5) is None
    await room.off(60, clean=False)
    assert room.service.fine_record(60, minute) is None
    assert room.service.fine_record(300, minute // 5) is None
