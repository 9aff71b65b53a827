"""Units pulled and swapped while the meter runs: what must not be lost, and what must be hidden."""

import dataclasses
from pathlib import Path

import pytest

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.metrology.boundaries import MINUTE_S
from meter_runtime.storage.ring import Record

from .conftest import eventually
from .fault_room import QUICK

EXAMPLES = Path(__file__).parents[2] / "examples" / "units"
SWITCHED = dataclasses.replace(QUICK, units=EXAMPLES / "two-way-60a.toml")
MWS_PER_MWH = 3600


def state(bench: Bench, slot: str) -> str:
    shown = bench.status()["units"][slot]
    return "absent" if shown is None else str(shown["state"])


def codes(bench: Bench) -> set[str]:
    return {finding["code"] for finding in bench.status()["combination"]["findings"]}


async def swap(bench: Bench, slot: str) -> None:
    """Another unit is in the slot and at work."""
    bench.inject("unit-swap", slot=slot)
    await bench.advance(3)
    await bench.faults_at_work.settled()
    await eventually(lambda: state(bench, slot) == "active")


async def unplugged_for(bench: Bench, slot: str, seconds: float) -> None:
    bench.inject("unit-unplug", slot=slot)
    await bench.faults_at_work.settled()
    await eventually(lambda: state(bench, slot) == "removed")
    await bench.advance(seconds)
    bench.clear("unit-unplug")
    await bench.faults_at_work.settled()
    await eventually(lambda: state(bench, slot) == "active")


def history(bench: Bench) -> list[Record]:
    return list(bench.meter.metering.ring.records())


@pytest.mark.parametrize("slot", ["communication", "optional"])
async def test_no_reading_is_lost_to_another_units_swap(slot: str) -> None:
    async with Bench(SWITCHED) as bench:
        await bench.advance(600)
        metering, missed = bench.meter.metering, bench.meter.metering.read_failures
        first = int(bench.clock.wall() // MINUTE_S) + 1
        counted = bench.body.household.supply.registers
        await unplugged_for(bench, slot, 900)
        await swap(bench, slot)
        await bench.advance(900)
        assert metering is bench.meter.metering
        assert metering.read_failures == missed
        last = int(bench.clock.wall() // MINUTE_S)
        assert last - first > 28
        assert all(metering.minute(minute) is not None for minute in range(first, last))
        now = bench.body.household.supply.registers
        assert metering.forward_mwh is not None
        assert abs(metering.forward_mwh - now[0] // MWS_PER_MWH) < 100
        assert now != counted


async def test_half_hours_without_the_metering_unit_have_no_data_and_the_rest_stays() -> None:
    options = dataclasses.replace(SWITCHED, history_days=1)
    async with Bench(options) as bench:
        before = history(bench)
        await unplugged_for(bench, "metering", 2 * 3600)
        await bench.advance(3600)
        after = history(bench)
        assert after[: len(before)] == before
        slots = [record.slot for record in after[len(before) :]]
        assert before[-1].slot + 4 not in slots
        assert slots[-1] - before[-1].slot >= 5
        energies = [record.forward_dwh for record in after]
        assert energies == sorted(energies)


async def test_another_metering_unit_begins_a_new_history_that_outlives_a_restart(
    tmp_path: Path,
) -> None:
    options = dataclasses.replace(SWITCHED, history_days=1, state_dir=tmp_path)
    async with Bench(options) as bench:
        before = {record.slot: record for record in history(bench)}
        serial = bench.status()["units"]["metering"]["serial"]
        await swap(bench, "metering")
        assert codes(bench) == {"U-21"}
        swapped = bench.status()["units"]["metering"]["serial"]
        assert swapped != serial
        await bench.advance(3600)
        assert not {record.slot for record in history(bench)} & set(before)
        served = bench.meter.metering.record(min(before))
        assert served is None
    async with Bench(options) as bench:
        assert bench.status()["units"]["metering"]["serial"] == swapped
        assert not {record.slot for record in history(bench)} & set(before)
        assert history(bench)


async def test_another_communication_unit_is_told_until_credentials_are_set() -> None:
    async with Bench(SWITCHED) as bench:
        await swap(bench, "communication")
        assert codes(bench) == {"U-22"}
        bench.inject("rewrite", password="NEWPASSWORD1")
        await bench.faults_at_work.settled()
        await eventually(lambda: not codes(bench))


async def test_a_meter_without_power_notices_a_swap_when_it_is_back() -> None:
    async with Bench(dataclasses.replace(QUICK, history_days=1)) as bench:
        before = bench.status()["units"]["metering"]["serial"]
        bench.inject("replaced", down=0)
        await bench.faults_at_work.settled()
        assert bench.status()["units"]["metering"]["serial"] != before
        assert codes(bench) == {"U-21"}


async def test_units_are_pulled_and_put_back_in_any_order() -> None:
    async with Bench(SWITCHED) as bench:
        for slot in ("metering", "communication", "optional"):
            await bench.unplug_unit(slot)
        await eventually(
            lambda: {unit["state"] for unit in bench.status()["units"].values()} == {"removed"}
        )
        for slot in ("optional", "communication", "metering"):
            await bench.plug_unit(slot)
        await eventually(
            lambda: {unit["state"] for unit in bench.status()["units"].values()} == {"active"}
        )
        assert codes(bench) == set()


async def test_a_bench_whose_unit_was_out_when_it_ended_has_it_in_again(tmp_path: Path) -> None:
    options = BenchOptions(state_dir=tmp_path)
    async with Bench(options) as bench:
        await bench.advance(3600)
        before = bench.status()["registers"]["forward_wh"]
        await bench.unplug_unit("metering")
        await eventually(lambda: state(bench, "metering") == "removed")
        await bench.advance(6 * 3600)
    async with Bench(options) as bench:
        await bench.advance(1)
        assert state(bench, "metering") == "active"
        assert 0 <= bench.status()["registers"]["forward_wh"] - before < 50
