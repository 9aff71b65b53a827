"""A meter's A-route with real parts, and a utility at the other end of a real broker."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import gate_room
from gate_room import METER, METER_ID, NOW

from meter_runtime.aroute.events import Events
from meter_runtime.aroute.history import UnitHistory
from meter_runtime.aroute.messages import (
    Birth,
    BRouteStatus,
    Event,
    Mark,
    Presence,
    Readings,
    Topics,
    decode,
    encode,
)
from meter_runtime.aroute.service import ARouteService, subscriptions, will
from meter_runtime.aroute.uplink import Uplink
from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.load import LoadModel
from meter_runtime.comm.mqtt import MqttBearer, MqttSettings, Received
from meter_runtime.events import EventBus
from meter_runtime.metrology.service import MeteringService
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import LOAD_PROFILE_DEPTH, Ring
from meter_runtime.storage.uplink_state import UplinkStateStore
from meter_runtime.supervisor import Backoff
from meter_runtime.units.contracts import MeteringUnit, Nameplate, UnitKind
from meter_runtime.units.metering.simulated import SimulatedMeteringUnit
from meter_runtime.units.vacant import VacantSlot

PATIENCE_S = 20.0
QUICK = Backoff(first_s=0.02, limit_s=0.2, healthy_s=0.5)
SERIAL = "M0000001"
TOPICS = Topics("kansai", METER_ID)

Make = Callable[[str], MqttSettings]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - anything may be waited for
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def at_work(part: Any) -> AsyncIterator[None]:
    """``part.run()`` beside the test."""
    task = asyncio.create_task(part.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class House:
    """Metering on media that outlive it, a gate, and the A-route; made within a running loop."""

    def __init__(self, make: Make, *, jitter_s: float = 0.05) -> None:
        self.clock = BenchClock(NOW)
        self.gate_room = gate_room.Room()
        self.hands = self.gate_room.hands
        self.ring_media = MemoryMedia(Ring.size_for(LOAD_PROFILE_DEPTH, 1))
        self.register_media = MemoryMedia(RegisterStore.size_for(1))
        self.uplink_media = MemoryMedia(UplinkStateStore.size_for(1))
        plate = Nameplate(UnitKind.METERING, "SIM-1", SERIAL)
        self.unit = SimulatedMeteringUnit(self.clock, LoadModel(3, 4.0), plate, NOW)
        self.broute: dict[str, Any] = {"in_service": False}
        self.units: dict[str, Any] = {}
        self._make = make
        self._jitter_s = jitter_s
        self.boot()

    def boot(self) -> None:
        """The program begins anew; what is on the media is all it knows."""
        self.bus = EventBus()
        self.metering = self.metering_of(self.unit)
        self.uplink = Uplink(
            UnitHistory(self.metering),
            UplinkStateStore(self.uplink_media),
            METER_ID,
            jitter_s=self._jitter_s,
            rng=random.Random(5),
        )
        self.bearer = MqttBearer(
            self._make(METER_ID),
            subscriptions=subscriptions(TOPICS),
            will=will(TOPICS),
            farewell=will(TOPICS).payload,
            rng=random.Random(7),
            backoff=QUICK,
        )
        self.service = ARouteService(
            self.bearer,
            TOPICS,
            self.uplink,
            self.gate_room.reboot(),
            Events(self.bus, self.clock, METER_ID),
            birth=self.birth,
            broute_report=lambda: dict(self.broute),
            clock=self.clock,
            bus=self.bus,
        )

    def metering_of(self, unit: MeteringUnit | VacantSlot) -> MeteringService:
        ring = Ring.open(
            self.ring_media, 1800, LOAD_PROFILE_DEPTH, unit.nameplate.serial, int(NOW // 1800)
        )
        return MeteringService(unit, self.clock, ring, RegisterStore(self.register_media), self.bus)

    def birth(self) -> Birth:
        return Birth(
            meter_id=METER_ID,
            version="1",
            metrology_version="1",
            at=self.clock.wall(),
            trust="synced",
            units=dict(self.units),
            keys=METER.public.as_json(),
        )

    async def advance(self, hours: float) -> None:
        """Time passes at the bench's pace."""
        with self.metering.held():
            await self.clock.advance(hours * 3600, self.metering.poll)

    def stored(self) -> dict[int, int]:
        return {record.slot: record.forward_dwh for record in self.metering.ring.records()}


class Utility:
    """Everything that the meter says, and a collector that marks what it stored."""

    def __init__(self, make: Make) -> None:
        self.bearer = MqttBearer(
            make("utility"),
            subscriptions=("ar/v1/kansai/+/+", "ar/v1/kansai/+/+/+"),
            rng=random.Random(8),
            backoff=QUICK,
        )
        self.marking = True
        self.rows: dict[int, tuple[int, int | None]] = {}
        self.histories: list[Readings] = []
        self.births: list[Birth] = []
        self.presence: list[bool] = []
        self.events: list[Event] = []
        self.diagnoses: list[BRouteStatus] = []
        self.results: list[bytes] = []
        self._upto: int | None = None
        self._highest = 0

    @property
    def has(self) -> dict[int, int]:
        return {slot: value for slot, (_, value) in self.rows.items() if value is not None}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.bearer.run())
            while True:
                await self._take(await self.bearer.receive())

    async def command(self, message: bytes, command_id: bytes, *, retain: bool = False) -> None:
        assert await self.bearer.publish(TOPICS.command(command_id), message, retain=retain)

    async def _take(self, received: Received) -> None:
        payload = received.payload
        match received.topic:
            case TOPICS.readings:
                await self._store(decode(payload, Readings))
            case TOPICS.history:
                self.histories.append(decode(payload, Readings))
            case TOPICS.birth:
                self.births.append(decode(payload, Birth))
            case TOPICS.lwt:
                self.presence.append(decode(payload, Presence).online)
            case TOPICS.event:
                self.events.append(decode(payload, Event))
            case TOPICS.broute_status:
                self.diagnoses.append(decode(payload, BRouteStatus))
            case TOPICS.results:
                self.results.append(payload)
            case _:
                pass  # what went down

    async def _store(self, readings: Readings) -> None:
        if not self.marking:
            return
        told = {reading.slot: reading.forward_dwh for reading in readings.readings}
        for slot in range(readings.after + 1, readings.upto + 1):
            if readings.sequence > self.rows.get(slot, (-1, None))[0]:
                self.rows[slot] = (readings.sequence, told.get(slot))
        before = readings.after if self._upto is None else self._upto
        resend = readings.after > before
        self._upto = before if resend else max(before, readings.upto)
        self._highest = max(self._highest, readings.sequence)
        mark = Mark(unit=readings.unit, upto=self._upto, sequence=self._highest, resend=resend)
        await self.bearer.publish(TOPICS.mark, encode(mark), retain=True)
