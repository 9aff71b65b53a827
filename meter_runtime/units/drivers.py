"""How a driver is found by its name.

A driver is a callable that takes a :class:`DriverContext` and gives the unit. The ones shipped
here stand in a static table, because reading the entry points of every installed distribution
costs some 50 ms of a start; any other name is looked up among the entry points of the group
``meter_runtime.<kind>_units``. Two drivers of one name are an error, never a silent choice.
"""

import importlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from meter_runtime.clock import Clock
from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.units.contracts import UnitKind


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What a driver gets to build its unit from."""

    clock: Clock
    options: Mapping[str, Any] = field(default_factory=dict)
    """The unit's table of the configuration, without ``driver``."""
    rng: random.Random = field(default_factory=random.Random)
    """For choices that may fall either way; seeded where runs must repeat."""


Driver = Callable[[DriverContext], Any]

BUILT_IN: Mapping[UnitKind, Mapping[str, str]] = {
    UnitKind.METERING: {"simulated": "meter_runtime.units.metering.simulated:driver"},
    UnitKind.OPTIONAL: {},
    UnitKind.COMMUNICATION: {"skstack": "meter_runtime.comm.skstack.unit:driver"},
}


def load_driver(kind: UnitKind, name: str) -> Driver:
    """The driver of this name.

    Raises UsageError for a name nobody provides (with the nearest one), MeterError when two
    distributions provide it or when it cannot be imported.
    """
    target = BUILT_IN[kind].get(name)
    if target is not None:
        module, attribute = target.split(":")
        built_in: Driver = getattr(importlib.import_module(module), attribute)
        return built_in
    installed = list(entry_points(group=f"meter_runtime.{kind.value}_units"))
    matching = [entry for entry in installed if entry.name == name]
    if not matching:
        raise UsageError(_unknown(kind, name, [entry.name for entry in installed]))
    if len(matching) > 1:
        owners = " and ".join(sorted(_owner(entry) for entry in matching))
        raise MeterError(
            f"{kind.value} driver {name!r} is provided by {owners}; uninstall one of them"
        )
    try:
        driver: Driver = matching[0].load()
    except Exception as reason:
        raise MeterError(
            f"{kind.value} driver {name!r} of {_owner(matching[0])} does not import: {reason}"
        ) from reason
    return driver


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value


def _unknown(kind: UnitKind, name: str, installed: list[str]) -> str:
    return (
        f'no {kind.value} driver is called "{name}"; {nearest(name, {*BUILT_IN[kind], *installed})}'
    )
