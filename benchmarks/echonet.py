"""How long the meter takes from a request's bytes to the answer's bytes.

The requests go to the node that the runtime wired: the values come from the running metrology,
whose unit is read anew before each batch, and from the ring's file. The last answer of each batch
is compared with registers and ring. No port, no radio and no event loop are in the figures.
"""

import asyncio
import statistics
import struct
import time
from collections.abc import Callable, Sequence

from benchmarks.home_meter import home_meter
from benchmarks.row import Row
from meter_runtime.broute.echonet.frame import Esv, Frame, Property, encode, parse
from meter_runtime.broute.echonet.meter_class import METER_EOJ
from meter_runtime.broute.echonet.node import CONTROLLER_EOJ
from meter_runtime.clock import SLOTS_PER_DAY, first_slot_of, jst_day
from meter_runtime.metrology.service import MeteringService
from meter_runtime.runtime import Meter
from meter_runtime.storage.ring import Record

HISTORY_DAYS = 40
BATCHES = ((1, 201), (100, 31), (10_000, 9))
"""Requests in a row, and repeats of the row."""

GETS: Sequence[tuple[str, tuple[int, ...], float]] = (
    ("E7", (0xE7,), 8.0),
    ("six properties", (0x80, 0x88, 0xE7, 0xE8, 0xE0, 0xE3), 15.0),
    ("E2", (0xE2,), 10.0),
)
"""Name, codes, and the aim in µs."""

_YESTERDAY = 1
_MWH_PER_COUNT = 100_000
_DWH_PER_COUNT = 1_000
"""The meter counts 0.1 kWh (E1 = 01)."""
_DAY_ROW = struct.Struct(f">H{SLOTS_PER_DAY}I")


def measure(
    history_days: int = HISTORY_DAYS, batches: Sequence[tuple[int, int]] = BATCHES
) -> list[Row]:
    """Each Get in each batch; and E2 of another day each time, whose row is not at hand."""
    return asyncio.run(_measure(history_days, batches))


async def _measure(history_days: int, batches: Sequence[tuple[int, int]]) -> list[Row]:
    rows = []
    async with home_meter(history_days) as meter:
        handle = _node_of(meter)
        for name, epcs, aim_us in GETS:
            request = get(*epcs)
            for batch, repeats in batches:
                times = []
                for _ in range(repeats):
                    await meter.metering.poll()
                    _choose_day(handle, _YESTERDAY)
                    spent_us, answer = _time(handle, request, batch)
                    _check(meter.metering, epcs, _YESTERDAY, answer)
                    times.append(spent_us)
                figure = statistics.median(times)
                rows.append(Row(f"{name} x {batch:,}", figure, "µs/request", aim_us))
        times = []
        for days_ago in range(1, history_days + 1):
            _choose_day(handle, days_ago)
            spent_us, answer = _time(handle, get(0xE2), 1)
            _check(meter.metering, (0xE2,), days_ago, answer)
            times.append(spent_us)
        rows.append(Row("E2 of another day each time", statistics.median(times), "µs/request"))
    return rows


def get(*epcs: int) -> bytes:
    """A Get of these properties, as a controller sends it."""
    asked = tuple(Property(epc) for epc in epcs)
    return encode(Frame(1, CONTROLLER_EOJ, METER_EOJ, Esv.GET, asked))


def _node_of(meter: Meter) -> Callable[[bytes], bytes | None]:
    assert meter.broute is not None
    return meter.broute.node.handle


def _choose_day(handle: Callable[[bytes], bytes | None], days_ago: int) -> None:
    wish = Property(0xE5, bytes((days_ago,)))
    answer = handle(encode(Frame(1, CONTROLLER_EOJ, METER_EOJ, Esv.SET_C, (wish,))))
    assert answer is not None
    assert parse(answer).esv == Esv.SET_RES


def _time(
    handle: Callable[[bytes], bytes | None], request: bytes, batch: int
) -> tuple[float, bytes | None]:
    """Microseconds per request, and the last answer."""
    answer = None
    repeat = range(batch)
    start = time.perf_counter()
    for _ in repeat:
        answer = handle(request)
    return (time.perf_counter() - start) / batch * 1e6, answer


def _check(
    metering: MeteringService, epcs: tuple[int, ...], days_ago: int, answer: bytes | None
) -> None:
    """Compare an answer with what registers and ring hold."""
    assert answer is not None
    told = parse(answer)
    assert told.esv == Esv.GET_RES
    assert told.properties == tuple(
        Property(epc, _expected(metering, epc, days_ago)) for epc in epcs
    )


def _expected(metering: MeteringService, epc: int, days_ago: int) -> bytes:
    match epc:
        case 0x80:
            return b"\x30"
        case 0x88:
            return b"\x42"
        case 0xE0:
            return (_known(metering.forward_mwh) // _MWH_PER_COUNT).to_bytes(4, "big")
        case 0xE3:
            return (_known(metering.reverse_mwh) // _MWH_PER_COUNT).to_bytes(4, "big")
        case 0xE7:
            return _known(metering.power_w).to_bytes(4, "big", signed=True)
        case 0xE8:
            lines = (_known(metering.current_r_ma), _known(metering.current_t_ma))
            return b"".join(_deci_amperes(line).to_bytes(2, "big", signed=True) for line in lines)
        case 0xE2:
            first = first_slot_of(jst_day(time.time())) - days_ago * SLOTS_PER_DAY
            records = [metering.ring.get(first + half_hour) for half_hour in range(SLOTS_PER_DAY)]
            return _DAY_ROW.pack(days_ago, *(_counts(record) for record in records))
    raise ValueError(f"EPC {epc:02X} has no independent reading here")


def _known(value: int | None) -> int:
    assert value is not None
    return value


def _counts(record: Record | None) -> int:
    assert record is not None, "a half hour of the past is missing"
    return record.forward_dwh // _DWH_PER_COUNT


def _deci_amperes(current_ma: int) -> int:
    """To the nearest, halves away from zero."""
    size = (abs(current_ma) + 50) // 100
    return -size if current_ma < 0 else size
