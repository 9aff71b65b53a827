"""A driver, a virtual modem and a home on one line, moved by hand; nothing is asynchronous."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from meter_runtime.bench.plc.adapter import Adapter
from meter_runtime.bench.plc.line import Line
from meter_runtime.bench.plc.modem import VirtualModem
from meter_runtime.clock import Trust
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.comm.g3plc import messages as m
from meter_runtime.comm.g3plc import usi
from meter_runtime.comm.g3plc.driver import DriverEvent, PlcDriver
from meter_runtime.secret import Secret

E = TypeVar("E")

METER = bytes.fromhex("C0F945004058B5FB")
HOME = bytes.fromhex("001D129012345678")
OTHER = bytes.fromhex("001D129012345679")
CREDENTIALS = LinkCredentials("0123456789ABCDEF0123456789ABCDEF", Secret("ABCDEFGHIJ12"))
OTHERS = replace(CREDENTIALS, password=Secret("ZYXWVUTSRQ98"))
MAX_TURNS = 200


class HeldClock:
    """Stands where it was put; the room is settled by hand after each move."""

    trust = Trust.SYNCED

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> "HeldClock":
        return self

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def cancel(self) -> None:
        """Nothing was armed."""


class PlcRoom:
    """Driver and modem, joined octet by octet; what either said is kept as messages."""

    def __init__(self, **options: float) -> None:
        self.clock = HeldClock()
        self.line = Line(self.clock, random.Random(1))
        self.modem = VirtualModem(METER, random.Random(2))
        self.home = Adapter(HOME, random.Random(3))
        self.line.attach(self.modem)
        self.line.attach(self.home)
        self.driver = PlcDriver(
            random.Random(4),
            random.Random(5).randbytes,
            **options,  # type: ignore[arg-type]
        )
        self.mute = False
        """The modem's answers are lost."""
        self.events: list[DriverEvent] = []
        self.asked: list[m.Message] = []
        """What the driver said."""
        self._reader = usi.FrameReader()

    @property
    def peer(self) -> str | None:
        """The address of the joined home, as the driver has it."""
        return self.driver._session.peer

    def settle(self) -> None:
        """Let everybody say what they have to, now."""
        for _ in range(MAX_TURNS):
            output = self.driver.take_output()
            self.events += self.driver.take_events()
            for payload in self._reader.feed(output):
                self.asked.append(m.parse(payload))
            self.line.settle()
            self.modem.receive(output, self.clock.now)
            self.line.settle()
            said = b"".join(self.modem.take_uart())
            if not output and not said:
                return
            if not self.mute:
                self.driver.receive(said, self.clock.now)
        raise AssertionError("driver and modem answer each other for ever")

    def pass_time(self, seconds: float) -> None:
        """Let time pass; deadlines of driver and line are kept on the way."""
        end = self.clock.now + seconds
        self.settle()
        while True:
            due = [
                each
                for each in (
                    self.driver.next_deadline(),
                    self.modem.deadline,
                    self.home.deadline,
                )
                if each is not None and each <= end
            ]
            if not due:
                break
            self.clock.now = max(self.clock.now, min(due))
            self.driver.tick(self.clock.now)
            self.settle()
        self.clock.now = end
        self.driver.tick(end)
        self.settle()

    def say(self, message: m.Message) -> None:
        """The modem says this to the driver, whatever it means."""
        self.driver.receive(usi.frame(m.encode(message)), self.clock.now)
        self.settle()

    def serve(self, credentials: LinkCredentials = CREDENTIALS) -> "PlcRoom":
        """Bring it up."""
        self.driver.start(credentials, self.clock.now)
        self.driver.port_opened(self.clock.now)
        self.settle()
        return self

    def join(self, credentials: LinkCredentials = CREDENTIALS, home: Adapter | None = None) -> None:
        """The home tries to join."""
        (home or self.home).join(credentials, self.clock.now)
        self.settle()

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def said(self, kind: type[E]) -> list[E]:
        """What the driver said of this kind."""
        return [message for message in self.asked if isinstance(message, kind)]
