"""The HEMS of a scenario: momonga, a command of the user's, or one on a PLC adapter, and its words.

Each line that the program writes is a happening. The password reaches it by the environment or by
its standard input, and is hidden where it repeats it.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from meter_runtime.bench.happenings import Chronicle
from meter_runtime.bench.hems import HemsProcess
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.scenario.model import HemsPart
from meter_runtime.bench.scenario.socket_hems import SocketHems
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import MeterError
from meter_runtime.secret import MASK, Secret

PASSWORD_VARIABLE = "ROUTE_B_PASSWORD"  # noqa: S105 - a name, not a password
STOP_WITHIN_S = 5.0
MAX_LINE = 4096


class Hems(Protocol):
    """A program that reads the meter."""

    async def run(self) -> None:
        """From its start to its end; cancelled, it is ended."""
        ...


def make_hems(part: HemsPart, bench: Bench) -> Hems:
    """The HEMS of the scenario, with the credentials that it believes in."""
    truth, chronicle = bench.credentials, bench.chronicle
    route_b_id = part.route_b_id or truth.route_b_id
    password = part.password or truth.password
    if part.kind == "plc":
        return SocketHems(bench.body.plc, LinkCredentials(route_b_id, password), chronicle)
    tty = bench.tty
    if part.kind == "momonga":
        return MomongaHems(HemsProcess(tty, route_b_id, password), chronicle)
    filled = {"{tty}": tty, "{route_b_id}": route_b_id, "{python}": sys.executable}
    words = [_filled(word, filled) for word in part.command]
    return CommandHems(words, password, chronicle)


def _filled(word: str, values: dict[str, str]) -> str:
    for place, value in values.items():
        word = word.replace(place, value)
    return word


class MomongaHems:
    """The library `momonga` in a process of its own, begun again when it fails."""

    def __init__(self, process: HemsProcess, chronicle: Chronicle) -> None:
        self._process = process
        self._chronicle = chronicle

    async def run(self) -> None:
        self._chronicle.note("hems-started", command="momonga")
        telling = asyncio.create_task(self._tell(), name="HEMS story")
        status = 0
        try:
            await self._process.run()
            status = 1  # it reads until it is told to stop
            self._chronicle.note("hems-said", text=self._process.phase)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            self._chronicle.note("hems-ended", status=status)

    async def _tell(self) -> None:
        async for name, value in self._process.story():
            self._chronicle.note("hems-said", text=f"{name}: {value}")


class CommandHems:
    """Any program, by its command line."""

    def __init__(self, words: Sequence[str], password: Secret, chronicle: Chronicle) -> None:
        self._words = words
        self._password = password
        self._chronicle = chronicle

    async def run(self) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, PASSWORD_VARIABLE: self._password.reveal(), "TZ": "JST-9"},
                limit=MAX_LINE,
                start_new_session=True,  # a Ctrl-C in the terminal is the bench's, not the child's
            )
        except OSError as failure:
            raise MeterError(
                f"the HEMS {self._words[0]} cannot be started: {failure.strerror}"
            ) from None
        self._chronicle.note("hems-started", command=os.path.basename(self._words[0]))  # noqa: PTH119
        try:
            if process.stdout is not None:
                await _each_line(process.stdout, self._tell)
            await process.wait()
        finally:
            await _end(process)
            self._chronicle.note("hems-ended", status=process.returncode)

    def _tell(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip().replace(self._password.reveal(), MASK)
        if text:
            self._chronicle.note("hems-said", text=text)


async def _each_line(stream: asyncio.StreamReader, take: Callable[[bytes], None]) -> None:
    """Lines until the end; of one that is longer than the limit, what came is taken in parts."""
    while True:
        try:
            line = await stream.readuntil(b"\n")
        except asyncio.IncompleteReadError as end:
            take(end.partial)
            return
        except asyncio.LimitOverrunError as over:
            line = await stream.readexactly(max(1, over.consumed))
        take(line)


async def _end(process: asyncio.subprocess.Process) -> None:
    """The program and what it started are gone when this returns."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
