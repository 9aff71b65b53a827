"""Faults of the meter's clock."""

import asyncio
from typing import TYPE_CHECKING

from meter_runtime.bench.clock import MAX_RATE_PPM
from meter_runtime.bench.faults.fault import Active, End, Fault
from meter_runtime.bench.faults.frames import parsed, register_incoming, register_outgoing
from meter_runtime.bench.faults.parameters import Number, Parameter, Seconds
from meter_runtime.broute.echonet.frame import Esv
from meter_runtime.clock import SLOTS_PER_DAY, first_slot_of, jst_day, slot_start
from meter_runtime.comm.contracts import Datagram

if TYPE_CHECKING:
    from meter_runtime.bench.laboratory import Bench

_DAY_S = 86_400.0
_DAY_FOR_HISTORY = 0xE5
AFTER_MIDNIGHT_S = 5.0
"""Time enough for the reading that stands for 00:00."""


def _step(bench: "Bench", active: Active) -> End:
    seconds = active.values["seconds"]
    bench.clock.step(seconds)
    return lambda: bench.clock.step(-seconds)


def _drift(bench: "Bench", active: Active) -> End:
    before = bench.clock.rate_ppm
    bench.clock.rate_ppm = active.values["ppm"]

    def end() -> None:
        bench.clock.rate_ppm = before

    return end


def _midnight(bench: "Bench", active: Active) -> End:
    """Once E5 has been answered the day goes by; what the home asks next waits for it."""
    passed = asyncio.Event()
    passed.set()

    async def pass_midnight() -> None:
        try:
            wall = bench.clock.wall()
            midnight = slot_start(first_slot_of(jst_day(wall)) + SLOTS_PER_DAY)
            await bench.advance(midnight - wall + AFTER_MIDNIGHT_S)
        finally:
            passed.set()

    def outgoing(payload: bytes, _peer: str) -> list[bytes]:
        if _sets_the_day(payload) and active.strike():
            passed.clear()
            active.spawn(pass_midnight())
        return [payload]

    async def incoming(datagram: Datagram) -> Datagram | None:
        await passed.wait()
        return datagram

    no_longer_out = register_outgoing(bench, outgoing)
    no_longer_in = register_incoming(bench, incoming)

    async def leave() -> None:
        no_longer_in()

    def end() -> None:
        no_longer_out()
        # Behind the midnight that may be passing: requests wait for it until then.
        active.spawn(leave())

    return end


def _sets_the_day(payload: bytes) -> bool:
    """A Set of E5 was granted."""
    frame = parsed(payload)
    if frame is None or frame.esv != Esv.SET_RES:
        return False
    return any(item.epc == _DAY_FOR_HISTORY for item in frame.properties)


FAULTS = (
    Fault(
        "step",
        "clock",
        "The meter's clock is set wrong, forward or back; clear sets it right again.",
        _step,
        (Parameter("seconds", Seconds(-40 * _DAY_S, 40 * _DAY_S), "1h", "how far"),),
    ),
    Fault(
        "drift",
        "clock",
        "The meter's clock runs fast or slow.",
        _drift,
        (Parameter("ppm", Number(-MAX_RATE_PPM, MAX_RATE_PPM, "ppm"), 1000, "above 0 is fast"),),
    ),
    Fault(
        "midnight",
        "clock",
        "Midnight passes between the HEMS's choice of a day (E5) and its reading (E2).",
        _midnight,
        counts="days",
        usual_count=1,
    ),
)
