"""A metering service on real stores, a simulated unit and a clock that moves only when told."""

from typing import Any, TypeVar

from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.load import LoadModel
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.metrology import events as metrology_events
from meter_runtime.metrology.service import MeteringService
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.registers import Checkpoint, RegisterStore
from meter_runtime.storage.ring import FINE_DEPTHS, LOAD_PROFILE_DEPTH, Record, Ring
from meter_runtime.units.contracts import Nameplate, UnitKind
from meter_runtime.units.metering.simulated import SimulatedMeteringUnit

SLOT = 994_000
T0 = SLOT * 1800.0
"""A half-hour boundary; a room opens ten minutes after it."""
DAY_S = 86_400.0
NAMEPLATE = Nameplate(UnitKind.METERING, "SIM-1", "M0000001")
START_MWH = 10**9

E = TypeVar("E")


class StandingClock(BenchClock):
    """A bench clock that real time does not move."""

    def monotonic(self) -> float:
        return self._monotonic


class BrittleMedia(MemoryMedia):
    """Refuses each write while it is broken; counts vain writes and flushes."""

    broken = False
    vain = 0
    flushes = 0

    def write(self, offset: int, data: bytes) -> None:
        if self.broken:
            self.vain += 1
            raise MeterError("card: cannot write: gone; replace it")
        super().write(offset, data)

    def flush(self) -> None:
        self.flushes += 1


class Room:
    """One meter whose unit and media outlive its restarts."""

    def __init__(
        self,
        at: float = 600.0,
        *,
        depth: int = LOAD_PROFILE_DEPTH,
        fine: bool = False,
        **unit: Any,
    ) -> None:
        self.start = T0 + at
        self.clock = StandingClock(self.start)
        self.depth = depth
        self.ring_media = BrittleMedia(Ring.size_for(depth, 1))
        self.register_media = BrittleMedia(RegisterStore.size_for(1))
        self.fine_media = {
            interval_s: BrittleMedia(Ring.size_for(fine_depth, 1))
            for interval_s, fine_depth in FINE_DEPTHS.items()
            if fine
        }
        self.load = LoadModel(3, 4.0)
        self.opened_at = self.clock.monotonic()
        self.unit = SimulatedMeteringUnit(
            self.clock, self.load, NAMEPLATE, self.start, start_forward_mwh=START_MWH, **unit
        )
        self.events: list[object] = []
        self.service = self.opened()

    def opened(self, serial: str = NAMEPLATE.serial) -> MeteringService:
        """The meter of another life, on the same media."""
        self.bus = bus = EventBus()
        for kind in vars(metrology_events).values():
            if isinstance(kind, type):
                bus.subscribe(kind, self.events.append)
        ring = self._ring(self.ring_media, 1800, self.depth, serial)
        fine = [
            self._ring(media, interval_s, FINE_DEPTHS[interval_s], serial)
            for interval_s, media in self.fine_media.items()
        ]
        registers = RegisterStore(self.register_media)
        return MeteringService(self.unit, self.clock, ring, registers, bus, fine=fine)

    def _ring(self, media: MemoryMedia, interval_s: int, depth: int, serial: str) -> Ring:
        return Ring.open(media, interval_s, depth, serial, int(self.clock.wall() // interval_s))

    async def advance(self, seconds: float) -> None:
        """Time passes: a reading at each minute and at the end, as a moved bench does."""
        with self.service.held():
            await self.clock.advance(seconds, self.service.poll)

    async def live(self, seconds: int) -> None:
        """Time passes: a reading each second, as a running meter does."""
        for _ in range(seconds):
            await self.clock.advance(1, nobody)
            await self.service.poll()

    async def until(self, offset: float) -> None:
        """Advance to this wall time after T0."""
        await self.advance(T0 + offset - self.clock.wall())

    async def off(self, seconds: float, *, clean: bool = True) -> None:
        """Without power for so long, then the first reading; ``clean`` with a good-bye."""
        if clean:
            self.service.close()
        await self.clock.advance(seconds, nobody)
        self.service = self.opened()
        await self.service.poll()

    def break_storage(self, broken: bool) -> None:
        for media in (self.ring_media, self.register_media, *self.fine_media.values()):
            media.broken = broken

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def faulty(self) -> bool:
        return self.service.faulty

    def forward_mwh(self) -> int | None:
        return self.service.forward_mwh

    def slots(self) -> list[int]:
        """What the load profile serves, counted from SLOT."""
        return [record.slot - SLOT for record in self.service.ring.records()]

    def value(self, slot: int) -> tuple[int, int] | None:
        """What is served for ``SLOT + slot``."""
        record = self.service.record(SLOT + slot)
        return None if record is None else (record.forward_dwh, record.reverse_dwh)

    def record(self, slot: int) -> Record:
        record = self.service.record(SLOT + slot)
        assert record is not None, f"nothing at {slot}"
        return record

    def kept(self) -> Checkpoint:
        """The checkpoint on the medium."""
        checkpoint = RegisterStore(self.register_media).load()
        assert checkpoint is not None
        return checkpoint

    def elapsed(self) -> float:
        """Seconds of true time since the room was opened."""
        return self.clock.monotonic() - self.opened_at

    def truth_dwh(self, elapsed: float) -> tuple[int, int]:
        """What had flowed so many seconds after the room was opened, in 0.1 Wh."""
        start = round(self.start * 1000)
        forward, reverse = self.load.energy(start, start + round(elapsed * 1000))
        return (START_MWH + forward // 3600) // 100, reverse // 360_000


async def nobody() -> None:
    """Visits a moved clock and does nothing."""
