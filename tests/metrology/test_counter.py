"""Which readings are believed, and that a wrong one never becomes energy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metering_room import START_MWH, Room

from meter_runtime.clock import Trust
from meter_runtime.metrology.counter import (
    LEAP_MARGIN_MWH,
    REGISTER_LIMIT_MWH,
    RESTART_READINGS,
    UNKNOWN_OUTAGE_S,
    Counter,
    most_gained,
)
from meter_runtime.metrology.events import Effect, ReadingFellBack, ReadingLeapt, UnitRestarted
from meter_runtime.metrology.moment import Moment
from meter_runtime.storage.registers import Checkpoint, unit_mark
from meter_runtime.storage.ring import MAX_ENERGY_DWH
from meter_runtime.units.contracts import Sample

LEFT_AT = 1_790_000_000.0
RESUMED = Checkpoint(5_000, 1_000, 500_000, 100_000, unit_mark("A1"), LEFT_AT)


class Meter:
    """A counter and a monotonic clock."""

    def __init__(self, resume: Checkpoint | None = None) -> None:
        self.counter = Counter(resume)
        self.at = 50.0
        self._believed = False

    def read(
        self,
        forward: int,
        reverse: int = 0,
        *,
        after: float = 1.0,
        wall: float = LEFT_AT,
        trust: Trust = Trust.SYNCED,
    ) -> list[Effect]:
        self.at += after
        effects: list[Effect] = []
        now = Moment(self.at, wall, trust)
        self._believed = self.counter.count((forward, reverse), now, effects)
        return effects

    def believed(self) -> bool:
        """Whether the last reading was."""
        return self._believed


def test_as_much_as_a_unit_can_count_is_believed_and_no_more() -> None:
    meter = Meter()
    meter.read(1000)
    assert meter.read(1000 + most_gained(1)) == []
    assert meter.believed()
    base = 1000 + most_gained(1)
    assert meter.read(base + most_gained(1) + 1) == [
        ReadingLeapt(base + most_gained(1) + 1, 0, base, 0)
    ]
    assert not meter.believed()
    assert meter.counter.registers == (base, 0)


def test_the_limit_holds_for_both_directions_together() -> None:
    meter = Meter()
    meter.read(0, 0)
    half = most_gained(1) // 2
    assert meter.read(half + 1, half + 1) != []


def test_after_a_leap_the_next_true_reading_counts_on_as_if_nothing_had_been() -> None:
    meter = Meter()
    meter.read(1000)
    meter.read(10**9)
    assert meter.read(1500) == []
    assert meter.counter.registers == (1500, 0)


def test_a_long_silence_of_the_unit_allows_as_much_as_can_have_flowed() -> None:
    meter = Meter()
    meter.read(0)
    assert meter.read(24 * 60_000_000, after=86_400) == []
    assert meter.counter.registers == (24 * 60_000_000, 0)


def test_a_unit_that_insists_on_a_leap_counts_on_but_the_leap_is_no_energy() -> None:
    meter = Meter()
    meter.read(1000)
    effects = [e for n in range(RESTART_READINGS) for e in meter.read(10**9 + 10 * n)]
    assert effects == [ReadingLeapt(10**9, 0, 1000, 0), UnitRestarted(10**9, 0)]
    gained = 10 * (RESTART_READINGS - 1)
    assert meter.counter.registers == (1000 + gained, 0)
    meter.read(10**9 + gained + 5)
    assert meter.counter.registers == (1000 + gained + 5, 0)


def test_doubtful_readings_that_contradict_each_other_prove_nothing() -> None:
    meter = Meter()
    meter.read(10**6)
    effects: list[Effect] = []
    for n in range(10 * RESTART_READINGS):
        effects += meter.read(10**9 if n % 2 else 5)
    assert effects == [ReadingFellBack(5, 0, 10**6, 0)]
    assert meter.counter.registers == (10**6, 0)


def test_a_true_reading_between_them_begins_the_proof_anew() -> None:
    meter = Meter()
    meter.read(10**6)
    effects: list[Effect] = []
    for n in range(3):
        for _ in range(RESTART_READINGS - 1):
            effects += meter.read(5)
        effects += meter.read(10**6 + n)
    assert effects == [ReadingFellBack(5, 0, 10**6 + n, 0) for n in (0, 0, 1)]
    assert meter.counter.registers == (10**6 + 2, 0)


def test_nonsense_between_them_begins_the_proof_anew() -> None:
    meter = Meter()
    meter.read(10**6)
    effects: list[Effect] = []
    for reading in (*[5] * (RESTART_READINGS - 1), -1, *[5] * (RESTART_READINGS - 1)):
        effects += meter.read(reading)
    assert effects == [ReadingFellBack(5, 0, 10**6, 0)]
    assert meter.read(5) == [UnitRestarted(5, 0)]


@pytest.mark.parametrize("beyond", [-1, REGISTER_LIMIT_MWH, 2**63])
@pytest.mark.parametrize("fresh", [True, False])
def test_what_no_register_can_hold_is_never_believed(beyond: int, fresh: bool) -> None:
    meter = Meter()
    if not fresh:
        meter.read(REGISTER_LIMIT_MWH - 10)
    before = meter.counter.registers
    effects = [e for _ in range(3 * RESTART_READINGS) for e in meter.read(beyond)]
    assert [type(e) for e in effects] == [ReadingFellBack if beyond < 0 else ReadingLeapt]
    assert meter.counter.registers == before


def test_registers_end_where_storage_ends() -> None:
    resume = Checkpoint(REGISTER_LIMIT_MWH - 5, 0, 100, 0, unit_mark("A1"), LEFT_AT)
    meter = Meter(resume)
    meter.read(110)
    assert meter.counter.registers[0] == REGISTER_LIMIT_MWH - 1
    assert meter.counter.registers[0] // 100 <= MAX_ENERGY_DWH


@pytest.mark.parametrize("away_s", [0, 60, 40 * 86_400])
def test_after_an_outage_the_wall_clock_bounds_what_the_unit_can_have_counted(away_s: int) -> None:
    most = 500_000 + most_gained(away_s)
    meter = Meter(RESUMED)
    assert meter.read(most, 100_000, wall=LEFT_AT + away_s) == []
    assert meter.counter.registers == (5_000 + most_gained(away_s), 1_000)
    meter = Meter(RESUMED)
    assert meter.read(most + 1, 100_000, wall=LEFT_AT + away_s) == [
        ReadingLeapt(most + 1, 100_000, 500_000, 100_000)
    ]
    assert meter.counter.registers == (5_000, 1_000)


@pytest.mark.parametrize(
    ("wall", "trust"),
    [
        (LEFT_AT + 1, Trust.COARSE),
        (100.0, Trust.UNSET),
        (LEFT_AT - 1, Trust.SYNCED),
    ],
)
def test_after_an_outage_of_unknown_length_the_unit_is_believed_within_reason(
    wall: float, trust: Trust
) -> None:
    meter = Meter(RESUMED)
    beyond = 500_000 + most_gained(UNKNOWN_OUTAGE_S) + 1
    assert meter.read(beyond, 100_000, wall=wall, trust=trust) == [
        ReadingLeapt(beyond, 100_000, 500_000, 100_000)
    ]
    assert meter.read(10**10, 100_000, wall=wall, trust=trust) == []
    assert meter.counter.registers[0] == 5_000 + 10**10 - 500_000


def test_a_unit_that_insists_after_an_outage_is_believed_against_the_wall_clock() -> None:
    meter = Meter(RESUMED)
    effects = [
        e for n in range(RESTART_READINGS) for e in meter.read(9_000_000 + n, 100_000, wall=LEFT_AT)
    ]
    assert effects == [ReadingLeapt(9_000_000, 100_000, 500_000, 100_000)]
    assert meter.counter.registers == (5_000 + 8_500_000 + RESTART_READINGS - 1, 1_000)


@given(
    st.lists(
        st.tuples(st.sampled_from(["true", "wild"]), st.integers(0, 2**50), st.floats(0, 100)),
        max_size=60,
    )
)
def test_wild_readings_never_become_energy_unless_they_agree(
    readings: list[tuple[str, int, float]],
) -> None:
    meter = Meter()
    meter.read(10**6)
    true, run = 10**6, 0
    for kind, amount, after in readings:
        if kind == "wild" and run == RESTART_READINGS - 1:
            continue
        run = run + 1 if kind == "wild" else 0
        true += amount % LEAP_MARGIN_MWH if kind == "true" else 0
        before = meter.counter.registers
        meter.read(true if kind == "true" else amount, after=after)
        gained = meter.counter.registers[0] - before[0]
        assert gained >= 0
        if kind == "wild" and meter.believed():
            # Within what may have flowed, a lie cannot be told from the truth.
            true = amount
    if readings and readings[-1][0] == "true" and meter.believed():
        assert meter.counter.registers[0] == true


@pytest.mark.parametrize("lost", [True, False])
async def test_a_lower_reading_across_a_restart_is_an_alarm_and_never_a_decrement(
    lost: bool,
) -> None:
    room = Room()
    await room.service.poll()
    await room.until(2400)
    before = room.forward_mwh()
    assert before is not None
    read, offset = room.unit.read, 0

    async def lower() -> Sample:
        sample = await read()
        return Sample(sample.forward_mwh - offset, 0, 0, None, None)

    room.unit.read = lower  # type: ignore[method-assign]
    offset = START_MWH if lost else 1
    await room.off(60, clean=False)
    assert len(room.told(ReadingFellBack)) == 1
    assert room.forward_mwh() is None
    await room.live(RESTART_READINGS - 2)
    assert room.told(UnitRestarted) == []
    await room.live(1)
    assert len(room.told(UnitRestarted)) == 1
    after = room.forward_mwh()
    assert after is not None
    assert before <= after < before + LEAP_MARGIN_MWH
    # What the unit is behind by outlives the next cut.
    await room.off(60, clean=False)
    assert len(room.told(UnitRestarted)) == 1
    again = room.forward_mwh()
    assert again is not None
    assert again >= after


async def test_where_a_unit_went_on_from_outlives_a_cut_at_once() -> None:
    room = Room()
    await room.service.poll()
    await room.until(2400)
    read = room.unit.read

    async def lower() -> Sample:
        sample = await read()
        return Sample(sample.forward_mwh - START_MWH, 0, 0, None, None)

    room.unit.read = lower  # type: ignore[method-assign]
    await room.live(RESTART_READINGS)
    assert len(room.told(UnitRestarted)) == 1
    before = room.forward_mwh()
    await room.off(60, clean=False)
    after = room.forward_mwh()
    assert len(room.told(ReadingFellBack)) == 1
    assert before is not None
    assert after is not None
    assert after > before


def test_a_forgetful_unit_that_counts_from_zero_after_a_pause_raises_no_alarm() -> None:
    kept = Checkpoint(5_000_000, 0, 700_000, 0, unit_mark("A1"), LEFT_AT)
    counter = Counter(kept, forgetful=True)
    effects: list[Effect] = []
    assert counter.count((40, 0), Moment(3.0, LEFT_AT + 3.0, Trust.SYNCED), effects)
    assert counter.registers == (5_000_040, 0)
    assert counter.count((90, 0), Moment(4.0, LEFT_AT + 4.0, Trust.SYNCED), effects)
    assert counter.registers == (5_000_090, 0)
    assert effects == []
    # Without a pause it is a reading that fell back, like any other's.
    assert not counter.count((10, 0), Moment(5.0, LEFT_AT + 5.0, Trust.SYNCED), effects)
    assert [type(effect) for effect in effects] == [ReadingFellBack]
    counter.paused(forgetful=True)
    assert counter.count((15, 0), Moment(6.0, LEFT_AT + 6.0, Trust.SYNCED), effects)
    assert counter.registers == (5_000_105, 0)


def test_a_forgetful_unit_that_was_not_without_power_counts_on() -> None:
    kept = Checkpoint(5_000_000, 0, 700_000, 0, unit_mark("A1"), LEFT_AT)
    counter = Counter(kept, forgetful=True)
    assert counter.count((700_200, 0), Moment(3.0, LEFT_AT + 3.0, Trust.SYNCED), [])
    assert counter.registers == (5_000_200, 0)
