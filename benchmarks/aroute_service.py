"""A meter with an A-route beside one without: import, memory, and what it costs to be connected.

Both are ``meter-runtime run`` as in :mod:`benchmarks.startup`, served by a home of their own, at
the same time; one of them is connected to a broker as well, by TLS where Mosquitto is installed.
Idle means: a home that has joined and is silent, a unit that is read each second, no boundary, no
command.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.collector_room import collector_room, mosquitto
from benchmarks.radio_room import radio_room
from benchmarks.row import Row
from benchmarks.startup import (
    TTY,
    configured,
    interpreter_ms,
    resident_mb,
    service,
    visit,
    while_alive,
)
from meter_runtime import control
from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.bench.laboratory import DEVICE_KEY
from meter_runtime.bench.options import BenchOptions
from meter_runtime.errors import MeterError
from meter_runtime.headend.lab import MDMS, Lab
from meter_runtime.headend.meter_files import aroute_section

IDLE_S = 60.0
IMPORTS = 9
CONNECTED_WITHIN_S = 30.0

_METER_ID = "BENCHMARK"
_BARE = "pass"
_WITHOUT = "import meter_runtime.runtime"
_WITH = f"{_WITHOUT}, meter_runtime.aroute_wiring, aiomqtt"
_LOOK_S = 0.2


def measure(idle_s: float = IDLE_S, imports: int = IMPORTS) -> list[Row]:
    """The import's median; memory after, and processor time during, ``idle_s`` of idling."""
    bare_ms, *imported_ms = (_run_ms(program, imports) for program in (_BARE, _WITHOUT, _WITH))
    without_ms, with_ms = (each - bare_ms for each in imported_ms)
    idle = asyncio.run(_side_by_side(idle_s))
    without_mb, with_mb = (memory_mb for memory_mb, _ in idle)
    without_cpu, with_cpu = (cpu_s / idle_s * 60e3 for _, cpu_s in idle)
    return [
        Row("import without an A-route", without_ms, "ms"),
        Row("import with one", with_ms, "ms"),
        Row("import: with : without", with_ms / without_ms, "x"),
        Row("memory without an A-route", without_mb, "MB"),
        Row("memory with one, connected", with_mb, "MB"),
        Row("memory: with : without", with_mb / without_mb, "x"),
        Row("idle without an A-route", without_cpu, "ms CPU/min"),
        Row("idle with one, connected", with_cpu, "ms CPU/min"),
        Row("idle: with : without", with_cpu / without_cpu, "x"),
    ]


def _run_ms(program: str, times: int) -> float:
    """From the interpreter's start to its end, after one that is not counted."""
    return statistics.median([interpreter_ms(program) for _ in range(times + 1)][1:])


async def _side_by_side(idle_s: float) -> list[tuple[float, float]]:
    """Memory, MB, and processor time, s, of the meter without and of the one with an A-route."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meter-benchmark-")))
        room = await stack.enter_async_context(collector_room(folder, mosquitto()))
        section = _section(room.lab)
        without = await stack.enter_async_context(_meter(folder / "without", ""))
        with_one = await stack.enter_async_context(_meter(folder / "with", section))
        await _connected(folder / "with" / "control.sock")
        pids = (without, with_one)
        before = [_cpu_s(pid) for pid in pids]
        await asyncio.sleep(idle_s)
        return [
            (resident_mb(pid), _cpu_s(pid) - begun) for pid, begun in zip(pids, before, strict=True)
        ]


@asynccontextmanager
async def _meter(directory: Path, more: str) -> AsyncIterator[int]:
    """A service whose home has joined; its process id."""
    configuration = configured(directory, more)
    async with (
        radio_room(directory / TTY, BenchOptions().credentials()) as home,
        service(configuration) as process,
    ):
        await while_alive(process, visit(home))
        yield process.pid


def _section(lab: Lab) -> str:
    meter = lab.enroll(_METER_ID, MeterIdentity.from_device_key(DEVICE_KEY).public)
    settings = lab.mqtt(MDMS, _METER_ID)
    values = {"url": lab.broker_url, "trust": str(meter.trust)}
    if settings.tls is not None:
        tls = meter.tls
        files = {"ca": tls.ca, "certificate": tls.certificate, "key": tls.key}
        values |= {name: str(path) for name, path in files.items()}
    if settings.username is not None and settings.password is not None:
        values |= {"username": settings.username, "password": settings.password.reveal()}
    return "\n" + aroute_section(values)


async def _connected(socket: Path) -> None:
    deadline = time.monotonic() + CONNECTED_WITHIN_S
    while True:
        status = await asyncio.to_thread(control.ask, socket, "status")
        if status["aroute"]["connected"] and not status["aroute"]["queued_events"]:
            return
        if time.monotonic() > deadline:
            raise MeterError("the meter did not come to the broker; what it says stands above")
        await asyncio.sleep(_LOOK_S)


def _cpu_s(pid: int) -> float:
    """Processor time of all threads that live, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
