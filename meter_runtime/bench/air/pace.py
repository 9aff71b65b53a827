"""How long things take in the radio room: true to life, or not at all.

Both paces send the same messages in the same order. ``FAST`` leaves out the waiting and keeps
only the patience for answers that never come; retransmission timers are the protocols' own on
either.
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
    """What a module computes over each PANA message it receives, shortest and longest."""
    answer_s: tuple[float, float]
    """What a meter takes before it turns to a datagram of the home, shortest and longest."""
    join_patience_s: float
    """After this a join without an end has failed at the HEMS."""
    agent_patience_s: float
    """After so much silence of the HEMS a join has failed at the meter."""
    terminate_patience_s: float
    """After this an unanswered SKTERM has timed out."""
    neighbor_patience_s: float
    """After this an unanswered neighbour solicitation or ping has failed."""

    def dwell_s(self, duration: int) -> float:
        """How long a scan listens on one channel; ``duration`` is SKSCAN's argument, 0 to 14."""
        return SCAN_SYMBOL_S * (2**duration + 1) if self.waits else 0.0

    def think_s(self, rng: random.Random) -> float:
        """How long a module computes over this PANA message."""
        return rng.uniform(*self.join_step_s)

    def meter_s(self, rng: random.Random) -> float:
        """How long this datagram lies in the meter before it is looked at."""
        return rng.uniform(*self.answer_s)


REAL = AirPace(
    waits=True,
    # Eight messages are computed over before a HEMS has joined: 3.2 to 5.9 s and the time on air,
    # where real joins take 3 to 10 s. Longer, and the peer, which waits 0.9 s, would repeat itself.
    join_step_s=(0.4, 0.74),
    # Real meters answer in 0.2 to 1.3 s; air and serial lines take their share of that.
    answer_s=(0.17, 1.0),
    # The sum of a PaC's retransmission intervals, 2 + 4 + 8 + 8 + 8 + 8 s.
    join_patience_s=38.0,
    agent_patience_s=38.0,
    terminate_patience_s=10.0,
    neighbor_patience_s=3.0,
)

FAST = AirPace(
    waits=False,
    join_step_s=(0.0, 0.0),
    answer_s=(0.0, 0.0),
    # Enough for a message that was lost twice.
    join_patience_s=5.0,
    # The last message of a join is repeated after 1, 3, 7 and 15 s: a HEMS that holds itself for
    # joined must not find that the meter does not.
    agent_patience_s=16.0,
    terminate_patience_s=1.5,
    neighbor_patience_s=0.5,
)

PACES = {"real": REAL, "fast": FAST}
