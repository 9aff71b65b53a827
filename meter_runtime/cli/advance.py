"""``meter-runtime advance``: a bench meter lives through a while at once."""

import argparse
from typing import TYPE_CHECKING

from meter_runtime import control, control_paths
from meter_runtime.cli.parser import add_command, add_control_option
from meter_runtime.duration import format_duration, parse_duration

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands

_PATIENCE_S = 600.0
"""A meter that lives through forty days at once is busy for a while."""


def register(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "advance",
        "Move a bench meter's clock forward. It measures, stores and announces on the way"
        " whatever falls due.",
        "meter-runtime advance 1h30m",
    )
    parser.add_argument("duration", metavar="DURATION", help="90s, 30m, 1h30m, 2d")
    add_control_option(parser)


def run(args: argparse.Namespace) -> int:
    seconds = parse_duration(args.duration)
    path = control_paths.find(args.control)
    result = control.ask(path, "advance", timeout_s=_PATIENCE_S, seconds=seconds)
    match result:
        case {"now": str(now)}:
            print(f"advanced {format_duration(seconds)}; the meter's clock shows {now}")
        case _:
            print(f"advanced {format_duration(seconds)}")
    return 0
