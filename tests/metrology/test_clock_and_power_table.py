"""The clock-and-power table, row by row, on a real service: what is stored, what is served."""

import pytest
from metering_room import SLOT, T0, Room

from meter_runtime.clock import Trust
from meter_runtime.metrology.events import (
    BoundariesMissed,
    BoundaryRefused,
    ClockStepped,
    Missing,
    OutageEnded,
)
from meter_runtime.storage.ring import Flag


async def running(**options: object) -> Room:
    """A meter that has stored one boundary, ten minutes after it."""
    room = Room(**options)  # type: ignore[arg-type]
    await room.service.poll()
    await room.until(2400)
    return room


@pytest.mark.parametrize("by", [-300, 300])
async def test_a_step_inside_a_slot_stores_adj_and_serves_the_value(by: int) -> None:
    room = await running()
    room.clock.step(by)
    await room.until(3600)
    assert room.record(2).flags == Flag.ADJUSTED
    assert room.value(2) == room.truth_dwh(3000 - by)
    assert [event.by_s for event in room.told(ClockStepped)] == [by]
    await room.until(5400)
    assert room.record(3).flags == Flag.NONE


@pytest.mark.parametrize("k", [1, 2, 47])
async def test_a_step_forward_over_k_boundaries_serves_none_of_them(k: int) -> None:
    room = await running()
    room.clock.step(k * 1800)
    await room.service.poll()
    assert room.told(BoundariesMissed) == [
        BoundariesMissed(SLOT + 2, SLOT + 1 + k, Missing.CLOCK_STEP)
    ]
    await room.until((k + 2) * 1800)
    assert room.slots() == [1, k + 2]
    assert room.record(k + 2).flags == Flag.ADJUSTED
    assert room.value(k + 2) == room.truth_dwh(3000)


async def test_a_step_back_over_a_boundary_keeps_the_first_snapshot() -> None:
    room = await running()
    first = room.record(1)
    room.clock.step(-900)
    await room.until(3600)
    assert room.told(BoundaryRefused) == [BoundaryRefused(SLOT + 1, first)]
    assert room.record(1) == first
    assert room.value(1) == room.truth_dwh(1200)
    assert room.record(2).flags == Flag.ADJUSTED


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("clean", [True, False])
async def test_an_outage_over_n_boundaries_serves_none_of_them(n: int, clean: bool) -> None:
    room = await running()
    await room.off(n * 1800, clean=clean)
    assert room.told(BoundariesMissed) == [BoundariesMissed(SLOT + 2, SLOT + 1 + n, Missing.OUTAGE)]
    assert [event.until for event in room.told(OutageEnded)] == [T0 + 2400 + n * 1800]
    await room.until((n + 2) * 1800)
    assert room.slots() == [1, n + 2]
    assert room.record(n + 2).flags == Flag.POWER_FAIL
    assert room.value(n + 2) == room.truth_dwh(n * 1800 + 3000)


@pytest.mark.parametrize("clean", [True, False])
async def test_an_outage_inside_a_slot_stores_pf_and_serves_the_value(clean: bool) -> None:
    room = await running()
    await room.off(300, clean=clean)
    assert room.told(BoundariesMissed) == []
    await room.until(3600)
    assert room.record(2).flags == Flag.POWER_FAIL
    assert room.value(2) == room.truth_dwh(3000)
    await room.until(5400)
    assert room.record(3).flags == Flag.NONE


async def test_a_boundary_stored_before_the_cut_is_not_told_as_missed() -> None:
    room = await running()
    room.register_media.broken = True
    await room.until(3700)
    room.register_media.broken = False
    await room.off(3600, clean=False)
    assert room.told(BoundariesMissed) == [BoundariesMissed(SLOT + 3, SLOT + 4, Missing.OUTAGE)]
    assert room.slots() == [1, 2]


async def test_a_boundary_while_the_unit_is_unreadable_has_no_data() -> None:
    room = await running()
    room.unit.failure = "no answer"
    await room.until(3700)
    room.unit.failure = None
    await room.until(5400)
    assert room.told(BoundariesMissed) == [BoundariesMissed(SLOT + 2, SLOT + 2, Missing.NO_READING)]
    assert room.slots() == [1, 3]
    assert room.value(3) == room.truth_dwh(4800)


@pytest.mark.parametrize("error_s", [-2.0, 0.0, 2.0])
async def test_the_units_own_snapshot_within_two_seconds_stands_for_it(error_s: float) -> None:
    room = await running(keeps_snapshots=True, clock_error_s=error_s)
    room.unit.failure = "no answer"
    await room.until(5400 + 600)
    room.unit.failure = None
    await room.until(7200)
    assert room.slots() == [1, 2, 3, 4]
    assert room.value(2) == room.truth_dwh(3000 - error_s)
    assert room.value(3) == room.truth_dwh(4800 - error_s)
    assert room.told(BoundariesMissed) == []


@pytest.mark.parametrize("error_s", [-2.1, 2.1])
async def test_the_units_own_snapshot_further_away_does_not(error_s: float) -> None:
    room = await running(keeps_snapshots=True, clock_error_s=error_s)
    room.unit.failure = "no answer"
    await room.until(3700)
    room.unit.failure = None
    await room.until(5400)
    assert room.slots() == [1, 3]


async def test_the_units_own_snapshots_do_not_fill_what_the_clock_was_stepped_over() -> None:
    room = await running(keeps_snapshots=True)
    room.unit.failure = "no answer"
    await room.until(3700)
    room.clock.step(1800)
    room.unit.failure = None
    await room.until(7200)
    assert room.slots() == [1, 4]
    assert room.told(BoundariesMissed) == [BoundariesMissed(SLOT + 2, SLOT + 3, Missing.CLOCK_STEP)]


async def test_an_outage_is_not_filled_by_the_units_own_snapshots() -> None:
    room = await running(keeps_snapshots=True)
    await room.off(3600)
    await room.until(7200)
    assert room.slots() == [1, 4]


async def test_without_trust_no_boundary_is_valid_but_the_registers_live() -> None:
    room = await running()
    room.clock.trust = Trust.UNSET
    before = room.service.forward_mwh
    await room.until(7000)
    assert room.slots() == [1]
    assert before is not None
    assert room.service.forward_mwh is not None
    assert room.service.forward_mwh > before
    room.clock.trust = Trust.SYNCED
    await room.until(7200)
    assert room.told(BoundariesMissed) == [
        BoundariesMissed(SLOT + 2, SLOT + 3, Missing.CLOCK_UNSET)
    ]
    assert room.value(4) == room.truth_dwh(6600)


async def test_a_meter_started_without_trust_stores_nothing_until_its_clock_is_set() -> None:
    room = await running()
    room.service.close()
    room.clock.trust = Trust.UNSET
    room.clock.set_wall(1_000_000.0)
    await room.off(60)
    await room.advance(840)
    assert room.slots() == [1]
    await room.off(900)
    room.clock.set_wall(T0 + 4200)
    room.clock.trust = Trust.SYNCED
    await room.service.poll()
    await room.until(5400)
    assert room.told(OutageEnded) == [OutageEnded(T0 + 2400, T0 + 4200)]
    assert room.slots() == [1, 3]
    assert room.record(3).flags & Flag.POWER_FAIL
