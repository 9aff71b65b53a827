"""A PLC modem's line, both ways: the driver's ear, and the virtual modem's.

Bit 0 of the first byte chooses whether the modem is up and serving before the fuzzer takes the line
over. What is fed goes to the driver as if the modem had said it, and to a modem as if a host had.
Frames are full of NULs, so that it is F1 that ends a step here. In the end a sound modem stands at
a re-opened port, and the driver serves again.
"""

import random
from collections.abc import Iterator

from fuzz import QUARTER_S
from fuzz.module_uart import HeldClock
from meter_runtime.bench.plc.line import Line
from meter_runtime.bench.plc.modem import MAX_WRITES, VirtualModem
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.comm.g3plc import ipv6, usi
from meter_runtime.comm.g3plc import messages as m
from meter_runtime.comm.g3plc.driver import Phase, PlcDriver
from meter_runtime.secret import Secret

MAC = bytes.fromhex("024D500000000001")
HOME = bytes.fromhex("024D500000000002")
CREDENTIALS = LinkCredentials("0" * 32, Secret("0123456789AB"))
MAX_TURNS = 400
MAX_OUTPUT = 65_536


def _said(*messages: m.Message) -> bytes:
    return b"".join(usi.frame(m.encode(message)) for message in messages)


_PACKET = ipv6.encode(
    ipv6.UdpPacket(ipv6.link_local(1, 1), ipv6.link_local(1, 0), 3610, 3610, b"\x10\x81ab")
)
_JOIN = _said(m.JoinRequestIndication(HOME), m.JoinCompleteIndication(HOME, 1))
SEEDS = (
    b"\x01" + _JOIN + _said(m.DataIndication(160, _PACKET), m.LeaveIndication(1)),
    b"\x01" + _JOIN + b"\xf1\xff" + _said(m.Status(1, 23), m.DataConfirm(0, 1)),
    b"\0" + _said(m.ResetConfirm(0), m.Status(0, 10), m.MacGetConfirm(0, 0x8000001, 0, MAC)),
    b"\0" + _said(m.LbpSetConfirm(0, 0, 0), m.StartConfirm(1), m.Other(99, b"ab")),
    b"\0" + _said(m.Initialize(3, True), m.LbpSet(2, 0, MAC * 2), m.NetworkStart(0x781D)),
    b"\0"
    + _said(m.ShortAddressAssign(HOME, 1), m.Kick(1, HOME), m.DataRequest(1, True, 0, _PACKET)),
)


def steps(data: bytes) -> Iterator[tuple[bytes, float]]:
    """As :func:`fuzz.steps`, with F1 in NUL's place."""
    while data:
        fed, _, rest = data.partition(b"\xf1")
        yield fed, QUARTER_S * rest[0] if rest else 0.0
        data = rest[1:]


class Room:
    """A driver, and whatever stands at the other end."""

    def __init__(self) -> None:
        self.clock = HeldClock()
        self.driver = PlcDriver(random.Random(1), random.Random(2).randbytes)
        self.driver.start(CREDENTIALS, self.clock.now)

    def serve(self) -> None:
        """Open the port with a sound modem behind it, and talk until the link is up."""
        self.driver.port_opened(self.clock.now)
        line = Line(self.clock, random.Random(3))
        modem = VirtualModem(MAC, random.Random(4))
        line.attach(modem)
        for _ in range(MAX_TURNS):
            if self.driver.phase is Phase.SERVING:
                return
            output = self.driver.take_output()
            modem.receive(output, self.clock.now)
            line.settle()
            written = b"".join(modem.take_uart())
            self.driver.receive(written, self.clock.now)
            if not output and not written:
                self.clock.now = max(self.clock.now, self.driver.next_deadline() or 0.0)
                self.driver.tick(self.clock.now)
        raise AssertionError(f"not serving but {self.driver.phase}")


def run(data: bytes) -> None:
    """Read it in any pieces alike, and let a driver and a modem survive it."""
    choice, noise = (data[0], data[1:]) if data else (0, b"")
    whole, bytewise = usi.FrameReader(), usi.FrameReader()
    told = list(whole.feed(noise))
    assert told == [payload for byte in noise for payload in bytewise.feed(bytes((byte,)))]
    room = Room()
    modem = VirtualModem(MAC, random.Random(5))
    if choice & 1:
        room.serve()
    else:
        room.driver.port_opened(room.clock.now)
    for fed, seconds in steps(noise):
        room.driver.receive(fed, room.clock.now)
        modem.receive(fed, room.clock.now)
        room.clock.now += seconds
        room.driver.tick(room.clock.now)
        modem.tick(room.clock.now)
        room.driver.send(b"\x10\x81", ipv6.link_local(1, 1), room.clock.now)
        assert len(room.driver.take_output()) <= MAX_OUTPUT
        assert len(modem.take_uart()) <= MAX_WRITES
        modem.take_line()
        room.driver.take_events()
    room.driver.port_lost("the fuzzer lets go", room.clock.now)
    room.serve()
