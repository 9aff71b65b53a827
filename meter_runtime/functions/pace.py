"""Once a second, on the wall clock's second; at rest while somebody moves the clock by hand."""

import math
from collections.abc import Awaitable, Callable

from meter_runtime.clock import Clock, Hold, sleep_until


class Pace:
    """The rhythm of one service."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.hold = Hold()
        """While the clock is moved by hand: :meth:`keep` rests."""

    async def keep(self, poll: Callable[[], Awaitable[None]]) -> None:
        """Poll until cancelled."""
        while True:
            await self.hold.ended()
            await poll()
            wall = self._clock.wall()
            await sleep_until(self._clock, self._clock.monotonic() + math.floor(wall) + 1 - wall)
