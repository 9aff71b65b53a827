"""What the user of a unit hears when its driver, its lines or its bus fail."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from meter_runtime.errors import MeterError
from meter_runtime.units.contracts import UnitFailure
from meter_runtime.units.failures import bounded, failing_as_unit


async def answers() -> int:
    return 7


async def hangs() -> int:
    await asyncio.Event().wait()
    return 0


async def is_silent() -> int:
    raise UnitFailure("unit A1: no answer")


async def has_no_bus() -> int:
    raise MeterError("i2c-1: no such bus")


async def has_a_fault() -> int:
    raise ZeroDivisionError


def fails_when_called() -> Awaitable[int]:
    raise LookupError


async def test_an_answer_in_time_is_handed_on() -> None:
    assert await bounded(answers, 1.0, "the unit") == 7


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (hangs, "the unit did not answer within 0.01 s"),
        (is_silent, "unit A1: no answer"),
        (has_no_bus, "i2c-1: no such bus"),
        (has_a_fault, "the driver of the unit failed: ZeroDivisionError"),
        (fails_when_called, "the driver of the unit failed: LookupError"),
    ],
)
async def test_whatever_goes_wrong_is_a_failure_of_the_unit(
    call: Callable[[], Awaitable[int]], reason: str
) -> None:
    with pytest.raises(UnitFailure) as failure:
        await bounded(call, 0.01, "the unit")
    assert str(failure.value) == reason


def test_what_fails_in_the_lines_of_a_unit_names_the_unit() -> None:
    with pytest.raises(UnitFailure, match="relay A1: line 17: gone"), failing_as_unit("relay A1"):
        raise MeterError("line 17: gone")
