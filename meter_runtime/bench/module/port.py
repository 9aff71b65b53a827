"""A virtual module behind a byte port: the asyncio shell of its sans-I/O core.

The pace of the UART is real time even where the bench runs on virtual time. What waits at the
other end is a program on real time, and the few milliseconds before an answer exist for its sake;
a clock that is advanced by a day, or stands still, must not change them.

:class:`ModulePort` is one module under power; :class:`Dongle` is what can be pulled out and put
back. Faults of the line are handed in and see every octet; what they do is their own business.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from meter_runtime.bench.air.medium import Air
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.uart import MAX_WRITES, UartWrite
from meter_runtime.clock import Clock
from meter_runtime.comm.ports import BytePort


class LineFault(Protocol):
    """Something between a module and its host that changes what passes."""

    def to_module(self, data: bytes) -> bytes:
        """What the module gets of these octets of its host; may be nothing."""
        ...

    def from_module(self, write: UartWrite) -> list[UartWrite]:
        """What the host gets in place of this write."""
        ...


class ModulePort:
    """Joins a module to the air and to its host's end of the line.

    ``faults`` is read at each write; whoever holds the list may change it at any time.
    """

    def __init__(
        self,
        module: VirtualModule,
        port: BytePort,
        air: Air,
        clock: Clock,
        faults: list[LineFault] | None = None,
    ) -> None:
        self.module = module
        self.lost_writes = 0
        """Writes that came faster than the line took them."""
        self._port = port
        self._air = air
        self._clock = clock
        self._faults = [] if faults is None else faults
        self._writes: deque[tuple[float, UartWrite]] = deque()
        self._filled = asyncio.Event()
        self._last_due = 0.0

    async def run(self) -> None:
        """Power the module up and serve until cancelled; PortClosed when the port is gone."""
        self._air.attach(self.module, self._fetch)
        writer = asyncio.ensure_future(self._pump_out())
        reader = asyncio.ensure_future(self._pump_in())
        try:
            done, _ = await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._air.detach(self.module)
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _pump_in(self) -> None:
        while True:
            data = await self._port.read()
            for fault in tuple(self._faults):
                data = fault.to_module(data)
            self._air.settle()
            self.module.receive(data, self._clock.monotonic())
            self._air.settle()

    async def _pump_out(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._writes:
                self._filled.clear()
                await self._filled.wait()
            due, write = self._writes.popleft()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if write.gap_s:
                await self._dribble(write)
            else:
                self._port.write(write.data)

    async def _dribble(self, write: UartWrite) -> None:
        for at in range(len(write.data)):
            self._port.write(write.data[at : at + 1])
            await asyncio.sleep(write.gap_s)

    def _fetch(self) -> None:
        """The air settled: queue what the module has to say."""
        now = asyncio.get_running_loop().time()
        writes = self.module.take_uart()
        for fault in tuple(self._faults):
            writes = [passed for write in writes for passed in fault.from_module(write)]
        for write in writes:
            self._enqueue(write, now)

    def _enqueue(self, write: UartWrite, now: float) -> None:
        if len(self._writes) >= MAX_WRITES:
            self._writes.popleft()
            self.lost_writes += 1
        self._last_due = max(now, self._last_due) + write.after_s
        self._writes.append((self._last_due, write))
        self._filled.set()


PortOpener = Callable[[], Awaitable[BytePort]]


class Dongle:
    """A module in its case: it can be plugged in and pulled out, at the same device each time.

    Without power it is deaf, and it forgets what its kind forgets without power.
    """

    def __init__(
        self, name: str, module: VirtualModule, open_port: PortOpener, air: Air, clock: Clock
    ) -> None:
        self.name = name
        self.module = module
        self.faults: list[LineFault] = []
        self._open_port = open_port
        self._air = air
        self._clock = clock
        self._port: BytePort | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def plugged(self) -> bool:
        """Under power, its device offered."""
        return self._running is not None

    async def plug(self) -> None:
        """Power up and offer the device; does nothing when it is plugged in."""
        if self._running is not None:
            return
        self._port = await self._open_port()
        shell = ModulePort(self.module, self._port, self._air, self._clock, self.faults)
        self._running = asyncio.create_task(shell.run(), name=self.name)
        # One turn, so that the module is in the air when the caller goes on.
        await asyncio.sleep(0)

    async def unplug(self) -> None:
        """Cut power and take the device away; does nothing when it is unplugged."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            self.module.lose_power()
        port, self._port = self._port, None
        if port is not None:
            await port.close()

    def feed(self, data: bytes) -> None:
        """Hand the module octets as its host would, past the faults of the line."""
        self._air.settle()
        self.module.receive(data, self._clock.monotonic())
        self._air.settle()
