"""A house whose B-route is on its wiring: the line, the modem in the meter, a HEMS in a socket."""

import random
from collections.abc import Callable
from pathlib import Path

from meter_runtime.bench.frames import CrossedFrame
from meter_runtime.bench.plc.adapter import Adapter
from meter_runtime.bench.plc.crossing import crossed_packet
from meter_runtime.bench.plc.line import Line, LineCrossing
from meter_runtime.bench.plc.modem import VirtualModem
from meter_runtime.bench.plc.port import ModemDongle
from meter_runtime.bench.plc.station import PlcHems
from meter_runtime.clock import Clock
from meter_runtime.comm.g3plc import ipv6
from meter_runtime.comm.ports import BytePort, open_port

METER, HEMS = "meter", "hems"

_MAC_PREFIX = b"\x02MP"
"""Locally administered, so that no maker's number is taken."""


class PlcHouse:
    """The power line of one bench; ``port`` is where the meter's modem is offered."""

    def __init__(self, clock: Clock, seed: int, port: Path) -> None:
        self.port = port
        self.line = Line(clock, random.Random(f"line {seed}"))
        self._macs = random.Random(f"modems {seed}")
        self._seed = seed
        self._clock = clock
        self.dongle = ModemDongle(METER, self._new_modem(), self._open, self.line, clock)
        adapter = Adapter(self._new_mac(), random.Random(f"adapter {seed}"))
        self.hems = PlcHems(adapter, self.line, clock)
        self.hems.plug()

    @property
    def modem(self) -> VirtualModem:
        """The modem in the meter's communication unit."""
        return self.dongle.modem

    def document(self) -> dict[str, str]:
        """What is in the case of the communication unit."""
        return {"profile": "g3plc", "mac": self.modem.extended.hex().upper()}

    def follow(self, tell: Callable[[CrossedFrame], None]) -> None:
        """Call ``tell`` with each datagram that crosses the line."""

        def crossed(crossing: LineCrossing) -> None:
            frame = crossed_packet(crossing, self._clock.wall(), self.name_of)
            if frame is not None:
                tell(frame)

        self.line.listeners.append(crossed)

    def renew_modem(self) -> None:
        """Another communication unit has another modem in its case; it is unplugged."""
        self.dongle.modem = self._new_modem()

    def name_of(self, extended: bytes) -> str:
        """Who has this EUI-64, by the names of a bench."""
        if extended == self.hems.adapter.extended:
            return HEMS
        return METER if extended == self.modem.extended else extended.hex().upper()

    def name_at(self, address: str) -> str | None:
        """Who has this IPv6 address; None where it is nobody's of this line."""
        pan_id = self.modem.state.pan_id
        if pan_id is None:
            return None
        if address == ipv6.link_local(pan_id, 0):
            return METER
        # There is one HEMS, whatever short address it has.
        return HEMS if address[:-4] == ipv6.link_local(pan_id, 0)[:-4] else None

    def _new_modem(self) -> VirtualModem:
        return VirtualModem(self._new_mac(), random.Random(f"modem {self._seed}"))

    def _new_mac(self) -> bytes:
        return _MAC_PREFIX + self._macs.randbytes(5)

    async def _open(self) -> BytePort:
        return await open_port(f"pty:{self.port}")
