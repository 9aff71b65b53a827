"""A HEMS nobody here wrote joins the meter and reads it: every value equals what the meter holds.

The whole path is real: household, metering unit, registers, ring, ECHONET Lite node, radio module
on a serial line, air, second module on a pseudo-terminal, and the `momonga` library, unmodified.
"""

from collections.abc import AsyncIterator
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from momonga import EchonetPropertyCode

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.clock import HALF_HOUR_S, first_slot_of, jst, jst_day, slot_at, slot_start

from .conftest import Home, steady

UNIT_DWH = 1000
"""One register count of the default unit, 0.1 kWh, in the ring's 0.1 Wh."""


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["bp35a1", "bp35c2"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    options = BenchOptions(
        hems_modules=(request.param,), meter_module=request.param, history_days=40
    )
    async with Bench(options) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(bench: Bench) -> AsyncIterator[Home]:
    async with Home(bench).joined() as joined:
        yield joined


def counts(kwh: float | None) -> int | None:
    """Register counts of 0.1 kWh in momonga's floating kilowatt-hours."""
    return None if kwh is None else int((Decimal(str(kwh)) / Decimal("0.1")).to_integral_value())


async def test_power_currents_and_registers_are_the_meters(bench: Bench, home: Home) -> None:
    metering = bench.meter.metering

    power, meters = await steady(lambda: metering.power_w, lambda: home.get("instantaneous_power"))
    assert power == meters

    currents, meters_ma = await steady(
        lambda: (metering.current_r_ma, metering.current_t_ma),
        lambda: home.get("instantaneous_current"),
    )
    for phase, milliamperes in zip(("r", "t"), meters_ma, strict=True):
        assert milliamperes is not None
        assert abs(currents[f"{phase} phase current"] * 1000 - milliamperes) <= 50

    for reverse, register in ((False, "forward_mwh"), (True, "reverse_mwh")):
        read = await home.get("measured_cumulative_energy", reverse=reverse)
        assert counts(read) == getattr(metering, register) // (UNIT_DWH * 100)


async def test_the_last_half_hour_is_the_rings(bench: Bench, home: Home) -> None:
    newest = bench.meter.metering.ring.newest()
    assert newest is not None
    for reverse in (False, True):
        fixed = await home.get("cumulative_energy_measured_at_fixed_time", reverse=reverse)
        stored = newest.reverse_dwh if reverse else newest.forward_dwh
        assert counts(fixed["cumulative energy"]) == stored // UNIT_DWH
        assert fixed["timestamp"] == jst(slot_start(newest.slot)).replace(tzinfo=None)


@pytest.mark.parametrize("reverse", [False, True])
async def test_each_half_hour_of_a_day_is_the_rings(
    bench: Bench, home: Home, reverse: bool
) -> None:
    metering, clock = bench.meter.metering, bench.clock
    for day in (0, 1, 40):
        rows = await home.get("historical_cumulative_energy_1", day=day, reverse=reverse)
        assert await home.get("day_for_historical_data_1") == day
        first = first_slot_of(jst_day(clock.wall()) - timedelta(days=day))
        assert len(rows) == 48
        stored = [metering.ring.get(first + i) for i in range(48)]
        expected = [
            None if row is None else (row.reverse_dwh if reverse else row.forward_dwh) // UNIT_DWH
            for row in stored
        ]
        assert [counts(row["cumulative energy"]) for row in rows] == expected
        missing = expected.count(None)
        # Yesterday and the oldest day are whole; of today the past alone is known.
        assert missing == (0 if day else 47 - slot_at(clock.wall()) + first)


async def test_clock_identity_and_maps_are_the_meters(bench: Bench, home: Home) -> None:
    now = jst(bench.clock.wall())
    read_time: time = await home.get("current_time_setting")
    read_date: date = await home.get("current_date_setting")
    minutes = (read_time.hour - now.hour) * 60 + read_time.minute - now.minute
    assert minutes % 1440 in (0, 1)
    assert read_date in (now.date(), (now + timedelta(minutes=1)).date())
    serial = (await home.get("serial_number")).rstrip("\0")
    assert serial == bench.meter.metering.unit.nameplate.serial
    assert await home.get("standard_version") == "F.0"
    assert await home.get("operation_status") is True
    assert await home.get("fault_status") is False
    readable = {int(code) for code in await home.get("properties_to_get_values")}
    assert {0xE0, 0xE3, 0xE2, 0xE4, 0xE7, 0xE8, 0xEA, 0xEB, 0xEC, 0xED} < readable
    assert len(readable) == 25
    settable = {int(code) for code in await home.get("properties_to_set_values")}
    assert settable == {0x81, 0xE5, 0xED}


async def test_the_half_hour_value_is_announced(bench: Bench, home: Home) -> None:
    to_boundary = HALF_HOUR_S - bench.clock.wall() % HALF_HOUR_S
    await bench.advance(to_boundary + 60)
    newest = bench.meter.metering.ring.newest()
    assert newest is not None
    assert slot_start(newest.slot) == bench.clock.wall() // HALF_HOUR_S * HALF_HOUR_S

    expected = jst(slot_start(newest.slot)).replace(tzinfo=None)
    forward = reverse = None
    while forward is None or forward["timestamp"] != expected:
        # A half hour that had just passed when the home joined is announced first.
        announced: dict[str, Any] | None = await home.get("notification", timeout=10)
        assert announced is not None
        properties = announced["properties"]
        forward = properties[EchonetPropertyCode.cumulative_energy_measured_at_fixed_time]
        reverse = properties[EchonetPropertyCode.cumulative_energy_measured_at_fixed_time_reversed]
    assert reverse is not None
    assert reverse["timestamp"] == expected
    assert counts(forward["cumulative energy"]) == newest.forward_dwh // UNIT_DWH
    assert counts(reverse["cumulative energy"]) == newest.reverse_dwh // UNIT_DWH
