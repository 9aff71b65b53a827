"""A communication unit over a virtual PLC modem in memory, and a home on the same line."""

import asyncio
import random
from typing import TypeVar

from room import RoomClock

from meter_runtime.bench.plc.adapter import Adapter
from meter_runtime.bench.plc.line import Line
from meter_runtime.bench.plc.modem import VirtualModem
from meter_runtime.comm.contracts import CommunicationUnit, LinkCredentials, LinkEvent
from meter_runtime.comm.g3plc.unit import G3PlcUnit
from meter_runtime.comm.ports import BytePort, PortClosed
from meter_runtime.errors import MeterError

E = TypeVar("E")

METER_MAC = bytes.fromhex("C0F945004058B5FB")
HOME_MAC = bytes.fromhex("001D129012345678")


class ModemPort:
    """A modem's UART, without a wire."""

    dropped = 0

    def __init__(self, rig: "PlcRig") -> None:
        self._rig = rig
        self._heard: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def read(self) -> bytes:
        data = await self._heard.get()
        if data is None:
            raise PortClosed("modem: it was unplugged")
        return data

    def write(self, data: bytes) -> None:
        self._rig.to_modem(data)

    def say(self, data: bytes | None) -> None:
        self._heard.put_nowait(data)

    async def close(self) -> None:
        """The modem goes on."""
        self._rig.opened = False


class PlcRig:
    """The unit on a G3-PLC modem, and a home that joins it."""

    def __init__(self) -> None:
        self.clock = RoomClock()
        self.unplugged = False
        self.opened = False
        """The unit holds its port."""
        self.events: list[LinkEvent] = []
        self.written = 0
        """Octets that the modem was sent."""
        self.line = Line(self.clock, random.Random(1))
        self.modem = VirtualModem(METER_MAC, random.Random(2))
        self.home = Adapter(HOME_MAC, random.Random(3))
        self._port: ModemPort | None = None
        self.line.attach(self.modem, self._from_modem)
        self.line.attach(self.home)

    def build(self) -> CommunicationUnit:
        return G3PlcUnit(self.clock, self._open, rng=random.Random(4), line_clock=self.clock)

    async def listen(self, unit: CommunicationUnit) -> None:
        """Keep the unit's events in :attr:`events`; cancel it to end."""
        async for event in unit.events():
            self.events.append(event)

    def told(self, kind: type[E]) -> list[E]:
        """The events of this kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def unplug(self) -> None:
        """Pull the modem out."""
        self.unplugged = True
        self.line.detach(self.modem)
        self.modem.lose_power()
        if self._port is not None:
            self._port.say(None)

    def lose_host(self) -> None:
        """The program at its port has died; the modem lives on."""
        if self._port is not None:
            self._port.say(None)

    def admits_somebody(self) -> bool:
        """The modem answers who looks for a PAN, or holds what a home could join by."""
        return self.modem.state.pan_id is not None or self.modem.state.psk is not None

    def plug(self) -> None:
        self.unplugged = False
        self.line.attach(self.modem, self._from_modem)

    def home_joins(self, credentials: LinkCredentials, meter: str) -> None:
        """The home's HEMS finds the meter, which has this address, and begins to join it."""
        self.line.settle()
        self.home.join(credentials, self.clock.at)
        self.line.settle()
        assert not self.admits_somebody() or self.home.meter_address == meter

    def home_sends(self, payload: bytes, meter: str) -> None:
        self.line.settle()
        assert self.home.meter_address == meter
        self.home.send(payload)
        self.line.settle()

    def home_received(self) -> list[bytes]:
        """Payloads on the ECHONET Lite port, oldest first."""
        return list(self.home.received)

    def to_modem(self, data: bytes) -> None:
        self.written += len(data)
        self.line.settle()
        self.modem.receive(data, self.clock.at)
        self.line.settle()

    async def _open(self) -> BytePort:
        if self.unplugged:
            raise MeterError("modem: it is not there; plug it in")
        self._port = ModemPort(self)
        self.opened = True
        return self._port

    def _from_modem(self) -> None:
        for data in self.modem.take_uart():
            if self._port is not None:
                self._port.say(data)
