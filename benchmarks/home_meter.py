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
from meter_runtime.bench.household import metering_unit
from meter_runtime.bench.laboratory import DEVICE_KEY
from meter_runtime.bench.options import BenchOptions
from meter_runtime.clock import Clock, first_slot_of, jst_day, slot_start
from meter_runtime.system_clock import SystemClock

_OPTIONS = BenchOptions()


@asynccontextmanager
async def home_meter(history_days: int) -> AsyncIterator[runtime.Meter]:
    """A meter that has measured since 00:00 JST of ``history_days`` ago, at least 1, and read
    its unit once since it was built. Nothing runs: ``meter.metering.poll()`` is its heartbeat."""
    with tempfile.TemporaryDirectory(prefix="meter-benchmark-") as scratch:
        config = _configuration(Path(scratch))
        await _live_through(history_days, config)
        meter = _build(config, SystemClock())
        try:
            await meter.metering.poll()
            yield meter
        finally:
            meter.close()


async def _live_through(history_days: int, config: cfg.Config) -> None:
    first_day = jst_day(time.time()) - timedelta(days=history_days)
    # A second early, so that the unit is fitted before the first boundary.
    clock = BenchClock(slot_start(first_slot_of(first_day)) - 1.0)
    meter = _build(config, clock)
    try:
        with meter.metering.held():
            await meter.metering.poll()
            await clock.advance(time.time() - clock.wall(), meter.metering.poll)
    finally:
        meter.close()


def _build(config: cfg.Config, clock: Clock) -> runtime.Meter:
    unit = metering_unit(_OPTIONS, clock, config.storage.state_dir)
    stores = runtime.open_stores(config)
    return runtime.build(config, stores, clock, DEVICE_KEY, metering_unit=unit)


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
