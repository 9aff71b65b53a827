"""What a clock that is known now says of boundaries taken by one that was not.

Energy is right whatever the clock says; the instant it is booked under is not. Two mistakes are
taken back, so that the load profile neither invents a half-hour nor refuses a true one:

- Boundaries taken since the start by a COARSE clock, when SYNCED time turns out to be a step away
  from it. Where it is not, they stand, marked.
- Boundaries far in the future, left by a clock that was once wrong by days or months. Less than
  :data:`FUTURE_KEPT_S` ahead, the first pass stands as ever.
"""

from collections import deque
from dataclasses import dataclass

from meter_runtime.clock import Trust, slot_start
from meter_runtime.metrology.events import Untrue, Withdraw
from meter_runtime.metrology.moment import Moment

FUTURE_KEPT_S = 86_400
"""How far ahead of a SYNCED clock the newest boundary may lie. *Unverified.*"""

SPANS_KEPT = 16
"""Spans of coarse time, one more with each step within it; beyond, the oldest stands."""


@dataclass(slots=True)
class _Span:
    """Boundaries after ``after`` up to the last reading were taken by one coarse time."""

    after: float
    last: Moment


class Hindsight:
    """Remembers coarse time until the true one is known."""

    def __init__(self) -> None:
        self._coarse: deque[_Span] = deque(maxlen=SPANS_KEPT)

    def look(self, last: Moment | None, now: Moment, newest: int | None) -> list[Withdraw]:
        """What to take back at ``now``, after a reading at ``last`` and before this one's boundary.

        ``newest`` is the newest half-hour that has a value.
        """
        if now.trust is Trust.COARSE:
            self._extend(last, now)
            return []
        wrong = [
            Withdraw(Untrue.COARSE, span.after, span.last.wall)
            for span in self._coarse
            if span.last.step_until(now)
        ]
        self._coarse.clear()
        ahead = newest is not None and slot_start(newest) > now.wall + FUTURE_KEPT_S
        if ahead and not wrong:
            # Else those just named may be the ones ahead; the next reading will tell.
            wrong.append(Withdraw(Untrue.FUTURE, now.wall))
        return wrong

    def _extend(self, last: Moment | None, now: Moment) -> None:
        follows = last is not None and not last.step_until(now)
        if follows and self._coarse and self._coarse[-1].last is last:
            self._coarse[-1].last = now
        else:
            after = last.wall if last is not None and follows else now.wall
            self._coarse.append(_Span(after, now))
