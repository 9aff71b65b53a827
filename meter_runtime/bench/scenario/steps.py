"""What a step does to the laboratory, once its time has come."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import instant
from meter_runtime.bench.scenario.model import (
    Step,
    Value,
    duration,
    signed_duration,
    time_of_day,
)
from meter_runtime.clock import JST, jst, sleep_until
from meter_runtime.secret import MASK


class Actors(Protocol):
    """Who does what is not the bench's: the home with its HEMS, and the utility."""

    def start_hems(self, believes: Mapping[str, Value]) -> None:
        """``believes``: what it is told otherwise than the file's ``[hems]`` says."""
        ...

    async def stop_hems(self) -> None: ...

    async def command(self, name: str, arguments: Mapping[str, Value]) -> None:
        """Of the utility to the meter."""
        ...


async def perform(step: Step, bench: Bench, actors: Actors) -> None:
    """Do it; the file's check has made sure that the keys it needs are there."""
    match step.do:
        case "inject":
            for_s = None if step.for_ is None else duration(step.for_, "for")
            bench.inject(step.fault or "", for_s=for_s, count=step.count, **step.with_)
        case "clear":
            bench.clear(step.fault)
        case "advance" if step.by is not None:
            await bench.advance(duration(step.by, "by"))
        case "advance":
            await bench.advance(seconds_until(jst(bench.clock.wall()), step.to or ""))
        case "clock-step":
            bench.clock.step(signed_duration(step.by or "", "by"))
        case "clock-set":
            bench.clock.set_wall(instant(step.to or "", "to").timestamp())
        case "wait":
            seconds = duration(step.for_ or "", "for")
            await sleep_until(bench.clock, bench.clock.monotonic() + seconds)
        case "start-hems":
            actors.start_hems(step.with_)
        case "stop-hems":
            await actors.stop_hems()
        case "command":
            await actors.command(step.command or "", step.with_)


def seconds_until(now: datetime, time_text: str) -> float:
    """From ``now`` to the next time that the clock, in JST, shows this."""
    moment = datetime.combine(now.date(), time_of_day(time_text, "to"), JST)
    if moment <= now:
        moment += timedelta(days=1)
    return (moment - now).total_seconds()


def describe(step: Step) -> str:
    """In words: ``inject loss for=10s share=0.5``."""
    given = {"for": step.for_, "count": step.count, "by": step.by, "to": step.to} | step.with_
    if "password" in given:
        given["password"] = MASK
    words = [step.do, step.fault or step.command or ""]
    words += [f"{key}={value}" for key, value in given.items() if value is not None]
    return " ".join(word for word in words if word)
