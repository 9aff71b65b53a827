"""The units of a meter in a few words: who is plugged in, and what they find of themselves.

Compact on purpose: all three nameplates with all they say have to fit one message of 1 400 bytes.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from meter_runtime.units.contracts import Nameplate, UnitFailure, UnitKind
from meter_runtime.units.failures import bounded
from meter_runtime.units.findings import Finding
from meter_runtime.units.keeper import Slot, SlotState

SELF_TEST_BOUND_S = 5.0
"""Of one unit, in real time; all are tested at once."""
MAX_NAME = 32
"""Bytes of a name on a nameplate that are told."""
MAX_REASON = 64
MAX_TROUBLES = 3
"""Findings of one unit that are told."""
MAX_TROUBLE = 120
"""Bytes of each."""


class Inventory:
    """The slots of one meter, and what was found of the combination of their units."""

    def __init__(
        self, slots: Mapping[str, Slot], findings: Callable[[], Iterable[Finding]]
    ) -> None:
        self._slots = slots
        self._findings = findings

    def inventory(self) -> dict[str, Any]:
        """``units`` by slot, null where none is or was, and ``findings`` by code."""
        return {
            "units": {name: _told(slot) for name, slot in self._slots.items()},
            "findings": [finding.code for finding in self._findings()],
        }

    async def self_test(self) -> dict[str, list[str] | None]:
        """What each unit finds of itself, empty when it is well; None where none is plugged in.

        The radio has no test of its own: its driver watches it, and what keeps it is told.
        """
        slots = self._slots.values()
        found = await asyncio.gather(*(_tested(slot) for slot in slots))
        return dict(zip(self._slots, found, strict=True))


async def _tested(slot: Slot) -> list[str] | None:
    unit = slot.unit
    if unit is None:
        return [_clipped(slot.reason, MAX_TROUBLE)] if slot.state is SlotState.ABNORMAL else None
    if slot.profile.kind is UnitKind.COMMUNICATION:
        troubles = [slot.reason] if slot.state is SlotState.SILENT else []
    else:
        who = f"the {slot.profile.kind.value} unit"
        try:
            troubles = await bounded(unit.self_test, SELF_TEST_BOUND_S, who)
        except UnitFailure as failure:
            troubles = [str(failure)]
    return [_clipped(trouble, MAX_TROUBLE) for trouble in troubles[:MAX_TROUBLES]]


def _told(slot: Slot) -> dict[str, Any] | None:
    if slot.state is SlotState.ABSENT and slot.unit is None:
        return None
    told: dict[str, Any] = {"state": slot.state.value}
    if slot.reason:
        told["reason"] = _clipped(slot.reason, MAX_REASON)
    if slot.unit is not None:
        # A bare module tells who it is once it is up.
        plate = slot.nameplate
        told |= _plate(plate if plate is not None and plate.serial else slot.unit.nameplate)
    return told


def _plate(plate: Nameplate) -> dict[str, Any]:
    """What it says; what it leaves open is left out."""
    names = {
        "model": plate.model,
        "serial": plate.serial,
        "maker": plate.maker,
        "hw": plate.hw_version,
        "fw": plate.fw_version,
    }
    told: dict[str, Any] = {key: _clipped(name, MAX_NAME) for key, name in names.items() if name}
    if plate.kind is not UnitKind.OPTIONAL:
        told["two_way"] = plate.two_way
    if plate.kind is UnitKind.METERING:
        told["broute"] = plate.broute
    until = plate.certified_until
    kinds = {
        "wiring": plate.wiring,
        "medium": plate.broute_medium,
        "bearer": plate.aroute,
        "does": plate.function,
    }
    told |= {key: kind.value for key, kind in kinds.items() if kind is not None}
    if plate.capacity_a is not None:
        told["capacity_a"] = plate.capacity_a
    if until is not None:
        told["certified_until"] = until.isoformat()
    return told


def _clipped(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
