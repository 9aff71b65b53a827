"""How the meter's results are formed: signed, with what every one of them tells beside the outcome.

Of whatever is not authentic nothing is said but that it was rejected: the answer is the same, and
has the same length, whatever was wrong. Anyone can make the meter refuse, so these answers are
limited: a few help whoever made a mistake, more would only cost signatures and air. Beyond them the
meter is silent, and counts.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.dispatch import Way
from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.aroute.refusals import RefusalBudget
from meter_runtime.aroute.results import Diagnosis, Result, answer_to, sign
from meter_runtime.clock import Clock
from meter_runtime.errors import MeterError

log = logging.getLogger(__name__)


class Answers:
    """Signs the results of one meter, and counts them by code."""

    def __init__(
        self,
        meter_id: str,
        identity: MeterIdentity,
        clock: Clock,
        credential_version: Callable[[], int],
        diagnosis: Callable[[], Diagnosis | None],
    ) -> None:
        self._meter_id = meter_id
        self._identity = identity
        self._clock = clock
        self._credential_version = credential_version
        self._diagnosis = diagnosis
        self._budgets = {way: RefusalBudget() for way in Way}
        self.counts: Counter[str] = Counter()

    def result(
        self,
        code: Code,
        command_id: bytes,
        counter: int,
        answers: bytes,
        *,
        details: Mapping[str, Any],
        proof: bytes | None = None,
    ) -> bytes:
        """The result of an authentic command; ``answers`` names the message.

        Details that are too long are left out, and the result says so.
        """
        self.counts[code] += 1
        result = Result(
            meter_id=self._meter_id,
            command_id=command_id,
            counter=counter,
            code=code,
            credential_version=self._credential_version(),
            proof=proof,
            applied_at=self._clock.wall() if code is Code.OK else None,
            clock_trust=self._clock.trust.value,
            diagnosis=self._diagnosis(),
            details=details,
            answer_to=answers,
        )
        try:
            return sign(result, self._identity)
        except ValueError as wrong:
            log.error("a result's details are left out: %s", wrong)
            return sign(replace(result, details={"reason": "too long"}), self._identity)

    def rejection(self, message: bytes, way: Way, why: MeterError) -> bytes | None:
        """The one answer to whatever is not authentic; None beyond the limit."""
        if not self._budgets[way].spend(self._clock.monotonic()):
            self.counts["silent"] += 1
            return None
        log.warning("a message on the way %s is rejected: %s", way, why)
        self.counts[Code.REJECTED] += 1
        result = Result(
            meter_id=self._meter_id,
            command_id=None,
            counter=None,
            code=Code.REJECTED,
            credential_version=0,
            proof=None,
            applied_at=None,
            clock_trust=self._clock.trust.value,
            diagnosis=None,
            details={},
            answer_to=answer_to(message),
        )
        return sign(result, self._identity)
