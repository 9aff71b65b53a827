"""What becomes of a meter at work when its units are replaced: each costs what it must, no more."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.swap_room import HOME, START, UNITS, Room, room
from fuzz.virtual_time import in_virtual_time
from meter_runtime import config as cfg
from meter_runtime import report
from meter_runtime.bench.board.plugged import label
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.clock import HALF_HOUR_S, slot_at
from meter_runtime.functions.switch_events import Refusal, SwitchRefusedError
from meter_runtime.metrology.events import BoundariesMissed, BoundaryStored
from meter_runtime.units.contracts import SwitchPosition
from meter_runtime.units.keeper import SlotState

BEFORE_S = 30.0
"""The meter of these tests starts so long before a boundary."""
EARLY = START + HALF_HOUR_S - BEFORE_S
FIRST_SLOT = slot_at(START) + 1
SWAP_S = 2.0


def codes(here: Room) -> list[str]:
    """What its operator is told of the combination."""
    return [finding["code"] for finding in report.status(here.meter)["combination"]["findings"]]


async def swap(here: Room, slot: str) -> None:
    """Another unit of the model, by hand."""
    await here.body.unplug(slot)
    await here.lives(SWAP_S)
    await here.body.swap(slot)
    await here.lives(SWAP_S)


def serves(here: Room) -> bool:
    """There is a B-route, and its link is up."""
    return here.meter.broute is not None and here.meter.broute.link.started


def state(here: Room, slot: str) -> SlotState:
    return here.meter.keeper.slots[slot].state


async def until(here: Room, happened: Callable[[], bool], bound_s: float) -> None:
    """Let time pass in small steps until it happened."""
    async with asyncio.timeout(bound_s):
        while not happened():
            await here.lives(0.05)


@in_virtual_time
async def test_a_new_metering_unit_begins_a_history_with_its_own_registers(tmp_path: Path) -> None:
    async with room(tmp_path, start=EARLY) as here:
        metering = here.meter.metering
        await here.lives(2 * BEFORE_S)
        assert metering.record(FIRST_SLOT) is not None
        version = metering.version
        await swap(here, "metering")
        assert metering.ring.serial == here.body.unit("metering").nameplate.serial
        assert metering.record(FIRST_SLOT) is None
        assert metering.version > version
        assert "U-21" in codes(here)
        forward, _ = here.body.household.supply.registers
        assert metering.forward_mwh == pytest.approx(forward / 3600, abs=1000)
        await here.lives(HALF_HOUR_S)
        record = metering.record(FIRST_SLOT + 1)
        assert record is not None
        assert len(metering.ring) == 1
        assert here.meter.broute is not None
        assert here.meter.broute.node.settings.serial == metering.ring.serial


@in_virtual_time
async def test_the_same_metering_unit_goes_on_where_it_was(tmp_path: Path) -> None:
    async with room(tmp_path, start=EARLY) as here:
        await here.lives(2 * BEFORE_S)
        before = here.meter.metering.forward_mwh
        await here.body.unplug("metering")
        await here.lives(60)
        assert report.status(here.meter)["registers"]["power_w"] is None
        assert here.meter.metering.forward_mwh == before
        assert here.meter.metering.record(FIRST_SLOT) is not None
        assert "U-01" in codes(here)
        assert not serves(here)
        await here.body.plug("metering")
        await here.lives(SWAP_S)
        assert codes(here) == []
        assert here.meter.metering.record(FIRST_SLOT) is not None
        assert here.meter.metering.power_w is not None
        assert serves(here)


@in_virtual_time
async def test_a_new_communication_unit_serves_and_asks_for_new_credentials(
    tmp_path: Path,
) -> None:
    async with room(tmp_path) as here:
        await here.lives(5)
        first = here.meter.broute
        assert serves(here)
        await here.body.unplug("communication")
        await here.lives(SWAP_S)
        assert not serves(here)
        assert codes(here) == ["U-03"]
        await here.body.swap("communication")
        await here.lives(5)
        second = here.meter.broute
        assert second is not first
        assert serves(here)
        assert codes(here) == ["U-22"]
        await here.meter.provision(BRouteCredentials(HOME))
        assert codes(here) == []
        assert here.meter.metering.read_failures == 0


@in_virtual_time
async def test_replacing_the_optional_unit_costs_metering_not_one_reading(tmp_path: Path) -> None:
    async with room(tmp_path, start=EARLY) as here:
        missed: list[object] = []
        stored: list[BoundaryStored] = []
        here.meter.bus.subscribe(BoundariesMissed, missed.append)
        here.meter.bus.subscribe(BoundaryStored, stored.append)
        await here.lives(BEFORE_S - 2 * SWAP_S)
        await swap(here, "optional")  # passes the boundary, more or less
        await here.lives(60)
        await swap(here, "optional")
        await here.lives(60)
        assert here.meter.metering.read_failures == 0
        assert missed == []
        assert [event.slot for event in stored] == [FIRST_SLOT]
        minute = int(here.clock.wall() // 60)
        assert None not in [here.meter.metering.minute(minute - ago) for ago in range(3)]


@in_virtual_time
async def test_what_the_home_chose_to_see_outlives_another_optional_unit(tmp_path: Path) -> None:
    async with room(tmp_path, start=EARLY) as here:
        assert here.meter.broute is not None
        chosen = here.meter.broute.node
        await swap(here, "optional")
        assert here.meter.broute.node is chosen
        await swap(here, "metering")
        assert here.meter.broute.node is not chosen


@in_virtual_time
async def test_a_new_switching_unit_stays_where_it_is_whatever_was_wanted(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        await here.lives(2)
        switching = here.meter.crew.switching
        assert await switching.command(SwitchPosition.OPEN) is SwitchPosition.OPEN
        await swap(here, "optional")
        assert here.switch.relay is not None
        assert here.switch.relay.position is SwitchPosition.CLOSED
        assert switching.status.mismatch


@in_virtual_time
async def test_units_that_do_not_suit_each_other_are_not_in_service_and_unplugging_heals(
    tmp_path: Path,
) -> None:
    units = UNITS.replace('"OU-SW-60"', '"OU-SW-120"')
    async with room(tmp_path, units=units, start=EARLY) as here:
        await here.lives(2 * BEFORE_S)
        shown = report.status(here.meter)
        assert codes(here) == ["U-16"]
        assert not shown["combination"]["in_service"]
        assert not shown["broute"]["in_service"]
        assert shown["broute"]["why_not"]["findings"] == ["U-16"]
        assert shown["units"]["optional"]["serial"] == "S00000000001"
        with pytest.raises(SwitchRefusedError, match="U-16") as refused:
            await here.meter.crew.switching.command(SwitchPosition.OPEN)
        assert refused.value.refusal is Refusal.NOT_PERMITTED
        assert here.switch.relay is not None
        assert here.switch.relay.operations == 0
        # What is used is counted and stored all the same.
        assert here.meter.metering.record(FIRST_SLOT) is not None
        await here.body.unplug("optional")
        await here.lives(SWAP_S)
        assert codes(here) == []
        assert here.meter.crew.service.in_service
        assert serves(here)
        assert here.meter.metering.read_failures == 0


@in_virtual_time
async def test_an_open_switch_can_be_closed_whatever_the_combination(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        await here.lives(2)
        switching = here.meter.crew.switching
        assert await switching.command(SwitchPosition.OPEN) is SwitchPosition.OPEN
        await here.body.unplug("metering")
        await here.lives(SWAP_S)
        assert "U-01" in codes(here)
        assert await switching.command(SwitchPosition.CLOSED) is SwitchPosition.CLOSED
        await here.lives(SWAP_S)
        with pytest.raises(SwitchRefusedError, match="U-01"):
            await switching.command(SwitchPosition.OPEN)


@in_virtual_time
async def test_an_unreadable_unit_is_told_until_it_is_unplugged(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        unit = here.body.unit("optional")
        await here.body.unplug("optional")
        label(unit, damaged=True)
        await here.lives(SWAP_S)
        await here.body.plug("optional")
        await here.lives(SWAP_S)
        assert codes(here) == ["U-23"]
        assert report.status(here.meter)["units"]["optional"]["state"] == "abnormal"
        await here.body.unplug("optional")
        await here.lives(SWAP_S)
        assert codes(here) == []
        assert report.status(here.meter)["units"]["optional"] is None


@in_virtual_time
async def test_a_unit_that_is_silent_from_its_first_reading_is_found_out(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        await here.lives(2)
        await here.body.unplug("metering")
        await here.lives(SWAP_S)
        await here.body.plug("metering")
        await until(here, lambda: state(here, "metering") is SlotState.ACTIVE, 5)
        contact = here.body.board.socket("metering").contact
        contact.refuses = lambda: True
        await here.lives(30)
        assert state(here, "metering") is SlotState.ABNORMAL
        contact.refuses = None
        await here.lives(61)
        assert state(here, "metering") is SlotState.ACTIVE
        assert here.meter.metering.power_w is not None


@in_virtual_time
async def test_a_meter_without_units_starts_and_takes_what_comes(tmp_path: Path) -> None:
    async with room(tmp_path, contract=cfg.Contract(broute=True)) as here:
        for slot in ("metering", "communication", "optional"):
            await here.body.unplug(slot)
        await here.lives(10)
        assert {"U-01", "U-03"} <= set(codes(here))
        for slot in ("optional", "communication", "metering"):
            await here.body.plug(slot)
            await here.lives(SWAP_S)
        assert codes(here) == []
        assert serves(here)
