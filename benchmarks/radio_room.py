"""A radio room around a meter of another process: its module on a serial device, and a home.

The modules are the bench's, without airtime, scan dwell or thinking time: what is left to measure
is the program at the other end of the serial device.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from meter_runtime.bench.air import FAST, Air
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.port import ModulePort
from meter_runtime.bench.module.profiles import parse_module_option
from meter_runtime.bench.module.scan import ScanMode
from meter_runtime.broute.echonet.frame import Esv, parse
from meter_runtime.clock import Clock
from meter_runtime.comm.contracts import ECHONET_LITE_PORT, LinkCredentials
from meter_runtime.comm.ports import open_port
from meter_runtime.comm.skstack.addresses import link_local
from meter_runtime.comm.skstack.commands import encode_command, encode_send
from meter_runtime.comm.skstack.dialects import SE
from meter_runtime.comm.skstack.replies import (
    Event,
    EventNumber,
    PanDescription,
    Reply,
    ReplyReader,
    RxUdp,
)
from meter_runtime.system_clock import SystemClock

LOOK_EVERY_S = 0.005
"""Between two scans: the resolution of what is measured by them. A scan takes the room 1 ms."""

REPLIES_KEPT = 200
"""More than a scan or a join says; beyond, the measurement fails."""

_METER_MAC = bytes.fromhex("024D540000000001")
_HOME_MAC = bytes.fromhex("024D540000000002")
_PAIRING = str(int(ScanMode.PAIRING))
_EVERY_CHANNEL = "FFFFFFFF"
_SCAN_DURATION = "6"

R = TypeVar("R", bound=Reply)


class Home:
    """A second station: a module, and this program at its UART."""

    def __init__(self, air: Air, clock: Clock, credentials: LinkCredentials) -> None:
        options = parse_module_option("bp35a1:echo=0,wopt=1,pace=0ms")
        self._module = VirtualModule(options, _HOME_MAC, random.Random("home"), air.pace)
        self._air = air
        self._clock = clock
        self._credentials = credentials
        self._reader = ReplyReader(SE)
        self._heard: asyncio.Queue[Reply] = asyncio.Queue(REPLIES_KEPT)
        air.attach(self._module, self._listen)
        self._write(encode_command("SKSETPWD", "C", credentials.password.reveal()))
        self._write(encode_command("SKSETRBID", credentials.route_b_id))

    async def find(self) -> PanDescription:
        """Scan with the pairing ID, again and again, until a meter answers."""
        while True:
            self._write(encode_command("SKSCAN", _PAIRING, _EVERY_CHANNEL, _SCAN_DURATION))
            found: PanDescription | None = None
            while True:
                match await self._heard.get():
                    case PanDescription() as beacon:
                        found = beacon
                    case Event(EventNumber.ACTIVE_SCAN_DONE):
                        break
            if found is not None:
                assert found.pairing_id == self._credentials.route_b_id[-8:]
                return found
            await asyncio.sleep(LOOK_EVERY_S)

    async def join(self, meter: PanDescription) -> None:
        """Authenticate with the meter that was found."""
        self._write(encode_command("SKSREG", "S2", f"{meter.channel:X}"))
        self._write(encode_command("SKSREG", "S3", f"{meter.pan_id:X}"))
        self._write(encode_command("SKJOIN", link_local(meter.mac)))
        await self._next(Event, lambda event: event.number == EventNumber.PANA_DONE)

    async def ask(self, meter: PanDescription, request: bytes) -> bytes:
        """The answer to this Get; what the meter announces meanwhile is passed over."""
        address = link_local(meter.mac)
        self._write(encode_send(SE, address, request, port=ECHONET_LITE_PORT))
        answer = await self._next(RxUdp, _is_answer)
        return answer.data

    async def _next(self, kind: type[R], wanted: Callable[[R], bool]) -> R:
        while True:
            reply = await self._heard.get()
            if isinstance(reply, kind) and wanted(reply):
                return reply

    def _write(self, data: bytes) -> None:
        self._air.settle()
        self._module.receive(data, self._clock.monotonic())
        self._air.settle()

    def _listen(self) -> None:
        for write in self._module.take_uart():
            for reply in self._reader.feed(write.data):
                self._heard.put_nowait(reply)


def _is_answer(datagram: RxUdp) -> bool:
    at_node = datagram.destination_port == ECHONET_LITE_PORT
    return at_node and parse(datagram.data).esv == Esv.GET_RES


@asynccontextmanager
async def radio_room(tty: Path, credentials: LinkCredentials) -> AsyncIterator[Home]:
    """A meter's module, freshly powered up, behind the serial device ``tty``; and a home."""
    clock = SystemClock()
    air = Air(clock, random.Random("air"), FAST)
    options = parse_module_option("bp35a1:pace=0ms")
    module = VirtualModule(options, _METER_MAC, random.Random("meter"), air.pace)
    port = await open_port(f"pty:{tty}")
    powered = asyncio.create_task(ModulePort(module, port, air, clock).run())
    try:
        await asyncio.sleep(0)  # the module's first turn puts it on the air
        yield Home(air, clock, credentials)
    finally:
        powered.cancel()
        await asyncio.gather(powered, return_exceptions=True)
        await port.close()
