"""Corrections of the wall clock: who may, how, and that none leaves an error behind."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.clock import Trust
from meter_runtime.discipline import (
    AGREEMENT_S,
    SLEW_LIMIT_S,
    SLEW_RATE,
    Correction,
    Discipline,
    Kind,
    Source,
)

NOW = 1_790_000_000.0
BOOT = 12.5
SYNCED = (Source.RTC, Source.UTILITY, Source.NETWORK)
COARSE = (Source.PERSISTED, Source.HOST)
SLEW_TIME_S = SLEW_LIMIT_S / SLEW_RATE


def synced(wall: float = NOW) -> Discipline:
    clock = Discipline(BOOT, 0.0)
    clock.correct(BOOT, wall, Source.NETWORK)
    return clock


def test_a_clock_nobody_set_runs_and_is_not_trusted() -> None:
    clock = Discipline(BOOT, 7.0)
    assert (clock.trust, clock.source, clock.last_step) == (Trust.UNSET, Source.NONE, None)
    assert clock.wall(BOOT + 100) == 107.0


@pytest.mark.parametrize("source", [*COARSE, *SYNCED])
@pytest.mark.parametrize("by_s", [0.0, 0.25, -3.0, 1e9])
def test_the_first_setting_is_always_a_step(source: Source, by_s: float) -> None:
    clock = Discipline(BOOT, NOW)
    done = clock.correct(BOOT + 1, NOW + 1 + by_s, source)
    assert done == Correction(Kind.STEP, by_s, NOW + 1 + by_s, source)
    assert clock.last_step == done
    assert clock.wall(BOOT + 1) == NOW + 1 + by_s
    assert (clock.trust, clock.source) == (source.trust, source)


@pytest.mark.parametrize("by_s", [SLEW_LIMIT_S, -SLEW_LIMIT_S, 0.5, -0.0625])
def test_ten_seconds_and_less_are_slewed(by_s: float) -> None:
    clock = synced()
    assert clock.correct(BOOT, NOW + by_s, Source.NETWORK).kind is Kind.SLEW
    assert clock.wall(BOOT) == NOW
    assert clock.slewing_s(BOOT) == by_s
    half = abs(by_s) / SLEW_RATE / 2
    assert clock.wall(BOOT + half) == pytest.approx(NOW + half + by_s / 2, abs=1e-6)
    done = 2.5 * half
    assert clock.wall(BOOT + done) == pytest.approx(NOW + done + by_s, abs=1e-6)
    assert clock.slewing_s(BOOT + done) == 0


@pytest.mark.parametrize("by_s", [10.001, -10.001, 1800.0, -86_400.0])
def test_more_than_ten_seconds_are_a_step(by_s: float) -> None:
    clock = synced()
    done = clock.correct(BOOT + 5, NOW + 5 + by_s, Source.UTILITY)
    assert done.kind is Kind.STEP
    assert done.by_s == pytest.approx(by_s)
    assert clock.last_step == done
    assert clock.wall(BOOT + 6) == NOW + 6 + by_s
    assert clock.slewing_s(BOOT + 6) == 0


@pytest.mark.parametrize("source", COARSE)
def test_a_source_with_less_trust_moves_nothing(source: Source) -> None:
    clock = synced()
    done = clock.correct(BOOT + 5, NOW + 3600, source)
    assert (done.kind, done.by_s) == (Kind.IGNORED, 3595.0)
    assert clock.wall(BOOT + 5) == NOW + 5
    assert (clock.source, clock.confirmed_at) == (Source.NETWORK, BOOT)


def test_a_coarse_clock_follows_coarse_sources_and_rises_with_a_better_one() -> None:
    clock = Discipline(BOOT, 0.0)
    clock.correct(BOOT, NOW, Source.PERSISTED)
    course = [(NOW + 100, Source.HOST), (NOW + 101, Source.NETWORK)]
    kinds = [(clock.correct(BOOT, wall, source).kind, clock.trust) for wall, source in course]
    assert kinds == [(Kind.STEP, Trust.COARSE), (Kind.SLEW, Trust.SYNCED)]


def test_agreement_confirms_and_moves_nothing() -> None:
    clock = synced()
    clock.correct(BOOT, NOW + 4, Source.NETWORK)
    done = clock.correct(BOOT + 60, NOW + 64 + AGREEMENT_S / 2, Source.UTILITY)
    assert done.kind is Kind.AGREED
    assert clock.goal(BOOT + 60) == NOW + 64
    assert (clock.source, clock.confirmed_at) == (Source.UTILITY, BOOT + 60)
    assert clock.last_step is not None
    assert clock.last_step.source is Source.NETWORK


def test_doubt_lowers_trust_and_keeps_the_time() -> None:
    clock = synced()
    clock.doubt()
    assert clock.trust is Trust.COARSE
    assert clock.wall(BOOT + 9) == NOW + 9
    never_set = Discipline(BOOT, 0.0)
    never_set.doubt()
    assert never_set.trust is Trust.UNSET


@pytest.mark.parametrize("wall", [-1.0, math.nan, math.inf, 1e12])
def test_a_time_no_calendar_can_name_is_refused(wall: float) -> None:
    clock = synced()
    with pytest.raises(ValueError, match="no wall time"):
        clock.correct(BOOT, wall, Source.NETWORK)
    assert clock.wall(BOOT) == NOW


errors = st.floats(-SLEW_LIMIT_S, SLEW_LIMIT_S)
pauses = st.floats(0.0, 2 * SLEW_TIME_S)


@given(st.lists(st.tuples(pauses, errors), max_size=40))
def test_whatever_was_slewed_before_the_clock_ends_on_the_truth(
    course: list[tuple[float, float]],
) -> None:
    """Each source is off by its error; the last one tells the truth."""
    clock = synced()
    now = BOOT
    for pause, error in course:
        now += pause
        clock.correct(now, NOW + now - BOOT + error, Source.NETWORK)
    clock.correct(now, NOW + now - BOOT, Source.NETWORK)
    now += 2 * SLEW_TIME_S
    assert abs(clock.wall(now) - (NOW + now - BOOT)) <= AGREEMENT_S + 1e-6
    assert clock.slewing_s(now) == 0


@given(
    st.lists(
        st.tuples(st.floats(0, 30_000), st.none() | st.floats(-SLEW_LIMIT_S, SLEW_LIMIT_S)),
        max_size=40,
    ),
    st.floats(1e-9, 1.0),
)
def test_a_slewing_clock_never_goes_back(
    course: list[tuple[float, float | None]], blink: float
) -> None:
    clock = synced()
    now = BOOT
    shown = clock.wall(now)
    for pause, by_s in course:
        for wait in (pause, blink):
            now += wait
            assert shown <= clock.wall(now) <= shown + wait * (1 + SLEW_RATE) + 1e-6
            shown = clock.wall(now)
        if by_s is not None:
            assert clock.correct(now, shown + by_s, Source.NETWORK).kind is not Kind.STEP
            assert clock.wall(now) == pytest.approx(shown, abs=1e-6)
            assert clock.wall(now) >= shown


@given(st.floats(-1e6, 1e6), st.sampled_from(Source), st.sampled_from(Source))
def test_trust_never_falls_by_a_correction(by_s: float, first: Source, second: Source) -> None:
    order = list(Trust)
    clock = Discipline(BOOT, NOW)
    clock.correct(BOOT, NOW, first)
    before = clock.trust
    done = clock.correct(BOOT, NOW + by_s, second)
    assert order.index(clock.trust) >= order.index(before)
    assert (done.kind is Kind.IGNORED) == (order.index(second.trust) < order.index(before))
