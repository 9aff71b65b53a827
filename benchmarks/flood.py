"""What a home that asks far too often costs the meter, beside one that asks once a second.

A whole bench lives in this process: meter, both radio modules, the air without airtime, and the
utility's broker. The home is a process of its own that hands its module requests without waiting
for answers; the pseudo-terminals in between have no bit rate. Quiet and flooded minutes take turns,
each around a half-hour boundary; in both the utility reads the registers again and again over MQTT.

How late a timer wakes up is what everything in the meter that waits for a moment would feel, the
reading of the metering unit at each second first of all.
"""

import asyncio
import contextlib
import json
import os
import random
import secrets
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.row import Row
from meter_runtime.aroute import results
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.dispatch import Dispatch, Way, wrap
from meter_runtime.aroute.envelope import COMMAND_ID_SIZE, Command, seal
from meter_runtime.aroute.messages import Topics
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.scripted_hems import PASSWORD_VARIABLE
from meter_runtime.clock import HALF_HOUR_S, slot_start
from meter_runtime.comm.mqtt import MqttBearer
from meter_runtime.errors import MeterError
from meter_runtime.headend.lab import SCS
from meter_runtime.metrology.events import BoundaryStored

SECONDS = 60
PAIRS = 2
QUIET, FLOODED = 1.0, 500.0
"""Requests a second."""

_LEAD_S = 3.0
_PROBE_S = 0.01
_BETWEEN_COMMANDS_S = 0.1
_PATIENCE_S = 20.0
_VALID_S = 3600
_MODULE = "bp35a1:echo=0,pace=0ms"

Counted = Callable[[], Coroutine[None, None, tuple[int, int]]]


@dataclass
class _Minute:
    """What was seen of one flood, or of a quiet minute."""

    stored_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    command_ms: list[float] = field(default_factory=list)
    answered: int = 0
    cpu_s: float = 0.0
    grown_mb: float = 0.0


def measure(seconds: int = SECONDS, pairs: int = PAIRS) -> list[Row]:
    """Medians over both kinds of minutes, and the one as a multiple of the other."""
    quiet, flooded = asyncio.run(_measure(seconds, pairs))
    rows = []
    for name, unit, figure in _FIGURES:
        of_quiet = statistics.median(figure(minute) for minute in quiet)
        of_flooded = statistics.median(figure(minute) for minute in flooded)
        rows += [
            Row(f"{name}, quiet", of_quiet, unit),
            Row(f"{name}, flooded", of_flooded, unit),
            Row(f"{name}: flooded/quiet", of_flooded / of_quiet, "x"),
        ]
    answered = statistics.median(minute.answered for minute in flooded) / seconds
    cpu = statistics.median(minute.cpu_s for minute in flooded) / seconds
    grown = max(minute.grown_mb for minute in flooded[1:] or flooded)
    return [
        *rows,
        Row("requests answered, flooded", answered, "1/s"),
        Row("CPU of the bench, flooded", cpu * 100, "% of a core"),
        Row("memory after a later flood", max(0.0, grown), "MB more"),
    ]


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


_FIGURES: tuple[tuple[str, str, Callable[[_Minute], float]], ...] = (
    ("boundary stored", "ms", lambda minute: max(minute.stored_ms)),
    ("timer late, 99 %", "ms", lambda minute: _p99(minute.late_ms)),
    ("late, worst", "ms", lambda minute: max(minute.late_ms)),
    ("register.read", "ms", lambda minute: statistics.median(minute.command_ms)),
    ("read, worst", "ms", lambda minute: max(minute.command_ms)),
)


async def _measure(seconds: int, pairs: int) -> tuple[list[_Minute], list[_Minute]]:
    quiet, flooded = [], []
    options = BenchOptions(hems_modules=(_MODULE,), meter_module=_MODULE)
    async with Bench(options) as bench, _control_side(bench) as utility:
        for _ in range(pairs):
            quiet.append(await _minute(bench, utility, QUIET, seconds))
            flooded.append(await _minute(bench, utility, FLOODED, seconds))
    return quiet, flooded


async def _minute(bench: Bench, utility: "_Utility", rate: float, seconds: int) -> _Minute:
    seen, clock = _Minute(), bench.clock
    await bench.advance(HALF_HOUR_S - clock.wall() % HALF_HOUR_S - _LEAD_S)

    def stored(event: BoundaryStored) -> None:
        seen.stored_ms.append((clock.wall() - slot_start(event.slot)) * 1e3)

    forget = bench.meter.bus.subscribe(BoundaryStored, stored)
    async with _home(bench, rate, seconds) as counted:
        cpu_s, memory_mb = time.process_time(), _resident_mb()
        probing = asyncio.create_task(_probe(seen.late_ms))
        counting = asyncio.create_task(counted())
        while not counting.done():
            begun = time.perf_counter()
            await utility.read_registers()
            seen.command_ms.append((time.perf_counter() - begun) * 1e3)
            await asyncio.sleep(_BETWEEN_COMMANDS_S)
        probing.cancel()
        seen.cpu_s = time.process_time() - cpu_s
        seen.grown_mb = _resident_mb() - memory_mb
        sent, seen.answered = await counting
    forget()
    if sent < 0.9 * rate * seconds or not seen.stored_ms:
        raise MeterError(f"flood: the home asked {sent} times in {seconds} s; use another machine")
    return seen


async def _probe(late_ms: list[float]) -> None:
    while True:
        due = time.perf_counter() + _PROBE_S
        await asyncio.sleep(_PROBE_S)
        late_ms.append((time.perf_counter() - due) * 1e3)


@asynccontextmanager
async def _home(bench: Bench, rate: float, seconds: int) -> AsyncIterator[Counted]:
    """A home that has joined and asks; what is called in the end gives sent and answered."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meter_runtime.bench.hems_flood", bench.tty, bench.route_b_id),
        *("--rate", f"{rate:g}", "--seconds", str(seconds), "--read", "E7,E2"),
        cwd=Path(__file__).parents[1],
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, PASSWORD_VARIABLE: bench.password},
    )
    assert process.stdout is not None
    out = process.stdout

    async def line(within_s: float) -> str:
        async with asyncio.timeout(within_s):
            return (await out.readline()).decode()

    async def counted() -> tuple[int, int]:
        told = await line(seconds + _PATIENCE_S)
        if not told.startswith("flooded "):
            raise MeterError(f"flood: the home gave up: {told.strip() or 'without a word'}")
        document = json.loads(told.removeprefix("flooded "))
        return document["sent"], document["answered"]

    try:
        if await line(_PATIENCE_S) != "joined\n":
            raise MeterError("flood: the home did not join")
        yield counted
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class _Utility:
    """The control side: one command at a time, its answer verified."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._lab = bench.utility.lab
        self._meter_id = bench.options.meter_id
        self._topics = Topics(self._lab.utility, self._meter_id)
        self._keys = self._lab.meter_keys(self._meter_id)
        self._counter = 0
        settings = self._lab.mqtt(SCS, "control side")
        self.bearer = MqttBearer(
            settings, subscriptions=(self._topics.results,), rng=random.Random(1)
        )

    async def read_registers(self) -> None:
        self._counter += 1
        command_id, now = secrets.token_bytes(COMMAND_ID_SIZE), self._bench.clock.wall()
        command = Command(
            name="register.read",
            meter_id=self._meter_id,
            command_id=command_id,
            issuer=SCS,
            counter=self._counter,
            not_before=int(now) - 300,
            expiry=int(now) + _VALID_S,
            arguments={},
            reason="",
        )
        envelope = seal(command, self._lab.issuer_key(SCS, self._meter_id), self._keys.sealing)
        dispatch = Dispatch(SCS, Way.CONTROL, now, "", "", envelope)
        message = wrap(dispatch, self._lab.signing_key(SCS))
        async with asyncio.timeout(_PATIENCE_S):
            assert await self.bearer.publish(self._topics.command(command_id), message)
            answer = await self.bearer.receive()
        result = results.read(answer.payload, self._keys.signing)
        assert (result.command_id, result.code) == (command_id, Code.OK)


@asynccontextmanager
async def _control_side(bench: Bench) -> AsyncIterator[_Utility]:
    utility = _Utility(bench)
    serving = asyncio.create_task(utility.bearer.run())
    try:
        await utility.bearer.wait_connected()
        async with asyncio.timeout(_PATIENCE_S):
            # The first answer comes once the meter is connected, too.
            while not bench.status()["aroute"]["connected"]:  # noqa: ASYNC110 - it sets no event of ours
                await asyncio.sleep(_PROBE_S)
        await utility.read_registers()
        yield utility
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
