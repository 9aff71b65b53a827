"""``python -m hwtest.inside.pulse_source``: a program that pulses simulated lines.

It is a process of its own, so that nothing the meter's loop does can hold up the pulses. It is
started well before the pulses, says ``ready``, and begins at a line on its standard input::

    clean PULSES HALF_MS IDLE PULL_FILE       pulses of equal halves
    bouncing PULSES HALF_MS IDLE PULL_FILE    the same, each edge with three bounces of 1 ms

IDLE is where the line rests, ``up`` or ``down``; each pulse begins by leaving it.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

Shape = Literal["clean", "bouncing"]
Idle = Literal["up", "down"]

BOUNCES = 3
BOUNCE_S = 0.001

_UP = b"pull-up"
_DOWN = b"pull-down"


class PulseSource:
    """The meter's side of it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._commands = process.stdin
        self._answers = process.stdout

    async def ready(self) -> None:
        await self._answer()

    def begin(
        self, pulses: int, half_ms: float, line: Path, shape: Shape = "clean", idle: Idle = "down"
    ) -> None:
        """Pulse; returns at once."""
        self._commands.write(f"{shape} {pulses} {half_ms} {idle} {line}\n".encode())

    async def finished(self) -> tuple[int, int]:
        """When the pulses begun last began and ended, CLOCK_MONOTONIC in ns."""
        began, ended = (await self._answer()).split()
        return int(began), int(ended)

    async def pulse(
        self, pulses: int, half_ms: float, line: Path, shape: Shape = "clean", idle: Idle = "down"
    ) -> tuple[int, int]:
        """Pulse, and wait until it is done; when that began and ended."""
        self.begin(pulses, half_ms, line, shape, idle)
        return await self.finished()

    async def _answer(self) -> bytes:
        line = await self._answers.readline()
        if not line:
            raise RuntimeError("the pulse source died")
        return line


@contextlib.asynccontextmanager
async def pulse_source() -> AsyncIterator[PulseSource]:
    """A pulse source that is ready, for as long as it is needed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", __name__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        source = PulseSource(process)
        await source.ready()
        yield source
    finally:
        process.kill()
        await process.wait()


def main() -> None:
    """Obey until the standard input ends."""
    print("ready", flush=True)
    for command in sys.stdin:
        shape, pulses, half_ms, idle, path = command.split()
        line = os.open(path, os.O_WRONLY)
        began = time.monotonic_ns()
        for edge in range(2 * int(pulses)):
            level = _UP if (idle == "up") == (edge % 2 == 1) else _DOWN
            if shape == "bouncing":
                _bounce(line, level)
            else:
                os.pwrite(line, level, 0)
            time.sleep(float(half_ms) / 1000)
        print(began, time.monotonic_ns(), flush=True)
        os.close(line)


def _bounce(line: int, level: bytes) -> None:
    other = _DOWN if level is _UP else _UP
    for _ in range(BOUNCES):
        for each in (level, other):
            os.pwrite(line, each, 0)
            time.sleep(BOUNCE_S / 2)
    os.pwrite(line, level, 0)


if __name__ == "__main__":
    main()
