"""The driver's ear: whatever a module writes, the driver goes on, and serves again afterwards.

Bit 0 of the first byte chooses the dialect, bit 1 whether the module is up and serving before the
fuzzer takes its line over. In the end a sound module stands at a re-opened port.
"""

import random

from fuzz import steps
from fuzz.module_uart import HeldClock
from meter_runtime.bench.air import FAST, Air
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.profiles import parse_module_option
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.comm.skstack.dialects import DSE, SE
from meter_runtime.comm.skstack.driver import MeterDriver, Phase
from meter_runtime.comm.skstack.replies import MAX_REPLY_LINE, ReplyReader
from meter_runtime.secret import Secret

MAC = bytes.fromhex("024D540000000001")
OWN = "FE80:0000:0000:0000:004D:5400:0000:0001"
HOME = "FE80:0000:0000:0000:004D:5400:0000:0002"
CREDENTIALS = LinkCredentials("0" * 32, Secret("0123456789AB"))
MAX_TURNS = 400
"""Turns of a conversation that brings a module up: about forty, more after back-offs."""

_HEAD = f"ERXUDP {HOME} {OWN} 0E1A 0E1A 024D540000000002 1 0004 "
SEEDS = (
    b"\x02" + f"EVENT 25 {HOME}\r\n{_HEAD}61626364\r\nEVENT 26 {HOME}\r\n".encode(),
    b"\x02" + f"EVENT 25 {HOME}\r\n".encode() + _HEAD.encode() + b"\r\n\r\n\r\n\0\xf0",
    b"\x03" + f"EVENT 25 {HOME} 0\r\nEVENT 32 {OWN} 0\r\n\0\x04EVENT 33 {OWN} 0\r\n".encode(),
    b"\0" + f"EINFO {OWN} 024D540000000001 21 FFFF FFFE\r\nOK\r\nEVER 1.2.10\r\nOK\r\n".encode(),
    b"\x01"
    + f"EPANDESC\r\n  Channel:21\r\n  LQI:A1\r\nEVENT 22 {OWN}\r\nEEDSCAN\r\n21 04".encode(),
)


class Line:
    """A driver, and whatever stands at the other end."""

    def __init__(self, choice: int) -> None:
        self.clock = HeldClock()
        self.dialect = DSE if choice & 1 else SE
        self.driver = MeterDriver(None, random.Random(choice))
        self.driver.start(CREDENTIALS, self.clock.now)

    def serve(self) -> None:
        """Open the port with a sound module behind it, and talk until the link is up."""
        self.driver.port_opened(self.clock.now)
        profile = "bp35c2" if self.dialect is DSE else "bp35a1"
        rng = random.Random(1)
        air = Air(self.clock, rng, FAST)
        module = VirtualModule(parse_module_option(profile), MAC, rng, FAST)
        air.attach(module)
        for _ in range(MAX_TURNS):
            if self.driver.phase is Phase.SERVING:
                return
            output = self.driver.take_output()
            module.receive(output, self.clock.now)
            air.settle()
            written = b"".join(write.data for write in module.take_uart())
            self.driver.receive(written, self.clock.now)
            if not output and not written:
                self.clock.now = max(self.clock.now, self.driver.next_deadline() or 0.0)
                self.driver.tick(self.clock.now)
        raise AssertionError(f"not serving but {self.driver.phase}")


def run(data: bytes) -> None:
    """Read it in any pieces alike, and let a driver survive it."""
    choice, noise = (data[0], data[1:]) if data else (0, b"")
    _read(noise, choice)
    line = Line(choice)
    if choice & 2:
        line.serve()
    else:
        line.driver.port_opened(line.clock.now)
    for fed, seconds in steps(noise):
        line.driver.receive(fed, line.clock.now)
        line.clock.now += seconds
        line.driver.tick(line.clock.now)
        line.driver.send(b"\x10\x81", HOME, line.clock.now)
        assert len(line.driver.take_output()) <= 8192
        line.driver.take_events()
    line.driver.port_lost("the fuzzer lets go", line.clock.now)
    line.serve()


def _read(noise: bytes, choice: int) -> None:
    for hex_data in (True, False, None):
        whole, bytewise = (ReplyReader(DSE if choice & 1 else SE) for _ in range(2))
        whole.hex_data = bytewise.hex_data = hex_data
        told = list(whole.feed(noise))
        assert told == [reply for byte in noise for reply in bytewise.feed(bytes((byte,)))]
        assert whole.overlong <= len(noise) // MAX_REPLY_LINE
