"""Which units go together: what is plugged in, held against the catalogue and the contract.

:func:`check` is pure: units, contract and day in, findings out, in the order of their codes.
:func:`service_of` says what the meter may do in spite of them.

What the utility published: the communication unit (CU) suits the site; CU and metering unit (MU)
are two-way if the contract is for renewables, and have B-route if it is applied for; MU and
switching unit suit the contract. The rest is inferred: a meter is one CU, one MU and at most one
optional unit (OU); CU and MU have the same direction; a switching unit has the MU's capacity; no OU
goes with single-phase two-wire or 5 A. By these rules 360 combinations are valid of 1344.

A unit that the catalogue does not know, or whose nameplate cannot be believed, is not held against
others. Nor are two units of one kind: nobody could say which of them counts.
"""

import enum
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

from meter_runtime.units.catalogue import Catalogue, Cover, Model
from meter_runtime.units.contracts import (
    ARouteBearer,
    BRouteMedium,
    Nameplate,
    OptionalFunction,
    UnitKind,
    Wiring,
)
from meter_runtime.units.findings import Finding, Function, Severity

CT_CAPACITY_A = 5
"""A metering unit of this capacity measures behind current transformers."""


class Site(enum.Enum):
    """Where the meter hangs."""

    DETACHED = "detached"
    MULTI_DWELLING = "multi-dwelling"


_BEARERS = {Site.DETACHED: ARouteBearer.RF, Site.MULTI_DWELLING: ARouteBearer.PLC}


@dataclass(frozen=True, slots=True)
class Contract:
    """What the customer's contract asks of the units. None: undecided."""

    renewables: bool = False
    """The customer feeds in."""
    broute: bool = False
    """B-route was applied for."""
    switching: bool = False
    """Supply is switched from afar."""
    capacity_a: int | None = None
    medium: BRouteMedium | None = None
    """What the B-route was decided to use."""
    site: Site | None = None


@dataclass(frozen=True, slots=True)
class FittedUnit:
    """One unit as it was found.

    ``nameplate`` is None where it could not be read: ``reason`` says why. ``codes`` are what its
    discovery found already, as U-02 for two that answer in one slot; U-23 where it names none.
    ``troubles`` are what its self-test found.
    """

    kind: UnitKind
    nameplate: Nameplate | None
    reason: str = ""
    codes: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fitted:
    """All that is plugged in, and who was in its place before."""

    units: tuple[FittedUnit, ...] = ()
    cover: Cover = Cover.NORMAL
    former: Mapping[UnitKind, str] = field(default_factory=dict)
    """Serials of the metering and the communication unit that the meter worked with last."""

    def of(self, kind: UnitKind) -> list[FittedUnit]:
        return [unit for unit in self.units if unit.kind is kind]


@dataclass(frozen=True, slots=True)
class Service:
    """What the units that are plugged in allow. A meter that is not in service does nothing."""

    in_service: bool
    broute: bool
    switching: bool
    voltage: bool
    reverse: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """A unit whose nameplate is believed, completed by the catalogue."""

    plate: Nameplate
    model: Model

    @property
    def two_way(self) -> bool | None:
        """None for a bare radio module, which carries whatever is measured."""
        bare_module = self.model.bare and self.plate.kind is UnitKind.COMMUNICATION
        return None if bare_module else self.plate.two_way

    def __str__(self) -> str:
        return _name(self.plate)


def check(
    fitted: Fitted, contract: Contract | None, catalogue: Catalogue, today: date
) -> tuple[Finding, ...]:
    """What is wrong with these units, or worth knowing, in the order of the codes."""
    findings = [*_numbers(fitted)]
    known: dict[UnitKind, _Known] = {}
    for kind in UnitKind:
        units = fitted.of(kind)
        for unit in units:
            findings += _alone(unit, catalogue, today)
        if len(units) == 1 and (believed := _believed(units[0], catalogue)) is not None:
            known[kind] = believed
            findings += _replaced(believed.plate, fitted.former.get(kind, ""))
    mu, cu = known.get(UnitKind.METERING), known.get(UnitKind.COMMUNICATION)
    ou = known.get(UnitKind.OPTIONAL)
    if cu is not None and mu is not None:
        findings += _together(cu, mu)
    if mu is not None and ou is not None:
        findings += _optional(mu, ou)
    if contract is not None:
        if cu is not None:
            findings += _contract_and_cu(contract, cu)
        if mu is not None:
            findings += _contract_and_mu(contract, mu)
        if contract.switching and _surely_no_switch(fitted, catalogue):
            findings.append(Finding("U-18", UnitKind.OPTIONAL))
    return tuple(sorted(findings, key=lambda each: each.code))


def service_of(findings: Iterable[Finding]) -> Service:
    """What is left to do."""
    lost: set[Function] = set().union(*(finding.disables for finding in findings))
    in_service = Function.SERVICE not in lost

    def allowed(function: Function) -> bool:
        return in_service and function not in lost

    return Service(
        in_service,
        allowed(Function.BROUTE),
        allowed(Function.SWITCHING),
        allowed(Function.VOLTAGE),
        allowed(Function.REVERSE),
    )


@dataclass(frozen=True, slots=True)
class Combination:
    """One choice of each, of new units."""

    cu: Model
    mu: Model
    ou: Model | None
    cover: Cover

    @property
    def fitted(self) -> Fitted:
        """The same, plugged in."""
        models = [model for model in (self.cu, self.mu, self.ou) if model is not None]
        return Fitted(
            tuple(FittedUnit(model.kind, model.nameplate("NEW")) for model in models), self.cover
        )


def combinations(catalogue: Catalogue) -> Iterator[tuple[Combination, tuple[Finding, ...]]]:
    """Every choice of units, and what is wrong with it; nothing where it is valid."""
    optional = [None, *catalogue.units(UnitKind.OPTIONAL)]
    for cu, mu, ou, cover in itertools.product(
        catalogue.units(UnitKind.COMMUNICATION),
        catalogue.units(UnitKind.METERING),
        optional,
        catalogue.covers,
    ):
        combination = Combination(cu, mu, ou, cover)
        yield combination, check(combination.fitted, None, catalogue, date.min)


def is_valid(findings: Iterable[Finding]) -> bool:
    """Nothing among them is an error."""
    return all(finding.severity is not Severity.ERROR for finding in findings)


def _numbers(fitted: Fitted) -> Iterator[Finding]:
    """One metering unit, one communication unit, at most one optional unit."""
    for kind, none, many in (
        (UnitKind.METERING, "U-01", "U-02"),
        (UnitKind.COMMUNICATION, "U-03", "U-04"),
        (UnitKind.OPTIONAL, None, "U-05"),
    ):
        units = fitted.of(kind)
        if not units and none is not None:
            yield Finding(none, kind)
        # A slot in which two answer is told by its own code.
        if len(units) > 1 and not any(many in unit.codes for unit in units):
            names = ", ".join(
                "?" if each.nameplate is None else _name(each.nameplate) for each in units
            )
            yield Finding(many, kind, names)


def _alone(unit: FittedUnit, catalogue: Catalogue, today: date) -> Iterator[Finding]:
    """What is wrong with a unit whatever is beside it."""
    plate = unit.nameplate
    if plate is None:
        for code in unit.codes or ("U-23",):
            yield Finding(code, unit.kind, unit.reason)
        return
    known = _believed(unit, catalogue)
    if known is None:
        model = catalogue.find(unit.kind, plate.model)
        wrong = [] if model is None else model.contradictions(plate)
        yield Finding("U-06", unit.kind, ": ".join(filter(None, (_name(plate), ", ".join(wrong)))))
    elif unit.kind is UnitKind.METERING and plate.two_way and _is_two_wire(known.plate):
        yield Finding("U-07", unit.kind, str(known))
    until = plate.certified_until
    if unit.kind is UnitKind.METERING and until is not None and until < today:
        yield Finding("U-20", unit.kind, f"{_name(plate)}: {until.isoformat()}")
    if unit.troubles:
        yield Finding("U-24", unit.kind, f"{_name(plate)}: {'; '.join(unit.troubles)}")


def _believed(unit: FittedUnit, catalogue: Catalogue) -> _Known | None:
    plate = unit.nameplate
    model = None if plate is None else catalogue.find(unit.kind, plate.model)
    if plate is None or model is None or model.contradictions(plate):
        return None
    return _Known(model.completed(plate), model)


def _replaced(plate: Nameplate, former: str) -> Iterator[Finding]:
    code = {UnitKind.METERING: "U-21", UnitKind.COMMUNICATION: "U-22"}.get(plate.kind)
    if code is not None and former and plate.serial and former != plate.serial:
        yield Finding(code, plate.kind, f"{former} → {plate.serial}")


def _together(cu: _Known, mu: _Known) -> Iterator[Finding]:
    if cu.two_way is not None and cu.two_way != mu.two_way:
        yield Finding("U-10", UnitKind.COMMUNICATION, f"{cu}, {mu}")


def _optional(mu: _Known, ou: _Known) -> Iterator[Finding]:
    both = f"{ou}, {mu}"
    if _is_two_wire(mu.plate):
        yield Finding("U-15", UnitKind.OPTIONAL, both)
        return
    if ou.plate.wiring not in (None, mu.plate.wiring):
        yield Finding("U-15", UnitKind.OPTIONAL, both)
    if mu.plate.capacity_a == CT_CAPACITY_A:
        yield Finding("U-17", UnitKind.OPTIONAL, both)
    elif ou.plate.function is OptionalFunction.SWITCHING:
        ours, wanted = ou.plate.capacity_a, mu.plate.capacity_a
        if ours is None or ours != wanted:
            yield Finding("U-16", UnitKind.OPTIONAL, f"{both}: {_ampere(ours)} ≠ {_ampere(wanted)}")


def _contract_and_cu(contract: Contract, cu: _Known) -> Iterator[Finding]:
    kind, medium = UnitKind.COMMUNICATION, cu.plate.broute_medium
    if contract.renewables and cu.two_way is False:
        yield Finding("U-09", kind, str(cu))
    if contract.broute:
        if medium is None:
            yield Finding("U-11", kind, str(cu))
        elif (decided := contract.medium or medium) is not medium:
            yield Finding("U-13", kind, f"{cu}: {medium.value} ≠ {decided.value}")
    bearer = cu.plate.aroute
    if contract.site is not None and bearer not in (None, _BEARERS[contract.site]):
        yield Finding("U-14", kind, f"{cu}: {contract.site.value}")


def _contract_and_mu(contract: Contract, mu: _Known) -> Iterator[Finding]:
    kind, capacity = UnitKind.METERING, mu.plate.capacity_a
    if contract.renewables and not mu.plate.two_way:
        yield Finding("U-08", kind, str(mu))
    if contract.broute and not mu.plate.broute:
        yield Finding("U-12", kind, str(mu))
    # Behind a current transformer the contract's ampere are not those of the unit.
    wanted = None if capacity == CT_CAPACITY_A else contract.capacity_a
    if wanted is not None and (capacity is None or wanted > capacity):
        yield Finding("U-19", kind, f"{mu}: {_ampere(wanted)} > {_ampere(capacity)}")


def _surely_no_switch(fitted: Fitted, catalogue: Catalogue) -> bool:
    """Every optional unit is known, and none of them switches."""
    for unit in fitted.of(UnitKind.OPTIONAL):
        known = _believed(unit, catalogue)
        if known is None or known.plate.function is OptionalFunction.SWITCHING:
            return False
    return True


def _is_two_wire(plate: Nameplate) -> bool:
    return plate.wiring is Wiring.ONE_PHASE_TWO_WIRE


def _name(plate: Nameplate) -> str:
    return f"{plate.model} no. {plate.serial}" if plate.serial else plate.model


def _ampere(capacity_a: int | None) -> str:
    return "? A" if capacity_a is None else f"{capacity_a} A"
