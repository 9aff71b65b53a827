"""The bench's meter on its mains switch: built, brought to life, and cut off as often as wanted.

What the meter is built from is the laboratory's business; what it stored outlives each life.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager

from meter_runtime.errors import MeterError
from meter_runtime.runtime import Meter

MINUTE_S = 60
LOOK_EVERY_S = 600.0
"""A discovery costs some 20 ms; a slot with something wrong in it is not asked each minute."""

START_WITHIN_S = 120.0
"""A link on the real air needs two scan passes: twice 17.5 s, and some."""


class PoweredMeter:
    """One meter and its present life; :meth:`build` comes first."""

    meter: Meter

    def __init__(self, make: Callable[[], Awaitable[Meter]]) -> None:
        self._make = make
        self._life: asyncio.Task[None] | None = None
        self._holders = 0
        self._grip: ExitStack | None = None
        self._errand: asyncio.Task[None] | None = None
        self._looked_at = -math.inf

    @property
    def on(self) -> bool:
        """It has power: it measures, or could."""
        return not self.meter.stores.closed

    async def build(self) -> None:
        """Put the meter together, at first and after each :meth:`cut`."""
        self.meter = await self._make()

    async def start(self) -> None:
        """Bring it to life; returns when its radio serves, where its units allow that."""
        life = self._life = asyncio.create_task(self.meter.run(), name="meter")
        self._hold()
        broute = self.meter.broute
        if broute is None:
            return
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
        await self._finish_errand()
        life, self._life = self._life, None
        if life is not None:
            self.meter.stop()
            await asyncio.wait((life,))
        await self.meter.close()

    async def visit(self) -> None:
        """A stop of a clock that is moved by hand, each minute: what the meter does then.

        The metering unit is read before time goes on. The rest may wait for time to pass, so it is
        begun only; the slots are looked at each :data:`LOOK_EVERY_S`, and by :meth:`look`.
        """
        if not self.on:
            return
        await self.meter.metering.poll()
        if self._errand is None or self._errand.done():
            self._errand = asyncio.create_task(self._go_round(), name="minute")

    async def look(self) -> None:
        """Somebody has been at the units: a meter that rests must notice it at once, too."""
        if self._grip is not None:
            self._looked_at = self.meter.clock.monotonic()
            await self.meter.keeper.look()

    async def _go_round(self) -> None:
        await self.meter.crew.switching.poll()
        await self.meter.crew.voltage.poll(MINUTE_S)
        if self.meter.clock.monotonic() - self._looked_at >= LOOK_EVERY_S:
            await self.look()

    async def _finish_errand(self) -> None:
        errand, self._errand = self._errand, None
        if errand is not None:
            errand.cancel()
            await asyncio.gather(errand, return_exceptions=True)

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
            self._grip.enter_context(self.meter.crew.held())
            self._grip.enter_context(self.meter.keeper.held())

    def _release(self) -> None:
        grip, self._grip = self._grip, None
        if grip is not None:
            grip.close()
