"""A switch, its service and its store, with whatever can go wrong between them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from hand_clock import HandClock

from meter_runtime.bench.board.gpio import VirtualGpio
from meter_runtime.bench.board.latching_relay import LatchingRelay
from meter_runtime.clock import sleep_until
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.functions.calls import OptionalUnitAnswers, OptionalUnitSilent
from meter_runtime.functions.limiter import Limiter, LimiterPolicy
from meter_runtime.functions.switch_events import (
    SwitchAgrees,
    SwitchMismatch,
    SwitchMoved,
    SwitchRefused,
)
from meter_runtime.functions.switching import SwitchingService
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.switch_state import SwitchStateStore
from meter_runtime.units.contracts import (
    Nameplate,
    OptionalFunction,
    SwitchingUnit,
    SwitchPosition,
    UnitFailure,
    UnitKind,
)
from meter_runtime.units.gpio import LineSpec
from meter_runtime.units.optional.relay import RelayUnit

OPEN, CLOSED = SwitchPosition.OPEN, SwitchPosition.CLOSED
LIMIT_A = 30.0

EVENTS = (
    SwitchMoved,
    SwitchMismatch,
    SwitchAgrees,
    SwitchRefused,
    OptionalUnitSilent,
    OptionalUnitAnswers,
)


class Contacts(Protocol):
    """The metal, whatever a unit says of it."""

    stuck: bool

    @property
    def position(self) -> SwitchPosition: ...

    def move_by_hand(self, position: SwitchPosition) -> None: ...


class PlainContacts:
    def __init__(self, position: SwitchPosition = CLOSED) -> None:
        self.position = position
        self.stuck = False

    def move_by_hand(self, position: SwitchPosition) -> None:
        self.position = position


class ContractSwitch:
    """A switching unit that keeps to its contract and no more."""

    def __init__(self, clock: HandClock, contacts: PlainContacts, serial: str = "SW1") -> None:
        self.nameplate = nameplate(serial)
        self._clock = clock
        self._contacts = contacts

    async def open_contacts(self) -> None:
        await self._drive(OPEN)

    async def close_contacts(self) -> None:
        await self._drive(CLOSED)

    async def position(self) -> SwitchPosition:
        return self._contacts.position

    async def self_test(self) -> list[str]:
        return []

    async def close(self) -> None:
        pass

    async def _drive(self, to: SwitchPosition) -> None:
        await sleep_until(self._clock, self._clock.monotonic() + 0.1)
        if not self._contacts.stuck:
            self._contacts.position = to


class FaultyUnit:
    """A unit as its service reaches it: it may be silent, hang or fail, and is watched."""

    def __init__(self, inner: SwitchingUnit, on_drive: Callable[[SwitchPosition], None]) -> None:
        self.nameplate = inner.nameplate
        self.silent = False
        self.drives: list[SwitchPosition] = []
        self.overlapped = False
        self._inner = inner
        self._on_drive = on_drive
        self._driving = False

    async def open_contacts(self) -> None:
        await self._drive(OPEN, self._inner.open_contacts)

    async def close_contacts(self) -> None:
        await self._drive(CLOSED, self._inner.close_contacts)

    async def position(self) -> SwitchPosition:
        if self.silent:
            raise UnitFailure(f"switch {self.nameplate.serial} is silent")
        await asyncio.sleep(0)
        return await self._inner.position()

    async def self_test(self) -> list[str]:
        return await self._inner.self_test()

    async def close(self) -> None:
        await self._inner.close()

    async def _drive(self, to: SwitchPosition, drive: Callable[[], Awaitable[None]]) -> None:
        self.overlapped |= self._driving
        self._driving = True
        try:
            self.drives.append(to)
            self._on_drive(to)
            await drive()
        finally:
            self._driving = False


class FailingMedia(MemoryMedia):
    """Fails while it is told to."""

    failing = False

    def read(self, offset: int, n: int) -> bytes:
        self._check()
        return super().read(offset, n)

    def write(self, offset: int, data: bytes) -> None:
        self._check()
        super().write(offset, data)

    def content(self) -> MemoryMedia:
        """What is on it, to look at."""
        copy = MemoryMedia(self.size, write_unit=self.write_unit)
        copy.write(0, MemoryMedia.read(self, 0, self.size))
        return copy

    def _check(self) -> None:
        if self.failing:
            raise MeterError("card: gone; put it back")


class SwitchRoom:
    """One meter's switch. ``real``: the relay driver over the relay's model."""

    def __init__(
        self,
        *,
        real: bool = False,
        limited: bool = False,
        media: FailingMedia | None = None,
        at: SwitchPosition = CLOSED,
        min_interval_s: float = 60.0,
    ) -> None:
        self.clock = HandClock()
        self.bus = EventBus()
        self.media = media or FailingMedia(SwitchStateStore.size_for(512), write_unit=512)
        self.events: list[object] = []
        for kind in EVENTS:
            self.bus.subscribe(kind, self.events.append)
        self.forbidden: str | None = None
        self.current_a: float | None = 0.0
        self.on_drive: Callable[[SwitchPosition], None] = lambda to: None
        self._real = real
        self._limited = limited
        self._min_interval_s = min_interval_s
        self._fitted = 0
        self._tasks: set[asyncio.Task[SwitchPosition]] = set()
        self.contacts: Contacts
        self.unit: FaultyUnit
        self.plug_in(at)
        self.service = self._new_service()
        self._running = asyncio.ensure_future(self.service.run())

    def plug_in(self, at: SwitchPosition) -> None:
        """Another unit is at hand, its contacts being there; the service is not told yet."""
        self._fitted += 1
        serial = f"SW{self._fitted}"
        inner: SwitchingUnit
        if self._real:
            gpio = VirtualGpio(self.clock, {"chip": 4})
            wires = [gpio.wire("chip", offset) for offset in range(4)]
            relay = LatchingRelay(self.clock, *wires, closed=at is CLOSED)
            self.contacts = relay
            inner = RelayUnit(
                self.clock,
                nameplate(serial),
                coil_open=gpio.output(LineSpec("chip", 0), initial=False),
                coil_close=gpio.output(LineSpec("chip", 1), initial=False),
                feedback_open=gpio.input(LineSpec("chip", 2, active_low=True, pull="up")),
                feedback_closed=gpio.input(LineSpec("chip", 3, active_low=True, pull="up")),
            )
        else:
            plain = PlainContacts(at)
            self.contacts = plain
            inner = ContractSwitch(self.clock, plain, serial)
        self.unit = FaultyUnit(inner, self._driven)

    async def swap(self, at: SwitchPosition) -> None:
        self.service.removed()
        await self.unit.close()
        self.plug_in(at)
        self.service.fit(self.unit)

    async def restart(self) -> None:
        """As after a power cut: the contacts stay, all else begins anew."""
        await self.stop()
        self.service = self._new_service()
        self._running = asyncio.ensure_future(self.service.run())

    async def stop(self) -> None:
        """Let nothing run on."""
        ending = [self._running, *self._tasks]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def ask(self, wanted: SwitchPosition) -> asyncio.Task[SwitchPosition]:
        """A command that goes its way while time passes."""
        task = asyncio.ensure_future(self.service.command(wanted))
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    async def command(self, wanted: SwitchPosition, patience_s: float = 10.0) -> SwitchPosition:
        task = self.ask(wanted)
        await self.clock.advance(patience_s)
        return await task

    def told(self, kind: type[object]) -> list[object]:
        return [event for event in self.events if type(event) is kind]

    def _driven(self, to: SwitchPosition) -> None:
        self.on_drive(to)

    def _end(self, task: asyncio.Task[SwitchPosition]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    def _new_service(self) -> SwitchingService:
        return SwitchingService(
            self.unit,
            self.clock,
            self.bus,
            SwitchStateStore(self.media),
            permitted=lambda: self.forbidden,
            min_interval_s=self._min_interval_s,
            limiter=Limiter(LimiterPolicy(LIMIT_A)) if self._limited else None,
            current_a=lambda: self.current_a if self.contacts.position is CLOSED else 0.0,
        )


def nameplate(serial: str) -> Nameplate:
    return Nameplate(UnitKind.OPTIONAL, "SW", serial, function=OptionalFunction.SWITCHING)
