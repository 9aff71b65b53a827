"""How long things take on the air: true to life, or not at all.

Both paces send the same messages in the same order. ``FAST`` leaves out the waiting and keeps
only the patience for answers that never come.
"""

import random
from dataclasses import dataclass

SCAN_SYMBOL_S = 0.0096
"""A scan stays SCAN_SYMBOL_S × (2^duration + 1) on each channel."""


@dataclass(frozen=True, slots=True)
class AirPace:
    """The durations of one kind of air."""

    waits: bool
    """Frames take their airtime and scans their dwell."""
    join_step_s: tuple[float, float]
    """What a module computes before each PANA message it sends, shortest and longest."""
    join_patience_s: float
    """After this a join without an end has failed."""
    terminate_patience_s: float
    """After this an unanswered SKTERM has timed out."""
    neighbor_patience_s: float
    """After this an unanswered neighbour solicitation or ping has failed."""

    def dwell_s(self, duration: int) -> float:
        """How long a scan listens on one channel; ``duration`` is SKSCAN's argument, 0 to 14."""
        return SCAN_SYMBOL_S * (2**duration + 1) if self.waits else 0.0

    def think_s(self, rng: random.Random) -> float:
        """How long this PANA message takes to prepare."""
        shortest, longest = self.join_step_s
        return rng.uniform(shortest, longest)


REAL = AirPace(
    waits=True,
    # Eight messages wait before a join ends: 3.2 to 9.6 s, where real ones take 3 to 10 s.
    join_step_s=(0.4, 1.2),
    # The sum of a PaC's retransmission intervals, 2 + 4 + 8 + 8 + 8 + 8 s.
    join_patience_s=38.0,
    terminate_patience_s=10.0,
    neighbor_patience_s=3.0,
)

FAST = AirPace(
    waits=False,
    join_step_s=(0.0, 0.0),
    join_patience_s=2.0,
    terminate_patience_s=1.0,
    neighbor_patience_s=0.5,
)

PACES = {"real": REAL, "fast": FAST}
