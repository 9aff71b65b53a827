"""The wall clock under discipline: monotonic time plus an offset that is corrected with care.

A small correction is *slewed*: the wall clock runs a little fast or slow until it is right, so
that no second is missing or comes twice. A large one is a *step*. Who may correct at all follows
the trust in the source: less than what the clock has already moves nothing. Nothing here reads a
clock; :mod:`~meter_runtime.system_clock` does.

The wall time is worked out anew from the last correction at each reading, so no error adds up.
"""

import enum
import math
from dataclasses import dataclass
from typing import Protocol

from meter_runtime.clock import Clock, Trust

SLEW_LIMIT_S = 10.0
"""A larger difference is stepped."""

SLEW_RATE = 500e-6
"""Seconds per second by which a slewing clock runs fast or slow; adjtime(3) takes 500 ppm as
well. 10 s take 5 h 33 min. *Unverified.*"""

AGREEMENT_S = 0.001
"""A clock that goes where the source says, but for this, is left alone."""

LATEST_WALL = 253_402_200_000
"""The last wall time that a calendar can name, in JST as well: the end of the year 9999."""


class Source(enum.Enum):
    """Who says what time it is."""

    NONE = "none"
    """Nobody has said it since boot."""
    PERSISTED = "persisted"
    """The last time that was stored: it cannot be earlier now."""
    HOST = "host"
    """The host's clock, synchronised by nobody."""
    RTC = "rtc"
    """The battery-backed clock."""
    UTILITY = "utility"
    """A command of the utility."""
    NETWORK = "network"
    """The host's clock, kept by NTP or the like."""

    @property
    def trust(self) -> Trust:
        """What a clock set from it may claim."""
        match self:
            case Source.NONE:
                return Trust.UNSET
            case Source.PERSISTED | Source.HOST:
                return Trust.COARSE
            case Source.RTC | Source.UTILITY | Source.NETWORK:
                return Trust.SYNCED


class Kind(enum.Enum):
    """What became of a correction."""

    STEP = "step"
    SLEW = "slew"
    AGREED = "agreed"
    """The clock was right, or on its way there."""
    IGNORED = "ignored"
    """The clock is trusted more than the source."""


@dataclass(frozen=True, slots=True)
class Correction:
    """What a source said and what was made of it.

    ``by_s`` is the true time less the wall clock's, ``at`` the true time, UTC seconds.
    """

    kind: Kind
    by_s: float
    at: float
    source: Source


class CorrectableClock(Clock, Protocol):
    """A meter's clock, which the utility may correct."""

    def adjust(self, wall: float) -> Correction:
        """The utility says that it is ``wall``, UTC seconds; what was made of it."""
        ...


class Discipline:
    """A wall clock that reads ``wall`` (UTC seconds) at ``monotonic``, set by nobody yet.

    Each call gives the present monotonic time, which never goes back.
    """

    def __init__(self, monotonic: float, wall: float) -> None:
        self._at = monotonic
        self._wall = wall
        self._slew = 0.0
        self.trust = Trust.UNSET
        self.source = Source.NONE
        """Whose correction was taken last."""
        self.confirmed_at = monotonic
        """Monotonic time at which a source was last believed."""
        self.last_step: Correction | None = None

    def wall(self, monotonic: float) -> float:
        """UTC seconds; goes back at a step only."""
        elapsed = monotonic - self._at
        return self._wall + (elapsed + self._slewed(elapsed))

    def goal(self, monotonic: float) -> float:
        """What a finished slew would show: the best known time."""
        return self._wall + (monotonic - self._at + self._slew)

    def slewing_s(self, monotonic: float) -> float:
        """What the running slew has still to add; 0 when there is none."""
        return self._slew - self._slewed(monotonic - self._at)

    def correct(self, monotonic: float, true_wall: float, source: Source) -> Correction:
        """Take ``source``'s word that it is ``true_wall``, as far as it is trusted.

        A clock that was never set is always stepped. A correction takes the place of a running
        slew. Raises ValueError for a time that no calendar can name.
        """
        if not 0 <= true_wall < LATEST_WALL:
            raise ValueError(f"no wall time: {true_wall}")
        wall = self.wall(monotonic)
        by_s = true_wall - wall
        if _RANK[source.trust] < _RANK[self.trust]:
            return Correction(Kind.IGNORED, by_s, true_wall, source)
        if self.trust is Trust.UNSET or abs(by_s) > SLEW_LIMIT_S:
            kind = Kind.STEP
            self._at, self._wall, self._slew = monotonic, true_wall, 0.0
        elif abs(true_wall - self.goal(monotonic)) > AGREEMENT_S:
            kind = Kind.SLEW
            self._at, self._wall, self._slew = monotonic, wall, by_s
        else:
            kind = Kind.AGREED
        self.trust, self.source, self.confirmed_at = source.trust, source, monotonic
        correction = Correction(kind, by_s, true_wall, source)
        if kind is Kind.STEP:
            self.last_step = correction
        return correction

    def doubt(self) -> None:
        """Trust the clock no further than COARSE: nobody has confirmed it for too long."""
        if self.trust is Trust.SYNCED:
            self.trust = Trust.COARSE

    def _slewed(self, elapsed: float) -> float:
        so_far = SLEW_RATE * elapsed
        return math.copysign(min(abs(self._slew), so_far), self._slew)


_RANK = {trust: rank for rank, trust in enumerate(Trust)}
