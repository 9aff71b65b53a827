"""A machine that QEMU emulates: started, listened to, and taken the power from."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from hwtest.outcome import END, Outcome

PROJECT = Path(__file__).parents[1]


class Guest:
    """A running machine; its result port speaks by QEMU's standard output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._cut = False

    async def lines(self) -> AsyncIterator[str]:
        """What it says, line by line, until it is off; a line that was cut off is not given."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if line.endswith(b"\n"):
                yield line.decode(errors="replace").strip("\r\n")

    def cut_power(self) -> None:
        """Stop it between two instructions; what it said can still be read. Harmless twice."""
        if not self._cut and self._process.returncode is None:
            self._cut = True
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()


@contextlib.asynccontextmanager
async def powered(command: Sequence[str], messages: Path) -> AsyncIterator[Guest]:
    """The machine of this QEMU command, off again afterwards; QEMU's complaints go to a file."""
    with messages.open("wb") as complaints:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=complaints,
        )
    guest = Guest(process)
    try:
        yield guest
    finally:
        guest.cut_power()
        await process.wait()


async def outcomes(command: Sequence[str], logs: Path, name: str, bound_s: float) -> list[Outcome]:
    """All that this machine finds; one that ends early, or not in time, failed."""
    found: list[Outcome] = []
    ending = f"ended before its last check; see {logs}/{name}.*"
    try:
        async with asyncio.timeout(bound_s), powered(command, logs / f"{name}.qemu") as guest:
            async for line in guest.lines():
                if line == END:
                    return found
                outcome = Outcome.parse(line)
                if outcome is not None:
                    found.append(outcome)
    except TimeoutError:
        ending = f"not done after {bound_s:.0f} s; see {logs}/{name}.*"
    return [*found, Outcome(name, passed=False, text=ending)]
