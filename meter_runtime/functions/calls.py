"""Calls to the optional unit: each one bounded, and silence told once.

Whatever a driver does, its caller gets an answer or a UnitFailure.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.units.contracts import UnitFailure

log = logging.getLogger(__name__)

READ_BOUND_S = 1.5
"""A driver answers within a second; one that does not is cut off here."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OptionalUnitSilent:
    """The optional unit cannot be read; published once per silence."""

    reason: str


@dataclass(frozen=True, slots=True)
class OptionalUnitAnswers:
    """The optional unit is read again, after ``failures`` vain attempts."""

    failures: int


async def bounded(call: Awaitable[T], bound_s: float, who: str) -> T:
    """What the unit answers; UnitFailure when it does not, or not in time, or its driver fails."""
    try:
        # Real time on purpose: a hung driver hangs in it, whatever the clock is told.
        async with asyncio.timeout(bound_s):
            return await call
    except UnitFailure:
        raise
    except MeterError as error:
        raise UnitFailure(str(error)) from error
    except TimeoutError:
        raise UnitFailure(f"{who} did not answer within {bound_s:g} s") from None
    except Exception as error:
        log.debug("the driver of %s failed", who, exc_info=True)
        raise UnitFailure(f"the driver of {who} failed: {type(error).__name__}") from error


class Silence:
    """How long the unit that is fitted has not been heard."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self.failures = 0
        """Vain attempts in a row."""

    def heard(self) -> None:
        if self.failures:
            failures, self.failures = self.failures, 0
            log.warning("the optional unit answers again after %d failures", failures)
            self._bus.publish(OptionalUnitAnswers(failures))

    def missed(self, reason: str) -> None:
        self.failures += 1
        if self.failures == 1:
            log.error("%s; asked again each second", reason)
            self._bus.publish(OptionalUnitSilent(reason))

    def forget(self) -> None:
        """Another unit is fitted, or none."""
        self.failures = 0
