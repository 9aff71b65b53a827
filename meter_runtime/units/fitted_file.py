"""Files that say which units are plugged in: to check on paper, and to give to a bench.

TOML. Every part may be missing::

    [contract]                 # what the customer's contract asks of the units
    renewables = true          # broute, switching: likewise, false where not given
    capacity_a = 60
    medium = "920MHz"          # or "PLC"
    site = "detached"          # or "multi-dwelling"

    [cover]
    kind = "normal"            # or "rain"

    [former]                   # serials of the units that were there before
    metering = "M00000000000"

    [[unit]]
    slot = "metering"          # or "communication", "optional"
    model = "MU-1P3W-60-2"
    serial = "M00000000001"

A unit may say more:

* ``driver``, where another than the model's speaks with it, and ``options`` for it;
* the rest of its nameplate where it is not the catalogue's: ``wiring``, ``capacity_a``,
  ``two_way``, ``broute``, ``broute_medium``, ``aroute``, ``function``, ``certified_until``,
  ``maker``, ``hw_version``, ``fw_version``, ``calibration``;
* its state: ``labelled = false`` is a unit without an ID EEPROM, ``unreadable = true`` one whose
  record is damaged, ``self_test`` lists what it finds wrong with itself.

A mistake is a UsageError of one line: file, place, and the nearest right word.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

from meter_runtime.errors import UsageError, nearest
from meter_runtime.tables import read_table
from meter_runtime.units import nameplate as record
from meter_runtime.units.catalogue import Catalogue, Cover
from meter_runtime.units.combination import Contract, Fitted, FittedUnit, Site
from meter_runtime.units.contracts import (
    ARouteBearer,
    BRouteMedium,
    Nameplate,
    OptionalFunction,
    UnitKind,
    Wiring,
)

UNITS_MAX = 16

Option = str | int | float | bool


@dataclass(frozen=True, slots=True)
class PluggedUnit:
    """One ``[[unit]]``. ``nameplate`` is the catalogue's with what the file says otherwise."""

    kind: UnitKind
    nameplate: Nameplate
    options: Mapping[str, Option] = field(default_factory=dict)
    """For the driver, which ``nameplate.driver`` names."""
    labelled: bool = True
    """It has an ID EEPROM with its nameplate."""
    unreadable: bool = False
    """It has one, and its record is damaged."""
    self_test: tuple[str, ...] = ()

    @property
    def slot(self) -> str:
        return self.kind.value

    @property
    def fitted(self) -> FittedUnit:
        """As the meter would find it."""
        if self.unreadable:
            return FittedUnit(self.kind, None, f"{self.slot} slot")
        return FittedUnit(self.kind, self.nameplate, troubles=self.self_test)


@dataclass(frozen=True, slots=True)
class FittedFile:
    """The whole file."""

    units: tuple[PluggedUnit, ...]
    contract: Contract | None = None
    cover: Cover = Cover.NORMAL
    former: Mapping[UnitKind, str] = field(default_factory=dict)

    @property
    def fitted(self) -> Fitted:
        """What :func:`~meter_runtime.units.combination.check` takes."""
        return Fitted(tuple(unit.fitted for unit in self.units), self.cover, self.former)


def load(path: Path, catalogue: Catalogue) -> FittedFile:
    """Read and check the file.

    Raises UsageError for its first mistake, MeterError where it cannot be read.
    """
    table = read_table(path, "no such file; examples are in examples/units")
    try:
        return _file(table, catalogue)
    except UsageError as wrong:
        raise UsageError(f"{path}: {wrong}") from None


Reader = Callable[[Any], Any]
"""Checks one value; raises ValueError saying what to give instead."""


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("give true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("give a text")
    return value


def _ampere(value: Any) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not 0 < value <= record.CAPACITY_MAX
    ):
        raise ValueError(f"give whole ampere, 1 to {record.CAPACITY_MAX}")
    return value


def _day(value: Any) -> date:
    if type(value) is not date:
        raise ValueError("give a day, as in 2036-03-31, without quotes")
    return value


def _choice(kind: type[Enum]) -> Reader:
    members = {str(member.value): member for member in kind}

    def read(value: Any) -> Enum:
        if not isinstance(value, str) or value not in members:
            raise ValueError(nearest(str(value), members))
        return members[value]

    return read


def _options(value: Any) -> dict[str, Option]:
    if not isinstance(value, dict) or not all(isinstance(each, Option) for each in value.values()):
        raise ValueError("give a table of texts, numbers, true and false")
    return value


def _calibration(value: Any) -> dict[str, int]:
    numbers = value.values() if isinstance(value, dict) else (None,)
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in numbers):
        raise ValueError("give a table of whole numbers")
    result: dict[str, int] = value
    return result


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ValueError("give a list of texts")
    return tuple(value)


_PLATE: Mapping[str, Reader] = {
    "driver": _text,
    "maker": _text,
    "hw_version": _text,
    "fw_version": _text,
    "wiring": _choice(Wiring),
    "capacity_a": _ampere,
    "two_way": _flag,
    "broute": _flag,
    "broute_medium": _choice(BRouteMedium),
    "aroute": _choice(ARouteBearer),
    "function": _choice(OptionalFunction),
    "certified_until": _day,
    "calibration": _calibration,
}
_STATE: Mapping[str, Reader] = {
    "options": _options,
    "labelled": _flag,
    "unreadable": _flag,
    "self_test": _texts,
}
_UNIT: Mapping[str, Reader] = {
    "slot": _choice(UnitKind),
    "model": _text,
    "serial": _text,
    **_PLATE,
    **_STATE,
}
_CONTRACT: Mapping[str, Reader] = {
    "renewables": _flag,
    "broute": _flag,
    "switching": _flag,
    "capacity_a": _ampere,
    "medium": _choice(BRouteMedium),
    "site": _choice(Site),
}
_COVER: Mapping[str, Reader] = {"kind": _choice(Cover)}
_FORMER: Mapping[str, Reader] = {"metering": _text, "communication": _text}
_PARTS = ("contract", "cover", "former", "unit")


def _file(table: Mapping[str, Any], catalogue: Catalogue) -> FittedFile:
    for part in table:
        if part not in _PARTS:
            raise UsageError(f'the file has no part "{part}"; {nearest(part, _PARTS)}')
    units = table.get("unit", [])
    if not isinstance(units, list):
        raise UsageError("[unit] is a list; write [[unit]]")
    if len(units) > UNITS_MAX:
        raise UsageError(f"there are {len(units)} units; a file takes {UNITS_MAX}")
    contract = None
    if "contract" in table:
        contract = Contract(**_values(table["contract"], _CONTRACT, "[contract]"))
    cover = _values(table.get("cover", {}), _COVER, "[cover]").get("kind", Cover.NORMAL)
    former = _values(table.get("former", {}), _FORMER, "[former]")
    return FittedFile(
        tuple(_unit(unit, f"[[unit]] {at}", catalogue) for at, unit in enumerate(units, 1)),
        contract,
        cover,
        {UnitKind(kind): serial for kind, serial in former.items()},
    )


def _unit(table: Any, place: str, catalogue: Catalogue) -> PluggedUnit:
    said = _values(table, _UNIT, place)
    for key in ("slot", "model", "serial"):
        if key not in said:
            raise UsageError(f'{place} lacks the key "{key}"; add it')
    kind, model, serial = said["slot"], said["model"], said["serial"]
    known = catalogue.find(kind, model)
    plate = Nameplate(kind, model, serial) if known is None else known.nameplate(serial)
    plate = replace(plate, **{key: said[key] for key in _PLATE if key in said})
    try:
        record.encode(plate)
    except UsageError as wrong:
        raise UsageError(f"{place}: {wrong}") from None
    return PluggedUnit(kind, plate, **{key: said[key] for key in _STATE if key in said})


def _values(table: Any, readers: Mapping[str, Reader], place: str) -> dict[str, Any]:
    """The table's values, each checked."""
    if not isinstance(table, dict):
        raise UsageError(f"{place} is a table; write its keys below it")
    found = {}
    for key, value in table.items():
        if key not in readers:
            raise UsageError(f'{place} has no key "{key}"; {nearest(key, readers)}')
        try:
            found[key] = readers[key](value)
        except ValueError as wrong:
            raise UsageError(f"{place} {key}: {value!r}; {wrong}") from None
    return found
