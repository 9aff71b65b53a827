"""Calls to the optional unit that stay without an answer: told once, and once when they end."""

import logging
from dataclasses import dataclass

from meter_runtime.events import EventBus

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OptionalUnitSilent:
    """The optional unit cannot be read; published once per silence."""

    reason: str


@dataclass(frozen=True, slots=True)
class OptionalUnitAnswers:
    """The optional unit is read again, after ``failures`` vain attempts."""

    failures: int


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
