"""How long the ECHONET Lite node takes from a request's bytes to the answer's bytes.

Measured on live data: every value is read anew for each request from an object with a moving
clock and register, and each first answer is checked before the clock is started. Figures are the
median over several repeats of the mean time of one request, in microseconds.
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from meter_runtime.broute.echonet.data import MeterSettings
from meter_runtime.broute.echonet.frame import Esv, Frame, Property, encode, parse
from meter_runtime.broute.echonet.meter_class import METER_EOJ
from meter_runtime.broute.echonet.node import CONTROLLER_EOJ, EchonetNode
from meter_runtime.clock import HALF_HOUR_S

NOON_JST = 1_800_068_400.0
"""2027-01-16 12:00 JST."""

BATCHES = ((1, 201), (100, 31), (10_000, 5))
"""Requests in a row, and repeats of the row."""


class Row(NamedTuple):
    """One measured figure."""

    name: str
    figure: float
    unit: str


class MovingMeter:
    """A meter at work: its clock runs a second per reading, its registers with it."""

    epoch = 1

    def __init__(self) -> None:
        self._now = NOON_JST

    def wall(self) -> float:
        self._now += 1.0
        return self._now

    def clock_trusted(self) -> bool:
        return True

    def eui64(self) -> bytes:
        return bytes(8)

    def fault(self) -> bool:
        return False

    def forward_mwh(self) -> int:
        return int(self._now) * 10

    def reverse_mwh(self) -> int:
        return int(self._now)

    def power_w(self) -> int:
        return int(self._now) % 6000 - 1000

    def current_r_ma(self) -> int:
        return int(self._now) % 30_000

    def current_t_ma(self) -> int:
        return -(int(self._now) % 7_000)

    def boundary(self, slot: int) -> tuple[int, int] | None:
        return (slot * 2_500, slot * 700) if slot * HALF_HOUR_S <= self._now else None

    def minute(self, minute: int) -> tuple[int, int]:
        return minute * 80, minute * 20


def get(*epcs: int) -> bytes:
    """A Get of these properties, as a controller sends it."""
    asked = tuple(Property(epc) for epc in epcs)
    return encode(Frame(1, CONTROLLER_EOJ, METER_EOJ, Esv.GET, asked))


REQUESTS = (
    ("E7", get(0xE7)),
    ("six properties", get(0x80, 0x88, 0xE7, 0xE8, 0xE0, 0xE3)),
    ("E2", get(0xE2)),
)


def measure() -> list[Row]:
    """Every request in batches of 1, 100 and 10 000."""
    node = EchonetNode(MeterSettings("A1"), MovingMeter())
    choose_yesterday = Frame(1, CONTROLLER_EOJ, METER_EOJ, Esv.SET_C, (Property(0xE5, b"\x01"),))
    assert node.handle(encode(choose_yesterday)) is not None
    rows = []
    for name, request in REQUESTS:
        _check(request, node.handle(request))
        for batch, repeats in BATCHES:
            times = [_time(node.handle, request, batch) for _ in range(repeats)]
            rows.append(Row(f"{name} x {batch}", round(statistics.median(times), 2), "µs/request"))
    return rows


def _check(request: bytes, answer: bytes | None) -> None:
    assert answer is not None
    asked, told = parse(request), parse(answer)
    assert told.esv == Esv.GET_RES
    assert [epc for epc, _ in told.properties] == [epc for epc, _ in asked.properties]


def _time(handle: Callable[[bytes], bytes | None], request: bytes, batch: int) -> float:
    repeat = range(batch)
    start = time.perf_counter()
    for _ in repeat:
        handle(request)
    return (time.perf_counter() - start) / batch * 1e6


def main() -> None:
    """Print the table."""
    for row in measure():
        print(f"{row.name:<24}{row.figure:>8.2f} {row.unit}")


if __name__ == "__main__":
    main()
