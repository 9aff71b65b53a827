"""The bench clock: it runs by itself, jumps in order, and its wall can be moved alone."""

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_runtime.bench.clock import MAX_ADVANCE_S, BenchClock
from meter_runtime.clock import Timer, Trust, sleep_until, wait_for_event
from meter_runtime.errors import MeterError, UsageError

START = 1_790_000_000.0


async def no_visit() -> None:
    pass


async def test_it_follows_the_loop_by_itself() -> None:
    clock = BenchClock(START)
    loop = asyncio.get_running_loop()
    offset = clock.monotonic() - loop.time()
    await asyncio.sleep(0)
    assert abs(clock.monotonic() - loop.time() - offset) < 0.01
    assert 0 <= clock.wall() - START < 5
    assert clock.trust is Trust.SYNCED


async def test_a_timer_fires_by_itself_in_real_time() -> None:
    clock = BenchClock(START)
    fired = asyncio.Event()
    clock.call_at(clock.monotonic() + 0.005, fired.set)
    async with asyncio.timeout(5):
        await fired.wait()


async def test_an_earlier_timer_set_later_fires_first() -> None:
    clock = BenchClock(START)
    order: list[str] = []
    done = asyncio.Event()
    now = clock.monotonic()
    clock.call_at(now + 0.02, lambda: order.append("late"))
    clock.call_at(now + 0.02, done.set)
    clock.call_at(now + 0.005, lambda: order.append("early"))
    clock.call_at(now - 1, lambda: order.append("overdue"))
    async with asyncio.timeout(5):
        await done.wait()
    assert order == ["overdue", "early", "late"]


async def test_advance_moves_both_readings_alike() -> None:
    clock = BenchClock(START)
    monotonic, wall = clock.monotonic(), clock.wall()
    await clock.advance(12_345.5, no_visit)
    assert clock.monotonic() - monotonic == pytest.approx(12_345.5, abs=0.5)
    assert clock.wall() - wall == pytest.approx(12_345.5, abs=0.5)


async def test_it_visits_each_minute_exactly_and_the_end() -> None:
    clock = BenchClock(START)
    visits: list[float] = []

    async def visit() -> None:
        visits.append(clock.wall())

    await clock.advance(200, visit)
    first = START // 60 * 60 + 60
    assert visits[:-1] == [first, first + 60, first + 120]
    assert visits[-1] == pytest.approx(START + 200, abs=0.5)


async def test_time_stands_still_while_a_visit_waits() -> None:
    clock = BenchClock(START)

    async def visit() -> None:
        before = clock.monotonic(), clock.wall()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (clock.monotonic(), clock.wall()) == before

    await clock.advance(60, visit)


async def test_timers_fire_in_order_at_their_instants() -> None:
    clock = BenchClock(START)
    base = clock.monotonic()
    fired: list[tuple[str, float]] = []

    def note(name: str) -> None:
        fired.append((name, clock.monotonic()))

    clock.call_at(base + 500, lambda: note("c"))
    clock.call_at(base + 90.25, lambda: note("a"))
    clock.call_at(base + 90.25, lambda: note("b"))
    clock.call_at(base + 5000, lambda: note("never"))
    clock.call_at(base + 100, lambda: note("cancelled")).cancel()
    await clock.advance(1000, no_visit)
    assert fired == [("a", base + 90.25), ("b", base + 90.25), ("c", base + 500)]


async def test_a_callback_may_cancel_one_due_with_it() -> None:
    clock = BenchClock(START)
    at = clock.monotonic() + 10
    fired: list[str] = []
    doomed: list[Timer] = []

    def cancel() -> None:
        doomed[0].cancel()

    clock.call_at(at, cancel)
    doomed.append(clock.call_at(at, lambda: fired.append("no")))
    await clock.advance(20, no_visit)
    assert fired == []


async def test_a_task_that_sleeps_again_and_again_keeps_its_rhythm() -> None:
    clock = BenchClock(START)
    base = clock.monotonic()
    beats: list[float] = []

    async def beat() -> None:
        for n in range(1, 50):
            await sleep_until(clock, base + 7 * n)
            beats.append(clock.monotonic())

    task = asyncio.create_task(beat())
    await asyncio.sleep(0)
    await clock.advance(7 * 49.5, no_visit)
    await task
    assert beats == [base + 7 * n for n in range(1, 50)]


async def test_a_wait_with_a_deadline_ends_in_virtual_time() -> None:
    clock = BenchClock(START)
    waiting = asyncio.create_task(
        wait_for_event(clock, asyncio.Event(), clock.monotonic() + 40 * 86_400)
    )
    await asyncio.sleep(0)
    await clock.advance(40 * 86_400 + 1, no_visit)
    assert await waiting is False


async def test_a_task_woken_by_a_visit_acts_before_time_moves_on() -> None:
    clock = BenchClock(START)
    woken = asyncio.Event()
    acted: list[float] = []

    async def listener() -> None:
        await wait_for_event(clock, woken, clock.monotonic() + 86_400)
        await sleep_until(clock, clock.monotonic() + 2)
        acted.append(clock.wall())

    task = asyncio.create_task(listener())
    await asyncio.sleep(0)

    async def visit() -> None:
        woken.set()

    await clock.advance(300, visit)
    await task
    assert acted == [pytest.approx(START // 60 * 60 + 62, abs=0.01)]


async def test_a_failing_callback_stops_nobody() -> None:
    clock = BenchClock(START)
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    base = clock.monotonic()
    fired: list[str] = []

    def fail() -> None:
        raise ValueError("broken")

    clock.call_at(base + 1, fail)
    clock.call_at(base + 1, lambda: fired.append("next"))
    await clock.advance(2, no_visit)
    assert fired == ["next"]
    assert str(told[0]["exception"]) == "broken"


async def test_a_step_moves_the_wall_alone_and_no_timer() -> None:
    clock = BenchClock(START)
    fired: list[str] = []
    clock.call_at(clock.monotonic() + 3600, lambda: fired.append("x"))
    monotonic = clock.monotonic()
    clock.step(86_400)
    assert clock.monotonic() - monotonic < 5
    assert clock.wall() - START == pytest.approx(86_400, abs=5)
    clock.step(-2 * 86_400)
    assert clock.wall() - START == pytest.approx(-86_400, abs=5)
    clock.set_wall(1000.0)
    assert clock.wall() == pytest.approx(1000, abs=5)
    await asyncio.sleep(0)
    assert fired == []


async def test_a_step_is_told_at_once_and_neither_an_advance_nor_a_drift_is() -> None:
    clock = BenchClock(START)
    told: list[float] = []
    no_more = clock.on_step(lambda: told.append(clock.wall()))
    await clock.advance(7200, no_visit)
    clock.rate_ppm = 500
    assert told == []
    clock.step(-600)
    clock.set_wall(1000.0)
    assert told == [pytest.approx(START + 6600, abs=5), pytest.approx(1000, abs=5)]
    no_more()
    clock.step(1)
    assert len(told) == 2


async def test_a_step_that_is_refused_is_not_told() -> None:
    clock = BenchClock(START)
    told: list[bool] = []
    clock.on_step(lambda: told.append(True))
    with pytest.raises(UsageError, match="1970 to 9999"):
        clock.step(-2 * START)
    assert told == []


async def test_its_trust_is_what_the_test_says() -> None:
    clock = BenchClock(START, trust=Trust.UNSET)
    seen = [clock.trust]
    for clock.trust in (Trust.COARSE, Trust.SYNCED):
        seen.append(clock.trust)
    assert seen == list(Trust)


async def test_a_step_during_an_advance_moves_the_minutes_it_visits() -> None:
    clock = BenchClock(START)
    visits: list[float] = []

    async def visit() -> None:
        visits.append(clock.wall() % 60)
        if len(visits) == 2:
            clock.step(30)

    await clock.advance(300, visit)
    assert visits[:-1] == [0.0] * (len(visits) - 1)
    assert len(visits) == 6


async def test_the_rate_makes_the_wall_drift() -> None:
    clock = BenchClock(START, rate_ppm=100)
    visits: list[float] = []

    async def visit() -> None:
        visits.append(clock.wall())

    await clock.advance(86_400, visit)
    assert clock.wall() - START == pytest.approx(86_408.64, abs=0.5)
    assert all(at % 60 == 0 for at in visits[:-1])
    clock.rate_ppm = -1000
    await clock.advance(10_000, no_visit)
    assert clock.wall() - START == pytest.approx(96_408.64 - 10, abs=0.5)


async def test_a_second_advance_waits_for_the_first() -> None:
    clock = BenchClock(START)
    base = clock.monotonic()
    inside = 0

    async def visit() -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        await asyncio.sleep(0)
        inside -= 1

    await asyncio.gather(clock.advance(3600, visit), clock.advance(3600, visit))
    assert clock.monotonic() - base == pytest.approx(7200, abs=0.5)


@pytest.mark.parametrize("seconds", [-1.0, MAX_ADVANCE_S + 1, float("nan"), float("inf")])
async def test_an_impossible_advance_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match="45 days"):
        await BenchClock(START).advance(seconds, no_visit)


@pytest.mark.parametrize("wall", [-1.0, 1e15, float("nan")])
async def test_an_impossible_time_is_refused(wall: float) -> None:
    clock = BenchClock(START)
    with pytest.raises(UsageError, match="1970 to 9999"):
        clock.set_wall(wall)
    with pytest.raises(UsageError, match="ppm"):
        clock.rate_ppm = wall * 1e6


async def test_a_failing_visit_leaves_a_clock_that_runs() -> None:
    clock = BenchClock(START)

    async def fail() -> None:
        raise MeterError("no")

    with pytest.raises(MeterError, match="no"):
        await clock.advance(3600, fail)
    fired = asyncio.Event()
    clock.call_at(clock.monotonic() + 0.001, fired.set)
    async with asyncio.timeout(5):
        await fired.wait()
    await clock.advance(60, no_visit)


async def test_a_timer_that_never_rests_is_an_error_not_a_hang() -> None:
    clock = BenchClock(START)

    def again() -> None:
        clock.call_at(clock.monotonic(), again)

    again()
    with pytest.raises(MeterError, match="again and again"):
        await clock.advance(10, no_visit)


async def test_cancelled_timers_do_not_pile_up() -> None:
    clock = BenchClock(START)
    for _ in range(10_000):
        clock.call_at(clock.monotonic() + 86_400, no_visit_sync).cancel()
    assert len(clock._timers) < 200


def no_visit_sync() -> None:
    pass


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 20_000), max_size=30),
    st.lists(st.integers(0, 5_000), min_size=1, max_size=5),
)
def test_any_split_of_an_advance_fires_the_same_timers(delays: list[int], parts: list[int]) -> None:
    async def scenario() -> None:
        clock = BenchClock(START)
        base = clock.monotonic()
        fired: list[float] = []
        for delay in delays:
            clock.call_at(base + delay, lambda: fired.append(round(clock.monotonic() - base)))
        for part in parts:
            await clock.advance(part, no_visit)
        # The bench's own running time is below the distance of two delays.
        assert fired == sorted(d for d in delays if base + d <= clock.monotonic())

    asyncio.run(scenario())


async def test_timers_on_each_second_hide_no_minute() -> None:
    clock = BenchClock(1_795_338_780.123)
    visited: list[float] = []

    async def each_second(takes_s: float) -> None:
        while True:
            await sleep_until(clock, clock.monotonic() + takes_s)
            wall = clock.wall()
            await sleep_until(clock, clock.monotonic() + math.floor(wall) + 1 - wall)

    async def visit() -> None:
        visited.append(clock.wall())

    # What each takes puts the others' next second off by a rounding of the wall clock.
    ticking = [asyncio.create_task(each_second(takes_s)) for takes_s in (0.0, 0.0013, 0.0029)]
    await clock.advance(1200, visit)
    for task in ticking:
        task.cancel()
    assert sum(wall % 60 == 0 for wall in visited) == 20
