"""Which units go together: every combination against an oracle of its own, and every code."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.units.catalogue import Cover, shipped
from meter_runtime.units.combination import (
    Contract,
    Fitted,
    FittedUnit,
    Service,
    Site,
    check,
    combinations,
    is_valid,
    service_of,
)
from meter_runtime.units.contracts import (
    ARouteBearer,
    BRouteMedium,
    Nameplate,
    OptionalFunction,
    UnitKind,
    Wiring,
)
from meter_runtime.units.findings import codes

TODAY = date(2026, 11, 22)
TWO_WIRE, THREE_WIRE, THREE_PHASE = Wiring

MEDIA = {"NONE": None, "920": BRouteMedium.RADIO, "PLC": BRouteMedium.PLC}
RATINGS = [
    *((TWO_WIRE, ampere, 1) for ampere in (30, 120)),
    *itertools.product((THREE_WIRE, THREE_PHASE), (5, 60, 120), (1, 2)),
]
OPTIONS = [None, 60, 120, "VOLT"]


@dataclass(frozen=True)
class Choice:
    """One combination, as the published table has it."""

    bearer: ARouteBearer
    medium: str
    cu_ways: int
    wiring: Wiring
    ampere: int
    mu_ways: int
    option: int | str | None
    cover: Cover

    @property
    def fitted(self) -> Fitted:
        units = [
            Nameplate(
                UnitKind.COMMUNICATION,
                f"CU-{self.bearer.value}-{self.medium}-{self.cu_ways}",
                "C1",
                two_way=self.cu_ways == 2,
                broute_medium=MEDIA[self.medium],
                aroute=self.bearer,
            ),
            Nameplate(
                UnitKind.METERING,
                f"MU-{self.wiring.value}-{self.ampere}-{self.mu_ways}",
                "M1",
                wiring=self.wiring,
                capacity_a=self.ampere,
                two_way=self.mu_ways == 2,
            ),
        ]
        if isinstance(self.option, int):
            units.append(
                Nameplate(
                    UnitKind.OPTIONAL,
                    f"OU-SW-{self.option}",
                    "O1",
                    capacity_a=self.option,
                    function=OptionalFunction.SWITCHING,
                )
            )
        elif self.option is not None:
            units.append(
                Nameplate(UnitKind.OPTIONAL, "OU-VOLT", "O1", function=OptionalFunction.VOLTAGE)
            )
        return Fitted(tuple(FittedUnit(unit.kind, unit) for unit in units), self.cover)

    def oracle(self, contract: Contract | None = None) -> Iterator[str]:
        if self.cu_ways != self.mu_ways:
            yield "U-10"
        if self.option is not None:
            if self.wiring is TWO_WIRE:
                yield "U-15"
            elif self.ampere == 5:
                yield "U-17"
            elif self.option not in ("VOLT", self.ampere):
                yield "U-16"
        if contract is None:
            return
        if contract.renewables and self.mu_ways == 1:
            yield "U-08"
        if contract.renewables and self.cu_ways == 1:
            yield "U-09"
        if contract.broute and self.medium == "NONE":
            yield "U-11"
        told = {BRouteMedium.RADIO: "PLC", BRouteMedium.PLC: "920"}
        if contract.broute and contract.medium and told[contract.medium] == self.medium:
            yield "U-13"
        if (contract.site, self.bearer) in {
            (Site.DETACHED, ARouteBearer.PLC),
            (Site.MULTI_DWELLING, ARouteBearer.RF),
        }:
            yield "U-14"
        if contract.switching and self.option in {None, "VOLT"}:
            yield "U-18"
        if contract.capacity_a and self.ampere != 5 and contract.capacity_a > self.ampere:
            yield "U-19"


ALL = [
    Choice(bearer, medium, cu_ways, *rating, option, cover)
    for bearer, medium, cu_ways, rating, option, cover in itertools.product(
        ARouteBearer, MEDIA, (1, 2), RATINGS, OPTIONS, Cover
    )
]
GOOD = Choice(ARouteBearer.RF, "920", 2, THREE_WIRE, 60, 2, 60, Cover.NORMAL)

contracts = st.builds(
    Contract,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 20, 30, 31, 60, 61, 120, 121]),
    st.sampled_from([None, *BRouteMedium]),
    st.sampled_from([None, *Site]),
)


def found(fitted: Fitted, contract: Contract | None = None, today: date = TODAY) -> list[str]:
    return [each.code for each in check(fitted, contract, shipped(), today)]


def service(fitted: Fitted, contract: Contract | None = None) -> Service:
    return service_of(check(fitted, contract, shipped(), TODAY))


def changed(kind: UnitKind, **values: object) -> Fitted:
    """The good combination with another nameplate in one place."""
    return with_unit(
        *(
            replace(unit, nameplate=replace(unit.nameplate, **values))  # type: ignore[type-var]
            for unit in GOOD.fitted.of(kind)
        )
    )


def with_unit(*units: FittedUnit) -> Fitted:
    """The good combination with these in the place of what it has of their kind."""
    kind = units[0].kind
    return Fitted((*(unit for unit in GOOD.fitted.units if unit.kind is not kind), *units))


def without(kind: UnitKind) -> Fitted:
    return Fitted(tuple(unit for unit in GOOD.fitted.units if unit.kind is not kind))


def test_every_combination_gets_exactly_its_codes() -> None:
    assert len(ALL) == 1344
    assert [each for each in ALL if found(each.fitted) != sorted(each.oracle())] == []


def test_360_combinations_are_valid() -> None:
    valid = [each for each in ALL if is_valid(check(each.fitted, None, shipped(), TODAY))]
    assert len(valid) == 360
    assert valid == [each for each in ALL if not list(each.oracle())]


def test_the_catalogue_itself_makes_the_same_count() -> None:
    verdicts = [is_valid(findings) for _, findings in combinations(shipped())]
    assert (len(verdicts), sum(verdicts)) == (1344, 360)


@given(st.sampled_from(ALL), contracts)
def test_every_contract_gets_exactly_its_codes(choice: Choice, contract: Contract) -> None:
    assert found(choice.fitted, contract) == sorted(choice.oracle(contract))


UNREADABLE = {kind: FittedUnit(kind, None, "its CRC differs") for kind in UnitKind}


@pytest.mark.parametrize(
    ("fitted", "expected"),
    [
        (GOOD.fitted, []),
        (Fitted(), ["U-01", "U-03"]),
        (without(UnitKind.METERING), ["U-01"]),
        (without(UnitKind.COMMUNICATION), ["U-03"]),
        (without(UnitKind.OPTIONAL), []),
        (with_unit(*GOOD.fitted.of(UnitKind.METERING) * 2), ["U-02"]),
        (with_unit(*GOOD.fitted.of(UnitKind.COMMUNICATION) * 2), ["U-04"]),
        (with_unit(*GOOD.fitted.of(UnitKind.OPTIONAL) * 2), ["U-05"]),
        (with_unit(FittedUnit(UnitKind.METERING, None, "two answer", ("U-02",))), ["U-02"]),
        (changed(UnitKind.METERING, model="MU-1P3W-61-2"), ["U-06"]),
        (changed(UnitKind.METERING, capacity_a=120), ["U-06"]),
        (changed(UnitKind.METERING, two_way=False), ["U-06"]),
        (changed(UnitKind.COMMUNICATION, broute_medium=BRouteMedium.PLC), ["U-06"]),
        (changed(UnitKind.METERING, wiring=None, capacity_a=None), []),
        (changed(UnitKind.METERING, certified_until=TODAY), []),
        (changed(UnitKind.METERING, certified_until=date(2026, 11, 21)), ["U-20"]),
        (changed(UnitKind.OPTIONAL, wiring=THREE_WIRE), []),
        (changed(UnitKind.OPTIONAL, wiring=THREE_PHASE), ["U-15"]),
        *((with_unit(unit), ["U-23"]) for unit in UNREADABLE.values()),
        *(
            (with_unit(replace(unit, troubles=("no current",))), ["U-24"])
            for unit in GOOD.fitted.units
        ),
    ],
)
def test_what_was_found_in_the_slots(fitted: Fitted, expected: list[str]) -> None:
    assert found(fitted) == expected


def test_a_bare_chip_on_two_wires_that_says_two_way_is_told() -> None:
    fitted = changed(UnitKind.METERING, model="MCP39F521", wiring=TWO_WIRE, capacity_a=None)
    assert found(replace(fitted, units=fitted.units[:1] + fitted.units[2:])) == ["U-07"]


def test_a_metering_unit_without_the_b_routes_values_is_told_when_it_is_applied_for() -> None:
    fitted = changed(UnitKind.METERING, broute=False)
    assert found(fitted, Contract(broute=True)) == ["U-12"]
    assert found(fitted, Contract()) == []


def test_a_bare_radio_module_carries_either_direction() -> None:
    bare = Nameplate(UnitKind.COMMUNICATION, "BP35A1", "")
    for ways in (1, 2):
        choice = replace(GOOD, cu_ways=ways, mu_ways=ways, option=None)
        units = (FittedUnit(bare.kind, bare), *choice.fitted.of(UnitKind.METERING))
        wanted = Contract(
            renewables=ways == 2,
            broute=True,
            medium=BRouteMedium.RADIO,
            site=Site.MULTI_DWELLING,
        )
        assert found(Fitted(units), wanted) == []


@pytest.mark.parametrize("capacity_a", [None, 60])
def test_a_capacity_that_nobody_knows_is_not_equal(capacity_a: int | None) -> None:
    switch = Nameplate(
        UnitKind.OPTIONAL, "RELAY", "R1", function=OptionalFunction.SWITCHING, capacity_a=capacity_a
    )
    chip = Nameplate(UnitKind.METERING, "MCP39F521", "74", wiring=THREE_WIRE, capacity_a=capacity_a)
    fitted = Fitted(
        (
            *GOOD.fitted.of(UnitKind.COMMUNICATION),
            FittedUnit(chip.kind, chip),
            FittedUnit(switch.kind, switch),
        )
    )
    assert found(fitted) == (["U-16"] if capacity_a is None else [])
    assert found(fitted, Contract(capacity_a=40)) == (
        ["U-16", "U-19"] if capacity_a is None else []
    )


@pytest.mark.parametrize(
    ("former", "expected"),
    [
        ({}, []),
        ({UnitKind.METERING: "M1", UnitKind.COMMUNICATION: "C1"}, []),
        ({UnitKind.METERING: "M0"}, ["U-21"]),
        ({UnitKind.COMMUNICATION: "C0"}, ["U-22"]),
        ({UnitKind.METERING: "M0", UnitKind.COMMUNICATION: "C0"}, ["U-21", "U-22"]),
    ],
)
def test_another_unit_than_before_is_told(former: dict[UnitKind, str], expected: list[str]) -> None:
    fitted = replace(GOOD.fitted, former=former)
    assert found(fitted) == expected
    assert service(fitted) == Service(True, True, True, True, True)


def test_a_module_that_has_not_told_its_serial_yet_is_not_another_one() -> None:
    fitted = changed(UnitKind.COMMUNICATION, serial="")
    assert found(replace(fitted, former={UnitKind.COMMUNICATION: "C0"})) == []


def test_the_switch_may_be_there_where_its_slot_cannot_be_read() -> None:
    fitted = with_unit(UNREADABLE[UnitKind.OPTIONAL])
    assert found(fitted, Contract(switching=True)) == ["U-23"]
    assert found(without(UnitKind.OPTIONAL), Contract(switching=True)) == ["U-18"]


REFUSED = Service(False, False, False, False, False)
NO_BROUTE = Service(True, False, True, True, True)
NO_OPTION = Service(True, True, False, False, True)
FULL = Service(True, True, True, True, True)


@pytest.mark.parametrize(
    ("fitted", "expected"),
    [
        (without(UnitKind.METERING), REFUSED),
        (with_unit(*GOOD.fitted.of(UnitKind.METERING) * 2), REFUSED),
        (changed(UnitKind.METERING, model="?"), REFUSED),
        (changed(UnitKind.COMMUNICATION, model="?"), NO_BROUTE),
        (changed(UnitKind.OPTIONAL, model="?"), NO_OPTION),
        (replace(GOOD, option=120).fitted, REFUSED),
        (replace(GOOD, ampere=5).fitted, REFUSED),
        (without(UnitKind.COMMUNICATION), NO_BROUTE),
        (with_unit(*GOOD.fitted.of(UnitKind.OPTIONAL) * 2), NO_OPTION),
        (replace(GOOD, cu_ways=1).fitted, Service(True, True, True, True, False)),
        (changed(UnitKind.METERING, certified_until=date(2020, 1, 1)), FULL),
        (with_unit(UNREADABLE[UnitKind.METERING]), REFUSED),
        (with_unit(UNREADABLE[UnitKind.COMMUNICATION]), NO_BROUTE),
        (with_unit(UNREADABLE[UnitKind.OPTIONAL]), NO_OPTION),
    ],
)
def test_what_is_left_to_do(fitted: Fitted, expected: Service) -> None:
    assert service(fitted) == expected


def test_a_warning_costs_nothing() -> None:
    findings = check(GOOD.fitted, Contract(site=Site.MULTI_DWELLING), shipped(), TODAY)
    assert [each.code for each in findings] == ["U-14"]
    assert is_valid(findings)
    assert service_of(findings) == FULL


def test_a_finding_names_units_and_figures() -> None:
    (finding,) = check(replace(GOOD, option=120).fitted, None, shipped(), TODAY)
    assert finding.detail == "OU-SW-120 no. O1, MU-1P3W-60-2 no. M1: 120 A ≠ 60 A"
    (finding,) = check(changed(UnitKind.METERING, capacity_a=120), None, shipped(), TODAY)
    assert finding.detail == "MU-1P3W-60-2 no. M1: 120 A ≠ 60 A"
    (finding,) = check(changed(UnitKind.METERING, model="MU-9"), None, shipped(), TODAY)
    assert finding.detail == "MU-9 no. M1"


def test_every_code_that_refuses_service_is_a_published_one() -> None:
    refusing = {
        (code, kind)
        for code, line in codes().items()
        for kind in UnitKind
        if "service" in {function.value for function in line.disables[kind]}
    }
    always = {"U-01", "U-02", "U-15", "U-16", "U-17"}
    assert refusing == {
        *itertools.product(always, UnitKind),
        ("U-06", UnitKind.METERING),
        ("U-23", UnitKind.METERING),
    }
