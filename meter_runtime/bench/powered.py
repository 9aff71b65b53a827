"""The bench's meter on its mains switch: built, brought to life, and cut off as often as wanted.

What the meter is built from is the laboratory's business; what it stored outlives each life.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from meter_runtime.errors import MeterError
from meter_runtime.runtime import Meter

START_WITHIN_S = 120.0
"""A link on the real air needs two scan passes: twice 17.5 s, and some."""


class PoweredMeter:
    """One meter and its present life."""

    def __init__(self, make: Callable[[], Meter]) -> None:
        self._make = make
        self._life: asyncio.Task[None] | None = None
        self._holders = 0
        self._grip: ExitStack | None = None
        self.meter = make()

    @property
    def on(self) -> bool:
        """It has power: it measures, or could."""
        return not self.meter.stores.closed

    def rebuild(self) -> None:
        """Put the meter together anew, as after :meth:`cut`."""
        self.meter = self._make()

    async def start(self) -> None:
        """Bring it to life; returns when its radio serves."""
        broute = self.meter.broute
        if broute is None:
            raise RuntimeError("the bench's configuration has credentials")
        life = self._life = asyncio.create_task(self.meter.run(), name="meter")
        self._hold()
        started = asyncio.create_task(broute.started.wait())
        try:
            await asyncio.wait(
                (life, started), timeout=START_WITHIN_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            started.cancel()
        if not broute.started.is_set():
            reason = broute.link.last_fault or "the module gave no sign"
            raise MeterError(f"the meter's radio did not come up: {reason}")

    async def cut(self) -> None:
        """End its life, registers stored; does nothing where it has none."""
        self._release()
        life, self._life = self._life, None
        if life is not None:
            self.meter.stop()
            await asyncio.wait((life,))
        self.meter.close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """While the clock is moved: whichever meter has power rests between the stops."""
        self._holders += 1
        self._hold()
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._release()

    def _hold(self) -> None:
        if self._holders and self._grip is None and self.on:
            self._grip = ExitStack()
            self._grip.enter_context(self.meter.metering.held())

    def _release(self) -> None:
        grip, self._grip = self._grip, None
        if grip is not None:
            grip.close()
