"""The unit selection: which units a customer's place gets, from what several sources say.

The rules of combination are the meter's own (:mod:`meter_runtime.units.combination`): every choice
of the catalogue that has no finding, warnings included, is a candidate, and of the candidates the
one that fits most closely is the best. A mistake is refused with a message: sources that contradict
each other, a field that nobody tells, a place for which there are no units.

What makes a fit close is inferred (:func:`_cost`): no function that was not asked for, and the
smallest metering unit that bears the contract, one behind current transformers only where no other
does.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from meter_runtime.errors import MeterError
from meter_runtime.headend.register_contracts import ContractRecord
from meter_runtime.headend.register_sources import SOURCES, Statement
from meter_runtime.units.catalogue import Catalogue, Cover, Model
from meter_runtime.units.combination import (
    CT_CAPACITY_A,
    Combination,
    Contract,
    Site,
    check,
    combinations,
)
from meter_runtime.units.contracts import BRouteMedium, OptionalFunction, Wiring

STALE_AFTER = timedelta(days=180)
"""A source that is this much behind another one may have missed something [inferred]."""

REQUIRED = ("renewables", "broute", "switching", "capacity_a", "wiring", "site")
_DEFAULTS = {
    # 920 MHz unless the meter hangs away from the dwelling.
    "medium": BRouteMedium.RADIO.value,
    "cover": Cover.NORMAL.value,
    "voltage": "no",
}
_ASSUMED = "nobody says otherwise"
_REGISTER = "register"


class SelectionError(MeterError):
    """No units are selected; the message says which source and field to mend."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about the sources: ``kind`` is "stale", "contradiction" or "missing"."""

    kind: str
    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The units for one contract, and why these."""

    contract: str
    units: Combination
    why: tuple[str, ...]
    remarks: tuple[Remark, ...]
    candidates: int


def of_register(contract: ContractRecord) -> Statement:
    """The contract as one source more: the New System's own."""
    facts = {
        "renewables": "yes" if contract.renewables else "no",
        "broute": "yes" if contract.accepted_on is not None else "no",
        "switching": "yes" if contract.switching else "no",
    }
    if contract.capacity_a is not None:
        facts["capacity_a"] = str(contract.capacity_a)
    return Statement(_REGISTER, contract.code, contract.updated_on, "the register", facts)


def remarks(statements: Iterable[Statement], stale_after: timedelta) -> list[Remark]:
    """What is wrong with what the sources say: missing, contradicting, stale."""
    told = list(statements)
    found = list(_contradictions(told))
    known = {name for statement in told for name in statement.facts}
    for name in REQUIRED:
        if name not in known:
            sources = " or ".join(source for source, fields in SOURCES.items() if name in fields)
            found.append(Remark("missing", name, f"{name}: nobody says it; import {sources}"))
    newest = max((statement.as_of for statement in told), default=date.min)
    found += [
        Remark(
            "stale",
            ", ".join(statement.facts),
            f"{statement.source} is of {statement.as_of}, {(newest - statement.as_of).days} days"
            f" behind the newest source; {', '.join(statement.facts)} may have changed",
        )
        for statement in told
        if newest - statement.as_of > stale_after
    ]
    return found


def select(
    contract: str,
    statements: Iterable[Statement],
    catalogue: Catalogue,
    *,
    stale_after: timedelta = STALE_AFTER,
) -> Selection:
    """The best units; raises :class:`SelectionError`.

    Stale sources are told among the remarks and refused by nobody: the place may be as it was.
    """
    told = list(statements)
    if not told:
        raise SelectionError(f"contract {contract}: no source knows it; see 'headend import'")
    found = remarks(told, stale_after)
    wrong = [remark.text for remark in found if remark.kind != "stale"]
    if wrong:
        raise SelectionError(f"contract {contract}: {'; '.join(wrong)}")
    facts = _Facts.of(told)
    wanted = facts.contract()
    candidates = [
        choice
        for choice, trouble in combinations(catalogue)
        if not trouble
        and _suits(choice, facts)
        # New units: no day matters.
        and not check(choice.fitted, wanted, catalogue, date.min)
    ]
    if not candidates:
        raise SelectionError(
            f"contract {contract}: no units of the catalogue go with {facts.summary()};"
            " change the contract, or the source that is mistaken"
        )
    best = min(candidates, key=_cost)
    return Selection(contract, best, _reasons(best, facts), tuple(found), len(candidates))


@dataclass(frozen=True, slots=True)
class _Facts:
    """One value for each field, and who says it."""

    values: Mapping[str, str]
    said_by: Mapping[str, str]

    @classmethod
    def of(cls, statements: Iterable[Statement]) -> "_Facts":
        values, said_by = dict(_DEFAULTS), dict.fromkeys(_DEFAULTS, _ASSUMED)
        for statement in statements:
            for name, value in statement.facts.items():
                who = f"{statement.source}, {statement.as_of}"
                already = said_by.get(name, _ASSUMED)
                said_by[name] = who if already == _ASSUMED else f"{already}; {who}"
                values[name] = value
        return cls(values, said_by)

    def yes(self, name: str) -> bool:
        return self.values[name] == "yes"

    def contract(self) -> Contract:
        return Contract(
            renewables=self.yes("renewables"),
            broute=self.yes("broute"),
            switching=self.yes("switching"),
            capacity_a=int(self.values["capacity_a"]),
            medium=BRouteMedium(self.values["medium"]) if self.yes("broute") else None,
            site=Site(self.values["site"]),
        )

    def because(self, *names: str) -> str:
        return ", ".join(f"{name} {self.values[name]} ({self.said_by[name]})" for name in names)

    def summary(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in sorted(self.values.items()))


def _contradictions(statements: list[Statement]) -> Iterator[Remark]:
    for name in dict.fromkeys(name for statement in statements for name in statement.facts):
        sayings = [each for each in statements if name in each.facts]
        if len({each.facts[name] for each in sayings}) > 1:
            said = " ≠ ".join(
                f"{each.facts[name]} ({each.source}, {each.as_of}, {each.line})" for each in sayings
            )
            yield Remark("contradiction", name, f"{name}: {said}")


def _suits(choice: Combination, facts: _Facts) -> bool:
    """What the contract does not ask of the units, but the place does."""
    voltage = choice.ou is not None and choice.ou.function is OptionalFunction.VOLTAGE
    return (
        choice.mu.wiring is Wiring(facts.values["wiring"])
        and choice.cover is Cover(facts.values["cover"])
        and voltage == facts.yes("voltage")
    )


def _cost(choice: Combination) -> tuple[bool, int, bool, bool, bool]:
    """Less is closer."""
    capacity_a = choice.mu.capacity_a or 0
    return (
        capacity_a == CT_CAPACITY_A,
        capacity_a,
        choice.mu.two_way is True,
        choice.cu.broute_medium is not None,
        choice.ou is not None,
    )


def _reasons(best: Combination, facts: _Facts) -> tuple[str, ...]:
    def line(model: Model, *names: str) -> str:
        return f"{model.model}: {facts.because(*names)}"

    broute = ("broute", "medium") if facts.yes("broute") else ("broute",)
    reasons = [
        line(best.cu, "site", "renewables", *broute),
        line(best.mu, "wiring", "capacity_a", "renewables"),
    ]
    if best.ou is None:
        reasons.append(f"no optional unit: {facts.because('switching', 'voltage')}")
    else:
        reasons.append(line(best.ou, "switching", "voltage"))
    reasons.append(f"cover {best.cover.value}: {facts.because('cover')}")
    return tuple(reasons)
