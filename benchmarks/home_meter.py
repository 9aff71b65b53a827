"""A real meter with a past, as the runtime wires it, for requests handed straight to its node.

The past is lived through, not invented: the household's energy is read minute by minute into the
registers and the ring's file. Then the meter is built a second time on the host's clock, as after
a restart, and its history comes from that file.
"""

import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from meter_runtime import config as cfg
from meter_runtime import runtime
from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.laboratory import DEVICE_KEY
from meter_runtime.bench.load import LoadModel
from meter_runtime.bench.options import BenchOptions
from meter_runtime.clock import first_slot_of, jst_day, slot_start
from meter_runtime.discipline import CorrectableClock
from meter_runtime.system_clock import SystemClock
from meter_runtime.units.board_profiles import GENERIC, load_profile
from meter_runtime.units.contracts import MeteringUnit, Nameplate, UnitKind, Wiring
from meter_runtime.units.metering.simulated import SimulatedMeteringUnit
from meter_runtime.units.real_board import RealBoard

_OPTIONS = BenchOptions()
_LOAD = LoadModel(_OPTIONS.seed, pv_kw=_OPTIONS.pv_kw, wiring=_OPTIONS.wiring)
_NAMEPLATE = Nameplate(
    UnitKind.METERING, "simulated", "S000000001", wiring=Wiring.ONE_PHASE_THREE_WIRE, capacity_a=60
)


@asynccontextmanager
async def home_meter(history_days: int) -> AsyncIterator[runtime.Meter]:
    """A meter that has measured since 00:00 JST of ``history_days`` ago, at least 1, and read
    its unit once since it was built. Nothing runs: ``meter.metering.poll()`` is its heartbeat."""
    with tempfile.TemporaryDirectory(prefix="meter-benchmark-") as scratch:
        config = _configuration(Path(scratch))
        remembered = await _live_through(history_days, config)
        clock = SystemClock()
        unit = SimulatedMeteringUnit.restore(remembered, clock, _LOAD, _NAMEPLATE, clock.wall())
        meter = await _build(config, clock, unit)
        try:
            await meter.metering.poll()
            yield meter
        finally:
            await meter.close()


async def _live_through(history_days: int, config: cfg.Config) -> str:
    """What the unit remembers afterwards."""
    first_day = jst_day(time.time()) - timedelta(days=history_days)
    # A second early, so that the unit is fitted before the first boundary.
    clock = BenchClock(slot_start(first_slot_of(first_day)) - 1.0)
    unit = SimulatedMeteringUnit(clock, _LOAD, _NAMEPLATE, clock.wall())
    meter = await _build(config, clock, unit)
    try:
        with meter.metering.held():
            await meter.metering.poll()
            await clock.advance(time.time() - clock.wall(), meter.metering.poll)
    finally:
        await meter.close()
    return unit.snapshot()


async def _build(config: cfg.Config, clock: CorrectableClock, unit: MeteringUnit) -> runtime.Meter:
    stores, board = runtime.open_stores(config), RealBoard(load_profile(GENERIC))
    return await runtime.build(config, stores, clock, DEVICE_KEY, board=board, metering_unit=unit)


def _configuration(state_dir: Path) -> cfg.Config:
    credentials = _OPTIONS.credentials()
    return cfg.Config(
        meter=cfg.Meter(id="BENCHMARK"),
        storage=cfg.Storage(state_dir=state_dir),
        units=cfg.Units(
            # Never opened: only a meter that runs talks to its module.
            communication=cfg.CommunicationUnit(port=f"serial:{state_dir}/module")
        ),
        broute=cfg.BRoute(id=credentials.route_b_id, password=credentials.password),
    )
