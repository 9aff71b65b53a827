"""Contract-current limiting: when too much current, for too long, opens the switch.

A policy, and off unless it is configured: this utility has no ampere tariff. It opens when the
current was above the limit throughout ``hold_s``, closes ``pause_s`` later, and after its last trip
leaves the switch open until a command closes it. Whether and how the switch moves is its user's
business, who tells what came of it. Times are monotonic seconds.
"""

import enum
from dataclasses import dataclass

HOLD_S = 5.0
"""How long too much current is borne; *unverified*."""
PAUSE_S = 10.0
TRIPS = 8
QUIET_S = 1800.0
"""After so long without too much current earlier trips are forgotten; *unverified*."""


class Advice(enum.Enum):
    """What should be done to the switch."""

    OPEN = "open"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class LimiterPolicy:
    """The rule; ``trips`` is at least 1, and the last of them is not followed by a closing."""

    limit_a: float
    hold_s: float = HOLD_S
    pause_s: float = PAUSE_S
    trips: int = TRIPS
    quiet_s: float = QUIET_S


class Limiter:
    """One switch's limiter."""

    def __init__(self, policy: LimiterPolicy) -> None:
        self.policy = policy
        self.trips = 0
        """Openings that are not forgotten yet."""
        self._open = False
        self._close_at: float | None = None
        self._over_since: float | None = None
        self._quiet_since = 0.0

    @property
    def spent(self) -> bool:
        """Open after the last trip: only a command closes it."""
        return self._open and self._close_at is None

    def feed(self, now: float, current_a: float | None) -> Advice | None:
        """The current at ``now``, None where it is not known, which is never too much.

        An advice that is not followed is given again after the same time.
        """
        if self._open:
            if self._close_at is None or now < self._close_at:
                return None
            self._close_at = now + self.policy.pause_s
            return Advice.CLOSE
        if current_a is None:
            self._over_since, self._quiet_since = None, now
            return None
        if current_a <= self.policy.limit_a:
            self._over_since = None
            if now - self._quiet_since >= self.policy.quiet_s:
                self.trips = 0
            return None
        self._quiet_since = now
        if self._over_since is None:
            self._over_since = now
        if now - self._over_since < self.policy.hold_s:
            return None
        self._over_since = now
        return Advice.OPEN

    def opened(self, now: float) -> None:
        """The switch was opened by our advice."""
        self.trips += 1
        self._wait_open(now)

    def closed(self, now: float) -> None:
        """The switch was closed by our advice."""
        self._open, self._close_at = False, None
        self._over_since, self._quiet_since = None, now

    def reset(self, now: float) -> None:
        """A command moved the switch: nothing of what was before counts."""
        self.trips = 0
        self.closed(now)

    def resume(self, now: float, trips: int, *, is_open: bool) -> None:
        """Go on after a restart; ``is_open``: we had the switch opened."""
        self.trips = trips
        self.closed(now)
        if is_open:
            self._wait_open(now)

    def _wait_open(self, now: float) -> None:
        self._open = True
        last = self.trips >= self.policy.trips
        self._close_at = None if last else now + self.policy.pause_s


def limited_current_a(current_r_ma: int | None, current_t_ma: int | None) -> float | None:
    """The current that an ampere contract counts: the sum of both lines; None where none is known.

    *Unverified*: on single-phase three-wire a 200 V load then counts twice, as at 100 V it would.
    """
    known = [abs(current) for current in (current_r_ma, current_t_ma) if current is not None]
    return sum(known) / 1000 if known else None
