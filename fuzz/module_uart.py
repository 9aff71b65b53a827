"""A virtual module's UART: whatever a HEMS writes, in a room with a meter that serves.

The first byte chooses the product and the state at power-up. Each step is fed whole to one module
and byte by byte to its twin in a second room; both must say the same.
"""

import random
from collections.abc import Callable

from fuzz import steps
from meter_runtime.bench.air import FAST, Air
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.profiles import PROFILES, parse_module_option
from meter_runtime.bench.module.uart import MAX_WRITES
from meter_runtime.clock import Trust

METER_MAC = bytes.fromhex("024D540000000001")
HEMS_MAC = bytes.fromhex("024D540000000002")
ROUTE_B_ID = "0123456789ABCDEF0123456789ABCDEF"
METER_IP = "FE80:0000:0000:0000:004D:5400:0000:0001"

_SET_UP = (
    f"SKSETPWD C 0123456789AB\rSKSETRBID {ROUTE_B_ID}\rSKSREG S2 21\rSKSREG S3 5678\r".encode()
)
_JOIN = b"\0" + _SET_UP + f"SKJOIN {METER_IP}\r\0\x01".encode()
SEEDS = (
    b"\0" + _SET_UP + b"SKSCAN 2 FFFFFFFF 6\r\0\x10SKINFO\r",
    b"\x03" + _SET_UP + b"SKSCAN 0 FFFFFFFF 6 0\r\0\x10SKSCAN 3 FFFFFFFF 4 0\r",
    _JOIN + f"SKSENDTO 1 {METER_IP} 0E1A 1 0004 abcd\r\0\x01SKTERM\r".encode(),
    _JOIN + f"SKREJOIN\r\0\x01SKPING {METER_IP}\r\0\x08SKTABLE 1\rSKTABLE 2\rSKTABLE F\r".encode(),
    b"\x10WOPT 01\rROPT\rWUART 00\rRUART\rSKVER\rSKAPPVER\rSKSREG SFE 0\rSKSREG SA2 1\r",
    b"\0SKSTART\rSKUDPPORT 3 0E1B\rSKSAVE\rSKLOAD\rSKERASE\rSKDSLEEP\r\r\0\x01SKRESET\r",
    b"\0SKSETPWD C 0123456789\xd0\xce\rSKSETPSK 10 000102030405060708090A0B0C0D0E0F\r",
    b"\x02SKSETKEY 1 000102030405060708090A0B0C0D0E0F\rSKLL64 024D540000000001\r",
)


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


class Room:
    """A serving meter's module, and one for the fuzzer."""

    def __init__(self, choice: int) -> None:
        names = sorted(PROFILES)
        option = f"{names[choice % len(names)]}:echo={choice >> 3 & 1},wopt={choice >> 4 & 1}"
        self.clock = HeldClock()
        rng = random.Random(choice)
        self.air = Air(self.clock, rng, FAST)
        meter = VirtualModule(parse_module_option("bp35a1"), METER_MAC, rng, FAST)
        self.module = VirtualModule(parse_module_option(option), HEMS_MAC, rng, FAST)
        self.air.attach(meter)
        self.air.attach(self.module)
        meter.receive(_SET_UP + b"SKSTART\r", self.clock.now)
        self.settle()

    def settle(self) -> list[bytes]:
        """Let the room catch up with the clock; what the module wrote."""
        self.air.settle()
        return [write.data for write in self.module.take_uart()]


def run(data: bytes) -> None:
    """Feed both rooms; they agree, and what is written is whole and bounded."""
    whole, bytewise = Room(data[0] if data else 0), Room(data[0] if data else 0)
    for fed, seconds in steps(data[1:]):
        whole.module.receive(fed, whole.clock.now)
        for byte in fed:
            bytewise.module.receive(bytes((byte,)), bytewise.clock.now)
        for room in (whole, bytewise):
            assert room.module.deadline is None or room.module.deadline < float("inf")
        written = whole.settle()
        assert written == bytewise.settle()
        for room in (whole, bytewise):
            room.clock.now += seconds
        written += whole.settle()
        bytewise.settle()
        assert len(written) <= 2 * MAX_WRITES
        assert all(one.endswith((b"\r", b"\n")) for one in written), written
