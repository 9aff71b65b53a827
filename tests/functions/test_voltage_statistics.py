"""Half-hour figures and band crossings, against what a person would work out."""

from fractions import Fraction
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.functions.bands import CONFIRM_READINGS, Band, BandWatch, Side
from meter_runtime.functions.half_hours import HalfHours
from meter_runtime.storage.voltage_log import MAX_CV, LineVoltage, VoltageRecord
from meter_runtime.units.contracts import VoltageSample

MILLIVOLTS = st.none() | st.integers(0, 700_000)
SAMPLES = st.none() | st.builds(VoltageSample, MILLIVOLTS, MILLIVOLTS, MILLIVOLTS)


def rounded(mv: Fraction) -> int:
    """To 0.01 V, halves up."""
    return min(int(mv / 10 + Fraction(1, 2)), MAX_CV)


def naive(values: list[int], fewest: int) -> LineVoltage | None:
    if len(values) < max(1, fewest):
        return None
    mean = rounded(Fraction(sum(values), len(values)))
    least, most = (rounded(Fraction(value)) for value in (min(values), max(values)))
    return LineVoltage(mean, least, most, len(values))


@given(
    st.lists(st.tuples(st.integers(0, 6), st.lists(SAMPLES, max_size=8)), max_size=8),
    st.integers(0, 5),
)
def test_each_half_hour_has_the_figures_of_its_readings(
    course: list[tuple[int, list[VoltageSample | None]]], fewest: int
) -> None:
    half_hours = HalfHours(fewest)
    told, slots, slot = [], [], 100
    for later, samples in course:
        slot += later
        for sample in samples:
            slots.append((slot, sample))
            told.append(half_hours.take(slot, sample))
    told.append(half_hours.take(slot + 1, None))
    expected = []
    for number, group in groupby(slots, key=lambda each: each[0]):
        there = [sample for _, sample in group if sample is not None]
        lines = [
            naive([mv for mv in column if mv is not None], fewest)
            for column in (
                [sample.r_n_mv for sample in there],
                [sample.t_n_mv for sample in there],
                [sample.r_t_mv for sample in there],
            )
        ]
        if any(lines):
            expected.append(VoltageRecord(number, *lines))
    assert [record for record in told if record is not None] == expected


def test_a_half_hour_that_the_clock_leaves_backwards_is_dropped() -> None:
    half_hours = HalfHours(1)
    sample = VoltageSample(100_000, None, None)
    assert half_hours.take(200, sample) is None
    assert half_hours.take(100, sample) is None
    done = half_hours.take(101, None)
    assert done is not None
    assert done.slot == 100


def test_nothing_is_kept_of_a_time_that_nobody_knows() -> None:
    half_hours = HalfHours(1)
    sample = VoltageSample(100_000, None, None)
    assert [half_hours.take(slot, sample) for slot in (100, None, None, 101)] == [None] * 4


def test_a_reading_may_stand_for_several() -> None:
    half_hours = HalfHours(60)
    half_hours.take(1, VoltageSample(100_000, None, None), 45)
    half_hours.take(1, VoltageSample(104_000, None, None), 15)
    done = half_hours.take(2, None)
    assert done == VoltageRecord(1, LineVoltage(10_100, 10_000, 10_400, 60), None, None)


BAND = Band(95_000, 107_000, 1_000)


def test_the_edges_are_within() -> None:
    watch = BandWatch(BAND)
    assert [watch.feed(mv) for mv in (95_000, 107_000) * 10] == [None] * 20


@pytest.mark.parametrize(
    ("out", "nearly", "back", "side"),
    [(94_999, 95_999, 96_000, Side.BELOW), (107_001, 106_001, 106_000, Side.ABOVE)],
)
def test_a_voltage_is_back_once_it_is_well_inside(
    out: int, nearly: int, back: int, side: Side
) -> None:
    watch = BandWatch(BAND)
    course = [out] * 5 + [nearly] * 20 + [back] * 5
    told = [(at, change) for at, mv in enumerate(course) if (change := watch.feed(mv))]
    assert told == [(2, side), (27, Side.WITHIN)]


def test_a_dip_shorter_than_the_confirmation_is_not_told() -> None:
    watch = BandWatch(BAND)
    course = ([0] * (CONFIRM_READINGS - 1) + [101_000]) * 10
    assert [watch.feed(mv) for mv in course] == [None] * len(course)


def test_readings_apart_do_not_confirm_each_other() -> None:
    watch = BandWatch(BAND)
    assert [watch.feed(mv) for mv in (90_000, 90_000, None, 90_000, 90_000)] == [None] * 5


def test_a_band_has_room_for_its_hysteresis() -> None:
    with pytest.raises(ValueError, match="no room"):
        Band(95_000, 96_000, 1_000)


def naive_sides(course: list[int | None]) -> list[Side | None]:
    """By the last readings, looked at anew each time."""
    side, told = Side.WITHIN, list[Side | None]()
    since = 0
    for at in range(len(course)):
        recent = course[max(since, at - CONFIRM_READINGS + 1) : at + 1]
        seen = {_seen(mv, side) for mv in recent}
        change = None
        if len(recent) == CONFIRM_READINGS and None not in seen and len(seen) == 1:
            only = seen.pop()
            if only is not None and only is not side:
                side = change = only
                since = at + 1
        told.append(change)
    return told


def _seen(mv: int | None, side: Side) -> Side | None:
    if mv is None:
        return None
    if mv < (96_000 if side is Side.BELOW else 95_000):
        return Side.BELOW
    return Side.ABOVE if mv > (106_000 if side is Side.ABOVE else 107_000) else Side.WITHIN


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, 90_000, 95_500, 96_000, 101_000, 106_500, 107_000, 120_000]),
            st.integers(1, 5),
        ),
        max_size=30,
    )
)
def test_crossings_are_what_the_last_readings_say(course: list[tuple[int | None, int]]) -> None:
    voltages = [mv for mv, times in course for _ in range(times)]
    watch = BandWatch(BAND)
    assert [watch.feed(mv) for mv in voltages] == naive_sides(voltages)
