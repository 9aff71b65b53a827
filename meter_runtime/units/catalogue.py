"""The catalogue: which units there are, by their model numbers.

The models are data (``catalogue.toml``), in two parts: the units of the unit-type meter, and *bare*
modules and chips that a workbench uses in a unit's place. The model numbers are this project's own;
which kinds of units there are is what the utility published. Which of them go together is
:mod:`~meter_runtime.units.combination`'s business.
"""

import enum
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from meter_runtime.errors import UsageError, nearest
from meter_runtime.units.contracts import (
    ARouteBearer,
    BRouteMedium,
    Nameplate,
    OptionalFunction,
    UnitKind,
    Wiring,
)


class Cover(enum.Enum):
    """The terminal cover: nobody can ask it, so it is configured."""

    NORMAL = "normal"
    RAIN = "rain"


@dataclass(frozen=True, slots=True)
class Model:
    """One line of the catalogue.

    None: of a unit of the catalogue, that it has no such property; of a bare one, that the
    catalogue does not know.
    """

    kind: UnitKind
    model: str
    driver: str = ""
    """Who speaks with it; "" where this program has nobody who does."""
    wiring: Wiring | None = None
    capacity_a: int | None = None
    two_way: bool | None = None
    broute_medium: BRouteMedium | None = None
    aroute: ARouteBearer | None = None
    function: OptionalFunction | None = None
    bare: bool = False

    def nameplate(self, serial: str) -> Nameplate:
        """What is printed on a new unit of this model."""
        return Nameplate(
            self.kind,
            self.model,
            serial,
            driver=self.driver,
            wiring=self.wiring,
            capacity_a=self.capacity_a,
            two_way=self.two_way is not False,
            broute=self.kind is not UnitKind.COMMUNICATION or self.broute_medium is not None,
            broute_medium=self.broute_medium,
            aroute=self.aroute,
            function=self.function,
        )

    def completed(self, nameplate: Nameplate) -> Nameplate:
        """The nameplate with what it leaves to the catalogue."""
        said = {
            field: getattr(self, field)
            for field in _PRINTED
            if getattr(nameplate, field) is None and getattr(self, field) is not None
        }
        return replace(nameplate, driver=nameplate.driver or self.driver, **said)

    def contradictions(self, nameplate: Nameplate) -> list[str]:
        """Where the nameplate says something else than the catalogue: "120 A ≠ 60 A"."""
        found = []
        for field, unit in _PRINTED.items():
            ours, printed = getattr(self, field), getattr(nameplate, field)
            if printed is None or printed == ours or (ours is None and self._leaves_open(field)):
                continue
            found.append(f"{_shown(printed)}{unit} ≠ {_shown(ours)}{unit}")
        if self.two_way not in (None, nameplate.two_way):
            found.append("1-way ≠ 2-way" if self.two_way else "2-way ≠ 1-way")
        return found

    def _leaves_open(self, field: str) -> bool:
        """A switching unit may be made for one wiring only."""
        return self.bare or (field == "wiring" and self.kind is UnitKind.OPTIONAL)


_PRINTED = {
    "wiring": "",
    "capacity_a": " A",
    "broute_medium": "",
    "aroute": "",
    "function": "",
}
"""Fields that nameplate and catalogue share, by the unit of their numbers."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models, by kind and number, in their order."""

    models: Mapping[UnitKind, Mapping[str, Model]]
    covers: tuple[Cover, ...]

    def find(self, kind: UnitKind, model: str) -> Model | None:
        return self.models[kind].get(model)

    def known(self, kind: UnitKind, model: str) -> Model:
        """The model; UsageError with the nearest one where there is none."""
        found = self.find(kind, model)
        if found is None:
            hint = nearest(model, self.models[kind])
            raise UsageError(f'no {kind.value} unit is called "{model}"; {hint}')
        return found

    def units(self, kind: UnitKind) -> Iterator[Model]:
        """Those that count in a combination: not the bare ones."""
        return (model for model in self.models[kind].values() if not model.bare)

    def driver(self, nameplate: Nameplate) -> str:
        """Who speaks with this unit: by its nameplate, else by its model, else ""."""
        found = self.find(nameplate.kind, nameplate.model)
        return nameplate.driver or ("" if found is None else found.driver)


@cache
def shipped() -> Catalogue:
    """The catalogue that comes with the package."""
    file = resources.files("meter_runtime.units") / "catalogue.toml"
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    models = {
        kind: {
            model.model: model
            for bare, lines in ((False, table), (True, table["bare"]))
            for model in (_model(kind, line, bare=bare) for line in lines[kind.value])
        }
        for kind in UnitKind
    }
    return Catalogue(models, tuple(Cover(cover) for cover in table["covers"]))


_ENUMS = {
    "wiring": Wiring,
    "broute_medium": BRouteMedium,
    "aroute": ARouteBearer,
    "function": OptionalFunction,
}


def _model(kind: UnitKind, line: Mapping[str, Any], *, bare: bool) -> Model:
    coded: dict[str, Any] = {
        key: _ENUMS[key](value) if key in _ENUMS else value for key, value in line.items()
    }
    return Model(kind, bare=bare, **coded)


def _shown(value: object) -> str:
    if value is None:
        return "–"
    return str(value.value if isinstance(value, enum.Enum) else value)
