"""The configuration of a bench's meter: what an installer would have written for its units."""

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

from meter_runtime import config as cfg
from meter_runtime.bench.body import MeterBody
from meter_runtime.bench.options import BenchOptions
from meter_runtime.units.combination import Contract
from meter_runtime.units.discovery import AUTO


def bench_configuration(
    options: BenchOptions,
    body: MeterBody,
    state_dir: Path,
    module: str,
    *,
    aroute: cfg.ARoute,
    local: cfg.Local,
) -> cfg.Config:
    """The whole file; ``module`` is the profile of the radio module in the meter."""
    given, first = body.given, options.credentials()
    return cfg.Config(
        meter=cfg.Meter(id=options.meter_id),
        storage=cfg.Storage(state_dir=state_dir),
        contract=None if given.contract is None else _contract(given.contract),
        units=cfg.Units(
            communication=cfg.CommunicationUnit(**_wanted(body, "communication", module)),
            metering=cfg.MeteringUnit(**_wanted(body, "metering", module)),
            optional=cfg.OptionalUnit(**_wanted(body, "optional", module)),
            cover=given.cover.value,
        ),
        broute=cfg.BRoute(
            id=first.route_b_id,
            password=first.password,
            profile=options.echonet_profile,
            notification=options.notification,
        ),
        aroute=aroute,
        local=local,
    )


def _wanted(body: MeterBody, slot: str, module: str) -> dict[str, Any]:
    """What is said of a slot: who drives a unit that cannot be asked, and with what options."""
    unit = body.units.get(slot)
    if unit is None:
        return {"driver": AUTO}
    options = dict(unit.options)
    if body.is_radio(unit):
        options.setdefault("profile", module)
    return {"driver": AUTO if unit.labelled else unit.nameplate.driver, "options": options}


def _contract(given: Contract) -> cfg.Contract:
    """The contract as a person writes it."""
    said = {
        key: value.value if isinstance(value, Enum) else value
        for key, value in asdict(given).items()
    }
    return cfg.Contract(**said)
