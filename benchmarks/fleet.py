"""How quickly the collectors take and mark a half-hour of a thousand meters.

Each meter is a connection of its own to one Mosquitto, through the real bearer, by MQTT 5 without
TLS; two processes hold them, and each collector is a process, too. All meters publish the same
boundary at the same instant, as if they had no jitter: the worst half-hour there can be. A boundary
counts when its meter has the mark, so when it is on the disk. Meters, broker and collectors share
this machine: on one with few cores a figure is the whole district's and not the collectors' alone.
"""

import asyncio
import contextlib
import os
import random
import resource
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.row import Row
from meter_runtime.aroute.messages import Mark, Reading, Readings, Topics, decode, encode
from meter_runtime.comm.mqtt import MqttBearer, MqttSettings
from meter_runtime.errors import MeterError
from meter_runtime.headend.mdms import MAX_BATCH, Collector, subscriptions
from meter_runtime.headend.readings_store import FILE_NAME
from meter_runtime.headend.readings_view import ReadingsView

METERS = 1000
ROUNDS = 3
COLLECTORS = (1, 3)
METER_PROCESSES = 2
LAST_MARK_AIM_S = 2.0

_UTILITY = "kansai"
_HOST = "127.0.0.1"
_FIRST_SLOT = 990_000
_AT_ONCE = 25
"""Meters that connect at the same time."""
_PATIENCE_S = 120.0
_CONFIGURATION = """\
listener {port} {host}
allow_anonymous true
max_queued_messages 1000
persistence false
log_dest none
"""
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def measure(
    meters: int = METERS, rounds: int = ROUNDS, collectors: tuple[int, ...] = COLLECTORS
) -> list[Row]:
    """The same district with each number of collectors."""
    rows = []
    for number in collectors:
        with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
            rows += asyncio.run(_district(Path(folder), meters, rounds, number))
    return rows


async def _district(folder: Path, meters: int, rounds: int, number: int) -> list[Row]:
    port = _free_port()
    path = folder / FILE_NAME
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_broker(folder, port))
        collectors = [
            await stack.enter_async_context(_child("collect", port, path, f"collector-{each}"))
            for each in range(number)
        ]
        shares = [len(range(each, meters, METER_PROCESSES)) for each in range(METER_PROCESSES)]
        districts = [
            await stack.enter_async_context(_child("live", port, f"{each}x", share))
            for each, share in enumerate(shares)
        ]
        for child in (*collectors, *districts):
            await child.said()
        cpu_s = sum(child.cpu_s() for child in collectors)
        times = []
        for half_hour in range(1, rounds + 1):
            begun = time.monotonic()
            for child in districts:
                child.tell(_FIRST_SLOT + half_hour)
            times.append(max([await child.said() for child in districts]) - begun)
        cpu_s = sum(child.cpu_s() for child in collectors) - cpu_s
        memory = max(child.memory() for child in collectors)
    with ReadingsView(path) as view:
        assert len(view.readings(0, _FIRST_SLOT * 2)) == meters * rounds
    last = statistics.median(times)
    name = f"{number} collector{'s' if number > 1 else ''}"
    return [
        Row(f"{name}: until the last mark", last, "s", LAST_MARK_AIM_S),
        Row(f"{name}: half hours a second", meters / last, "1/s"),
        Row(f"{name}: CPU of all, each", cpu_s / rounds / meters * 1e3, "ms"),
        Row(f"{name}: memory of the largest", memory / 2**20, "MiB"),
    ]


@dataclass
class _Child:
    """A process of this module: it says a number when it is ready, and after each thing told."""

    process: asyncio.subprocess.Process

    def tell(self, number: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n".encode())

    async def said(self) -> float:
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return float(await self.process.stdout.readline())
        except (TimeoutError, ValueError):
            raise MeterError("fleet: a process of the benchmark failed; see above") from None

    def cpu_s(self) -> float:
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) * _TICK_S

    def memory(self) -> int:
        """The most that was resident, in bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return int(found["VmHWM"].split()[0]) * 1024


@asynccontextmanager
async def _child(*words: object) -> AsyncIterator[_Child]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, *map(str, words)),
        cwd=Path(__file__).parents[1],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield _Child(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def _broker(folder: Path, port: int) -> AsyncIterator[None]:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        raise MeterError("fleet needs mosquitto; install it: sudo apt-get install mosquitto")
    configuration = folder / "mosquitto.conf"
    configuration.write_text(_CONFIGURATION.format(port=port, host=_HOST))
    _more_descriptors()
    process = await asyncio.create_subprocess_exec(program, "-c", configuration)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _more_descriptors() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _bearer(port: int, client_id: str, *filters: str, max_queue: int = 16) -> MqttBearer:
    settings = MqttSettings(_HOST, port, client_id, protocol="5", session_expiry_s=0)
    return MqttBearer(settings, subscriptions=filters, rng=random.Random(), max_queue=max_queue)


async def _collect(port: int, path: Path, name: str) -> None:
    """A collector, until killed."""
    bearer = _bearer(port, name, *subscriptions(_UTILITY, shared=True), max_queue=MAX_BATCH)
    serving = asyncio.create_task(Collector(bearer, path, _UTILITY, name).run())
    await bearer.wait_connected()
    print(time.monotonic(), flush=True)
    await serving


async def _live(port: int, prefix: str, number: int) -> None:
    """Meters, until killed: each slot that is told on standard input they publish."""
    topics = [Topics(_UTILITY, f"{prefix}{each}") for each in range(number)]
    meters = [_bearer(port, each.meter_id, each.mark) for each in topics]
    serving = []
    for first in range(0, number, _AT_ONCE):
        some = meters[first : first + _AT_ONCE]
        serving += [asyncio.create_task(each.run()) for each in some]
        await asyncio.gather(*(each.wait_connected() for each in some))
    print(time.monotonic(), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        slot = int(line)
        await asyncio.gather(*map(_boundary, meters, topics, [slot] * number))
        print(time.monotonic(), flush=True)
    for task in serving:
        task.cancel()


async def _boundary(meter: MqttBearer, topics: Topics, slot: int) -> None:
    """Publish one half-hour and wait for its mark."""
    message = Readings(
        meter_id=topics.meter_id,
        unit="U",
        sequence=slot,
        after=slot - 1,
        upto=slot,
        readings=(Reading(slot, slot, 0, 0),),
        sent_at=time.time(),
    )
    assert await meter.publish(topics.readings, encode(message), timeout_s=_PATIENCE_S)
    while decode((await meter.receive()).payload, Mark).upto < slot:
        pass


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["collect", port, path, name]:
            asyncio.run(_collect(int(port), Path(path), name))
        case ["live", port, prefix, number]:
            _more_descriptors()
            asyncio.run(_live(int(port), prefix, int(number)))
