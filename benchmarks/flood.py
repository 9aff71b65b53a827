"""What a home that asks far too often costs the meter, beside one that asks once a second.

The meter is a process of its own and nothing else is in it: the two radio modules and the air are a
second one, the home a third, the broker a fourth where Mosquitto is installed; the utility and its
collector are here. The home hands its module requests without waiting for answers, and the
pseudo-terminals in between have no bit rate, so that all of them reach the meter.

Where the machine has several cores the meter has one to itself, and room and home yield to broker
and utility on the others. What is left of a flood in the figures is the meter's, not the room's.

Quiet and flooded minutes take turns, each with a new meter and a half-hour boundary in its middle.
In both the utility reads the registers again and again over MQTT.
"""

import asyncio
import contextlib
import json
import os
import random
import secrets
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.collector_room import collector_room, mosquitto
from benchmarks.flood_hosts import Seen
from benchmarks.row import Row
from benchmarks.startup import TTY, configured
from meter_runtime.aroute import results
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.dispatch import Dispatch, Way, wrap
from meter_runtime.aroute.envelope import COMMAND_ID_SIZE, Command, seal
from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.aroute.messages import Topics
from meter_runtime.bench.laboratory import DEVICE_KEY
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.scripted_hems import PASSWORD_VARIABLE
from meter_runtime.clock import HALF_HOUR_S
from meter_runtime.comm.mqtt import MqttBearer
from meter_runtime.errors import MeterError
from meter_runtime.headend.lab import SCS, Lab

SECONDS = 60
PAIRS = 2
QUIET, FLOODED = 1.0, 500.0
"""Requests a second."""

_METER_ID = "BENCHMARK"
_START_S = 4.0
"""About what it takes until the home asks; the boundary comes so much later."""
_BETWEEN_COMMANDS_S = 0.1
_PATIENCE_S = 20.0
_VALID_S = 600
_YIELDING = 10
"""Niceness of room and home."""

_LINE_LIMIT = 2**20


@dataclass(slots=True)
class _Minute:
    """What was seen of one flood, or of a quiet minute."""

    meter: Seen = field(default_factory=Seen)
    command_ms: list[float] = field(default_factory=list)
    answered: int = 0


def measure(seconds: int = SECONDS, pairs: int = PAIRS) -> list[Row]:
    """Medians over both kinds of minutes, and the one as a multiple of the other, pair by pair."""
    quiet, flooded = [], []
    with _beside_the_meter() as core:
        for _ in range(pairs):
            quiet.append(asyncio.run(_minute(QUIET, seconds, core)))
            flooded.append(asyncio.run(_minute(FLOODED, seconds, core)))
    rows = []
    for name, unit, figure in _FIGURES:
        in_quiet, in_flood = [*map(figure, quiet)], [*map(figure, flooded)]
        rows += [
            Row(f"{name}, quiet", statistics.median(in_quiet), unit),
            Row(f"{name}, flooded", statistics.median(in_flood), unit),
        ]
        for number, (calm, rough) in enumerate(zip(in_quiet, in_flood, strict=True), start=1):
            rows.append(Row(f"{name}: pair {number}", rough / calm, "x"))
    arrived = _median(lambda minute: minute.meter.requests, flooded)
    answered = _median(lambda minute: minute.answered, flooded)
    return [
        *rows,
        Row("requests at the meter, flooded", arrived / seconds, "1/s"),
        Row("answers, flooded", answered / seconds, "1/s"),
        Row("meter's CPU, quiet", _median(_cpu, quiet), "% of a core"),
        Row("meter's CPU, flooded", _median(_cpu, flooded), "% of a core"),
        Row("meter's memory, flooded", max(each.meter.memory_mb for each in flooded), "MB"),
        Row("meter grew, quiet", max(each.meter.grown_mb for each in quiet), "MB"),
        Row("meter grew, flooded", max(each.meter.grown_mb for each in flooded), "MB"),
    ]


def _median(figure: Callable[[_Minute], float], minutes: list[_Minute]) -> float:
    return statistics.median(map(figure, minutes))


def _cpu(minute: _Minute) -> float:
    return minute.meter.cpu_s / minute.meter.took_s * 100


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


_FIGURES: tuple[tuple[str, str, Callable[[_Minute], float]], ...] = (
    ("boundary stored", "ms", lambda minute: max(minute.meter.boundaries_ms)),
    ("unit read late", "ms", lambda minute: statistics.median(minute.meter.reads_ms)),
    ("unit read late, worst", "ms", lambda minute: max(minute.meter.reads_ms)),
    ("timer late", "ms", lambda minute: statistics.median(minute.meter.timers_ms)),
    ("timer late, 99 %", "ms", lambda minute: _p99(minute.meter.timers_ms)),
    ("register.read", "ms", lambda minute: statistics.median(minute.command_ms)),
    ("register.read, 99 %", "ms", lambda minute: _p99(minute.command_ms)),
)


@contextmanager
def _beside_the_meter() -> Iterator[int | None]:
    """The core that is left to the meter, and this process with what it starts on the others."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        yield None
        return
    core = min(allowed)
    os.sched_setaffinity(0, allowed - {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, allowed)


async def _minute(rate: float, seconds: int, core: int | None) -> _Minute:
    seen, started = _Minute(), time.time()
    boundary = started + _START_S + seconds / 2
    ahead_s = HALF_HOUR_S - boundary % HALF_HOUR_S
    with tempfile.TemporaryDirectory(prefix="meter-benchmark-") as scratch:
        folder = Path(scratch)
        async with collector_room(folder, mosquitto()) as collected:
            keys = MeterIdentity.from_device_key(DEVICE_KEY).public
            section = collected.lab.enroll(_METER_ID, keys).section
            configuration = configured(folder / "meter", "\n" + section)
            home_tty = folder / "home"
            async with (
                _room(configuration.with_name(TTY), home_tty),
                _meter(configuration, ahead_s, core) as meter,
                _control_side(collected.lab, ahead_s) as utility,
                _home(home_tty, rate, seconds) as home,
            ):
                _tell(meter)
                counting = asyncio.create_task(_counted(home, seconds))
                while not counting.done():
                    seen.command_ms.append(await utility.read_registers())
                    await asyncio.sleep(_BETWEEN_COMMANDS_S)
                sent, seen.answered = await counting
                _tell(meter)
                seen.meter = Seen(**json.loads(await _line(meter, _PATIENCE_S)))
    if sent < 0.9 * rate * seconds or not seen.meter.boundaries_ms:
        raise MeterError(f"flood: the home asked {sent} times in {seconds} s; use another machine")
    return seen


@asynccontextmanager
async def _started(*words: str, core: int | None = None, nice: int = 0) -> AsyncIterator[Process]:
    """A Python program with a line in and lines out; it is killed afterwards."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *words),
        cwd=Path(__file__).parents[1],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
        env={**os.environ, PASSWORD_VARIABLE: BenchOptions().credentials().password.reveal()},
    )
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        if nice:
            os.setpriority(os.PRIO_PROCESS, process.pid, nice)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _tell(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")


async def _line(process: Process, within_s: float) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(within_s):
        return (await process.stdout.readline()).decode()


async def _expect(process: Process, word: str) -> None:
    if (told := (await _line(process, _PATIENCE_S)).strip()) != word:
        raise MeterError(f'flood: waited for "{word}" and was told "{told}"; see above')


@asynccontextmanager
async def _room(meter_tty: Path, home_tty: Path) -> AsyncIterator[None]:
    devices = (str(meter_tty), str(home_tty))
    async with _started("benchmarks.flood_hosts", "room", *devices, nice=_YIELDING) as process:
        await _expect(process, "ready")
        yield


@asynccontextmanager
async def _meter(configuration: Path, ahead_s: float, core: int | None) -> AsyncIterator[Process]:
    words = ("benchmarks.flood_hosts", "meter", str(configuration), str(ahead_s))
    async with _started(*words, core=core) as process:
        await _expect(process, "connected")
        yield process


@asynccontextmanager
async def _home(tty: Path, rate: float, seconds: int) -> AsyncIterator[Process]:
    """A home that has joined and asks."""
    words = ("meter_runtime.bench.hems_flood", str(tty), BenchOptions().credentials().route_b_id)
    asked = ("--rate", f"{rate:g}", "--seconds", str(seconds), "--read", "E7,E2")
    async with _started(*words, *asked, nice=_YIELDING) as process:
        await _expect(process, "joined")
        yield process


async def _counted(home: Process, seconds: int) -> tuple[int, int]:
    """How often the home asked, and was answered, once it is through."""
    told = await _line(home, seconds + _PATIENCE_S)
    if not told.startswith("flooded "):
        raise MeterError(f"flood: the home gave up: {told.strip() or 'without a word'}")
    document = json.loads(told.removeprefix("flooded "))
    return document["sent"], document["answered"]


class _Utility:
    """The control side: one command at a time, its answer verified."""

    def __init__(self, lab: Lab, ahead_s: float) -> None:
        self._lab = lab
        self._ahead_s = ahead_s
        self._topics = Topics(lab.utility, _METER_ID)
        self._keys = lab.meter_keys(_METER_ID)
        self._issuer_key = lab.issuer_key(SCS, _METER_ID)
        self._carrier_key = lab.signing_key(SCS)
        self._counter = 0
        self.bearer = MqttBearer(
            lab.mqtt(SCS, "control side"),
            subscriptions=(self._topics.results,),
            rng=random.Random(1),
        )

    async def read_registers(self) -> float:
        """How long it takes from the command's publishing until the result is here, ms."""
        self._counter += 1
        command_id, now = secrets.token_bytes(COMMAND_ID_SIZE), time.time() + self._ahead_s
        command = Command(
            name="register.read",
            meter_id=_METER_ID,
            command_id=command_id,
            issuer=SCS,
            counter=self._counter,
            not_before=int(now) - _VALID_S,
            expiry=int(now) + _VALID_S,
            arguments={},
            reason="",
        )
        envelope = seal(command, self._issuer_key, self._keys.sealing)
        message = wrap(Dispatch(SCS, Way.CONTROL, now, "", "", envelope), self._carrier_key)
        begun = time.perf_counter()
        async with asyncio.timeout(_PATIENCE_S):
            assert await self.bearer.publish(self._topics.command(command_id), message)
            answer = await self.bearer.receive()
        took_s = time.perf_counter() - begun
        result = results.read(answer.payload, self._keys.signing)
        assert (result.command_id, result.code) == (command_id, Code.OK)
        return took_s * 1e3


@asynccontextmanager
async def _control_side(lab: Lab, ahead_s: float) -> AsyncIterator[_Utility]:
    utility = _Utility(lab, ahead_s)
    serving = asyncio.create_task(utility.bearer.run())
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await utility.bearer.wait_connected()
        await utility.read_registers()
        yield utility
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
