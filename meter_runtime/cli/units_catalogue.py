"""``meter-runtime units list|count|check|explain``: the catalogue and the combination rules."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meter_runtime.clock import jst_day
from meter_runtime.units import findings
from meter_runtime.units.catalogue import Model, shipped
from meter_runtime.units.combination import check, combinations, is_valid, service_of
from meter_runtime.units.contracts import UnitKind

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands

_KINDS = {
    UnitKind.COMMUNICATION: "communication units",
    UnitKind.METERING: "metering units",
    UnitKind.OPTIONAL: "optional units",
}


def register(actions: "Commands") -> None:
    """Add the four to the actions of ``units``."""
    listing = actions.add_parser("list", help="the units there are, by model number")
    listing.description = "The catalogue: every model with what tells it from others."
    listing.add_argument("--json", action="store_true", help="one document")
    listing.set_defaults(act=_list)

    counting = actions.add_parser("count", help="how many combinations of units are valid")
    counting.description = "Check every combination of the catalogue's units and count the valid."
    counting.add_argument("--verbose", action="store_true", help="and why the others are not")
    counting.set_defaults(act=_count)

    checking = actions.add_parser("check", help="what is wrong with the units in a file")
    checking.description = (
        "Hold the units of a file against the catalogue and the file's contract, as a meter does"
        " at its start. Exit status 1 when there is an error among the findings."
    )
    checking.epilog = "example: meter-runtime units check examples/units/two-way-60a.toml"
    checking.add_argument("file", type=Path, metavar="FILE")
    _add_language(checking)
    checking.add_argument("--json", action="store_true", help="one document")
    checking.set_defaults(act=_check)

    explaining = actions.add_parser("explain", help="what a code means, and what to do")
    explaining.epilog = "example: meter-runtime units explain U-16 --lang ja"
    explaining.add_argument("code", metavar="CODE", help="U-01 to U-24")
    _add_language(explaining)
    explaining.set_defaults(act=_explain)


def _add_language(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lang", choices=findings.LANGUAGES, default="en", help="default: en")


def _list(args: argparse.Namespace) -> int:
    models = [each for line in shipped().models.values() for each in line.values()]
    if args.json:
        document = {
            "units": [_document(model) for model in models],
            "covers": [cover.value for cover in shipped().covers],
        }
        print(json.dumps(document, indent=2))
        return 0
    width = max(len(model.model) for model in models)
    for kind, title in _KINDS.items():
        print(title)
        for model in (each for each in models if each.kind is kind and not each.bare):
            print(f"  {model.model:<{width}}  {_described(model)}")
    print("bare modules and chips, on a workbench")
    for model in (each for each in models if each.bare):
        print(f"  {model.model:<{width}}  {_described(model)}")
    print(f"terminal covers\n  {', '.join(cover.value for cover in shipped().covers)}")
    return 0


def _document(model: Model) -> dict[str, Any]:
    """What the catalogue knows of it."""
    values = {each.name: getattr(model, each.name) for each in fields(model)}
    return {key: value.value if isinstance(value, Enum) else value for key, value in values.items()}


def _described(model: Model) -> str:
    return ", ".join(_properties(model))


def _properties(model: Model) -> Iterator[str]:
    if model.wiring is not None:
        yield model.wiring.value
    if model.capacity_a is not None:
        yield f"{model.capacity_a} A"
    if model.function is not None:
        yield model.function.value
    if model.aroute is not None:
        yield f"A-route {model.aroute.value}"
    if model.broute_medium is not None:
        yield f"B-route {model.broute_medium.value}"
    elif model.kind is UnitKind.COMMUNICATION:
        yield "no B-route"
    if model.two_way is not None:
        yield "two-way" if model.two_way else "one-way"
    yield f"driver {model.driver}" if model.driver else "no driver"


def _count(args: argparse.Namespace) -> int:
    refused: Counter[str] = Counter()
    raw = valid = 0
    for _, found in combinations(shipped()):
        raw += 1
        valid += is_valid(found)
        refused.update({finding.code for finding in found})
    print(valid)
    if args.verbose:
        print(f"of {raw}: {_factors()}")
        for code, times in sorted(refused.items()):
            print(f"{times:>5} refused by {code}: {findings.code(code).words['en'].title}")
        print("a combination may be refused for several reasons")
    return 0


def _factors() -> str:
    catalogue = shipped()
    numbers = {title: len(list(catalogue.units(kind))) for kind, title in _KINDS.items()}
    numbers["optional units or none"] = numbers.pop("optional units") + 1
    numbers["terminal covers"] = len(catalogue.covers)
    return " × ".join(f"{number} {title}" for title, number in numbers.items())


def _check(args: argparse.Namespace) -> int:
    from meter_runtime.units import fitted_file

    file = fitted_file.load(args.file, shipped())
    found = check(file.fitted, file.contract, shipped(), jst_day(time.time()))
    valid = is_valid(found)
    if args.json:
        service = service_of(found)
        document = {
            "ok": valid,
            "findings": [_finding(each, args.lang) for each in found],
            "service": {each.name: getattr(service, each.name) for each in fields(service)},
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return 0 if valid else 1
    for each in found:
        severity = findings.severity_name(each.severity, args.lang)
        effect = findings.code(each.code).effect(each.kind, args.lang)
        print(f"{each.code} {severity}: {each.text(args.lang)}\n     → {effect}")
    if not found:
        print(
            "これらのユニットの組合せは有効です" if args.lang == "ja" else "these units go together"
        )
    return 0 if valid else 1


def _finding(found: findings.Finding, language: findings.Language) -> dict[str, Any]:
    return {
        "code": found.code,
        "severity": found.severity.value,
        "text": found.text(language),
        "unit": found.kind.value,
        "disables": sorted(function.value for function in found.disables),
    }


def _explain(args: argparse.Namespace) -> int:
    code = findings.code(args.code)
    words = code.words[args.lang]
    cause, effect, remedy = _HEADINGS[args.lang]
    print(f"{code.code} {findings.severity_name(code.severity, args.lang)}: {words.title}")
    print(f"{cause}: {words.cause}")
    effects = {kind: code.effect(kind, args.lang) for kind in UnitKind}
    if len(set(effects.values())) == 1:
        print(f"{effect}: {effects[UnitKind.METERING]}")
    else:
        for kind, said in effects.items():
            print(f"{effect} ({kind.value}): {said}")
    print(f"{remedy}: {words.remedy}")
    return 0


_HEADINGS = {"en": ("cause", "effect", "remedy"), "ja": ("原因", "影響", "処置")}
