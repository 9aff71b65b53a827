"""A communication unit over a virtual module in memory, and a home on the same air."""

import asyncio
import random
from typing import TypeVar

from room import RoomClock

from meter_runtime.bench.air import FAST, Air
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.profiles import parse_module_option
from meter_runtime.bench.module.registers import Reg
from meter_runtime.comm.contracts import CommunicationUnit, LinkCredentials, LinkEvent
from meter_runtime.comm.ports import BytePort, PortClosed
from meter_runtime.comm.skstack.modules import PRODUCTS
from meter_runtime.comm.skstack.unit import SkstackUnit
from meter_runtime.errors import MeterError

E = TypeVar("E")

METER_MAC = bytes.fromhex("C0F945004058B5FB")
HOME_MAC = bytes.fromhex("001D129012345678")


class ModulePort:
    """A module's UART, without a wire."""

    dropped = 0

    def __init__(self, rig: "SkstackRig") -> None:
        self._rig = rig
        self._heard: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def read(self) -> bytes:
        data = await self._heard.get()
        if data is None:
            raise PortClosed("module: it was unplugged")
        return data

    def write(self, data: bytes) -> None:
        self._rig.to_module(data)

    def say(self, data: bytes | None) -> None:
        self._heard.put_nowait(data)

    async def close(self) -> None:
        """The module goes on."""
        self._rig.opened = False


class SkstackRig:
    """The unit of one product, and a home that joins it by hand."""

    def __init__(self, profile: str) -> None:
        self.clock = RoomClock()
        self.unplugged = False
        self.opened = False
        """The unit holds its port."""
        self.events: list[LinkEvent] = []
        self.written = 0
        """Octets that the module was sent."""
        self._profile = profile
        rng = random.Random(1)
        self._air = Air(self.clock, rng, FAST)
        self._module = VirtualModule(parse_module_option(profile), METER_MAC, rng, FAST)
        self._home = VirtualModule(parse_module_option("bp35a1:echo=0,wopt=1"), HOME_MAC, rng, FAST)
        self._heard_at_home = b""
        self._port: ModulePort | None = None
        self._air.attach(self._module, self._from_module)
        self._air.attach(self._home)

    def build(self) -> CommunicationUnit:
        product = PRODUCTS[self._profile]
        return SkstackUnit(
            self.clock,
            self._open,
            dialect=product.dialect,
            rng=random.Random(2),
            line_clock=self.clock,
            model=product.model,
            maker=product.maker,
        )

    async def listen(self, unit: CommunicationUnit) -> None:
        """Keep the unit's events in :attr:`events`; cancel it to end."""
        async for event in unit.events():
            self.events.append(event)

    def told(self, kind: type[E]) -> list[E]:
        """The events of this kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def unplug(self) -> None:
        """Pull the module out."""
        self.unplugged = True
        self._air.detach(self._module)
        self._module.lose_power()
        if self._port is not None:
            self._port.say(None)

    def lose_host(self) -> None:
        """The program at its port has died; the module lives on."""
        if self._port is not None:
            self._port.say(None)

    def admits_somebody(self) -> bool:
        """The module answers beacon requests, or holds what a home could join by."""
        state = self._module.state
        return bool(state.registers[Reg.ANSWER_BEACONS]) or state.credentials is not None

    def plug(self) -> None:
        self.unplugged = False
        self._air.attach(self._module, self._from_module)

    def home_joins(self, credentials: LinkCredentials, meter: str) -> None:
        """The home's HEMS finds the meter and begins to join it."""
        registers = self._module.state.registers
        for line in (
            "SKTERM",
            f"SKSETPWD C {credentials.password.reveal()}",
            f"SKSETRBID {credentials.route_b_id}",
            f"SKSREG S2 {registers[Reg.CHANNEL]:02X}",
            f"SKSREG S3 {registers[Reg.PAN_ID]:04X}",
            f"SKJOIN {meter}",
        ):
            self._home_says(line.encode() + b"\r\n")

    def home_sends(self, payload: bytes, meter: str) -> None:
        self._home_says(f"SKSENDTO 1 {meter} 0E1A 1 {len(payload):04X} ".encode() + payload)

    def home_received(self) -> list[bytes]:
        """Payloads on the ECHONET Lite port, oldest first."""
        self._listen_at_home()
        lines = self._heard_at_home.decode("ascii", "replace").split("\r\n")
        fields = [line.split(" ") for line in lines if line.startswith("ERXUDP ")]
        return [bytes.fromhex(each[-1]) for each in fields if each[4] == "0E1A"]

    def to_module(self, data: bytes) -> None:
        self.written += len(data)
        self._air.settle()
        self._module.receive(data, self.clock.at)
        self._air.settle()

    async def _open(self) -> BytePort:
        if self.unplugged:
            raise MeterError("module: it is not there; plug it in")
        self._port = ModulePort(self)
        self.opened = True
        return self._port

    def _from_module(self) -> None:
        data = b"".join(write.data for write in self._module.take_uart())
        if data and self._port is not None:
            self._port.say(data)

    def _home_says(self, data: bytes) -> None:
        self._air.settle()
        self._home.receive(data, self.clock.at)
        self._air.settle()
        self._listen_at_home()

    def _listen_at_home(self) -> None:
        self._heard_at_home += b"".join(write.data for write in self._home.take_uart())
