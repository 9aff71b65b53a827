"""When a reading was asked for, and whether the wall clock was stepped between two of them."""

from dataclasses import dataclass

from meter_runtime.clock import Trust

STEP_S = 10.0
"""A larger change of wall against monotonic time is a step; a smaller one counts as slewing."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Seconds on both clocks, and how far the wall clock is trusted."""

    monotonic: float
    wall: float
    trust: Trust

    def step_until(self, later: "Moment") -> float:
        """Seconds the wall clock was stepped by between the two; 0 where it was not."""
        by = (later.wall - self.wall) - (later.monotonic - self.monotonic)
        return by if abs(by) > STEP_S else 0.0
