"""How often the meter answers what it cannot authenticate: a token bucket for each way in.

Anyone who reaches the meter can make it refuse. A few answers help whoever made a mistake; more
would only cost signatures and air. Beyond them the meter is silent, and counts.
"""

from dataclasses import dataclass, field

BURST = 5
REFILL_S = 10.0


@dataclass(slots=True)
class RefusalBudget:
    """:data:`BURST` answers at once, then one every :data:`REFILL_S` seconds."""

    _left: float = field(default=BURST, init=False)
    _at: float = field(default=0.0, init=False)

    def spend(self, now: float) -> bool:
        """True when one more may be answered; ``now`` is monotonic, in seconds."""
        self._left = min(BURST, self._left + max(0.0, now - self._at) / REFILL_S)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
