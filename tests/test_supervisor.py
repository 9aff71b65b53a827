"""Supervision: crashes are reported and mended, and stopping is bounded."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.clock import Timer, Trust
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.supervisor import Backoff, Supervisor, TaskFailed


class Alarm:
    """One pending callback of the hand-wound clock."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class HandClock:
    """Time that passes when the test says so."""

    trust = Trust.SYNCED

    def __init__(self) -> None:
        self.now = 0.0
        self.alarms: list[Alarm] = []

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        alarm = Alarm(when, callback)
        self.alarms.append(alarm)
        return alarm

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        for alarm in [alarm for alarm in self.alarms if alarm.when <= self.now]:
            self.alarms.remove(alarm)
            if not alarm.cancelled:
                alarm.callback()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Lab:
    """A supervisor under a hand-wound clock, and what it reported."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.failures: list[TaskFailed] = []
        bus = EventBus()
        bus.subscribe(TaskFailed, self.failures.append)
        self.supervisor = Supervisor(
            self.clock, bus, backoff=Backoff(first_s=1, limit_s=4, healthy_s=100), grace_s=5
        )

    def start(self) -> "asyncio.Task[tuple[str, ...]]":
        return asyncio.get_running_loop().create_task(self.supervisor.run())


@pytest.fixture
def lab() -> Lab:
    return Lab()


def crashing(outcomes: Iterator[Exception | None]) -> Callable[[], Awaitable[None]]:
    async def part() -> None:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        await asyncio.Event().wait()

    return part


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_crash_is_reported_and_the_part_started_again(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.supervisor.add("radio", crashing(iter([RuntimeError("no answer"), None])))
    running = lab.start()
    await settle()
    assert lab.failures == [TaskFailed("radio", "RuntimeError: no answer", 1)]
    assert "radio crashed" in caplog.text
    await lab.clock.advance(1)
    assert len(lab.failures) == 1
    lab.supervisor.stop()
    assert await running == ()


async def test_an_expected_failure_is_one_line_of_log(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.supervisor.add("radio", crashing(iter([MeterError("port gone; plug it in"), None])))
    running = lab.start()
    await settle()
    assert [(r.levelno, r.getMessage(), r.exc_info) for r in caplog.records] == [
        (logging.WARNING, "radio failed: port gone; plug it in", None)
    ]
    lab.supervisor.stop()
    await running


async def test_pauses_grow_to_a_limit_and_a_healthy_spell_forgives(lab: Lab) -> None:
    async def part() -> None:
        if lab.clock.now == 11:
            lab.clock.now += 100
        raise RuntimeError

    lab.supervisor.add("radio", part)
    running = lab.start()
    await settle()
    for pause in (1, 2, 4, 4):
        assert lab.failures[-1].restart_in_s == pause
        await lab.clock.advance(pause)
    assert lab.failures[-1].restart_in_s == 1
    lab.supervisor.stop()
    await running


async def test_one_parts_crash_leaves_the_others_running(lab: Lab) -> None:
    starts: list[str] = []

    async def metering() -> None:
        starts.append("metering")
        await forever()

    lab.supervisor.add("metering", metering)
    lab.supervisor.add("radio", crashing(iter([RuntimeError(), RuntimeError(), None])))
    running = lab.start()
    await settle()
    await lab.clock.advance(1)
    await lab.clock.advance(2)
    assert starts == ["metering"]
    lab.supervisor.stop()
    await running


async def test_a_stray_cancellation_is_a_crash(lab: Lab) -> None:
    async def part() -> None:
        inner = asyncio.ensure_future(forever())
        inner.cancel()
        await inner

    lab.supervisor.add("radio", part)
    running = lab.start()
    await settle()
    assert lab.failures == [TaskFailed("radio", "something it awaited was cancelled", 1)]
    lab.supervisor.stop()
    assert await running == ()


async def test_an_essential_parts_return_ends_the_whole(lab: Lab) -> None:
    finish = asyncio.Event()

    async def scenario() -> None:
        await finish.wait()

    lab.supervisor.add("scenario", scenario, essential=True)
    lab.supervisor.add("metering", forever)
    running = lab.start()
    await settle()
    assert not running.done()
    finish.set()
    assert await running == ()


async def test_another_parts_return_does_not(lab: Lab) -> None:
    async def once() -> None:
        return

    lab.supervisor.add("once", once)
    running = lab.start()
    await settle()
    assert not running.done()
    assert lab.failures == []
    lab.supervisor.stop()
    assert await running == ()


async def test_an_essential_part_that_crashes_is_started_again(lab: Lab) -> None:
    lab.supervisor.add("scenario", crashing(iter([RuntimeError(), None])), essential=True)
    running = lab.start()
    await settle()
    await lab.clock.advance(1)
    assert not running.done()
    lab.supervisor.stop()
    assert await running == ()


async def test_a_part_that_does_not_stop_is_named_after_the_grace_time(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    lab.supervisor.add("stubborn", stubborn)
    lab.supervisor.add("metering", forever)
    running = lab.start()
    await settle()
    lab.supervisor.stop()
    await settle()
    assert not running.done()
    await lab.clock.advance(5)
    assert await running == ("stubborn",)
    assert "did not stop within 5 s: stubborn" in caplog.text
    release.set()
    await settle()


async def test_cancelling_the_run_stops_the_parts(lab: Lab) -> None:
    stopped: list[bool] = []

    async def part() -> None:
        try:
            await forever()
        finally:
            stopped.append(True)

    lab.supervisor.add("metering", part)
    running = lab.start()
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert stopped == [True]


async def test_stopping_does_not_wait_for_a_pause(lab: Lab) -> None:
    lab.supervisor.add("radio", crashing(iter([RuntimeError()])))
    running = lab.start()
    await settle()
    lab.supervisor.stop()
    assert await running == ()


async def test_a_part_may_join_later_and_its_name_is_free_once_it_ended(lab: Lab) -> None:
    joined = asyncio.Event()

    async def unit() -> None:
        joined.set()

    running = lab.start()
    await settle()
    lab.supervisor.add("unit", unit)
    with pytest.raises(ValueError, match="already supervised"):
        lab.supervisor.add("unit", unit)
    await settle()
    assert joined.is_set()
    lab.supervisor.add("unit", forever)
    lab.supervisor.stop()
    assert await running == ()


@given(crashes=st.integers(1, 10**9))
def test_a_pause_is_bounded_and_never_shrinks(crashes: int) -> None:
    backoff = Backoff()
    pause = backoff.pause_s(crashes)
    assert backoff.first_s <= pause <= backoff.limit_s
    assert pause <= backoff.pause_s(crashes + 1)


async def test_a_part_that_is_dropped_ends_and_its_name_is_free(lab: Lab) -> None:
    ended = []

    async def part() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("radio")

    lab.supervisor.add("radio", part)
    lab.supervisor.add("metering", forever)
    running = lab.start()
    await settle()
    assert await lab.supervisor.drop("radio")
    assert ended == ["radio"]
    assert lab.failures == []
    lab.supervisor.add("radio", part)
    lab.supervisor.stop()
    assert await running == ()


async def test_a_part_dropped_before_the_start_never_starts(lab: Lab) -> None:
    lab.supervisor.add("radio", crashing(iter([RuntimeError("started")])))
    assert await lab.supervisor.drop("radio")
    assert await lab.supervisor.drop("nobody")
    running = lab.start()
    await settle()
    assert lab.failures == []
    lab.supervisor.stop()
    await running


async def test_a_part_that_will_not_end_is_left_after_the_grace_time(lab: Lab) -> None:
    released = asyncio.Event()

    async def stubborn() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    lab.supervisor.add("radio", stubborn)
    running = lab.start()
    await settle()
    dropping = asyncio.get_running_loop().create_task(lab.supervisor.drop("radio"))
    await settle()
    await lab.clock.advance(5)
    assert await dropping is False
    released.set()
    lab.supervisor.stop()
    await running
