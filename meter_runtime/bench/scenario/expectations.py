"""What must happen, how often and until when: happenings in, verdicts out. Sans-I/O.

An expectation has a window: from the scenario's begin, or from the first time that ``since``
happens, until ``within`` later, or the scenario's end. It counts what matches in there. It has
failed as soon as there is too much, and passed as soon as nothing more can spoil it.
"""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from meter_runtime.bench.happenings import Happening
from meter_runtime.bench.scenario.model import Expectation, Value, duration


class Verdict(enum.Enum):
    """How an expectation stands."""

    OPEN = "open"
    PASSED = "passed"
    FAILED = "failed"


def matches(happening: Happening, kind: str, where: Mapping[str, Value]) -> bool:
    """Is it of this kind, with these details? Texts may hold ``*`` and ``?``."""
    return happening.kind == kind and all(
        key in happening.detail and _alike(happening.detail[key], wanted)
        for key, wanted in where.items()
    )


def _alike(found: Any, wanted: Value) -> bool:
    if isinstance(wanted, str):
        return fnmatchcase(str(found), wanted)
    return bool(found == wanted)


def describe(expected: Expectation) -> str:
    """In words: ``rejoined within 120s since clear``."""
    parts = []
    if expected.never:
        parts.append("never")
    parts.append(expected.what)
    parts += [f"{key}={value}" for key, value in expected.where.items()]
    if expected.count is not None:
        parts.append(_times(expected.count))
    if expected.at_least is not None:
        parts.append(f"at least {_times(expected.at_least)}")
    if expected.within is not None:
        parts.append(f"within {expected.within}")
    if expected.since is not None:
        parts.append(f"since {expected.since}")
    return " ".join(parts)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


@dataclass(slots=True)
class Watch:
    """One expectation over the course of a scenario; ``now`` is the bench's monotonic time."""

    expected: Expectation
    began_at: float | None = None
    """When its window opened; None while ``since`` has not happened."""
    seen: int = 0
    first_at: float | None = None
    verdict: Verdict = Verdict.OPEN
    reason: str = ""

    def begin(self, now: float) -> None:
        """The scenario begins."""
        if self.expected.since is None:
            self.began_at = now

    def mark(self, name: str, now: float) -> None:
        """A step of this name, or a happening of this kind, took place."""
        if self.began_at is None and name == self.expected.since:
            self.began_at = now

    @property
    def deadline(self) -> float | None:
        """When its window closes; None where that is not known yet, or is the scenario's end."""
        if self.verdict is not Verdict.OPEN:
            return None
        if self.began_at is None or self.expected.within is None:
            return None
        return self.began_at + duration(self.expected.within, "within")

    @property
    def content(self) -> bool:
        """Nothing more need happen for it: what must be there is, only too much could spoil it."""
        least, _ = self._bounds
        return self.verdict is not Verdict.OPEN or (
            self.began_at is not None and self.seen >= least and self.expected.within is None
        )

    @property
    def _bounds(self) -> tuple[int, float]:
        expected = self.expected
        if expected.never:
            return 0, 0
        if expected.count is not None:
            return expected.count, expected.count
        return expected.at_least or 1, math.inf

    def see(self, happening: Happening) -> None:
        """Something happened."""
        if self.verdict is Verdict.OPEN and self.began_at is not None:
            self.tick(happening.at_monotonic)
        if (
            self.verdict is Verdict.OPEN
            and self.began_at is not None
            and matches(happening, self.expected.what, self.expected.where)
        ):
            self.seen += 1
            if self.first_at is None:
                self.first_at = happening.at_monotonic
            least, most = self._bounds
            if self.seen > most:
                self._decide(Verdict.FAILED, self._too_much(happening))
            elif self.seen >= least and most == math.inf:
                self._decide(Verdict.PASSED, self._when())
        # Its own beginning is not counted: "a second fault since fault" is a second one.
        self.mark(happening.kind, happening.at_monotonic)

    def tick(self, now: float) -> None:
        """Time went on to ``now``; what happens at the very end of the window still counts."""
        deadline = self.deadline
        if deadline is not None and now > deadline:
            self.end()

    def end(self) -> None:
        """Its window closes."""
        if self.verdict is not Verdict.OPEN:
            return
        if self.began_at is None:
            since = self.expected.since
            self._decide(Verdict.FAILED, f"{since} never happened, so nothing was tried")
            return
        least, _ = self._bounds
        if self.seen < least:
            found = f"only {_times(self.seen)}" if self.seen else "it did not happen"
            self._decide(Verdict.FAILED, found)
        else:
            self._decide(Verdict.PASSED, self._when())

    def _decide(self, verdict: Verdict, reason: str) -> None:
        self.verdict = verdict
        self.reason = reason

    def _when(self) -> str:
        if self.first_at is None or self.began_at is None:
            return "it did not happen"
        return f"after {self.first_at - self.began_at:.1f} s"

    def _too_much(self, happening: Happening) -> str:
        after = happening.at_monotonic - (self.began_at or 0.0)
        return f"happened after {after:.1f} s: {happening.text}".rstrip(": ")
