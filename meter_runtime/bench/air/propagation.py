"""How loud stations hear each other, and how noisy it is: strength, distance, interference.

A link is what :meth:`Propagation.set_link` fixed, or the default, less its attenuation; it is the
same in both directions and does not fade by itself. The noise floor of a channel is the
background plus every burst that is on.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meter_runtime.bench.air import phy

DEFAULT_LQI = 0xA1
"""Link quality of a pair of stations nobody set: −60 dBm."""

NOISE_LQI = (0x02, 0x11)
"""Lowest and highest background an energy scan finds on an idle channel."""

MAX_BURSTS = 64


@dataclass(frozen=True, slots=True)
class _Burst:
    db: float
    channel: int | None
    until: float | None


class Propagation:
    """The room between the stations; ``noise`` sets the background of single channels as LQI."""

    def __init__(self, noise: Mapping[int, int] | None = None) -> None:
        self._noise = dict(noise or {})
        self._links: dict[frozenset[bytes], int] = {}
        self._attenuation: dict[frozenset[bytes], float] = {}
        self._bursts: dict[int, _Burst] = {}
        self._serial = itertools.count()

    def set_link(self, one: bytes, other: bytes, lqi: int) -> None:
        """Fix the link quality between two MAC addresses, 00 to FF; 0 is out of reach."""
        self._links[frozenset((one, other))] = lqi

    def set_attenuation(self, one: bytes, other: bytes, db: float) -> None:
        """Put a wall of ``db`` decibels between two MAC addresses; 0 takes it away."""
        if db:
            self._attenuation[frozenset((one, other))] = db
        else:
            self._attenuation.pop(frozenset((one, other)), None)

    def add_burst(self, db: float, channel: int | None, until: float | None) -> Callable[[], None]:
        """Raise the noise floor, of all channels where ``channel`` is None; gives how to end it."""
        while len(self._bursts) >= MAX_BURSTS:
            del self._bursts[next(iter(self._bursts))]
        number = next(self._serial)
        self._bursts[number] = _Burst(db, channel, until)

        def end() -> None:
            self._bursts.pop(number, None)

        return end

    def dbm(self, one: bytes, other: bytes) -> float | None:
        """What one station hears of the other; None where that is nothing."""
        pair = frozenset((one, other))
        lqi = self._links.get(pair, DEFAULT_LQI)
        dbm = phy.dbm_of(lqi) - self._attenuation.get(pair, 0.0)
        return dbm if lqi > 0 and phy.lqi_of(dbm) > 0 else None

    def noise_rise_db(self, channel: int, now: float) -> float:
        """How far the noise of a channel is above the usual background."""
        highest = NOISE_LQI[1]
        fixed = self._noise.get(channel, highest)
        return max(0.0, phy.dbm_of(fixed) - phy.dbm_of(highest)) + self._bursts_db(channel, now)

    def noise_dbm(self, channel: int, background_lqi: int, now: float) -> float:
        """What an idle receiver measures, with the background that was drawn for it."""
        lqi = self._noise.get(channel, background_lqi)
        return phy.dbm_of(lqi) + self._bursts_db(channel, now)

    def _bursts_db(self, channel: int, now: float) -> float:
        over = [n for n, b in self._bursts.items() if b.until is not None and now >= b.until]
        for number in over:
            del self._bursts[number]
        return sum(b.db for b in self._bursts.values() if b.channel in (None, channel))
