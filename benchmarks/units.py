"""What plug-in units cost: to find them, to read them, and what is lost of fast pulses.

The board is the bench's, drivers and discovery are the real ones, and the chips answer at once: on
a board of copper a transfer takes its time on the wire as well, 0.1 ms a byte at 100 kHz, which
costs no CPU. The idle meter lives in real time, with a switching unit and with a voltage unit, and
its figure includes what the room around it needs. Pulses come at 200 a second, far beyond what S0
allows, and are read once a second for an hour of virtual time.
"""

import asyncio
import statistics
import time
from pathlib import Path

from benchmarks.row import Row
from meter_runtime.bench.board.pulse_source import PulseSource
from meter_runtime.bench.board.supply import Supply
from meter_runtime.bench.board.virtual_board import VirtualBoard
from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.units.board import Wires
from meter_runtime.units.contracts import UnitKind, Wiring
from meter_runtime.units.discovery import Presence, discover
from meter_runtime.units.drivers import DriverContext, load_driver
from meter_runtime.units.metering.simulated import SteadyLoad

DISCOVERIES = 50
IDLE_S = 5.0
PULSES_S = 3600
HERTZ = 200

DISCOVERY_AIM_MS = 50.0
IDLE_AIM_MS = 20.0
LOST_AIM = 0.0

_EXAMPLES = Path(__file__).parents[1] / "examples" / "units"
_SWITCHED = _EXAMPLES / "two-way-60a.toml"
_WATCHED = _EXAMPLES / "voltage.toml"
_PULSES_PER_KWH = 100_000
_JOULE_PER_KWH = 3_600_000
_PULSE_MS = 2.0
_START = 1_790_000_000.0


def measure(
    discoveries: int = DISCOVERIES, idle_s: float = IDLE_S, pulses_s: int = PULSES_S
) -> list[Row]:
    """Medians over the discoveries; the rest is measured once."""
    return [
        Row("discovery of three units", _discovery_ms(discoveries), "ms", DISCOVERY_AIM_MS),
        Row("idle at 1 Hz, switching unit", _idle_ms(_SWITCHED, idle_s), "ms/s", IDLE_AIM_MS),
        Row("idle at 1 Hz, voltage unit", _idle_ms(_WATCHED, idle_s), "ms/s", IDLE_AIM_MS),
        Row(f"pulses lost of {HERTZ} a second", _lost(pulses_s), "pulses", LOST_AIM),
    ]


def _discovery_ms(times: int) -> float:
    async def run() -> float:
        took = []
        async with Bench(BenchOptions(units=_SWITCHED)) as bench:
            for _ in range(times):
                began = time.perf_counter()
                found = await discover(bench.body.board, {})
                took.append(time.perf_counter() - began)
                assert all(each.presence is Presence.FOUND for each in found.values())
        return statistics.median(took) * 1e3

    return asyncio.run(run())


def _idle_ms(units: Path, seconds: float) -> float:
    async def run() -> float:
        async with Bench(BenchOptions(units=units)) as bench:
            began, used = time.perf_counter(), time.process_time()
            await asyncio.sleep(seconds)
            used_ms = (time.process_time() - used) * 1e3
            assert bench.status()["combination"]["in_service"]
            return used_ms / (time.perf_counter() - began)

    return asyncio.run(run())


def _lost(seconds: int) -> float:
    async def run() -> float:
        clock = BenchClock(_START)
        board = VirtualBoard(clock)
        power_w = HERTZ * _JOULE_PER_KWH // _PULSES_PER_KWH
        load = SteadyLoad(power_w, Wiring.ONE_PHASE_THREE_WIRE)
        supply = Supply(clock.monotonic, load, _START)
        slot = board.socket(UnitKind.METERING.value)
        source = PulseSource(
            lambda: supply.registers,
            _PULSES_PER_KWH,
            slot.wire("pulse_forward"),
            pulse_ms=_PULSE_MS,
        )
        options = {"serial": "P1", "pulses_per_kwh": _PULSES_PER_KWH, "debounce_ms": 0}
        driver = load_driver(UnitKind.METERING, "s0")
        unit = await driver.build(DriverContext(clock, options, wires=Wires(board, slot.profile)))

        async def nothing() -> None:
            """The reading is what counts, not the minute."""

        for _ in range(seconds):
            await clock.advance(1, nothing)
            await unit.read()
        # Full seconds are where a pulse begins: the last look is between two.
        await clock.advance(0.5 / HERTZ, nothing)
        await unit.read()
        (counter,) = unit.counters
        assert source.pulses[0] >= (seconds - 1) * HERTZ
        return float(source.pulses[0] - counter.pulses)

    return asyncio.run(run())
