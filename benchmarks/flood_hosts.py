"""The programs around a flood: ``room``, what stands around the meter, and ``meter``, the meter.

The room is two modules and the air between them, each module behind a serial device. The meter is
what ``meter-runtime run`` builds, with two things of its own: its wall clock is ahead by a given
time, so that a half-hour boundary comes when it is wanted, and its unit notes when it is read. It
says ``connected``, then answers two lines on standard input by what it saw between them.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.startup import resident_mb
from meter_runtime import config, runtime
from meter_runtime.bench.air import FAST, Air
from meter_runtime.bench.load import LoadModel
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.port import ModulePort
from meter_runtime.bench.module.profiles import parse_module_option
from meter_runtime.clock import Timer, slot_start
from meter_runtime.comm.ports import open_port
from meter_runtime.device_key import load_device_key
from meter_runtime.kernel_time import KernelTime
from meter_runtime.metrology.events import BoundaryStored
from meter_runtime.system_clock import SystemClock
from meter_runtime.units.board_profiles import GENERIC
from meter_runtime.units.contracts import MeteringUnit, Nameplate, Sample, UnitKind
from meter_runtime.units.metering.simulated import SimulatedMeteringUnit
from meter_runtime.units.real_board import open_board

_MODULE = "bp35a1:echo=0,pace=0ms"
_PLATE = Nameplate(UnitKind.METERING, "simulated", "S000000001")
_LOOK_S = 0.01
_PROBE_S = (0.005, 0.015)
"""Drawn anew each time: the loop rounds up to its poll's full milliseconds, and how much that is
must not depend on what else makes it poll."""
_REQUESTS = ("answered", "refused", "rx_over_limit", "rx_overtaken", "rx_dropped")
_EARLY = 0.9
"""Of a second: who reads so late in it has woken too early for the next."""


@dataclass(slots=True)
class Seen:
    """What the meter saw of itself: times in ms, memory in 10^6 bytes."""

    reads_ms: list[float] = field(default_factory=list)
    """How long after each full second the unit was read."""
    timers_ms: list[float] = field(default_factory=list)
    boundaries_ms: list[float] = field(default_factory=list)
    """From a half-hour boundary until its value was on the medium."""
    requests: int = 0
    """What came to the B-route, whatever became of it."""
    took_s: float = 0.0
    cpu_s: float = 0.0
    memory_mb: float = 0.0
    grown_mb: float = 0.0


async def room(devices: list[str]) -> None:
    """A module behind each of these devices, without airtime or thinking time, until killed."""
    clock = SystemClock()
    air = Air(clock, random.Random("air"), FAST)
    async with AsyncExitStack() as opened, asyncio.TaskGroup() as powered:
        for number, device in enumerate(devices, start=1):
            mac = bytes.fromhex("024D5400000000") + bytes([number])
            options = parse_module_option(_MODULE)
            module = VirtualModule(options, mac, random.Random(device), air.pace)
            port = await open_port(f"pty:{device}")
            opened.push_async_callback(port.close)
            powered.create_task(ModulePort(module, port, air, clock).run())
        await asyncio.sleep(0)  # the modules' first turn puts them on the air
        print("ready", flush=True)


class _Ahead:
    """The host's clocks, the wall clock ahead by ``by_s``."""

    def __init__(self, by_s: float) -> None:
        self._kernel = KernelTime()
        self._by_s = by_s

    def monotonic(self) -> float:
        return self._kernel.monotonic()

    def read(self) -> tuple[float, float]:
        monotonic, wall = self._kernel.read()
        return monotonic, wall + self._by_s

    def synchronised(self) -> bool:
        return True

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        return self._kernel.call_at(when, callback)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._kernel.watch(callback)


class _Watched:
    """A metering unit that notes how late in its second it is read."""

    def __init__(self, unit: MeteringUnit, clock: SystemClock) -> None:
        self._unit = unit
        self._clock = clock
        self.reads_ms: list[float] = []
        self.nameplate = unit.nameplate
        self.keeps_registers = unit.keeps_registers

    async def read(self) -> Sample:
        late_s = self._clock.wall() % 1.0
        if late_s < _EARLY:
            self.reads_ms.append(late_s * 1e3)
        return await self._unit.read()

    async def self_test(self) -> list[str]:
        return await self._unit.self_test()

    async def close(self) -> None:
        await self._unit.close()


async def meter(configuration: Path, ahead_s: float) -> None:
    """A meter that is watched from one line on standard input to the next; then it ends."""
    settings = config.load(configuration)
    async with AsyncExitStack() as opened:
        board = open_board(GENERIC)
        opened.callback(board.close)
        clock = SystemClock(host=_Ahead(ahead_s))
        opened.callback(clock.close)
        stores = runtime.open_stores(settings)
        opened.callback(stores.close)
        clock.start(runtime.persisted_time(stores))
        simulated = SimulatedMeteringUnit(clock, LoadModel(1, 4.0), _PLATE, clock.wall())
        unit = _Watched(simulated, clock)
        key = load_device_key(settings.storage.device_key_file)
        built = await runtime.build(settings, stores, clock, key, board=board, metering_unit=unit)
        opened.push_async_callback(built.close)
        running = asyncio.create_task(built.run())
        assert built.aroute is not None
        while not built.aroute.report()["connected"]:  # noqa: ASYNC110 - it sets no event of ours
            await asyncio.sleep(_LOOK_S)
        print("connected", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        seen = await _watch(built, unit)
        print(json.dumps(asdict(seen)), flush=True)
        built.stop()
        await running


async def _watch(built: runtime.Meter, unit: _Watched) -> Seen:
    """What is seen until the next line on standard input."""
    seen = Seen()

    def stored(event: BoundaryStored) -> None:
        seen.boundaries_ms.append((built.clock.wall() - slot_start(event.slot)) * 1e3)

    async def probe() -> None:
        rng = random.Random("probe")
        while True:
            wait_s = rng.uniform(*_PROBE_S)
            due = time.perf_counter() + wait_s
            await asyncio.sleep(wait_s)
            seen.timers_ms.append((time.perf_counter() - due) * 1e3)

    def requests() -> int:
        assert built.broute is not None
        counters = built.broute.report()["counters"]
        return sum(counters[name] for name in _REQUESTS)

    forget = built.bus.subscribe(BoundaryStored, stored)
    unit.reads_ms, before = seen.reads_ms, requests()
    begun_s, begun_mb = time.perf_counter(), resident_mb(os.getpid())
    begun_cpu_s = time.process_time()
    probing = asyncio.create_task(probe())
    await asyncio.to_thread(sys.stdin.readline)
    probing.cancel()
    unit.reads_ms = []
    forget()
    seen.requests = requests() - before
    seen.cpu_s = time.process_time() - begun_cpu_s
    seen.took_s = time.perf_counter() - begun_s
    seen.memory_mb = resident_mb(os.getpid())
    seen.grown_mb = seen.memory_mb - begun_mb
    return seen


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["room", *devices]:
            asyncio.run(room(devices))
        case ["meter", configuration, ahead_s]:
            asyncio.run(meter(Path(configuration), float(ahead_s)))
