"""How a guest's checks are run and told.

A check is a coroutine function; its name is what is shown, with spaces, and what it returns is
what it proved. Whatever it raises is its failure, and it may take :data:`BOUND_S`.
"""

import asyncio
import logging
import os
import sys
import termios
import traceback
import tty
from collections.abc import Awaitable, Callable, Iterable

from hwtest.outcome import END, SEPARATOR, Outcome

BOUND_S = 60.0

Check = Callable[[], Awaitable[str]]


class ResultPort:
    """A serial port towards the host; a line has left the machine when :meth:`say` returns."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY)
        tty.setraw(self._descriptor)

    def say(self, *words: object) -> None:
        line = SEPARATOR.join(map(str, words)) + "\n"
        left = memoryview(line.encode())
        while left:
            left = left[os.write(self._descriptor, left) :]
        termios.tcdrain(self._descriptor)


def run(port: ResultPort, checks: Iterable[Check]) -> None:
    """Each check with a loop of its own, in their order; END follows the last."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    for check in checks:
        port.say(asyncio.run(_outcome(check)).line())
    port.say(END)


async def _outcome(check: Check) -> Outcome:
    name = getattr(check, "__name__", str(check)).replace("_", " ")
    try:
        async with asyncio.timeout(BOUND_S):
            return Outcome(name, passed=True, text=await check())
    except Exception as failure:
        traceback.print_exc()
        return Outcome(name, passed=False, text=f"{type(failure).__name__}: {failure}")
