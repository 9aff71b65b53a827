"""``meter-runtime units``: what is plugged in, and what it is called."""

import argparse
import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meter_runtime import config, runtime
from meter_runtime.cli import units_catalogue, units_label
from meter_runtime.cli.parser import Parser, add_command
from meter_runtime.control import is_live
from meter_runtime.control_paths import SYSTEM_PATH
from meter_runtime.errors import MeterError
from meter_runtime.units import real_board
from meter_runtime.units.board import Board
from meter_runtime.units.board_profiles import AUTO, profile_names
from meter_runtime.units.contracts import Nameplate, UnitKind
from meter_runtime.units.discovery import Presence, SlotFinding, discover

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands

_REQUIRED = {UnitKind.COMMUNICATION, UnitKind.METERING}
_SOURCES = {
    "eeprom": "by its ID EEPROM",
    "detect": "by its chip",
    "configuration": "by the configuration alone",
}


def register(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "units",
        "Units: find what is plugged in, label one, look into the catalogue, check a combination.",
        "meter-runtime units detect --board pi4",
    )
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=Parser, title="actions"
    )
    detecting = actions.add_parser("detect", help="ask every slot, and show what was asked")
    detecting.description = (
        "Ask every slot of the board for its unit. Exit status 0 when the communication and the"
        " metering unit were found and nothing abnormal. Not beside a running meter: it speaks"
        " with the same chips."
    )
    detecting.add_argument(
        "--config", type=Path, metavar="FILE", help="whose drivers and board (default: any, auto)"
    )
    known = ", ".join([AUTO, *profile_names()])
    detecting.add_argument(
        "--board", metavar="NAME", help=f"{known}, or the path of a profile, which ends in .toml"
    )
    detecting.add_argument("--json", action="store_true", help="everything as one document")
    detecting.set_defaults(act=_detect)
    units_label.register(actions)
    units_catalogue.register(actions)


def run(args: argparse.Namespace) -> int:
    status: int = args.act(args)
    return status


def _detect(args: argparse.Namespace) -> int:
    settings = None if args.config is None else config.load(args.config)
    control = SYSTEM_PATH if settings is None else settings.control.path
    if _lives(control):
        raise MeterError(
            f"a meter runs at {control} and speaks with its units; ask it with"
            " 'meter-runtime status', or stop it first"
        )
    if settings is None:
        wanted, board = {}, real_board.open_board(args.board or AUTO)
    else:
        wanted = runtime.wanted_units(settings.units)
        board = real_board.open_board(args.board or settings.board.profile, settings.board.gpio)
    try:
        began = time.monotonic()
        findings = asyncio.run(discover(board, wanted))
        took_ms = (time.monotonic() - began) * 1000
    finally:
        board.close()
    complete = _is_complete(findings)
    if args.json:
        print(json.dumps(document(board, findings, took_ms), indent=2))
    else:
        print(table(board, findings, took_ms))
    return 0 if complete else 1


def _lives(control: Path) -> bool:
    try:
        return is_live(control)
    except PermissionError:
        return True  # somebody else's is a meter too


def _is_complete(findings: Mapping[str, SlotFinding]) -> bool:
    """Communication and metering units are there, and nothing needs a look."""
    found = {each.slot.kind for each in findings.values() if each.presence is Presence.FOUND}
    abnormal = any(each.presence is Presence.ABNORMAL for each in findings.values())
    return found >= _REQUIRED and not abnormal


def document(board: Board, findings: Mapping[str, SlotFinding], took_ms: float) -> dict[str, Any]:
    """Everything that discovery found, as JSON has it."""
    return {
        "board": board.profile.name,
        "complete": _is_complete(findings),
        "took_ms": round(took_ms, 1),
        "slots": {name: _slot_document(finding) for name, finding in findings.items()},
    }


def _slot_document(finding: SlotFinding) -> dict[str, Any]:
    return {
        "presence": finding.presence.value,
        "driver": finding.driver,
        "source": finding.source,
        "reason": finding.reason,
        "codes": list(finding.codes),
        "nameplate": None if finding.nameplate is None else _plate_document(finding.nameplate),
        "trail": [asdict(asked) | {"took_ms": round(asked.took_ms, 1)} for asked in finding.trail],
    }


def _plate_document(nameplate: Nameplate) -> dict[str, Any]:
    """The nameplate, each value as it is printed on a unit."""
    until = nameplate.certified_until
    plain = {
        "kind": nameplate.kind.value,
        "wiring": nameplate.wiring and nameplate.wiring.value,
        "broute_medium": nameplate.broute_medium and nameplate.broute_medium.value,
        "aroute": nameplate.aroute and nameplate.aroute.value,
        "function": nameplate.function and nameplate.function.value,
        "certified_until": until and until.isoformat(),
    }
    return asdict(nameplate) | plain


def table(board: Board, findings: Mapping[str, SlotFinding], took_ms: float) -> str:
    """The trail, a line a question, and then what each slot holds."""
    rows = [("slot", "asked", "where", "ms", "answer")]
    rows += [
        (name, asked.what, asked.where, f"{asked.took_ms:.1f}", asked.answer)
        for name, finding in findings.items()
        for asked in finding.trail
    ]
    slot, what, where, took, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [f"board {board.profile.name}: {board.profile.title}", ""]
    if len(rows) > 1:
        lines += [
            f"{row[0]:<{slot}}  {row[1]:<{what}}  {row[2]:<{where}}  {row[3]:>{took}}  {row[4]}"
            for row in rows
        ]
        lines.append("")
    width = max((len(name) for name in findings), default=0)
    lines += [
        f"{name:<{width}}  {finding.presence.value:<8}  {_outcome(finding)}"
        for name, finding in findings.items()
    ]
    lines += ["", f"took {took_ms:.0f} ms"]
    return "\n".join(lines)


def _outcome(finding: SlotFinding) -> str:
    if finding.presence is not Presence.FOUND:
        return " ".join([*finding.codes, finding.reason])
    unit = finding.nameplate
    name = "" if unit is None else f"{unit.model} no. {unit.serial}, "
    return f"{name}driver {finding.driver}, {_SOURCES[finding.source]}"
