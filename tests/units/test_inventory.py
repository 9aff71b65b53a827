"""All that three units say of themselves, and what they find, fits one signed message."""

from dataclasses import replace
from datetime import date
from typing import Any

import cbor2
import pytest

from meter_runtime.units.board_profiles import GENERIC, load_profile
from meter_runtime.units.contracts import (
    ARouteBearer,
    BRouteMedium,
    Nameplate,
    OptionalFunction,
    UnitKind,
    Wiring,
)
from meter_runtime.units.findings import Finding
from meter_runtime.units.inventory import MAX_TROUBLES, Inventory
from meter_runtime.units.keeper import Slot, SlotState

ROOM = 1400 - 40
"""Of a result's details, less the program's version."""


class Talkative:
    """A unit that finds much."""

    def __init__(self, nameplate: Nameplate) -> None:
        self.nameplate = nameplate

    async def self_test(self) -> list[str]:
        return ["計器" * 100] * 20


def longest(kind: UnitKind) -> Nameplate:
    """A nameplate with every field, as long as any EEPROM has room for."""
    name = "W" * 64
    return Nameplate(
        kind,
        model=name,
        serial="S" * 12,
        maker=name,
        hw_version=name,
        fw_version=name,
        wiring=Wiring.ONE_PHASE_THREE_WIRE,
        capacity_a=120,
        broute_medium=BRouteMedium.RADIO,
        aroute=ARouteBearer.PLC,
        function=OptionalFunction.SWITCHING,
        certified_until=date(2036, 12, 31),
    )


def slots() -> dict[str, Slot]:
    profile = load_profile(GENERIC)
    return {slot.name: Slot(slot) for slot in profile.slots}


def full() -> dict[str, Slot]:
    filled = slots()
    for slot in filled.values():
        slot.state, slot.reason = SlotState.SILENT, "r" * 500
        slot.unit = Talkative(longest(slot.profile.kind))
        slot.nameplate = slot.unit.nameplate
    return filled


def size(document: Any) -> int:
    return len(cbor2.dumps(document, canonical=True))


def test_three_units_that_say_all_they_can_fit() -> None:
    findings = [Finding(f"U-{number:02}", UnitKind.METERING) for number in (14, 20, 21, 22)]
    told = Inventory(full(), lambda: findings).inventory()
    assert size(told) <= ROOM
    assert len(told["units"]) == 3
    assert told["findings"] == ["U-14", "U-20", "U-21", "U-22"]
    assert told["units"]["metering"]["certified_until"] == "2036-12-31"


async def test_what_they_find_is_clipped_between_characters_and_fits() -> None:
    told = await Inventory(full(), tuple).self_test()
    assert size(told) <= ROOM
    metering = told["metering"]
    assert metering is not None
    assert metering == ["計器" * 20] * MAX_TROUBLES


async def test_an_empty_slot_says_nothing_and_an_abnormal_one_why() -> None:
    empty = slots()
    empty["optional"].state = SlotState.ABNORMAL
    empty["optional"].reason = "its ID EEPROM is damaged"
    inventory = Inventory(empty, tuple)
    assert inventory.inventory()["units"] == {
        "communication": None,
        "metering": None,
        "optional": {"state": "abnormal", "reason": "its ID EEPROM is damaged"},
    }
    assert await inventory.self_test() == {
        "communication": None,
        "metering": None,
        "optional": ["its ID EEPROM is damaged"],
    }


@pytest.mark.parametrize("plate", [None, Nameplate(UnitKind.COMMUNICATION, "Wi-SUN module", "")])
def test_a_bare_module_tells_who_it_is_once_it_is_up(plate: Nameplate | None) -> None:
    filled = slots()
    radio = filled["communication"]
    own = replace(longest(UnitKind.COMMUNICATION), serial="MT0000000001")
    radio.state, radio.nameplate, radio.unit = SlotState.ACTIVE, plate, Talkative(own)
    told = Inventory(filled, tuple).inventory()["units"]["communication"]
    assert told["serial"] == "MT0000000001"
