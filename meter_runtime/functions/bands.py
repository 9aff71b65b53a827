"""Whether a voltage is within its band, with hysteresis: no reading near an edge is told twice.

The statutory band is 101 V ± 6 V and 202 V ± 20 V (Ordinance for Enforcement of the Electricity
Business Act). This watches single readings; means are the voltage log's.
"""

import enum
from dataclasses import dataclass

CONFIRM_READINGS = 3
"""So many readings in a row must agree before a crossing is told; *unverified*."""


class Side(enum.Enum):
    """Where a voltage is."""

    WITHIN = "within"
    BELOW = "below"
    ABOVE = "above"


@dataclass(frozen=True, slots=True)
class Band:
    """In mV, edges included; a voltage is back once it is ``hysteresis_mv`` inside."""

    low_mv: int
    high_mv: int
    hysteresis_mv: int

    def __post_init__(self) -> None:
        if self.low_mv + self.hysteresis_mv > self.high_mv - self.hysteresis_mv:
            raise ValueError(f"{self} has no room between its edges")


STATUTORY_100V = Band(95_000, 107_000, 1_000)
STATUTORY_200V = Band(182_000, 222_000, 2_000)
"""The hysteresis of both is *unverified*."""


class BandWatch:
    """One line's voltage against its band; begins as WITHIN."""

    def __init__(self, band: Band) -> None:
        self.band = band
        self.side = Side.WITHIN
        self._seen = Side.WITHIN
        self._streak = 0

    def feed(self, mv: int | None) -> Side | None:
        """A reading, None where there is none: the side, if it has changed just now."""
        if mv is None:
            self._streak = 0
            return None
        seen = self._side_of(mv)
        self._streak = self._streak + 1 if seen is self._seen else 1
        self._seen = seen
        if seen is self.side or self._streak < CONFIRM_READINGS:
            return None
        self.side = seen
        return seen

    def _side_of(self, mv: int) -> Side:
        """Seen from where it was: who is out is not back before it is well inside."""
        low, high = self.band.low_mv, self.band.high_mv
        if self.side is Side.BELOW:
            low += self.band.hysteresis_mv
        if self.side is Side.ABOVE:
            high -= self.band.hysteresis_mv
        if mv < low:
            return Side.BELOW
        return Side.ABOVE if mv > high else Side.WITHIN
