"""Whether somebody stands at the meter: for how long its local port stays open.

A button is held, and the port is open for a while. One that is stuck opens it once and not for
ever: what counts is that it is pressed, not that it is down.
"""

from dataclasses import dataclass, field

WINDOW_S = 600.0
"""How long after the button the port stays open (inferred: a visit, cable and all)."""
HOLD_S = 0.5
"""How long the button is held to count: longer than a bump or a spark (inferred)."""


@dataclass(frozen=True, slots=True)
class LocalPortOpened:
    """Somebody held the button."""


@dataclass(frozen=True, slots=True)
class TerminalConnected:
    """A terminal was let in, by the name in its certificate."""

    terminal: str


@dataclass(slots=True)
class Presence:
    """Instants are monotonic seconds. ``always``: a bench has no button."""

    always: bool = False
    closes_at: float | None = field(default=None, init=False)
    """When it closes, or closed; None while nobody ever came."""

    def pressed(self, now: float) -> None:
        """Somebody is there, from now on for :data:`WINDOW_S`."""
        self.closes_at = now + WINDOW_S

    def left_s(self, now: float) -> float:
        """For how long it is open yet; 0: it is closed."""
        if self.always:
            return float("inf")
        return 0.0 if self.closes_at is None else max(0.0, self.closes_at - now)
