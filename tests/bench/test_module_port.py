"""A module behind a byte port: pace, order, and programs that come and go."""

import asyncio
import contextlib
import os
import random
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from module_room import HEMS_MAC, ManualClock

from meter_runtime.bench.air import FAST, Air
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.port import ModulePort
from meter_runtime.bench.module.profiles import parse_module_option
from meter_runtime.comm.ports import BytePort, PortClosed, open_port


class Line:
    """A byte port whose far end is the test."""

    def __init__(self) -> None:
        self.dropped = 0
        self._reading = False
        self.to_module: asyncio.Queue[bytes] = asyncio.Queue()
        self.writes: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def read(self) -> bytes:
        if self._reading:
            self.to_module.task_done()
        data = await self.to_module.get()
        self._reading = True
        if not data:
            raise PortClosed("the port is closed")
        return data

    def write(self, data: bytes) -> None:
        self.writes.put_nowait((asyncio.get_running_loop().time(), data))

    async def close(self) -> None:
        self.to_module.put_nowait(b"")

    async def drained(self) -> None:
        """The module has taken, and acted on, everything that was sent."""
        await self.to_module.join()


@asynccontextmanager
async def plugged(option: str, port: BytePort) -> AsyncIterator[tuple[ModulePort, ManualClock]]:
    clock, rng = ManualClock(), random.Random(1)
    air = Air(clock, rng, FAST)
    module = VirtualModule(parse_module_option(option), HEMS_MAC, rng, FAST)
    shell = ModulePort(module, port, air, clock)
    task = asyncio.ensure_future(shell.run())
    await asyncio.sleep(0)
    try:
        yield shell, clock
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_each_answer_is_a_write_and_comes_in_order() -> None:
    line = Line()
    async with plugged("bp35a1:pace=0ms", line):
        line.to_module.put_nowait(b"SKVER\r\nSKSC")
        line.to_module.put_nowait(b"AN 2 FFFFFFFF 6\r\n")
        writes = [(await line.writes.get())[1] for _ in range(3)]
    assert writes[0] == b"SKVER\r\nEVER 1.2.10\r\nOK\r\n"
    assert writes[1] == b"SKSCAN 2 FFFFFFFF 6\r\nOK\r\n"
    assert writes[2].startswith(b"EVENT 22")


async def test_answers_wait_their_pace_in_real_time_while_the_bench_clock_stands() -> None:
    line = Line()
    async with plugged("bp35a1:pace=20ms", line) as (_, clock):
        start = asyncio.get_running_loop().time()
        line.to_module.put_nowait(b"SKVER\r\nSKVER\r\n")
        first, _ = await line.writes.get()
        second, _ = await line.writes.get()
        assert clock.now == 1000.0
    assert first - start >= 0.019
    assert second - first >= 0.019


async def test_what_the_clock_brings_about_reaches_the_host() -> None:
    line = Line()
    async with plugged("bp35a1:pace=0ms,echo=0", line) as (_, clock):
        line.to_module.put_nowait(b"SKPING FE80:0000:0000:0000:C2F9:4500:4058:B5FB\r\nSKVER\r\n")
        await line.drained()
        clock.advance(10)
        assert (await line.writes.get())[1] == b"FAIL ER10\r\n"
        assert (await line.writes.get())[1] == b"EVER 1.2.10\r\nOK\r\n"


async def test_a_port_that_is_gone_ends_the_shell() -> None:
    line = Line()
    clock, rng = ManualClock(), random.Random(1)
    air = Air(clock, rng, FAST)
    module = VirtualModule(parse_module_option("bp35a1"), HEMS_MAC, rng, FAST)
    shell = ModulePort(module, line, air, clock)
    await line.close()
    with pytest.raises(PortClosed):
        await shell.run()
    air.attach(module)


class Program:
    """A client program with the serial device open."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._fd)
        self._loop = asyncio.get_running_loop()

    async def ask(self, data: bytes, end: bytes) -> bytes:
        os.write(self._fd, data)
        answer = b""
        while not answer.endswith(end):
            ready = asyncio.Event()
            self._loop.add_reader(self._fd, ready.set)
            await ready.wait()
            self._loop.remove_reader(self._fd)
            answer += os.read(self._fd, 4096)
        return answer

    def close(self) -> None:
        os.close(self._fd)


async def test_programs_may_close_and_reopen_the_terminal(tmp_path: Path) -> None:
    link = tmp_path / "module"
    port = await open_port(f"pty:{link}")
    async with plugged("bp35a1:pace=0ms,wopt=1", port):
        first = Program(link)
        assert await first.ask(b"SKSREG SFE 0\r\n", b"OK\r\n") == b"SKSREG SFE 0\r\nOK\r\n"
        first.close()
        second = Program(link)
        assert await second.ask(b"SKSREG SFE\r\n", b"OK\r\n") == b"ESREG 0\r\nOK\r\n"
        assert await second.ask(b"ROPT\r", b"\r") == b"OK 01\r"
        second.close()
    await port.close()
    assert not link.exists()
