"""``meter-runtime clock``: set, step or tune a bench meter's clock; no time passes."""

import argparse
import re
from datetime import datetime
from typing import TYPE_CHECKING

from meter_runtime import control, control_paths
from meter_runtime.cli.parser import Parser, add_command, add_control_option
from meter_runtime.clock import JST
from meter_runtime.duration import parse_duration
from meter_runtime.errors import UsageError

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands

_NEGATIVE = re.compile(r"-\d")


def register(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "clock",
        "Move a bench meter's clock without letting time pass, as a bad clock or a correction does."
        "\nTo live through a while, use advance.",
        "meter-runtime clock set 2026-11-22T23:59:50",
    )
    actions = parser.add_subparsers(
        dest="action", metavar="set|step|rate", required=True, parser_class=Parser
    )
    setting = actions.add_parser("set", help="show this time from now on")
    setting.add_argument("time", metavar="TIME", help="ISO 8601; JST where no offset is given")
    stepping = actions.add_parser("step", help="jump forward or back")
    stepping.add_argument("by", metavar="[+|-]DURATION", help="90s, +30m, -1h")
    rating = actions.add_parser("rate", help="run fast or slow")
    rating.add_argument("ppm", metavar="PPM", help="parts per million, above 0 is fast")
    for action in (setting, stepping, rating):
        # Argparse has no public way to say that -1h is an argument, as -1 is.
        action._negative_number_matcher = _NEGATIVE
        add_control_option(action)


def run(args: argparse.Namespace) -> int:
    wanted: dict[str, float]
    match args.action:
        case "set":
            wanted = {"set": _wall(args.time)}
        case "step":
            wanted = {"step": _step(args.by)}
        case _:
            wanted = {"rate": _rate(args.ppm)}
    result = control.ask(control_paths.find(args.control), "clock", **wanted)
    print(f"the meter's clock shows {result['now']}")
    return 0


def _wall(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f'"{text}" is no time; write one like 2026-11-22T23:59:50') from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=JST)).timestamp()


def _step(text: str) -> float:
    sign = -1.0 if text.startswith("-") else 1.0
    return sign * parse_duration(text.lstrip("+-"))


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f'"{text}" is no rate; give parts per million, as in 50') from None
