"""The virtual modem in its case, behind a byte port: the asyncio shell of its sans-I/O core."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from meter_runtime.bench.plc.line import Line
from meter_runtime.bench.plc.modem import VirtualModem
from meter_runtime.clock import Clock
from meter_runtime.comm.ports import BytePort, PortClosed

PortOpener = Callable[[], Awaitable[BytePort]]


class ModemDongle:
    """A modem that can be plugged in and pulled out, at the same device each time."""

    def __init__(
        self, name: str, modem: VirtualModem, open_port: PortOpener, line: Line, clock: Clock
    ) -> None:
        self.name = name
        self.modem = modem
        self._open_port = open_port
        self._line = line
        self._clock = clock
        self._port: BytePort | None = None
        self._running: asyncio.Task[None] | None = None
        self._powered = True

    @property
    def plugged(self) -> bool:
        """Under power, its device offered."""
        return self._running is not None

    def power_off(self) -> None:
        """The meter has no power: its modem forgets, hears nothing and obeys nobody."""
        if self.plugged and self._powered:
            self._line.detach(self.modem)
        self._powered = False
        self.modem.lose_power()

    def power_on(self) -> None:
        """It is back."""
        if self.plugged and not self._powered:
            self._attach()
        self._powered = True

    async def plug(self) -> None:
        """Power up and offer the device; does nothing when it is plugged in."""
        if self._running is not None:
            return
        self._port = port = await self._open_port()
        if self._powered:
            self._attach()
        self._running = asyncio.create_task(self._serve(port), name=self.name)

    async def unplug(self) -> None:
        """Cut power and take the device away; does nothing when it is unplugged."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            self._line.detach(self.modem)
            self.modem.lose_power()
        port, self._port = self._port, None
        if port is not None:
            await port.close()

    async def _serve(self, port: BytePort) -> None:
        while True:
            data = await port.read()
            if self._powered:
                self._line.settle()
                self.modem.receive(data, self._clock.monotonic())
                self._line.settle()

    def _attach(self) -> None:
        self._line.attach(self.modem, self._write)

    def _write(self) -> None:
        port = self._port
        if port is None:
            return
        with contextlib.suppress(PortClosed):  # the reader learns it too
            for data in self.modem.take_uart():
                port.write(data)
