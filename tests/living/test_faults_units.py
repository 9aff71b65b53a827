"""What operator and HEMS meet when units are pulled, swapped, mislabelled or disturbed."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from meter_runtime.bench.options import BenchOptions
from meter_runtime.errors import MeterError
from meter_runtime.units.contracts import SwitchPosition

from .conftest import eventually
from .fault_room import QUICK, SET_C, Home, effects_of, joined_home

EXAMPLES = Path(__file__).parents[2] / "examples" / "units"
SWITCHED = dataclasses.replace(QUICK, units=EXAMPLES / "two-way-60a.toml", history_days=1)
PULSED = dataclasses.replace(QUICK, units=EXAMPLES / "s0-pulses.toml")
NO_POWER = bytes.fromhex("7FFFFFFE")
NO_ENERGY = bytes.fromhex("FFFFFFFE")
STALE_S = 12
MWS_PER_COUNT = 360_000_000
"""EPC E1 of the bench: a count is 0.1 kWh."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home() -> AsyncIterator[Home]:
    async with joined_home(SWITCHED) as joined:
        yield joined


def unit(home: Home, slot: str) -> dict[str, Any]:
    """A slot as the operator sees it."""
    shown: dict[str, Any] | None = home.bench.status()["units"][slot]
    return {"state": "absent"} if shown is None else shown


def codes(home: Home) -> set[str]:
    return {finding["code"] for finding in home.bench.status()["combination"]["findings"]}


async def comes_to(home: Home, slot: str, state: str) -> None:
    await eventually(lambda: unit(home, slot)["state"] == state)


async def yesterday(home: Home) -> list[bytes]:
    """The registers of E2."""
    await home.rx(await home.send(0xE5, esv=SET_C, edt=b"\x01"))
    row = (await home.get(0xE2))[0xE2][2:]
    return [row[at : at + 4] for at in range(0, len(row), 4)]


async def is_silent(home: Home) -> None:
    """The metering unit does not answer: the home is told that nobody knows the power."""
    await home.bench.advance(STALE_S)
    assert await home.get(0xE7) == {0xE7: NO_POWER}
    assert await home.get(0x88) == {0x88: b"\x41"}


async def measures(home: Home) -> None:
    """Power is known again, and nothing is wrong."""
    await comes_to(home, "metering", "active")
    assert (await home.get(0xE7))[0xE7] != NO_POWER
    assert await home.get(0x88) == {0x88: b"\x42"}
    counted = home.bench.body.household.supply.registers[0] // MWS_PER_COUNT
    assert (await home.get(0xE0))[0xE0] == counted.to_bytes(4, "big")


async def test_an_unplugged_metering_unit_is_missed_and_goes_on_when_it_is_back(
    home: Home,
) -> None:
    serial, before = await home.get(0x8D), await yesterday(home)
    await home.begin("unit-unplug", slot="metering")
    await comes_to(home, "metering", "removed")
    await eventually(lambda: "U-01" in codes(home))
    home.bench.clear("unit-unplug")
    await home.settled()
    await measures_again_after_rejoin(home)
    assert await home.get(0x8D) == serial
    assert await yesterday(home) == before
    assert not codes(home)


async def test_an_unplugged_optional_unit_is_told_and_costs_no_reading(home: Home) -> None:
    missed = home.bench.meter.metering.read_failures
    async with home.trouble("unit-unplug", slot="optional"):
        await comes_to(home, "optional", "removed")
        await home.bench.advance(3600)
        assert (await home.get(0xE7))[0xE7] != NO_POWER
    await comes_to(home, "optional", "active")
    assert home.bench.meter.metering.read_failures == missed


async def test_an_unplugged_communication_unit_takes_the_air_away(home: Home) -> None:
    missed = home.bench.meter.metering.read_failures
    await home.begin("unit-unplug", slot="communication")
    await comes_to(home, "communication", "removed")
    assert await home.terminal.scan() is None
    await home.bench.advance(3600)
    home.bench.clear("unit-unplug")
    await home.settled()
    await comes_to(home, "communication", "active")
    await home.rejoin()
    await home.serves()
    assert home.bench.meter.metering.read_failures == missed
    assert not codes(home)


async def test_a_damaged_id_keeps_the_metering_unit_out_of_service(home: Home) -> None:
    home.bench.inject("wrong-id", slot="metering")
    await home.bench.advance(3)
    await home.settled()
    await comes_to(home, "metering", "abnormal")
    assert "U-23" in codes(home)
    assert not home.bench.status()["combination"]["in_service"]
    home.bench.clear("wrong-id")
    await home.bench.advance(3)
    await home.settled()
    await measures_again_after_rejoin(home)
    assert not codes(home)


async def test_a_chip_that_does_not_acknowledge_is_told_as_silence(home: Home) -> None:
    async with home.trouble("nak", slot="metering"):
        await home.effects("nak", 3)
        await is_silent(home)
    await home.bench.advance(60)
    await measures(home)


async def test_bits_that_turn_on_the_bus_never_turn_a_value(home: Home) -> None:
    async with home.trouble("bit-flip", slot="metering", rate=0.1):
        for _ in range(20):
            await home.bench.advance(60)
            counted = home.bench.body.household.supply.registers[0] // MWS_PER_COUNT
            told = int.from_bytes((await home.get(0xE0))[0xE0], "big")
            assert counted - 1 <= told <= counted
        assert effects_of(home.bench, "bit-flip") > 0
    await home.bench.advance(60)
    await measures(home)


async def test_a_stuck_bus_silences_every_unit_on_it_and_not_the_radio(home: Home) -> None:
    async with home.trouble("stuck-bus"):
        await is_silent(home)
        await home.serves()
    await home.bench.advance(60)
    await measures(home)


async def test_a_stuck_relay_is_a_mismatch_that_ends_when_it_moves_again(home: Home) -> None:
    switching = home.bench.meter.crew.switching
    await eventually(lambda: switching.status.position is SwitchPosition.CLOSED)
    async with home.trouble("latched-relay"):
        assert await switching.command(SwitchPosition.OPEN) is SwitchPosition.CLOSED
        assert switching.status.mismatch
        await home.serves()
    await home.bench.advance(120)
    assert await switching.command(SwitchPosition.CLOSED) is SwitchPosition.CLOSED
    assert not switching.status.mismatch


async def test_a_swapped_optional_unit_is_another_one(home: Home) -> None:
    before = unit(home, "optional")["serial"]
    home.bench.inject("unit-swap", slot="optional")
    await home.bench.advance(3)
    await home.settled()
    await comes_to(home, "optional", "active")
    assert unit(home, "optional")["serial"] != before
    await home.serves()


async def test_another_communication_unit_serves_and_is_told(home: Home) -> None:
    missed, mac = home.bench.meter.metering.read_failures, home.bench.dongle("meter").module.mac
    home.bench.inject("unit-swap", slot="communication")
    await home.bench.advance(3)
    await home.settled()
    await comes_to(home, "communication", "active")
    assert home.bench.dongle("meter").module.mac != mac
    assert codes(home) == {"U-22"}
    await home.rejoin()
    await home.serves()
    assert home.bench.meter.metering.read_failures == missed


async def test_another_metering_unit_hides_the_history_before_it(home: Home) -> None:
    serial = await home.get(0x8D)
    home.bench.inject("unit-swap", slot="metering")
    await home.bench.advance(3)
    await home.settled()
    await measures_again_after_rejoin(home)
    assert await home.get(0x8D) != serial
    assert set(await yesterday(home)) == {NO_ENERGY}
    assert "U-21" in codes(home)


async def test_pulses_that_are_missing_are_energy_nobody_sees() -> None:
    async with joined_home(PULSED) as home:
        await home.bench.advance(3600)
        async with home.trouble("missing-pulses"):
            before = home.bench.status()["registers"]["forward_wh"]
            await home.bench.advance(3600)
            assert home.bench.status()["registers"]["forward_wh"] == before
            assert await home.get(0xE7) == {0xE7: bytes(4)}
        await home.bench.advance(3600)
        assert home.bench.status()["registers"]["forward_wh"] > before


async def test_a_fault_of_a_unit_that_is_not_there_is_refused() -> None:
    async with joined_home(BenchOptions(hems_modules=QUICK.hems_modules)) as home:
        for name, settings, why in (
            ("latched-relay", {}, "the optional slot is empty"),
            ("missing-pulses", {}, "does not hold a unit that tells its energy by pulses"),
            ("unit-unplug", {"slot": "optional"}, "the optional slot is empty"),
        ):
            with pytest.raises(MeterError, match=why):
                home.bench.inject(name, **settings)  # type: ignore[arg-type]
        assert home.bench.faults() == []


async def measures_again_after_rejoin(home: Home) -> None:
    """The metering unit was away, and with it the service to the home."""
    await comes_to(home, "metering", "active")
    await comes_to(home, "communication", "active")
    await home.rejoin()
    await home.bench.advance(2)
    await measures(home)
