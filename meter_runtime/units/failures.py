"""Whatever goes wrong with a unit, its user hears UnitFailure, and hears it in time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from meter_runtime.errors import MeterError
from meter_runtime.units.contracts import UnitFailure

log = logging.getLogger(__name__)

READ_BOUND_S = 1.5
"""A driver answers within a second; one that does not is cut off here."""

T = TypeVar("T")


async def bounded(call: Callable[[], Awaitable[T]], bound_s: float, who: str) -> T:
    """What the unit answers; UnitFailure when it does not, or not in time, or its driver fails."""
    try:
        # Real time on purpose: a hung driver hangs in it, whatever the clock is told.
        async with asyncio.timeout(bound_s):
            return await call()
    except UnitFailure:
        raise
    except MeterError as error:
        raise UnitFailure(str(error)) from error
    except TimeoutError:
        raise UnitFailure(f"{who} did not answer within {bound_s:g} s") from None
    except Exception as error:
        log.debug("the driver of %s failed", who, exc_info=True)
        raise UnitFailure(f"the driver of {who} failed: {type(error).__name__}") from error


@contextmanager
def failing_as_unit(who: str) -> Iterator[None]:
    """For a driver: what fails in the lines or buses of ``who`` is a failure of the unit."""
    try:
        yield
    except MeterError as error:
        raise UnitFailure(f"{who}: {error}") from error
