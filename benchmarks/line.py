"""What the virtual serial line costs, and how many modules one process can play.

A command goes from a host's serial port through a pseudo-terminal into a virtual module that does
not hesitate, and the answer comes back; both ends' shells run in this process. A pseudo-terminal
has no bit rate, so the same bytes' time on a real line at 115 200 baud stands beside it: below one
line time, what is virtual is quicker than the wire it stands for.

Then more and more modules are asked by a second process, each ten times a second, until the
process that plays them lags: its loop wakes up late.
"""

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.row import Row
from meter_runtime.bench.air import FAST, Air
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.port import ModulePort
from meter_runtime.bench.module.profiles import parse_module_option
from meter_runtime.comm.ports import BytePort, open_port
from meter_runtime.system_clock import SystemClock

BAUD = 115_200
BITS_PER_BYTE = 10
"""8N1: a start bit, eight data bits, a stop bit."""
REPEATS = 200
ANSWER_WITHIN_S = 5.0

LAG_S = 0.005
"""How late a loop may wake up."""
PROBE_S = 0.010
WATCH_S = 1.5
TRIALS = 3
MODULES = (8, 16, 32, 48, 64, 96, 128, 192)
"""Each costs three descriptors; the usual limit is 1024."""

_QUIET = "bp35a1:echo=0,pace=0ms"
COMMANDS = (
    ("SKVER", b"SKVER\r\n"),
    ("SKINFO", b"SKINFO\r\n"),
    ("SKSREG", b"SKSREG S2\r\n"),
)


def measure(repeats: int = REPEATS, modules: Sequence[int] = MODULES) -> list[Row]:
    """Round trips beside line time, then the number of modules."""
    return asyncio.run(_measure(repeats, modules))


async def _measure(repeats: int, modules: Sequence[int]) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="line-") as folder:
        async with _modules(Path(folder), 1) as [tty], _host(tty) as host:
            for name, command in COMMANDS:
                rows += await _round_trip(host, name, command, repeats)
        rows.append(await _how_many(Path(folder), modules))
    return rows


async def _round_trip(host: BytePort, name: str, command: bytes, repeats: int) -> list[Row]:
    answer = await _ask(host, command)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        assert await _ask(host, command) == answer
        times.append(time.perf_counter() - start)
    measured = statistics.median(times)
    line = (len(command) + len(answer)) * BITS_PER_BYTE / BAUD
    return [
        Row(f"{name} through a PTY", measured * 1e3, "ms"),
        Row(f"{name} on a line at {BAUD}", line * 1e3, "ms"),
        Row(f"{name}: PTY / line", measured / line, "x", aim=1.0),
    ]


async def _ask(host: BytePort, command: bytes) -> bytes:
    host.write(command)
    answer = b""
    async with asyncio.timeout(ANSWER_WITHIN_S):
        while not answer.endswith(b"OK\r\n"):
            answer += await host.read()
    return answer


async def _how_many(folder: Path, modules: Sequence[int]) -> Row:
    """The most modules at which the loop wakes up in time, 99 times of 100."""
    most = 0
    for count in modules:
        if not await _in_time(folder, count):
            break
        most = count
    return Row(f"modules until {LAG_S * 1e3:g} ms of lag", most, "modules")


async def _in_time(folder: Path, count: int) -> bool:
    """In one of some trials: what else the machine does can only add to the lag."""
    for _ in range(TRIALS):
        if await _lag(folder, count) <= LAG_S:
            return True
    return False


async def _lag(folder: Path, count: int) -> float:
    async with _modules(folder, count) as ttys:
        hosts = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("line_hosts.py")), *ttys
        )
        try:
            await asyncio.sleep(0.5)
            late = []
            until = time.perf_counter() + WATCH_S
            while time.perf_counter() < until:
                due = time.perf_counter() + PROBE_S
                await asyncio.sleep(PROBE_S)
                late.append(time.perf_counter() - due)
        finally:
            hosts.terminate()
            await hosts.wait()
    return statistics.quantiles(late, n=100)[98]


@asynccontextmanager
async def _modules(folder: Path, count: int) -> AsyncIterator[list[str]]:
    """So many modules in one room, each behind a pseudo-terminal; their devices."""
    clock = SystemClock()
    air = Air(clock, random.Random(1), FAST)
    async with AsyncExitStack() as stack:
        ttys = []
        for number in range(count):
            tty = str(folder / f"module{number}")
            mac = b"\x02MT" + number.to_bytes(5, "big")
            module = VirtualModule(parse_module_option(_QUIET), mac, random.Random(number), FAST)
            port = await open_port(f"pty:{tty}")
            stack.push_async_callback(port.close)
            running = asyncio.create_task(ModulePort(module, port, air, clock).run())
            stack.push_async_callback(_ended, running)
            ttys.append(tty)
        yield ttys


@asynccontextmanager
async def _host(tty: str) -> AsyncIterator[BytePort]:
    port = await open_port(f"serial:{tty}?baudrate={BAUD}")
    try:
        yield port
    finally:
        await port.close()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    for row in measure():
        print(f"{row.name:<34}{row.figure:>10.3f} {row.unit}")
