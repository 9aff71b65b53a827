"""How fast ``meter-runtime run`` is there, and how much memory it takes.

The firmware service as a process of its own, started with a configuration file and a new state
directory against a serial device. At the other end are a module and a home that scans, both
without any waiting of their own: no radio time, no UART time is in the figures. On real air two
scans of the meter's own come before its first beacon, some 22 s.
"""

import asyncio
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.echonet import get
from benchmarks.radio_room import Home, radio_room
from benchmarks.row import Row
from meter_runtime.bench.laboratory import DEVICE_KEY
from meter_runtime.bench.options import BenchOptions
from meter_runtime.errors import MeterError

T = TypeVar("T")

RUNS = 9
BEACON_AIM_MS = 600.0
MEMORY_AIM_MB = 48.0
SERVES_WITHIN_S = 30.0
ENDS_WITHIN_S = 10.0

_ROOT = Path(__file__).parents[1]
TTY = "module"
_BARE = "pass"
_IMPORT = "import meter_runtime.runtime"

_CONFIGURATION = """\
[meter]
id = "BENCHMARK"

[units.metering]
driver = "simulated"
[storage]
state_dir = "{directory}/state"
device_key_file = "device.key"

[clock]
rtc = "none"

[control]
path = "{directory}/control.sock"

[units.communication]
port = "serial:{tty}"

[broute]
id = "{route_b_id}"
password = "{password}"

[log]
level = "warning"
"""


@dataclass(frozen=True, slots=True)
class Start:
    """One start of the service, seen from outside."""

    beacon_ms: float
    """From the process's start to the first beacon that answers a scan."""
    answer_ms: float
    """To the first value the home got, its join included."""
    memory_mb: float
    """Resident set after that answer, shared pages included."""


def measure(runs: int = RUNS) -> list[Row]:
    """Median over ``runs`` starts, after one that is not counted."""
    imports = [_import_ms() for _ in range(runs + 1)][1:]
    starts = [asyncio.run(_start()) for _ in range(runs + 1)][1:]
    median = statistics.median
    return [
        Row("import meter_runtime.runtime", median(imports), "ms"),
        Row("run: first beacon", median(start.beacon_ms for start in starts), "ms", BEACON_AIM_MS),
        Row("run: first answer", median(start.answer_ms for start in starts), "ms"),
        Row(
            "run: memory while serving",
            median(start.memory_mb for start in starts),
            "MB",
            MEMORY_AIM_MB,
        ),
    ]


def _import_ms() -> float:
    """What the import adds to an interpreter that starts and ends."""
    return interpreter_ms(_IMPORT) - interpreter_ms(_BARE)


def interpreter_ms(program: str) -> float:
    """How long an interpreter takes that does nothing but this."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], cwd=_ROOT, check=True)  # noqa: S603 - ours
    return (time.perf_counter() - began) * 1e3


async def _start() -> Start:
    credentials = BenchOptions().credentials()
    with tempfile.TemporaryDirectory(prefix="meter-benchmark-") as scratch:
        configuration = configured(Path(scratch))
        async with radio_room(configuration.with_name(TTY), credentials) as home:
            began = time.perf_counter()
            async with service(configuration) as process:
                beacon_at, answer_at = await while_alive(process, visit(home))
                memory_mb = resident_mb(process.pid)
    return Start((beacon_at - began) * 1e3, (answer_at - began) * 1e3, memory_mb)


def configured(directory: Path, more: str = "") -> Path:
    """The configuration file of a service that has everything in ``directory``, which is made.

    ``more`` stands at the file's end.
    """
    directory.mkdir(exist_ok=True)
    credentials = BenchOptions().credentials()
    configuration, key = directory / "meter.toml", directory / "device.key"
    for private in (configuration, key):
        private.touch(mode=0o600)
    key.write_text(DEVICE_KEY.hex())
    text = _CONFIGURATION.format(
        directory=directory,
        tty=directory / TTY,
        route_b_id=credentials.route_b_id,
        password=credentials.password.reveal(),
    )
    configuration.write_text(text + more)
    return configuration


@asynccontextmanager
async def service(configuration: Path) -> AsyncIterator[Process]:
    """``meter-runtime run`` on this file; afterwards it has ended in good order, or MeterError."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meter_runtime", "run", "--config", str(configuration)),
        cwd=_ROOT,
    )
    try:
        yield process
    finally:
        await _end(process)
    if process.returncode != 0:
        raise MeterError("the service did not end in good order; what it says stands above")


async def visit(home: Home) -> tuple[float, float]:
    """Find the meter, join, ask; when its beacon and its answer came."""
    meter = await home.find()
    beacon_at = time.perf_counter()
    await home.join(meter)
    await home.ask(meter, get(0xE7))
    answer_at = time.perf_counter()
    return beacon_at, answer_at


async def while_alive(process: Process, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; MeterError when the process ends before it, or neither ever does."""
    doing, ended = asyncio.create_task(work), asyncio.create_task(process.wait())
    try:
        await asyncio.wait(
            (doing, ended), timeout=SERVES_WITHIN_S, return_when=asyncio.FIRST_COMPLETED
        )
        if not doing.done():
            raise MeterError(
                f"the service {'ended' if ended.done() else 'did not serve'};"
                " what it says stands above"
            )
        return doing.result()
    finally:
        doing.cancel()
        ended.cancel()


def resident_mb(pid: int) -> float:
    """What is resident of a process, 10^6 bytes, shared pages included."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0]) * 1024 / 1e6
    raise RuntimeError(f"/proc/{pid}/status has no VmRSS")


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(ENDS_WITHIN_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
