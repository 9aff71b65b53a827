"""The utility sets the bench's clock: little is slewed, much is stepped, as on a real meter."""

import pytest

from meter_runtime.bench.clock import BenchClock
from meter_runtime.clock import Trust
from meter_runtime.discipline import SLEW_LIMIT_S, SLEW_RATE, Kind, Source
from meter_runtime.errors import UsageError

START = 1_800_000_000.0


async def nothing() -> None:
    pass


async def passed(clock: BenchClock, seconds: float) -> None:
    await clock.advance(seconds, nothing)


def error_s(clock: BenchClock, began: float) -> float:
    """Wall time less what monotonic time makes of the beginning."""
    return clock.wall() - START - (clock.monotonic() - began)


@pytest.mark.parametrize("by_s", [2.0, -2.0, SLEW_LIMIT_S - 0.1, 0.5 - SLEW_LIMIT_S])
async def test_a_small_correction_is_slewed_and_nobody_is_told_of_a_step(by_s: float) -> None:
    clock, steps = BenchClock(START), []
    clock.on_step(lambda: steps.append(clock.wall()))
    began = clock.monotonic()
    done = clock.adjust(clock.wall() + by_s)
    assert (done.kind, done.source) == (Kind.SLEW, Source.UTILITY)
    assert done.by_s == pytest.approx(by_s, abs=0.01)
    assert error_s(clock, began) == pytest.approx(0, abs=0.01)
    half_s = abs(by_s) / SLEW_RATE / 2
    await passed(clock, half_s)
    assert error_s(clock, began) == pytest.approx(by_s / 2, abs=0.02)
    await passed(clock, half_s + 60)
    assert error_s(clock, began) == pytest.approx(by_s, abs=0.02)
    await passed(clock, 86_400)
    assert error_s(clock, began) == pytest.approx(by_s, abs=0.02)
    assert steps == []


async def test_each_minute_of_a_slewing_clock_is_visited_once() -> None:
    clock = BenchClock(START)
    minutes: list[float] = []

    async def visit() -> None:
        minutes.append(clock.wall())

    clock.adjust(START + 5)
    await clock.advance(4 * 3600, visit)
    full = [wall for wall in minutes if wall % 60 == 0]
    assert full == [START + 60 * (count + 1) for count in range(len(full))]
    assert len(full) == 240


@pytest.mark.parametrize("by_s", [SLEW_LIMIT_S + 1, -3600.0])
async def test_a_large_correction_is_a_step(by_s: float) -> None:
    clock, steps = BenchClock(START), []
    clock.on_step(lambda: steps.append(clock.wall()))
    began = clock.monotonic()
    assert clock.adjust(clock.wall() + by_s).kind is Kind.STEP
    assert error_s(clock, began) == pytest.approx(by_s, abs=0.01)
    assert len(steps) == 1


async def test_a_clock_that_was_never_set_is_stepped_and_then_trusted() -> None:
    clock = BenchClock(START, trust=Trust.UNSET)
    assert clock.adjust(clock.wall() + 1).kind is Kind.STEP
    assert clock.trust is Trust.SYNCED


async def test_a_clock_that_is_right_or_on_its_way_there_is_left_alone() -> None:
    clock = BenchClock(START)
    assert clock.adjust(clock.wall()).kind is Kind.AGREED
    goal = clock.wall() + 4 - clock.monotonic()
    assert clock.adjust(clock.monotonic() + goal).kind is Kind.SLEW
    await passed(clock, 600)
    assert clock.adjust(clock.monotonic() + goal).kind is Kind.AGREED


async def test_a_clock_that_is_set_by_hand_slews_no_further() -> None:
    clock = BenchClock(START)
    began = clock.monotonic()
    clock.adjust(clock.wall() + 5)
    clock.step(100)
    await passed(clock, 86_400)
    assert error_s(clock, began) == pytest.approx(100, abs=0.02)


async def test_a_time_that_no_calendar_names_changes_nothing() -> None:
    clock = BenchClock(START, trust=Trust.UNSET)
    with pytest.raises(UsageError):
        clock.adjust(-1)
    assert clock.trust is Trust.UNSET
