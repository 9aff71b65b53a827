"""Once a second, on the wall clock's second; at rest while somebody moves the clock by hand."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from meter_runtime.clock import Clock, sleep_until


class Pace:
    """The rhythm of one service."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._holds = 0
        self._unheld = asyncio.Event()
        self._unheld.set()

    async def keep(self, poll: Callable[[], Awaitable[None]]) -> None:
        """Poll until cancelled."""
        while True:
            await self._unheld.wait()
            await poll()
            wall = self._clock.wall()
            await sleep_until(self._clock, self._clock.monotonic() + math.floor(wall) + 1 - wall)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While the clock is moved by hand: :meth:`keep` rests."""
        self._holds += 1
        self._unheld.clear()
        try:
            yield
        finally:
            self._holds -= 1
            if self._holds == 0:
                self._unheld.set()
