"""A radio room for tests: a clock moved by hand, an air, and modules with their hosts."""

import heapq
import itertools
import random
from collections.abc import Callable, Mapping

from meter_runtime.bench.air import FAST, Air, AirPace, Crossing, UdpDatagram
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.profiles import ModuleOptions, parse_module_option
from meter_runtime.clock import Trust

ROUTE_B_ID = "0123456789ABCDEF0123456789ABCDEF"
PASSWORD = "ABCDEFGHIJ12"
METER_MAC = bytes.fromhex("C0F945004058B5FB")
METER_IP = "FE80:0000:0000:0000:C2F9:4500:4058:B5FB"
HEMS_MAC = bytes.fromhex("001D129012345678")
HEMS_IP = "FE80:0000:0000:0000:021D:1290:1234:5678"
OTHER_MAC = bytes.fromhex("001D1290AAAAAAAA")
ALL_NODES = "FF02:0000:0000:0000:0000:0000:0000:0001"


class _Entry:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Stands still until moved; then calls back in order of time."""

    trust = Trust.SYNCED

    def __init__(self) -> None:
        self.now = 1000.0
        self._heap: list[tuple[float, int, _Entry]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> _Entry:
        entry = _Entry(callback)
        heapq.heappush(self._heap, (when, next(self._order), entry))
        return entry

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            when, _, entry = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            if entry.callback is not None:
                entry.callback()
        self.now = end


class Host:
    """The program at a module's UART."""

    def __init__(self, room: "Room", module: VirtualModule) -> None:
        self.module = module
        self._room = room

    def write(self, data: bytes | str) -> None:
        raw = data.encode() if isinstance(data, str) else data
        self._room.air.settle()
        self.module.receive(raw, self._room.clock.now)
        self._room.air.settle()

    def writes(self) -> list[bytes]:
        """Every write of the module since last asked."""
        return [write.data for write in self.module.take_uart()]

    def read(self) -> str:
        return b"".join(self.writes()).decode("latin-1")

    def lines(self) -> list[str]:
        return self.read().split("\r\n")[:-1]

    def ask(self, line: str) -> str:
        """Send a command line; everything that comes back at once."""
        self.writes()
        self.write(line + "\r\n")
        return self.read()


class Room:
    """One air with modules in it."""

    def __init__(
        self, pace: AirPace = FAST, seed: int = 1, noise: Mapping[int, int] | None = None
    ) -> None:
        self.clock = ManualClock()
        self.rng = random.Random(seed)
        self.air = Air(self.clock, self.rng, pace, noise)
        self.crossings: list[Crossing] = []
        self.air.listeners.append(self.crossings.append)

    def plug(self, option: str, mac: bytes = HEMS_MAC) -> Host:
        options: ModuleOptions = parse_module_option(option)
        module = VirtualModule(options, mac, self.rng, self.air.pace)
        self.air.attach(module)
        return Host(self, module)

    def meter(self, option: str = "bp35a1:echo=0,wopt=1", password: str = PASSWORD) -> Host:
        """A module that serves as a meter on channel 33, PAN B5FB."""
        host = self.plug(option, METER_MAC)
        for line in (
            f"SKSETPWD C {password}",
            f"SKSETRBID {ROUTE_B_ID}",
            "SKSREG S2 21",
            "SKSREG S3 B5FB",
            "SKSTART",
        ):
            assert host.ask(line).endswith("OK\r\n"), line
        return host

    def hems(
        self,
        option: str = "bp35a1:echo=0,wopt=1",
        mac: bytes = HEMS_MAC,
        password: str = PASSWORD,
        route_b_id: str = ROUTE_B_ID,
    ) -> Host:
        """A module tuned to the meter and given credentials, not joined."""
        host = self.plug(option, mac)
        for line in (
            f"SKSETPWD C {password}",
            f"SKSETRBID {route_b_id}",
            "SKSREG S2 21",
            "SKSREG S3 B5FB",
        ):
            assert host.ask(line).endswith("OK\r\n"), line
        return host

    def joined(
        self, hems: str = "bp35a1:echo=0,wopt=1", meter: str = "bp35a1:echo=0,wopt=1"
    ) -> tuple[Host, Host]:
        """Meter and HEMS in a session, their outputs read."""
        meter_host, hems_host = self.meter(meter), self.hems(hems)
        hems_host.write(f"SKJOIN {METER_IP}\r\n")
        self.clock.advance(20 if self.air.pace.waits else 0)
        assert "EVENT 25" in hems_host.read()
        assert "EVENT 25" in meter_host.read()
        self.crossings.clear()
        return meter_host, hems_host

    def datagrams(self) -> list[UdpDatagram]:
        return [
            crossing.frame.body
            for crossing in self.crossings
            if isinstance(crossing.frame.body, UdpDatagram)
        ]


def send_line(
    dialect: str, address: str, data: bytes, *, security: int = 1, handle: int = 1
) -> bytes:
    """SKSENDTO with its data, as a host of this dialect writes it."""
    side = " 0" if dialect == "DSE" else ""
    return f"SKSENDTO {handle} {address} 0E1A {security}{side} {len(data):04X} ".encode() + data
