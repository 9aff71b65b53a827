"""How a driver is found by its name.

An entry point of the group ``meter_runtime.<kind>_units`` names a :class:`Driver`. The ones shipped
here stand in a static table, because reading the entry points of every installed distribution
costs some 50 ms of a start; any other name is looked up among the entry points. Two drivers of one
name are an error, never a silent choice.
"""

import importlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from meter_runtime.clock import Clock
from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.units.board import Wires
from meter_runtime.units.contracts import Nameplate, UnitKind

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What a driver gets to build its unit from."""

    clock: Clock
    options: Mapping[str, Any] = field(default_factory=dict)
    """The unit's table of the configuration, without ``driver``."""
    rng: random.Random = field(default_factory=random.Random)
    """For choices that may fall either way; seeded where runs must repeat."""
    wires: Wires | None = None
    """The slot it is plugged into; None for a unit that only the configuration knows."""
    nameplate: Nameplate | None = None
    """What its ID EEPROM says; None where there is none."""


@dataclass(frozen=True, slots=True)
class Driver:
    """What an entry point names: how a unit is recognised, and how it is put to work."""

    build: Callable[[DriverContext], Awaitable[Any]]
    """Prepare the chip and give the unit; UnitFailure when it does not answer."""
    detect: Callable[[Wires], Awaitable[Nameplate | None]] | None = None
    """Ask the slot, changing nothing on it, within a second; None: not one of mine."""


_METERING = "meter_runtime.units.metering"

BUILT_IN: Mapping[UnitKind, Mapping[str, str]] = {
    UnitKind.METERING: {
        "simulated": f"{_METERING}.simulated:DRIVER",
        "mcp39f521": f"{_METERING}.mcp39f521:DRIVER",
        "ade7953": f"{_METERING}.ade7953:DRIVER",
        "pzem004t": f"{_METERING}.pzem004t:DRIVER",
        "s0": f"{_METERING}.s0:DRIVER",
    },
    UnitKind.OPTIONAL: {
        "relay": "meter_runtime.units.optional.relay:DRIVER",
        "ads1115": "meter_runtime.units.optional.ads1115:DRIVER",
    },
    UnitKind.COMMUNICATION: {
        "skstack": "meter_runtime.comm.skstack.unit:DRIVER",
        "g3plc": "meter_runtime.comm.g3plc.unit:DRIVER",
    },
}


def find(kind: UnitKind) -> dict[str, Driver]:
    """All drivers of this kind that can be had, by name.

    One that does not import, or whose name two distributions claim, is logged and left out: it
    must not stop the others.
    """
    names = {*BUILT_IN[kind], *(entry.name for entry in _installed(kind))}
    found = {}
    for name in sorted(names):
        try:
            found[name] = load_driver(kind, name)
        except MeterError as failure:
            log.error("%s; it is left out", failure)
    return found


def load_driver(kind: UnitKind, name: str) -> Driver:
    """The driver of this name.

    Raises UsageError for a name nobody provides (with the nearest one), MeterError when two
    distributions provide it, when it cannot be imported or is no driver.
    """
    target = BUILT_IN[kind].get(name)
    if target is not None:
        module, attribute = target.split(":")
        built_in: Driver = getattr(importlib.import_module(module), attribute)
        return built_in
    installed = _installed(kind)
    matching = [entry for entry in installed if entry.name == name]
    if not matching:
        raise UsageError(_unknown(kind, name, [entry.name for entry in installed]))
    if len(matching) > 1:
        owners = " and ".join(sorted(_owner(entry) for entry in matching))
        raise MeterError(
            f"{kind.value} driver {name!r} is provided by {owners}; uninstall one of them"
        )
    try:
        driver = matching[0].load()
    except Exception as reason:
        raise MeterError(
            f"{kind.value} driver {name!r} of {_owner(matching[0])} does not import: {reason}"
        ) from reason
    if not isinstance(driver, Driver):
        raise MeterError(
            f"{kind.value} driver {name!r} of {_owner(matching[0])} is no Driver but"
            f" {type(driver).__name__}; let its entry point name one"
        )
    return driver


def _installed(kind: UnitKind) -> list[EntryPoint]:
    """Those of other distributions: ours stand in the table."""
    group = entry_points(group=f"meter_runtime.{kind.value}_units")
    return [entry for entry in group if entry.name not in BUILT_IN[kind]]


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value


def _unknown(kind: UnitKind, name: str, installed: list[str]) -> str:
    return (
        f'no {kind.value} driver is called "{name}"; {nearest(name, {*BUILT_IN[kind], *installed})}'
    )
