"""What a half-hour costs on its way to the utility, from its storing to the collector's mark.

The meter's side (metering on files, uplink, service, bearer) is a process of its own, and its time
is moved from boundary to boundary; counted is the processor time of that process from the moment
that the boundary is stored until its mark has been dealt with. Broker, collector and a tap that
counts what crosses the connection, TCP's own share left out, are in the process that asks.
"""

import asyncio
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.collector_room import HOST, collector_room, mosquitto
from benchmarks.row import Row
from meter_runtime.aroute.dispatch import Way
from meter_runtime.aroute.events import Events
from meter_runtime.aroute.history import UnitHistory
from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.aroute.messages import Birth, Topics
from meter_runtime.aroute.service import ARouteService, subscriptions, will
from meter_runtime.aroute.uplink import Uplink
from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.laboratory import DEVICE_KEY
from meter_runtime.bench.load import LoadModel
from meter_runtime.clock import HALF_HOUR_S, slot_at
from meter_runtime.comm.mqtt import MqttBearer, Received
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.headend.lab import MDMS, Lab
from meter_runtime.headend.readings_view import ReadingsView
from meter_runtime.metrology.events import BoundaryStored
from meter_runtime.metrology.service import MeteringService
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import LOAD_PROFILE_DEPTH, Ring
from meter_runtime.storage.stores import open_file_stores
from meter_runtime.storage.uplink_state import UplinkStateStore
from meter_runtime.units.contracts import Nameplate, UnitKind
from meter_runtime.units.metering.simulated import SimulatedMeteringUnit

READINGS = 100

_METER_ID = "BENCHMARK"
_START = 1_790_001_000.0
"""In the middle of a half-hour."""
_PLATE = Nameplate(UnitKind.METERING, "simulated", "S000000001")
_PATIENCE_S = 30.0
_LINGER_S = 0.2
"""What acknowledges the last mark is on its way."""


def measure(readings: int = READINGS) -> list[Row]:
    """Through the bench's own broker; and through Mosquitto, where it is installed."""
    rows = _rows("bench's broker", readings, None)
    program = mosquitto()
    return rows if program is None else rows + _rows("Mosquitto, TLS", readings, program)


def _rows(name: str, readings: int, broker: str | None) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="meter-benchmark-") as folder:
        cpu_s, took_s, octets = asyncio.run(_collected(Path(folder), readings, broker))
    return [
        Row(f"{name}: meter's CPU", cpu_s * 1e3, "ms/half hour"),
        Row(f"{name}: until the mark", took_s * 1e3, "ms"),
        Row(f"{name}: on the wire", octets, "bytes/half hour"),
    ]


async def _collected(folder: Path, readings: int, broker: str | None) -> tuple[float, float, float]:
    """Medians of processor time and time, s, and the mean of the bytes in both directions."""
    async with collector_room(folder, broker) as room:
        room.lab.enroll(_METER_ID, MeterIdentity.from_device_key(DEVICE_KEY).public)
        port = room.lab.mqtt(MDMS, _METER_ID).port
        async with _tap(port) as tap, _meter(room.lab.path, tap.port, folder) as live:
            await live()  # the first is told with everything that a new connection says
            await asyncio.sleep(_LINGER_S)
            before = tap.octets
            lived = [await live() for _ in range(readings)]
            await asyncio.sleep(_LINGER_S)
            octets = tap.octets - before
        with ReadingsView(room.store) as view:
            stored = view.readings(0, slot_at(_START) + readings + 2)
    assert len(stored) == readings + 1
    cpu_s, took_s = zip(*lived, strict=True)
    return statistics.median(cpu_s), statistics.median(took_s), octets / readings


class _Tap:
    """Between meter and broker; ``octets`` is all that has crossed, both ways."""

    def __init__(self, port: int) -> None:
        self._broker = port
        self.octets = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection(HOST, self._broker)
        await asyncio.gather(self._carry(reader, to_broker), self._carry(from_broker, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while octets := await reader.read(65_536):
                self.octets += len(octets)
                writer.write(octets)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def _tap(port: int) -> AsyncIterator[_Tap]:
    tap = _Tap(port)
    server = await asyncio.start_server(tap.serve, HOST)
    tap.port = server.sockets[0].getsockname()[1]
    try:
        yield tap
    finally:
        server.close()


Live = Callable[[], "asyncio.Future[tuple[float, float]]"]


@asynccontextmanager
async def _meter(lab: Path, port: int, folder: Path) -> AsyncIterator[Live]:
    """The meter's process; each call is one half-hour, its CPU time and its time in s."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, str(lab), str(port), str(folder / "state")),
        cwd=Path(__file__).parents[1],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )

    async def live() -> tuple[float, float]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        async with asyncio.timeout(_PATIENCE_S):
            words = (await process.stdout.readline()).split()
        if len(words) != 2:
            raise MeterError("the meter of the benchmark failed; what it says stands above")
        return float(words[0]), float(words[1])

    try:
        yield lambda: asyncio.ensure_future(live())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


# What follows is the meter's process.


class _Watched:
    """The meter's bearer; ``marked`` is set when a mark has been dealt with."""

    def __init__(self, bearer: MqttBearer, mark: str) -> None:
        self._bearer = bearer
        self._mark = mark
        self._given = False
        self.marked = asyncio.Event()
        self.on_connected = bearer.on_connected
        self.counters = bearer.counters

    @property
    def connected(self) -> bool:
        return self._bearer.connected

    @property
    def protocol(self) -> str | None:
        return self._bearer.protocol

    async def run(self) -> None:
        await self._bearer.run()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        return await self._bearer.publish(topic, payload, retain=retain)

    async def receive(self) -> Received:
        if self._given:
            self.marked.set()
        received = await self._bearer.receive()
        self._given = received.topic == self._mark
        return received


class _NoCommands:
    """A gate to which nothing comes."""

    counters: Mapping[str, int] = {}

    async def take(self, message: bytes, way: Way) -> bytes | None:
        raise AssertionError("a command came")

    def settle(self) -> list[bytes]:
        return []


async def _live(lab: Lab, port: int, state: Path) -> None:
    """A meter, until killed: a half-hour for each line on standard input."""
    bus, clock, rng = EventBus(), BenchClock(_START), random.Random(1)
    stores = open_file_stores(state, fine=False)
    unit = SimulatedMeteringUnit(clock, LoadModel(1, 4.0), _PLATE, _START)
    ring = Ring.open(
        stores.ring, HALF_HOUR_S, LOAD_PROFILE_DEPTH, _PLATE.serial, slot_at(_START) + 1
    )
    metering = MeteringService(unit, clock, ring, RegisterStore(stores.registers), bus)
    topics = Topics(lab.utility, _METER_ID)
    settings = replace(lab.mqtt(MDMS, _METER_ID), port=port, host=HOST)
    if settings.tls is not None:
        settings = replace(settings, tls=lab.meter(_METER_ID).tls)
    bearer = _Watched(
        MqttBearer(settings, subscriptions=subscriptions(topics), will=will(topics), rng=rng),
        topics.mark,
    )
    uplink = Uplink(
        UnitHistory(metering), UplinkStateStore(stores.uplink), _METER_ID, jitter_s=0.0, rng=rng
    )
    service = ARouteService(
        bearer,
        topics,
        uplink,
        _NoCommands(),
        Events(bus, clock, _METER_ID),
        birth=lambda: Birth(
            meter_id=_METER_ID,
            version="",
            metrology_version="",
            at=clock.wall(),
            trust=clock.trust.value,
            units={},
            keys={},
        ),
        broute_report=lambda: {"in_service": False},
        clock=clock,
        bus=bus,
    )
    stored: list[tuple[float, float]] = []

    def note(_: BoundaryStored) -> None:
        stored.append((time.process_time(), time.perf_counter()))

    bus.subscribe(BoundaryStored, note)
    await metering.poll()
    serving = asyncio.create_task(service.run())
    while await asyncio.to_thread(sys.stdin.readline):
        stored.clear()
        bearer.marked.clear()
        with metering.held():
            await clock.advance(HALF_HOUR_S - clock.wall() % HALF_HOUR_S, metering.poll)
        await bearer.marked.wait()
        cpu_s, at_s = stored[0]
        print(time.process_time() - cpu_s, time.perf_counter() - at_s, flush=True)
    serving.cancel()


if __name__ == "__main__":
    asyncio.run(_live(Lab.open(Path(sys.argv[1])), int(sys.argv[2]), Path(sys.argv[3])))
