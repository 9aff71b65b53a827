"""``meter-runtime headend mdms|readings|gaps``: a collector, and what the collectors have."""

import argparse
import asyncio
import contextlib
import csv
import dataclasses
import json
import random
import re
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meter_runtime.cli.log import set_up_log
from meter_runtime.cli.parser import add_command
from meter_runtime.cli.until_signal import until_signal
from meter_runtime.clock import first_slot_of, jst, jst_day, slot_at, slot_start
from meter_runtime.comm.mqtt import MqttBearer, MqttSettings
from meter_runtime.errors import UsageError
from meter_runtime.headend.lab import MDMS, Lab
from meter_runtime.headend.mdms import MAX_BATCH, Collector, subscriptions
from meter_runtime.headend.readings_parquet import DayFiles, flag_names
from meter_runtime.headend.readings_store import FILE_NAME
from meter_runtime.headend.readings_view import Gap, HalfHour, ReadingsView, State, UnitDay

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands, Parser

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,31}")
_NOTES = {
    State.STORED: "",
    State.NOTHING: "the meter has none",
    State.MISSING: "not told by the meter",
}
_COLUMNS = (
    "meter_id",
    "unit_serial",
    "time",
    "forward_wh",
    "reverse_wh",
    "used_wh",
    "fed_wh",
    "flags",
    "state",
)


def register(commands: "Commands") -> None:
    serving = add_command(
        commands,
        "mdms",
        "Run a collector: store what the meters tell, then mark it as stored. Several, each with\n"
        "a name of its own, share the meters and the store. Ends with SIGTERM.",
        "meter-runtime headend mdms --lab lab",
    )
    _add_lab(serving)
    serving.add_argument(
        "--name", default="collector-1", help="of this collector (default: %(default)s)"
    )
    serving.add_argument(
        "--alone",
        action="store_true",
        help="for a broker without shared subscriptions; there must be no other collector",
    )
    serving.add_argument(
        "--parquet", type=Path, metavar="DIR", help="keep a file of each day there"
    )
    serving.set_defaults(act=_serve)

    reading = add_command(
        commands,
        "readings",
        "Show one day of half-hours as the collectors have stored them: the register when each\n"
        "opens, and what flowed until it closed. Without --meter, of every meter.",
        "meter-runtime headend readings --lab lab --meter M1 --day 2026-11-21",
    )
    _add_lab(reading)
    reading.add_argument("--meter", metavar="ID")
    reading.add_argument("--day", type=_day, metavar="YYYY-MM-DD", help="default: today")
    form = reading.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one document")
    form.add_argument("--csv", action="store_true", help="comma-separated, one half-hour a line")
    reading.set_defaults(act=_readings)

    missing = add_command(
        commands,
        "gaps",
        "List the half-hours that are not stored, from the first of each unit to an hour ago.",
        "meter-runtime headend gaps --lab lab",
    )
    _add_lab(missing)
    missing.add_argument("--meter", metavar="ID")
    missing.add_argument("--json", action="store_true", help="one document")
    missing.set_defaults(act=_gaps)


def run(args: argparse.Namespace) -> int:
    lab = Lab.open(args.lab)
    status: int = args.act(args, lab, lab.folder(MDMS) / FILE_NAME)
    return status


def _add_lab(parser: "Parser") -> None:
    parser.add_argument("--lab", type=Path, required=True, metavar="LAB", help="see 'keys init'")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f'"{text}" is no day; write one like 2026-11-01') from None


def _serve(args: argparse.Namespace, lab: Lab, path: Path) -> int:
    if not _NAME.fullmatch(args.name):
        raise UsageError(f'--name "{args.name}": write 1 to 32 letters, digits and -')
    set_up_log("info")
    days = None if args.parquet is None else DayFiles(args.parquet)
    settings = lab.mqtt(MDMS, f"mdms-{args.name}-alone")
    if not args.alone:
        settings = _shared(settings, args.name)
    settings.check()
    bearer = MqttBearer(
        settings,
        subscriptions=subscriptions(lab.utility, shared=not args.alone),
        rng=random.Random(),
        max_queue=MAX_BATCH,
    )
    collector = Collector(bearer, path, lab.utility, args.name)
    print(f"mdms {args.name}: broker {lab.broker_url}, store {path}", flush=True)
    asyncio.run(_run(collector, days, path))
    counted = (f"{count:,} {what}" for what, count in collector.counters.items() if count)
    print(f"mdms {args.name}: {', '.join(counted) or 'nothing came'}")
    return 0


def _shared(settings: MqttSettings, name: str) -> MqttSettings:
    """The broker must not keep a share of the messages for a collector that is gone."""
    return dataclasses.replace(settings, client_id=f"mdms-{name}", session_expiry_s=0)


async def _run(collector: Collector, days: DayFiles | None, path: Path) -> None:
    working = [asyncio.create_task(collector.run())]
    if days is not None:
        working.append(asyncio.create_task(days.keep(path, time.time)))
    ending = asyncio.create_task(until_signal())
    try:
        await asyncio.wait((*working, ending), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*working, ending):
            task.cancel()
        for task in working:
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _readings(args: argparse.Namespace, lab: Lab, path: Path) -> int:
    now = time.time()
    day = args.day or jst_day(now)
    with ReadingsView(path) as view:
        _check_meter(lab, view, args.meter)
        days = view.day(first_slot_of(day), slot_at(now), args.meter)
    if args.json:
        print(json.dumps([_document(day, each) for each in days], indent=2))
    elif args.csv:
        rows = csv.DictWriter(sys.stdout, _COLUMNS, lineterminator="\n")
        rows.writeheader()
        for each in days:
            named = {"meter_id": each.meter_id, "unit_serial": each.unit}
            rows.writerows(named | _half_hour(half_hour) for half_hour in each.half_hours)
    else:
        print(
            "\n\n".join("\n".join(_table(day, each)) for each in days) or f"{day}: nothing stored"
        )
    return 0


def _gaps(args: argparse.Namespace, lab: Lab, path: Path) -> int:
    with ReadingsView(path) as view:
        _check_meter(lab, view, args.meter)
        known = view.meters()
        gaps = view.gaps(time.time(), args.meter)
    wanted = lab.meters() if args.meter is None else (args.meter,)
    silent = [meter for meter in wanted if meter not in known]
    if args.json:
        print(json.dumps({"gaps": [_gap(gap) for gap in gaps], "silent": silent}, indent=2))
        return 0
    for gap in gaps:
        said = _gap(gap)
        print(
            f"{gap.meter_id}  {gap.unit}  {said['from']} to {said['to']}:"
            f" {said['half_hours']:,} missing, {_NOTES[gap.state]}"
        )
    for meter in silent:
        print(f"{meter}  nothing was ever stored")
    if not gaps and not silent:
        print("none")
    return 0


def _check_meter(lab: Lab, view: ReadingsView, meter: str | None) -> None:
    """A meter is enrolled, or was when it was collected."""
    if meter is not None and meter not in view.meters():
        lab.meter(meter)


def _document(day: date, told: UnitDay) -> dict[str, Any]:
    return {
        "meter_id": told.meter_id,
        "unit_serial": told.unit,
        "date": day.isoformat(),
        "half_hours": [_half_hour(half_hour) for half_hour in told.half_hours],
    }


def _half_hour(half_hour: HalfHour) -> dict[str, Any]:
    return {
        "time": jst(slot_start(half_hour.slot)).isoformat(),
        "forward_wh": _wh(half_hour.forward_dwh),
        "reverse_wh": _wh(half_hour.reverse_dwh),
        "used_wh": _wh(half_hour.used_dwh),
        "fed_wh": _wh(half_hour.fed_dwh),
        "flags": flag_names(half_hour.flags),
        "state": half_hour.state.value,
    }


def _gap(gap: Gap) -> dict[str, Any]:
    return {
        "meter_id": gap.meter_id,
        "unit_serial": gap.unit,
        "from": jst(slot_start(gap.first)).isoformat(timespec="minutes"),
        "to": jst(slot_start(gap.last)).isoformat(timespec="minutes"),
        "half_hours": gap.last - gap.first + 1,
        "state": gap.state.value,
    }


def _table(day: date, told: UnitDay) -> Iterator[str]:
    two_way = any(each.reverse_dwh is not None for each in told.half_hours)
    yield f"{day}  meter {told.meter_id}, unit {told.unit}"
    yield ""
    head = f"{'':5}  {'register kWh':>14}  {'use kWh':>9}"
    yield f"{head}  {'fed kWh':>9}" if two_way else head
    for each in told.half_hours:
        cells = [
            f"{jst(slot_start(each.slot)):%H:%M}",
            f"{_kwh(each.forward_dwh):>14}",
            f"{_kwh(each.used_dwh):>9}",
        ]
        cells += [f"{_kwh(each.fed_dwh):>9}"] if two_way else []
        note = _NOTES[each.state] or flag_names(each.flags).replace("|", ", ")
        yield "  ".join([*cells, note]).rstrip()
    known = [each.used_dwh for each in told.half_hours if each.used_dwh is not None]
    yield ""
    yield f"{'sum':5}  {'':14}  {_kwh(sum(known)):>9}  ({len(known)} of 48 half-hours)"


def _wh(dwh: int | None) -> float | None:
    return None if dwh is None else dwh / 10


def _kwh(dwh: int | None) -> str:
    return "-" if dwh is None else f"{dwh / 10_000:,.4f}"
