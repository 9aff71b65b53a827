"""A clock that stands still but for the test: timers fire in order, each at its instant."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

from meter_runtime.clock import HALF_HOUR_S, Trust

SETTLE_TURNS = 10
"""Turns of the loop for whoever was started or woken to wait again."""


class HandTimer:
    """A pending callback."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class HandClock:
    """Monotonic time begins at 1000 s, the wall clock at the opening of a half-hour."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.trust = Trust.SYNCED
        self.offset = 1_000_000 * HALF_HOUR_S - self.at
        """Wall time minus monotonic time."""
        self._timers: list[tuple[float, int, HandTimer]] = []
        self._serial = itertools.count()

    def monotonic(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.offset + self.at

    def call_at(self, when: float, callback: Callable[[], None]) -> HandTimer:
        timer = HandTimer(callback)
        heapq.heappush(self._timers, (when, next(self._serial), timer))
        return timer

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    async def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        target = self.at + seconds
        await _settle()
        while self._timers and self._timers[0][0] <= target:
            when, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                self.at = max(self.at, when)
                timer.callback()
                await _settle()
        self.at = target


async def _settle() -> None:
    for _ in range(SETTLE_TURNS):
        await asyncio.sleep(0)
