"""``meter-runtime clear``: end a fault on a running bench, or all of them."""

import argparse
from typing import TYPE_CHECKING

from meter_runtime import control, control_paths
from meter_runtime.cli.parser import add_command, add_control_option

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands

_PATIENCE_S = 60.0
"""A device that is plugged in again takes a while."""


def register(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "clear",
        "End a fault on a running bench, or all of them.",
        "meter-runtime clear slow",
    )
    parser.add_argument("fault", nargs="?", metavar="FAULT", help="its name (default: all)")
    add_control_option(parser)


def run(args: argparse.Namespace) -> int:
    path = control_paths.find(args.control)
    result = control.ask(path, "clear", timeout_s=_PATIENCE_S, fault=args.fault)
    cleared = result["cleared"]
    if cleared:
        print(f"cleared {', '.join(cleared)}")
    else:
        print("no fault was active" if args.fault is None else f"{args.fault} was not active")
    return 0
