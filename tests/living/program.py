"""The installed command in a process of its own, as a person or a service manager runs it."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

COMMAND = Path(sys.executable).with_name("meter-runtime")
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended."""

    status: int
    out: str
    err: str


class Program:
    """A program that runs, and what it writes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stdout is not None
        self._out = process.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    async def line(self) -> str:
        """Its next line on standard output."""
        async with asyncio.timeout(PATIENCE_S):
            line = (await self._out.readline()).decode()
        if not line:
            ended = await self.ended()
            raise AssertionError(f"it ended with {ended.status} and said: {ended.err}")
        return line

    async def end(self, number: signal.Signals, within_s: float = PATIENCE_S) -> Ended:
        """Send it this signal, and wait for its end."""
        self._process.send_signal(number)
        return await self.ended(within_s)

    async def ended(self, within_s: float = PATIENCE_S) -> Ended:
        """Wait for its end."""
        async with asyncio.timeout(within_s):
            out, err = await self._process.communicate()
        assert self._process.returncode is not None
        return Ended(self._process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def program(
    *argv: str | Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[Program]:
    """``meter-runtime`` with these arguments, dead at the latest when the block ends."""
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    try:
        yield Program(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def command(*argv: str | Path, env: Mapping[str, str] | None = None) -> Ended:
    """Run ``meter-runtime`` with these arguments to its end."""
    async with program(*argv, env=env) as started:
        return await started.ended()
