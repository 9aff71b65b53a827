"""Keeps a HEMS process beside the bench and remembers what it reads."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from meter_runtime.secret import Secret

STOP_WITHIN_S = 5.0
LOG_LINES = 50
STORY_KEPT = 100
"""What is told while nobody listens; beyond, the newest is lost."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value the HEMS got from the meter."""

    value: Any
    at: float
    """time.monotonic() at which the bench heard of it."""


class HemsProcess:
    """momonga reading the meter through one HEMS module's PTY."""

    def __init__(
        self, tty: str, route_b_id: str, password: Secret, interval_s: float = 0.5
    ) -> None:
        self.tty = tty
        self.phase = "starting"
        self.readings: dict[str, Reading] = {}
        self.announcements = 0
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._told: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(STORY_KEPT)
        self._settings = {"tty": tty, "route_b_id": route_b_id, "interval_s": interval_s}
        self._password = password

    async def run(self) -> None:
        """Run the process until cancelled; it is gone when this returns."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "meter_runtime.bench.hems_client",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "TZ": "JST-9"},
            start_new_session=True,  # a Ctrl-C in the terminal is the bench's, not the child's
        )
        try:
            await self._follow(process)
        finally:
            await _end(process)

    async def story(self) -> AsyncIterator[tuple[str, Any]]:
        """What the HEMS says, as it says it: phases, readings, announcements; one listener."""
        while True:
            yield await self._told.get()

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise RuntimeError("a subprocess opened with pipes has none")
        settings = {**self._settings, "password": self._password.reveal()}
        stdin.write(json.dumps(settings).encode() + b"\n")
        await stdin.drain()
        while line := await stdout.readline():
            self._take(json.loads(line))
        complaint = (await stderr.read()).decode(errors="replace").strip().splitlines()
        self.phase = f"ended: {complaint[-1] if complaint else 'without a word'}"

    def _take(self, message: dict[str, Any]) -> None:
        match message:
            case {"kind": "phase", "text": text}:
                self.phase = text
                self.log.append(text)
                self._tell("state", text)
            case {"kind": "reading", "name": name, "value": value}:
                self.readings[name] = Reading(value, time.monotonic())
                self._tell(name, value)
            case {"kind": "announcement", "codes": codes}:
                self.announcements += 1
                self.log.append(f"announced: {' '.join(codes)}")
                self._tell("announcement", " ".join(codes))
            case {"kind": "log", "text": text}:
                self.log.append(text)

    def _tell(self, name: str, value: Any) -> None:
        if not self._told.full():
            self._told.put_nowait((name, value))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
