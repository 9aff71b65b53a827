"""``meter-runtime history --export`` and ``--import``: their options, and what they tell."""

import argparse
import time
from pathlib import Path

from meter_runtime import control_paths
from meter_runtime.cli import history_files
from meter_runtime.clock import HALF_HOUR_S
from meter_runtime.errors import UsageError

INTERVALS_S = {"30m": HALF_HOUR_S, "5m": 300, "1m": 60}

_OF_A_DAY = ("day", "reverse", "json", "csv", "plot")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this module, as a group."""
    whole = parser.add_argument_group("the whole load profile")
    whole.add_argument(
        "--export",
        dest="export_to",
        type=Path,
        metavar="FILE",
        help="write every boundary to a .csv or .parquet file",
    )
    whole.add_argument(
        "--import",
        dest="import_from",
        type=Path,
        metavar="FILE",
        help="store the boundaries of such a file in --state",
    )
    whole.add_argument("--interval", choices=INTERVALS_S, help="of the boundaries (default: 30m)")
    whole.add_argument(
        "--state", type=Path, metavar="DIR", help="the state directory of a meter that is stopped"
    )
    whole.add_argument(
        "--serial", help="with --import: the metering unit's, whatever the file says"
    )
    whole.add_argument(
        "--meter-id", metavar="ID", help="with --export and --state, which does not know it"
    )


def check_options(args: argparse.Namespace) -> None:
    """UsageError for options that do not go together."""
    if args.export_to is not None and args.import_from is not None:
        raise UsageError("--export and --import are two commands; give one of them")
    if args.export_to is None and args.import_from is None:
        _refuse(args, ("interval", "state", "serial", "meter_id"), "of a day", "add --export FILE")
        return
    way = "--export" if args.import_from is None else "--import"
    _refuse(args, _OF_A_DAY, f"with {way}", "it is of all days: leave it out")
    if way == "--import":
        _refuse(args, ("control",), "with --import", "stop the meter, and name its --state DIR")
        _refuse(args, ("meter_id",), "with --import", "a state directory does not keep it")
        if args.state is None:
            raise UsageError("--import needs the directory to store into; add --state DIR")
        return
    _refuse(args, ("serial",), "with --export", "the history has its unit's")
    if args.state is None:
        _refuse(args, ("meter_id",), "without --state", "a running meter tells its own")
    else:
        _refuse(args, ("control",), "with --state", "give one: the meter runs, or it does not")


def run(args: argparse.Namespace) -> int:
    interval_s = INTERVALS_S[args.interval or "30m"]
    if args.import_from is None:
        return _export(args, interval_s)
    return _import(args, interval_s)


def _export(args: argparse.Namespace, interval_s: int) -> int:
    history_files.check_name(args.export_to, "--export")
    if args.state is not None:
        from meter_runtime.cli.history_state import profile_in

        profile = profile_in(args.state, interval_s, args.meter_id or "")
    else:
        from meter_runtime.cli.history_export import profile_of

        profile = profile_of(control_paths.find(args.control), interval_s)
    history_files.write(args.export_to, profile)
    records = profile.records
    span = ""
    if records:
        first, last = (history_files.stamp(records[at].slot * interval_s) for at in (0, -1))
        span = f", {first} to {last}"
    elif interval_s != HALF_HOUR_S:
        span = "; [storage] fine = true keeps such values"
    print(f"{args.export_to}: {len(records):,} boundaries of unit {profile.unit_serial}{span}")
    return 0


def _import(args: argparse.Namespace, interval_s: int) -> int:
    from meter_runtime.cli import history_import

    path = args.import_from
    history_files.check_name(path, "--import")
    if args.serial is not None:
        history_import.check_serial(args.serial)
    rows = history_files.read(path)
    checked = history_import.check(path, rows, interval_s, args.serial, time.time())
    done = history_import.into_state(checked, args.state)
    print(
        f"{args.state}: unit {done.unit_serial}: {done.stored:,} boundaries stored,"
        f" {done.kept:,} kept as they were, {done.too_old:,} too old"
    )
    return 0


def _refuse(args: argparse.Namespace, names: tuple[str, ...], where: str, advice: str) -> None:
    """UsageError for the first of these options that was given."""
    for name in names:
        if getattr(args, name) is not None and getattr(args, name) is not False:
            raise UsageError(f"--{name.replace('_', '-')} is not an option {where}; {advice}")
