"""One long life of a meter and a HEMS, all sans-I/O, on a clock moved by hand.

The meter is its driver over a virtual module, the home a script over another; between them is the
air. Every octet on either serial line, every frame and every event of the link is written down.
"""

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeGuard

from module_room import HEMS_MAC, METER_MAC, PASSWORD, ROUTE_B_ID, ManualClock

from meter_runtime.bench.air import REAL, Air, AirPace, Crossing, Fate, Frame
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.profiles import parse_module_option
from meter_runtime.broute.echonet.frame import Esv, Property, encode, parse
from meter_runtime.broute.echonet.frame import Frame as EchonetFrame
from meter_runtime.broute.echonet.meter_class import METER_EOJ
from meter_runtime.broute.echonet.node import CONTROLLER_EOJ
from meter_runtime.comm.contracts import ECHONET_LITE_PORT, LinkCredentials
from meter_runtime.comm.skstack.addresses import link_local
from meter_runtime.comm.skstack.commands import encode_command, encode_send
from meter_runtime.comm.skstack.driver import MeterDriver
from meter_runtime.comm.skstack.outbox import SendDone
from meter_runtime.comm.skstack.replies import (
    Event,
    EventNumber,
    Ok,
    PanDescription,
    Reply,
    ReplyReader,
    RxUdp,
)
from meter_runtime.comm.skstack.session import Received
from meter_runtime.secret import Secret

LIFETIME_S = 3600
HALF_HOUR_S = 1800.0
MAX_READS = 8
"""After so many without an answer a HEMS joins anew, as programs in use do."""
POWER = Property(0xE7, b"\x00\x00\x01\xf8")
ENERGY = Property(0xEA, bytes(11))


@dataclass(frozen=True)
class Transport:
    """How the serial lines and the air behave."""

    chunk: int | None = None
    """Octets that arrive together; None is a whole write."""
    latency_s: float = 0.0
    loss: float = 0.0
    """Of frames on the air, each for good."""
    air_delay_s: float = 0.0
    """Up to so much, each frame its own."""

    def impair(self, frame: Frame, receiver: bytes | None, rng: random.Random) -> Fate:
        lost = rng.random() < self.loss
        return Fate(lost=lost, delay_s=rng.uniform(0.0, self.air_delay_s))


@dataclass
class Trace:
    """Everything that happened, in order."""

    clock: ManualClock
    lines: list[str] = field(default_factory=list)

    def note(self, what: str, value: object) -> None:
        self.lines.append(f"{self.clock.now:.6f} {what} {value!r}")

    def crossed(self, crossing: Crossing) -> None:
        self.note("air", crossing)

    def count(self, text: str) -> int:
        return sum(text in line for line in self.lines)


class Serial:
    """One module and its host, joined by a line of the story's transport."""

    def __init__(self, name: str, world: "World", module: VirtualModule) -> None:
        self.module = module
        self.listen: Callable[[bytes], None] = lambda _: None
        self._name = name
        self._world = world

    def write(self, data: bytes) -> None:
        """The host says something."""
        self._world.trace.note(f"{self._name} <", data)
        self._carry(data, self._to_module)

    def wake(self) -> None:
        """The module may have something to say."""
        for write in self.module.take_uart():
            self._world.trace.note(f"{self._name} >", write.data)
            self._carry(write.data, self.listen)

    def _carry(self, data: bytes, arrive: Callable[[bytes], None]) -> None:
        clock = self._world.clock
        step = self._world.transport.chunk or max(len(data), 1)
        for at in range(0, len(data), step):
            due = clock.now + self._world.transport.latency_s
            clock.call_at(due, partial(arrive, data[at : at + step]))

    def _to_module(self, data: bytes) -> None:
        self._world.air.settle()
        self.module.receive(data, self._world.clock.now)
        self._world.air.settle()


class Meter:
    """A driver that answers every Get, and announces each half hour until it is told."""

    def __init__(self, world: "World", serial: Serial) -> None:
        self.driver = MeterDriver(
            None, random.Random(f"driver {world.seed}"), lifetime_s=LIFETIME_S
        )
        self._world = world
        self._serial = serial
        self._announcing: int | None = None
        serial.listen = self._receive
        now = world.clock.now
        self.driver.start(LinkCredentials(ROUTE_B_ID, Secret(PASSWORD)), now)
        self.driver.port_opened(now)
        self._turn()
        world.clock.call_at(now + HALF_HOUR_S, self._announce)

    def _receive(self, data: bytes) -> None:
        self.driver.receive(data, self._world.clock.now)
        self._turn()

    def _tick(self) -> None:
        due = self.driver.next_deadline()
        if due is not None and due <= self._world.clock.now:
            self.driver.tick(self._world.clock.now)
            self._turn()

    def _turn(self) -> None:
        for event in self.driver.take_events():
            self._world.trace.note("meter", event)
            match event:
                case Received(payload, peer):
                    self._answer(payload, peer)
                case SendDone(send_id, ok) if send_id == self._announcing and not ok:
                    self._world.clock.call_at(self._world.clock.now + 5.0, self._announce_again)
        output = self.driver.take_output()
        if output:
            self._serial.write(output)
        due = self.driver.next_deadline()
        if due is not None:
            self._world.clock.call_at(due, self._tick)

    def _answer(self, payload: bytes, peer: str) -> None:
        asked = parse(payload)
        told = EchonetFrame(asked.tid, asked.deoj, asked.seoj, Esv.GET_RES, (POWER,))
        self.driver.send(encode(told), peer, self._world.clock.now)

    def _announce(self) -> None:
        self._world.clock.call_at(self._world.clock.now + HALF_HOUR_S, self._announce)
        self._announce_again()

    def _announce_again(self) -> None:
        peer = self.driver.joined
        if peer is not None:
            told = EchonetFrame(7, METER_EOJ, CONTROLLER_EOJ, Esv.INF, (ENERGY,))
            self._announcing = self.driver.send(encode(told), peer, self._world.clock.now)
            self._turn()


Wanted = Callable[[Reply], bool]


@dataclass(frozen=True)
class Wait:
    """Say this, if anything, and wait for such a reply."""

    line: bytes
    wanted: Wanted
    within_s: float


Script = Generator[Wait, Reply | None, None]


class Hems:
    """A script at a module's UART: it gets the reply it waits for, or None in time."""

    def __init__(self, world: "World", serial: Serial) -> None:
        self.done = False
        self._world = world
        self._serial = serial
        profile = serial.module.options.profile
        self._dialect = profile.dialect
        self._reader = ReplyReader(self._dialect)
        self._reader.hex_data = profile.hex_data
        self._wait: Wait | None = None
        self._turns = 0
        self._script = self._live()
        serial.listen = self._receive
        self._go_on(None)

    def _receive(self, data: bytes) -> None:
        for reply in self._reader.feed(data):
            if self._wait is not None and self._wait.wanted(reply):
                self._go_on(reply)

    def _go_on(self, reply: Reply | None) -> None:
        self._turns += 1
        turn = self._turns
        try:
            wait = self._wait = self._script.send(reply)
        except StopIteration:
            self.done, self._wait = True, None
            return

        def too_late() -> None:
            if self._turns == turn:
                self._world.trace.note("hems", "waited in vain")
                self._go_on(None)

        self._world.clock.call_at(self._world.clock.now + wait.within_s, too_late)
        if wait.line:
            self._serial.write(wait.line)

    # The script

    def _live(self) -> Script:
        yield from self._ask("SKRESET")
        yield from self._ask("SKSREG", "SFE", "0")
        yield from self._ask("SKSETPWD", "C", PASSWORD)
        yield from self._ask("SKSETRBID", ROUTE_B_ID)
        meter = yield from self._find()
        yield from self._ask("SKSREG", "S2", f"{meter.channel:X}")
        yield from self._ask("SKSREG", "S3", f"{meter.pan_id:X}")
        address = link_local(meter.mac)
        yield from self._join(address)
        for tid in range(5):
            yield from self._read(address, tid)
        yield from self._until(_is_announcement, HALF_HOUR_S + 120)
        # Re-authentication, all by itself, at 80 % of the session's life.
        yield from self._until(_event(EventNumber.PANA_DONE), LIFETIME_S)
        yield from self._read(address, 10)
        yield from self._ask("SKSREG", "S17", "0")
        yield from self._until(_event(EventNumber.SESSION_EXPIRED), LIFETIME_S + 120)
        yield from self._join(address)
        yield from self._read(address, 11)
        left = (EventNumber.TERMINATED, EventNumber.TERMINATE_TIMED_OUT)
        yield Wait(encode_command("SKTERM"), _event(*left), 20.0)
        yield from self._join(address)
        yield from self._read(address, 12)

    def _ask(self, *words: str) -> Script:
        yield Wait(encode_command(*words), lambda reply: isinstance(reply, Ok), 5.0)

    def _until(self, wanted: Wanted, within_s: float) -> Script:
        yield Wait(b"", wanted, within_s)

    def _find(self) -> Generator[Wait, Reply | None, PanDescription]:
        side = ("0",) if self._dialect.has_side else ()
        while True:
            found: list[PanDescription] = []

            def ended(reply: Reply, found: list[PanDescription] = found) -> bool:
                if isinstance(reply, PanDescription):
                    found.append(reply)
                return _event(EventNumber.ACTIVE_SCAN_DONE)(reply)

            scan = encode_command("SKSCAN", "2", "FFFFFFFF", "6", *side)
            yield Wait(scan, ended, 60.0)
            if found:
                return found[0]

    def _join(self, address: str) -> Script:
        ended = _event(EventNumber.PANA_DONE, EventNumber.PANA_FAILED)
        while True:
            reply = yield Wait(encode_command("SKJOIN", address), ended, 60.0)
            if isinstance(reply, Event) and reply.number == EventNumber.PANA_DONE:
                return

    def _read(self, address: str, tid: int) -> Script:
        asked = EchonetFrame(tid, CONTROLLER_EOJ, METER_EOJ, Esv.GET, (Property(0xE7),))
        line = encode_send(self._dialect, address, encode(asked), port=ECHONET_LITE_PORT, side=0)
        while True:
            for _ in range(MAX_READS):
                if (yield Wait(line, _answer_to(tid), 20.0)) is not None:
                    return
            yield from self._join(address)


def _event(*numbers: EventNumber) -> Wanted:
    return lambda reply: isinstance(reply, Event) and reply.number in numbers


def _answer_to(tid: int) -> Wanted:
    def wanted(reply: Reply) -> bool:
        return _is_echonet(reply) and parse(reply.data).tid == tid

    return wanted


def _is_announcement(reply: Reply) -> bool:
    return _is_echonet(reply) and parse(reply.data).esv == Esv.INF


def _is_echonet(reply: Reply) -> TypeGuard[RxUdp]:
    if not isinstance(reply, RxUdp) or reply.destination_port != ECHONET_LITE_PORT:
        return False
    return reply.secured


class World:
    """All of it; :meth:`live` plays the story to its end."""

    def __init__(
        self,
        transport: Transport,
        seed: int,
        pace: AirPace = REAL,
        meter: str = "bp35a1",
        hems: str = "bp35a1",
    ) -> None:
        self.transport = transport
        self.seed = seed
        self.clock = ManualClock()
        self.trace = Trace(self.clock)
        self.air = Air(self.clock, random.Random(f"air {seed}"), pace)
        self.air.listeners.append(self.trace.crossed)
        self.air.impairments.append(transport.impair)
        self.meter = Meter(self, self._plug("meter", meter, METER_MAC))
        hems_serial = self._plug("hems", hems, HEMS_MAC)
        # The home is switched on when the meter has long been serving.
        self.hems: Hems | None = None

        def switch_on() -> None:
            self.hems = Hems(self, hems_serial)

        self.clock.call_at(self.clock.now + 120.0, switch_on)

    def _plug(self, name: str, option: str, mac: bytes) -> Serial:
        rng = random.Random(f"{name} {self.seed}")
        module = VirtualModule(parse_module_option(option), mac, rng, self.air.pace)
        serial = Serial(name, self, module)
        self.air.attach(module, serial.wake)
        return serial

    def live(self, at_most_s: float = 6 * 3600.0) -> None:
        end = self.clock.now + at_most_s
        while self.clock.now < end:
            self.clock.advance(60.0)
            if self.hems is not None and self.hems.done:
                return
