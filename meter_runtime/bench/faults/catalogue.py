"""Every fault there is, by name."""

from collections.abc import Mapping
from typing import Any

from meter_runtime.bench.faults import (
    air,
    application,
    clock,
    meter,
    modules,
    plc,
    session,
    units,
    values,
)
from meter_runtime.bench.faults.fault import Fault
from meter_runtime.errors import UsageError, nearest

GROUPS: Mapping[str, tuple[Fault, ...]] = {
    "air": air.FAULTS,
    "module": modules.FAULTS,
    "session": session.FAULTS,
    "application": application.FAULTS,
    "values": values.FAULTS,
    "clock": clock.FAULTS,
    "meter": meter.FAULTS,
    "units": units.FAULTS,
    "plc": plc.FAULTS,
}

CATALOGUE: Mapping[str, Fault] = {
    fault.name: fault for faults in GROUPS.values() for fault in faults
}


def find(name: str) -> Fault:
    """The fault of this name; UsageError names the nearest."""
    if name not in CATALOGUE:
        raise UsageError(f'no fault "{name}"; {nearest(name, CATALOGUE)}')
    return CATALOGUE[name]


def describe() -> list[dict[str, Any]]:
    """The catalogue as a plain document."""
    return [
        {
            "name": fault.name,
            "group": fault.group,
            "models": fault.models,
            "momentary": fault.momentary,
            "counts": fault.counts,
            "parameters": [
                {
                    "name": parameter.name,
                    "default": parameter.default,
                    "range": parameter.kind.range,
                    "says": parameter.says,
                }
                for parameter in fault.parameters
            ],
        }
        for fault in CATALOGUE.values()
    ]
