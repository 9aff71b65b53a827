"""A scenario's run: steps in their order, happenings to the expectations, and the report.

All waits are on the bench's clock and bounded: a step's by its ``within``, the end's by the
scenario's ``patience``. A step that waits in vain, or cannot be done, fails the scenario and ends
its steps; what was expected is judged all the same.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import msgspec

from meter_runtime.bench.happenings import Happening
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.scenario import steps
from meter_runtime.bench.scenario.expectations import Verdict, Watch, describe, matches
from meter_runtime.bench.scenario.hems import make_hems
from meter_runtime.bench.scenario.model import Scenario, Step, Value, duration, with_proof_key
from meter_runtime.bench.scenario.office import SEEN, Office, at_work
from meter_runtime.clock import sleep_until, wait_for_event
from meter_runtime.errors import MeterError
from meter_runtime.secret import Secret

_PAST_S = 0.001
"""What happens at the very end of a window still counts."""

Announce = Callable[[str], None]
"""Told of each step in words, as it is done."""


@dataclass(frozen=True, slots=True)
class Result:
    """One expectation's verdict, or a step that failed."""

    what: str
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a scenario."""

    title: str
    results: tuple[Result, ...]
    lasted_s: float
    """On the bench's clock."""

    @property
    def passed(self) -> bool:
        """Everything was as expected."""
        return all(result.passed for result in self.results)


async def play(
    scenario: Scenario,
    bench: Bench,
    *,
    announce: Announce = lambda _: None,
    own_hems: bool = False,
) -> Report:
    """Play the scenario on a bench that was opened with its options.

    ``own_hems``: whoever calls sees to the HEMS, and the scenario's is not started.
    """
    return await _Run(scenario, bench, announce, own_hems).play()


class _StepFailed(Exception):  # noqa: N818 - an end of the steps, reported as a result
    """Why no further step is taken."""


class _Run:
    def __init__(
        self, scenario: Scenario, bench: Bench, announce: Announce, own_hems: bool
    ) -> None:
        self._scenario = scenario
        self._bench = bench
        self._announce = announce
        self._own_hems = own_hems
        self._watches = [Watch(expected) for expected in scenario.expect]
        self._next: Step | None = None
        self._came = False
        """What the next step waits for happened, after the step before it began."""
        self._stirred = asyncio.Event()
        self._hems: asyncio.Task[None] | None = None
        self._office: Office | None = None
        self._began = 0.0

    async def play(self) -> Report:
        now = self._began = self._now()
        for watch in self._watches:
            watch.begin(now)
        unsubscribe = self._bench.subscribe(self._hear)
        failures: list[Result] = []
        try:
            self._next = next(iter(self._scenario.step), None)
            async with AsyncExitStack() as stack:
                if _needs_office(self._scenario):
                    self._office = await stack.enter_async_context(at_work(self._bench))
                if self._scenario.hems.start == "at-once":
                    self.start_hems({})
                try:
                    await self._take_steps()
                    await self._wait_for_the_rest()
                except _StepFailed as failed:
                    failures.append(failed.args[0])
        finally:
            await self.stop_hems()
            unsubscribe()
        for watch in self._watches:
            watch.tick(self._now())
            watch.end()
        results = [
            Result(describe(watch.expected), watch.verdict is Verdict.PASSED, watch.reason)
            for watch in self._watches
        ]
        return Report(
            self._scenario.title, (*failures, *results), round(self._now() - self._began, 3)
        )

    # What steps have others do.

    async def command(self, name: str, arguments: Mapping[str, Value]) -> None:
        if self._office is not None:
            await self._office.command(name, with_proof_key(name, arguments))

    def start_hems(self, believes: Mapping[str, Value]) -> None:
        part = self._scenario.hems
        told = {key: str(value) for key, value in believes.items()}
        if "password" in told:
            part = msgspec.structs.replace(part, password=Secret(told["password"]))
        if "route_b_id" in told:
            part = msgspec.structs.replace(part, route_b_id=told["route_b_id"])
        runs = self._hems is not None and not self._hems.done()
        if part.kind == "none" or self._own_hems or runs:
            return
        hems = make_hems(part, self._bench)
        self._hems = asyncio.create_task(hems.run(), name="HEMS")
        self._hems.add_done_callback(lambda _: self._stirred.set())

    async def stop_hems(self) -> None:
        running, self._hems = self._hems, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    # The course of things.

    def _now(self) -> float:
        return self._bench.clock.monotonic()

    def _hear(self, happening: Happening) -> None:
        step = self._next
        if step is not None and step.when is not None:
            self._came = self._came or matches(happening, step.when, step.where)
        for watch in self._watches:
            watch.see(happening)
        self._stirred.set()

    async def _take_steps(self) -> None:
        following = [*self._scenario.step[1:], None]
        for number, step in enumerate(self._scenario.step):
            words = steps.describe(step)
            try:
                await self._until_due(step)
                self._next, self._came = following[number], False
                self._announce(words)
                if step.name is not None:
                    for watch in self._watches:
                        watch.mark(step.name, self._now())
                await steps.perform(step, self._bench, self)
            except MeterError as failure:
                raise _StepFailed(
                    Result(f"step {number + 1}: {words}", False, str(failure))
                ) from None

    async def _until_due(self, step: Step) -> None:
        if step.at is not None:
            await sleep_until(self._bench.clock, self._began + duration(step.at[1:], "at"))
        if step.when is not None:
            await self._until_happened(step)
        if step.after is not None:
            await sleep_until(self._bench.clock, self._now() + duration(step.after, "after"))

    async def _until_happened(self, step: Step) -> None:
        deadline = self._now() + duration(step.within, "within")
        while not self._came:
            self._check_hems()
            self._stirred.clear()
            if not await wait_for_event(self._bench.clock, self._stirred, deadline):
                raise MeterError(f"waited {step.within} for {step.when}, which did not happen")

    async def _wait_for_the_rest(self) -> None:
        """Until nothing that is expected is open, or patience is over."""
        patience = self._now() + duration(self._scenario.patience, "patience")
        while True:
            now = self._now()
            for watch in self._watches:
                watch.tick(now)
            ends = [
                patience if watch.deadline is None else watch.deadline
                for watch in self._watches
                if not watch.content
            ]
            if not ends or now > max(ends):
                return
            self._check_hems()
            self._stirred.clear()
            next_end = min(end for end in ends if end >= now)
            await wait_for_event(self._bench.clock, self._stirred, next_end + _PAST_S)

    def _check_hems(self) -> None:
        """A HEMS that could not even be started ends the scenario."""
        if self._hems is not None and self._hems.done():
            failure = self._hems.exception()
            if failure is not None:
                raise _StepFailed(Result("the HEMS", False, str(failure))) from None


def _needs_office(scenario: Scenario) -> bool:
    """The utility has something to do or to see."""
    kinds = {each.what for each in scenario.expect} | {step.when for step in scenario.step}
    return any(step.do == "command" for step in scenario.step) or not kinds.isdisjoint(SEEN)
