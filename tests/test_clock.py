"""Slots, days, and the two ways to wait."""

import asyncio
import time
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.bench.clock import BenchClock
from meter_runtime.clock import (
    SLOTS_PER_DAY,
    Clock,
    Hold,
    Trust,
    first_slot_of,
    jst,
    jst_day,
    sleep_until,
    slot_at,
    slot_start,
    wait_for_event,
)
from meter_runtime.system_clock import SystemClock

MIDNIGHT_JST = datetime(2026, 11, 21, 15, 0, tzinfo=UTC).timestamp()


@given(st.integers(0, 4_000_000_000))
def test_a_slot_holds_the_instants_from_its_start_to_the_next(epoch: int) -> None:
    slot = slot_at(epoch)
    assert slot_start(slot) <= epoch < slot_start(slot + 1)


def test_a_day_is_a_jst_day_of_48_slots() -> None:
    assert jst_day(MIDNIGHT_JST) == date(2026, 11, 22)
    assert jst_day(MIDNIGHT_JST - 1) == date(2026, 11, 21)
    assert first_slot_of(date(2026, 11, 22)) == slot_at(MIDNIGHT_JST)
    assert first_slot_of(date(2026, 11, 23)) - first_slot_of(date(2026, 11, 22)) == SLOTS_PER_DAY
    assert jst(MIDNIGHT_JST).isoformat() == "2026-11-22T00:00:00+09:00"


@pytest.mark.parametrize("kind", [SystemClock, lambda: BenchClock(MIDNIGHT_JST)])
async def test_every_clock_wakes_a_sleeper_at_its_time(kind: type[SystemClock]) -> None:
    clock: Clock = kind()
    until = clock.monotonic() + 0.005
    await sleep_until(clock, until)
    assert clock.monotonic() >= until - 0.001
    await sleep_until(clock, until - 10)


async def test_the_system_clock_is_the_hosts_and_trusted() -> None:
    clock = SystemClock()
    assert clock.trust is Trust.SYNCED
    assert abs(clock.wall() - time.time()) < 5
    assert abs(clock.monotonic() - time.monotonic()) < 5


async def test_an_event_ends_the_wait_before_its_deadline() -> None:
    clock = BenchClock(MIDNIGHT_JST)
    event = asyncio.Event()
    waiting = asyncio.create_task(wait_for_event(clock, event, clock.monotonic() + 3600))
    await asyncio.sleep(0)
    event.set()
    assert await waiting is True


async def test_an_event_that_came_already_is_not_waited_for() -> None:
    clock = BenchClock(MIDNIGHT_JST)
    event = asyncio.Event()
    event.set()
    assert await wait_for_event(clock, event, clock.monotonic() - 1) is True
    assert await wait_for_event(clock, event, None) is True


async def test_a_deadline_ends_the_wait_for_an_event_that_does_not_come() -> None:
    clock = BenchClock(MIDNIGHT_JST)
    assert await wait_for_event(clock, asyncio.Event(), clock.monotonic()) is False


async def test_a_cancelled_wait_leaves_no_timer() -> None:
    clock = BenchClock(MIDNIGHT_JST)
    waiting = asyncio.create_task(wait_for_event(clock, asyncio.Event(), clock.monotonic() + 3600))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert clock._next_due() == float("inf")


async def test_of_overlapping_holds_the_last_one_lets_go() -> None:
    hold = Hold()
    await hold.ended()
    with hold:
        rest = asyncio.create_task(hold.ended())
        with hold:
            pass
        await asyncio.sleep(0)
        assert hold.on
        assert not rest.done()
    await rest


async def test_a_hold_that_fails_lets_go() -> None:
    hold = Hold()
    with pytest.raises(LookupError), hold:
        raise LookupError
    assert not hold.on
