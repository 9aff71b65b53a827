"""What readings and clocks make of boundaries, and registers that never decrease."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.clock import Trust
from meter_runtime.metrology.accumulator import Accumulator
from meter_runtime.metrology.boundaries import LATE_S
from meter_runtime.metrology.counter import RESTART_READINGS
from meter_runtime.metrology.events import (
    BoundariesMissed,
    ClockStepped,
    Effect,
    MinuteTaken,
    Missing,
    OutageEnded,
    ReadingFellBack,
    Snapshot,
    UnitReplaced,
    UnitRestarted,
)
from meter_runtime.metrology.moment import Moment
from meter_runtime.storage.registers import Checkpoint, unit_mark
from meter_runtime.storage.ring import Flag
from meter_runtime.units.contracts import Sample

SLOT = 994_000
T0 = SLOT * 1800
"""A half-hour boundary; tests begin ten minutes after it."""


def reading(forward: int, reverse: int = 0) -> Sample:
    return Sample(forward, reverse, 0, None, None)


class Meter:
    """An accumulator whose two clocks and readings a test moves; minutes are heard apart."""

    def __init__(
        self,
        resume: Checkpoint | None = None,
        *,
        two_way: bool = True,
        at: float = 600.0,
        trust: Trust = Trust.SYNCED,
    ) -> None:
        self.newest: int | None = None
        self.minutes: list[MinuteTaken] = []
        self.accumulator = Accumulator(
            "A1",
            two_way=two_way,
            resume=resume,
            newest=lambda: self.newest,
            previous_serial="OLD",
        )
        self.monotonic = 50.0
        self.wall = T0 + at
        self.trust = trust
        self.energy = 1_000_000
        self.first = self.read()

    def read(self, energy: int | None = None) -> list[Effect]:
        if energy is None:
            self.energy += 100
            energy = self.energy
        moment = Moment(self.monotonic, self.wall, self.trust)
        effects = self.accumulator.take(reading(energy, energy // 2), moment)
        self.minutes += [effect for effect in effects if isinstance(effect, MinuteTaken)]
        for effect in effects:
            if isinstance(effect, Snapshot):
                self.newest = max(self.newest or 0, effect.slot)
        return [effect for effect in effects if not isinstance(effect, MinuteTaken)]

    def after(self, seconds: float) -> list[Effect]:
        self.monotonic += seconds
        self.wall += seconds
        return self.read()

    def until(self, offset: float) -> list[Effect]:
        """One reading at ``T0 + offset``."""
        return self.after(T0 + offset - self.wall)


def kept(wall: float | None, serial: str = "A1", energy: int = 900_000) -> Checkpoint:
    return Checkpoint(energy, energy // 2, energy, energy // 2, unit_mark(serial), wall)


def test_registers_are_unknown_before_the_first_reading() -> None:
    accumulator = Accumulator("A1", two_way=True, resume=kept(T0))
    assert accumulator.forward_mwh is None
    assert accumulator.reverse_mwh is None
    assert accumulator.checkpoint(T0) is None


def test_a_new_meter_begins_with_the_units_own_registers() -> None:
    meter = Meter()
    assert (meter.accumulator.forward_mwh, meter.accumulator.reverse_mwh) == (1_000_100, 500_050)
    assert meter.first == []


@pytest.mark.parametrize("late", [0.0, 0.4, LATE_S])
def test_a_boundary_gets_the_first_reading_at_or_after_it(late: float) -> None:
    meter = Meter()
    assert meter.until(1799.9) == []
    assert meter.until(1800 + late) == [Snapshot(SLOT + 1, 10_003, 5_001, Flag.NONE)]
    assert meter.until(1801 + late) == []


def test_a_late_reading_does_not_stand_for_the_boundary() -> None:
    meter = Meter()
    assert meter.until(1800 + LATE_S + 0.1) == [
        BoundariesMissed(SLOT + 1, SLOT + 1, Missing.NO_READING)
    ]


def test_boundaries_while_the_unit_is_unreadable_are_missed_but_the_last_in_time() -> None:
    meter = Meter()
    assert meter.until(3 * 1800 + 1) == [
        BoundariesMissed(SLOT + 1, SLOT + 2, Missing.NO_READING),
        Snapshot(SLOT + 3, 10_002, 5_001, Flag.NONE),
    ]


def test_a_step_forward_inside_a_slot_flags_the_boundary_that_closes_it() -> None:
    meter = Meter()
    meter.wall += 300
    assert meter.after(1) == [ClockStepped(300, meter.wall)]
    assert meter.until(1800) == [Snapshot(SLOT + 1, 10_003, 5_001, Flag.ADJUSTED)]
    assert meter.until(3600) == [Snapshot(SLOT + 2, 10_004, 5_002, Flag.NONE)]


def test_a_step_back_inside_a_slot_flags_the_boundary_that_closes_it() -> None:
    meter = Meter()
    meter.wall -= 300
    assert meter.after(1) == [ClockStepped(-300, meter.wall)]
    assert meter.until(1800) == [Snapshot(SLOT + 1, 10_003, 5_001, Flag.ADJUSTED)]


@pytest.mark.parametrize("to", [3600.0, 3601.0, 4000.0])
def test_a_step_forward_over_boundaries_leaves_each_without_data(to: float) -> None:
    meter = Meter()
    meter.wall = T0 + to
    assert meter.after(0)[1:] == [BoundariesMissed(SLOT + 1, SLOT + 2, Missing.CLOCK_STEP)]
    assert meter.until(5400) == [Snapshot(SLOT + 3, 10_003, 5_001, Flag.ADJUSTED)]


def test_after_a_step_back_over_a_boundary_the_next_new_one_tells_of_it() -> None:
    meter = Meter()
    meter.until(1800)
    meter.wall -= 900
    meter.after(1)
    [second] = meter.until(1800)
    assert isinstance(second, Snapshot)
    assert second.slot == SLOT + 1
    assert meter.until(3600) == [Snapshot(SLOT + 2, 10_005, 5_002, Flag.ADJUSTED)]


def test_a_slewed_clock_is_not_a_step() -> None:
    meter = Meter()
    meter.wall += 9.5
    assert meter.after(1) == []
    assert meter.until(1800) == [Snapshot(SLOT + 1, 10_003, 5_001, Flag.NONE)]


def test_an_outage_over_boundaries_leaves_them_absent_and_the_register_resumes() -> None:
    meter = Meter(kept(T0 - 4000))
    assert meter.first == [
        OutageEnded(T0 - 4000, T0 + 600),
        BoundariesMissed(SLOT - 2, SLOT, Missing.OUTAGE),
    ]
    assert meter.accumulator.forward_mwh == 1_000_100
    assert meter.until(1800) == [Snapshot(SLOT + 1, 10_002, 5_001, Flag.POWER_FAIL)]


def test_an_outage_inside_a_slot_flags_the_boundary_that_closes_it() -> None:
    meter = Meter(kept(T0 + 100))
    assert meter.first == [OutageEnded(T0 + 100, T0 + 600)]
    assert meter.until(1800) == [Snapshot(SLOT + 1, 10_002, 5_001, Flag.POWER_FAIL)]


def test_the_first_reading_after_a_start_opens_no_boundary() -> None:
    assert Meter(kept(T0 - 60), at=1.0).first == [
        OutageEnded(T0 - 60, T0 + 1),
        BoundariesMissed(SLOT, SLOT, Missing.OUTAGE),
    ]


def test_without_a_set_clock_no_boundary_is_valid_but_registers_live() -> None:
    meter = Meter(kept(T0 - 60), trust=Trust.UNSET)
    assert meter.first == []
    assert meter.until(1800) == []
    assert meter.accumulator.forward_mwh == 1_000_200
    assert meter.minutes == []


def test_once_the_clock_is_set_the_outage_is_told() -> None:
    meter = Meter(kept(T0 - 60), trust=Trust.UNSET, at=-T0 + 100)
    meter.wall, meter.trust = T0 + 600, Trust.SYNCED
    assert meter.after(0) == [
        OutageEnded(T0 - 60, T0 + 600),
        BoundariesMissed(SLOT, SLOT, Missing.OUTAGE),
    ]


def test_boundaries_while_the_clock_lost_its_trust_are_missed() -> None:
    meter = Meter()
    meter.trust = Trust.UNSET
    meter.until(1800)
    meter.trust = Trust.SYNCED
    assert meter.until(2000) == [BoundariesMissed(SLOT + 1, SLOT + 1, Missing.CLOCK_UNSET)]


def test_a_boundary_by_a_coarse_clock_is_marked() -> None:
    meter = Meter(trust=Trust.COARSE)
    assert meter.until(1800) == [Snapshot(SLOT + 1, 10_002, 5_001, Flag.COARSE)]


def test_a_replaced_unit_brings_its_own_registers() -> None:
    meter = Meter(kept(T0 + 500, serial="OLD", energy=77_000_000))
    assert meter.first[0] == UnitReplaced("OLD", "A1")
    assert meter.accumulator.forward_mwh == 1_000_100


def test_a_single_low_reading_is_an_alarm_and_changes_nothing() -> None:
    meter = Meter()
    assert meter.read(5) == [ReadingFellBack(5, 2, 1_000_100, 500_050)]
    assert meter.read(5) == []
    assert meter.accumulator.forward_mwh == 1_000_100
    meter.after(1)
    assert meter.accumulator.forward_mwh == 1_000_200


def test_a_boundary_is_not_taken_from_a_reading_that_fell_back() -> None:
    meter = Meter()
    meter.monotonic += 1200
    meter.wall += 1200
    meter.read(5)
    assert meter.after(10) == [BoundariesMissed(SLOT + 1, SLOT + 1, Missing.NO_READING)]


def test_a_unit_that_did_begin_anew_continues_our_registers() -> None:
    meter = Meter()
    effects = [effect for n in range(RESTART_READINGS) for effect in meter.read(40 + 10 * n)]
    assert effects == [ReadingFellBack(40, 20, 1_000_100, 500_050), UnitRestarted(40, 20)]
    gained = 10 * (RESTART_READINGS - 1)
    assert meter.accumulator.forward_mwh == 1_000_100 + gained
    meter.read(40 + gained + 7)
    assert meter.accumulator.forward_mwh == 1_000_100 + gained + 7


def test_a_register_offset_survives_the_checkpoint() -> None:
    meter = Meter()
    for n in range(RESTART_READINGS):
        meter.read(n)
    checkpoint = meter.accumulator.checkpoint(meter.wall)
    again = Accumulator("A1", two_way=True, resume=checkpoint)
    again.take(reading(RESTART_READINGS + 4, 500), Moment(0, meter.wall, Trust.SYNCED))
    assert again.forward_mwh == 1_000_100 + RESTART_READINGS + 4


def test_a_one_way_meter_ignores_reverse_energy() -> None:
    meter = Meter(two_way=False)
    assert meter.accumulator.reverse_mwh == 0
    meter.accumulator.take(reading(1_000_500, 3), Moment(60, meter.wall + 10, Trust.SYNCED))
    assert (meter.accumulator.forward_mwh, meter.accumulator.reverse_mwh) == (1_000_500, 0)


def test_each_minute_is_taken_by_the_first_reading_at_or_after_it() -> None:
    meter = Meter(at=0.0)
    meter.until(61.5)
    meter.until(62.5)
    meter.until(120.0)
    meter.until(180.0 + LATE_S + 0.1)
    minute = T0 // 60
    assert meter.minutes == [
        MinuteTaken(minute + 1, 10_002, 5_001, Flag.NONE),
        MinuteTaken(minute + 2, 10_004, 5_002, Flag.NONE),
    ]


def test_a_minute_tells_what_happened_in_it_alone() -> None:
    meter = Meter(kept(T0 + 100))
    meter.until(660)
    meter.wall += 30
    meter.after(1)
    meter.until(720)
    meter.trust = Trust.COARSE
    meter.until(780)
    flags = [taken.flags for taken in meter.minutes]
    assert flags == [Flag.POWER_FAIL, Flag.ADJUSTED, Flag.COARSE]
    assert meter.until(1800) == [
        Snapshot(SLOT + 1, 10_006, 5_003, Flag.POWER_FAIL | Flag.ADJUSTED | Flag.COARSE)
    ]


happenings = st.lists(
    st.one_of(
        st.tuples(st.just("gain"), st.integers(0, 10_000)),
        st.tuples(st.just("wall"), st.integers(-100_000, 100_000)),
        st.tuples(st.just("time"), st.integers(0, 10_000)),
        st.tuples(st.just("fall"), st.integers(1, 2_000_000)),
        st.tuples(st.just("leap"), st.integers(1, 2**49)),
        st.tuples(st.just("trust"), st.integers(0, 2)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=80,
)


@given(happenings, st.booleans())
def test_no_history_of_events_makes_a_register_decrease(
    events: list[tuple[str, int]], two_way: bool
) -> None:
    accumulator = Accumulator("A1", two_way=two_way)
    wall, monotonic, unit, trust = float(T0), 0.0, 1_000_000, Trust.SYNCED
    registers = [(0, 0)]
    stored: Checkpoint | None = None
    for what, amount in [*events, ("gain", 1)]:
        match what:
            case "gain":
                unit += amount
            case "wall":
                wall += amount
            case "time":
                wall, monotonic = wall + amount, monotonic + amount
            case "leap":
                unit += amount
            case "fall":
                unit = max(0, unit - amount)
            case "trust":
                trust = list(Trust)[amount]
            case _:
                stored = accumulator.checkpoint(wall) or stored
                accumulator = Accumulator("A1", two_way=two_way, resume=stored)
        effects = accumulator.take(reading(unit, unit), Moment(monotonic, wall, trust))
        snapshots = [effect for effect in effects if isinstance(effect, Snapshot)]
        assert len(snapshots) <= 1
        assert not snapshots or trust is not Trust.UNSET
        if accumulator.forward_mwh is not None and accumulator.reverse_mwh is not None:
            registers.append((accumulator.forward_mwh, accumulator.reverse_mwh))
    for before, after in pairwise(registers):
        assert after[0] >= before[0]
        assert after[1] >= before[1]
