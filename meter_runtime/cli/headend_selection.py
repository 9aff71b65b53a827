"""``meter-runtime headend import|select``: the unit selection and its sources."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meter_runtime.cli.headend_register import add_by, add_lab, day, opened
from meter_runtime.cli.parser import add_command
from meter_runtime.clock import jst_day

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands
    from meter_runtime.headend.selection import Selection


def register(commands: "Commands") -> None:
    """Add ``import`` and ``select``."""
    importing = add_command(
        commands,
        "import",
        "Take over what another department's system says of customers' places.",
        "meter-runtime headend import distribution wiring.csv --lab lab --by Hara",
    )
    importing.add_argument("source", metavar="SOURCE", help="see docs/headend.md for the five")
    importing.add_argument("file", type=Path, metavar="FILE.csv")
    importing.add_argument(
        "--as-of", type=day, metavar="DAY", help="the day that the file tells of (default: today)"
    )
    add_by(importing)
    add_lab(importing)
    importing.set_defaults(act=_import)

    selecting = add_command(
        commands,
        "select",
        "Choose the units for a contract's place from all sources, and say why these.",
        "meter-runtime headend select C-1001 --lab lab",
    )
    selecting.add_argument("contract", metavar="CONTRACT")
    selecting.add_argument("--json", action="store_true", help="one document")
    add_lab(selecting)
    selecting.set_defaults(act=_select)


def _import(args: argparse.Namespace) -> int:
    with opened(args) as system:
        as_of = args.as_of or jst_day(system.now())
        rows = system.sources.take(system.now(), args.by, args.source, args.file, as_of)
    print(f"{args.source}: as of {as_of}, {rows:,} row(s)")
    return 0


def _select(args: argparse.Namespace) -> int:
    with opened(args) as system:
        system.viewed("unit selection", args.contract)
        selection = system.select(args.contract)
    if args.json:
        print(json.dumps(_selection(selection), indent=2, ensure_ascii=False))
        return 0
    for reason in selection.why:
        print(reason)
    for remark in selection.remarks:
        print(f"{remark.kind}: {remark.text}")
    print(f"of {selection.candidates} choices that suit")
    return 0


def _selection(selection: "Selection") -> dict[str, Any]:
    units = selection.units
    return {
        "contract": selection.contract,
        "units": {
            "communication": units.cu.model,
            "metering": units.mu.model,
            "optional": None if units.ou is None else units.ou.model,
            "cover": units.cover.value,
        },
        "why": list(selection.why),
        "remarks": [
            {"kind": remark.kind, "field": remark.field, "text": remark.text}
            for remark in selection.remarks
        ],
        "candidates": selection.candidates,
    }
