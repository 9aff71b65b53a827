"""A radio room without a meter: modules on serial devices that tests pull, reset and put back."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from meter_runtime.bench.air import FAST, Air
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.port import ModulePort
from meter_runtime.bench.module.profiles import parse_module_option
from meter_runtime.clock import Clock
from meter_runtime.comm.pty import PtyPort
from meter_runtime.system_clock import SystemClock

MODULE = "bp35a1:pace=1ms"
METER_MAC = bytes.fromhex("0200000000000101")
HEMS_MAC = bytes.fromhex("0200000000000202")


class Dongle:
    """One module on a serial device with a fixed name."""

    def __init__(self, air: Air, clock: Clock, option: str, mac: bytes, tty: Path) -> None:
        self.tty = tty
        self._air = air
        self._clock = clock
        self._options = parse_module_option(option)
        self._mac = mac
        self._port: PtyPort | None = None
        self._running: asyncio.Task[None] | None = None
        self.module = self._new_module()

    async def plug(self) -> None:
        """Put it in: the device appears, the module starts from nothing."""
        self._port = PtyPort(str(self.tty))
        self._power_on()

    async def pull(self) -> None:
        """Take it out: the device goes away."""
        await self._power_off()
        if self._port is not None:
            await self._port.close()
            self._port = None

    async def blink(self) -> None:
        """Take the module's power away for a moment; the device of its UART stays."""
        await self._power_off()
        self._power_on()

    def say(self, data: bytes) -> None:
        """Octets on the line to the host that no module meant."""
        assert self._port is not None
        self._port.write(data)

    def _new_module(self) -> VirtualModule:
        return VirtualModule(self._options, self._mac, random.Random(1), self._air.pace)

    def _power_on(self) -> None:
        assert self._port is not None
        self.module = self._new_module()
        shell = ModulePort(self.module, self._port, self._air, self._clock)
        self._running = asyncio.create_task(shell.run())

    async def _power_off(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None


class RadioRoom:
    """A meter's module and a HEMS's, with nothing behind either."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        air = Air(clock, random.Random(1), FAST)
        self.meter = Dongle(air, clock, MODULE, METER_MAC, folder / "meter-module")
        self.hems = Dongle(air, clock, MODULE, HEMS_MAC, folder / "hems-module")


@asynccontextmanager
async def radio_room(folder: Path, clock: Clock | None = None) -> AsyncIterator[RadioRoom]:
    """Both modules plugged in, in ``folder``."""
    room = RadioRoom(folder, clock or SystemClock())
    async with AsyncExitStack() as stack:
        for dongle in (room.meter, room.hems):
            await dongle.plug()
            stack.push_async_callback(dongle.pull)
        yield room
