"""A virtual module behind a byte port: the asyncio shell of its sans-I/O core.

The pace of the UART is real time even where the bench runs on virtual time. What waits at the
other end is a program on real time, and the few milliseconds before an answer exist for its sake;
a clock that is advanced by a day, or stands still, must not change them.
"""

import asyncio
from collections import deque

from meter_runtime.bench.air.medium import Air
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.uart import MAX_WRITES, UartWrite
from meter_runtime.clock import Clock
from meter_runtime.comm.ports import BytePort


class ModulePort:
    """Joins a module to the air and to its host's end of the line."""

    def __init__(self, module: VirtualModule, port: BytePort, air: Air, clock: Clock) -> None:
        self.module = module
        self.lost_writes = 0
        """Writes that came faster than the line took them."""
        self._port = port
        self._air = air
        self._clock = clock
        self._writes: deque[tuple[float, bytes]] = deque()
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
            self._air.settle()
            self.module.receive(data, self._clock.monotonic())
            self._air.settle()

    async def _pump_out(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._writes:
                self._filled.clear()
                await self._filled.wait()
            due, data = self._writes.popleft()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            self._port.write(data)

    def _fetch(self) -> None:
        """The air settled: queue what the module has to say."""
        now = asyncio.get_running_loop().time()
        for write in self.module.take_uart():
            self._enqueue(write, now)

    def _enqueue(self, write: UartWrite, now: float) -> None:
        if len(self._writes) >= MAX_WRITES:
            self._writes.popleft()
            self.lost_writes += 1
        self._last_due = max(now, self._last_due) + write.after_s
        self._writes.append((self._last_due, write.data))
        self._filled.set()
