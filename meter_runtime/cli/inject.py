"""``meter-runtime inject``: begin a fault on a running bench, or list the faults there are."""

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from meter_runtime import control, control_paths
from meter_runtime.cli.parser import add_command, add_control_option
from meter_runtime.duration import parse_duration
from meter_runtime.errors import UsageError

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands

_PATIENCE_S = 60.0
"""A meter that is restarted takes a while."""


def register(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "inject",
        "Begin a fault on a running bench: until it is cleared, for a while (--for, by the bench's"
        "\nclock), or for so many effects (count=N).",
        "meter-runtime inject slow seconds=8s --for 5m",
    )
    parser.intermixed = True
    parser.add_argument("fault", nargs="?", metavar="FAULT", help="its name; see --list")
    parser.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="its parameters, and count=N"
    )
    parser.add_argument("--for", dest="duration", metavar="DURATION", help="end it after 90s, 5m")
    parser.add_argument("--list", action="store_true", help="all faults with their parameters")
    parser.add_argument(
        "--json", action="store_true", help="the list, or the active faults, as JSON"
    )
    add_control_option(parser)


def run(args: argparse.Namespace) -> int:
    if args.list:
        _list(as_json=args.json)
        return 0
    if args.fault is None:
        raise UsageError("name a fault; 'meter-runtime inject --list' shows all of them")
    parameters: dict[str, Any] = dict(_setting(text) for text in args.settings)
    wanted = {
        "fault": args.fault,
        "for_s": None if args.duration is None else parse_duration(args.duration),
        "count": _count(parameters.pop("count", None)),
        "parameters": parameters,
    }
    path = control_paths.find(args.control)
    result = control.ask(path, "inject", timeout_s=_PATIENCE_S, **wanted)
    if args.json:
        print(json.dumps(result, indent=2))
        return 0
    active = [fault for fault in result["faults"] if fault["name"] == args.fault]
    print(describe(active[0]) if active else f"{args.fault}: done")
    return 0


def describe(fault: Mapping[str, Any]) -> str:
    """One active fault on one line."""
    settings = "".join(f" {key}={value}" for key, value in fault["parameters"].items())
    until = f", until {fault['until']}" if fault["until"] else ""
    left = f", {fault['left']} effects left" if fault["left"] is not None else ""
    return f"{fault['name']}{settings}: active since {fault['since']}{until}{left}"


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f'"{text}" is no setting; write KEY=VALUE')
    return key, value


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"count={text}: give a whole number of effects")
    return int(text)


def _list(*, as_json: bool) -> None:
    from meter_runtime.bench.faults.catalogue import describe as describe_all

    faults = describe_all()
    if as_json:
        print(json.dumps(faults, indent=2))
        return
    group = None
    for fault in faults:
        if fault["group"] != group:
            group = fault["group"]
            print(group)
        print(f"  {_title(fault)}\n      {fault['models']}")
        for parameter in fault["parameters"]:
            default = "" if parameter["default"] is None else f"={parameter['default']}"
            print(f"      {parameter['name']}{default}  ({parameter['range']}) {parameter['says']}")


def _title(fault: Mapping[str, Any]) -> str:
    if fault["momentary"]:
        return f"{fault['name']}  (at once)"
    return f"{fault['name']}  (count={fault['counts']})" if fault["counts"] else str(fault["name"])
