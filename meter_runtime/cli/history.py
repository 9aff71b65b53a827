"""``meter-runtime history``: one day of the load profile, or all of it to and from a file.

A day is a table, a document or a picture; files are
:mod:`~meter_runtime.cli.history_transfer`'s business.
"""

import argparse
import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meter_runtime import control, control_paths
from meter_runtime.cli import history_transfer
from meter_runtime.cli.parser import add_command, add_control_option
from meter_runtime.errors import MeterError, UsageError

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands

_OLDEST_DAY = 99
_BAR_WIDTH = 30
_PICTURES = {".pdf", ".png", ".svg"}


@dataclass(frozen=True, slots=True)
class HalfHour:
    """One row: the register when it opens, and what flowed until it closed, in kWh."""

    time: str
    register_kwh: float | None
    use_kwh: float | None


@dataclass(frozen=True, slots=True)
class Day:
    """One day in one direction, oldest half-hour first."""

    date: str
    direction: str
    unit_kwh: float
    half_hours: tuple[HalfHour, ...]

    @property
    def known(self) -> list[float]:
        """The half-hours whose use is known, in kWh."""
        return [row.use_kwh for row in self.half_hours if row.use_kwh is not None]


def register(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "history",
        "Show one day of half-hour register values, and what was used between them;\n"
        "or write all that the meter has stored to a file, or give a laboratory's meter a past.",
        "meter-runtime history --day 1 --plot yesterday.png\n"
        "  meter-runtime history --export profile.parquet\n"
        "  meter-runtime history --import profile.parquet --state lab",
    )
    parser.add_argument("--day", type=int, metavar="N", help="days ago, 0-99 (default: 0, today)")
    parser.add_argument("--reverse", action="store_true", help="energy fed into the grid")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one document, as the meter gives it")
    form.add_argument("--csv", action="store_true", help="comma-separated, one half-hour a line")
    form.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw it: a .png, .svg or .pdf file"
    )
    history_transfer.add_options(parser)
    add_control_option(parser)


def run(args: argparse.Namespace) -> int:
    history_transfer.check_options(args)
    if args.export_to is not None or args.import_from is not None:
        return history_transfer.run(args)
    day = 0 if args.day is None else args.day
    if not 0 <= day <= _OLDEST_DAY:
        raise UsageError(f"--day {day}: a day is 0 (today) to {_OLDEST_DAY} days ago")
    draw = _plotter(args.plot) if args.plot is not None else None
    path = control_paths.find(args.control)
    answer = control.ask(path, "history", day=day, reverse=args.reverse)
    if args.json:
        print(json.dumps(answer))
    elif args.csv:
        print(to_csv(read_day(answer)), end="")
    elif draw is not None:
        draw(read_day(answer))
        print(args.plot)
    else:
        print(to_table(read_day(answer)))
    return 0


def read_day(answer: dict[str, Any]) -> Day:
    """The meter's answer: 48 registers in Wh, and the one that closes the day."""
    values: list[float | None] = [*answer["values_wh"], answer["next_wh"]]
    half_hours = tuple(
        HalfHour(
            time=f"{index // 2:02}:{index % 2 * 30:02}",
            register_kwh=None if opens is None else opens / 1000,
            use_kwh=None if opens is None or closes is None else (closes - opens) / 1000,
        )
        for index, (opens, closes) in enumerate(pairwise(values))
    )
    return Day(answer["date"], answer["direction"], answer["unit_kwh"], half_hours)


def to_table(day: Day) -> str:
    """A line per half-hour with a bar to compare them by, and the sum."""
    digits = _decimals(day)
    most = max(day.known, default=0.0)
    lines = [f"{day.date}  {day.direction}", "", f"{'':5}  {'register kWh':>14}  {'use kWh':>9}"]
    for row in day.half_hours:
        bar = "▇" * round(_BAR_WIDTH * row.use_kwh / most) if row.use_kwh and most > 0 else ""
        register = _number(row.register_kwh, digits)
        line = f"{row.time}  {register:>14}  {_number(row.use_kwh, digits):>9}  {bar}"
        lines.append(line.rstrip())
    known, every = len(day.known), len(day.half_hours)
    partly = f"  ({known} of {every} half-hours)" if known < every else ""
    lines += ["", f"sum{'':20}{sum(day.known):9,.{digits}f}{partly}"]
    return "\n".join(lines)


def to_csv(day: Day) -> str:
    """A header and a line per half-hour; unknown values are empty."""
    digits = _decimals(day)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("date", "time", "register_kwh", "use_kwh"))
    for row in day.half_hours:
        values = (row.register_kwh, row.use_kwh)
        rows.writerow(
            (day.date, row.time, *("" if v is None else f"{v:.{digits}f}" for v in values))
        )
    return text.getvalue()


def _plotter(path: Path) -> Callable[[Day], None]:
    """How a day is drawn into ``path``; fails before the meter is asked where it cannot be."""
    if path.suffix.lower() not in _PICTURES:
        raise UsageError(f"--plot {path}: name a file that ends in {', '.join(sorted(_PICTURES))}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MeterError(
            "--plot needs matplotlib; install it: pip install 'meter-runtime[bench]'"
        ) from None

    def draw(day: Day) -> None:
        figure = Figure(figsize=(10, 4), layout="constrained")
        axes = figure.add_subplot()
        uses = [row.use_kwh if row.use_kwh is not None else 0.0 for row in day.half_hours]
        axes.bar(range(len(uses)), uses, width=0.9, align="edge")
        axes.set_xticks(range(0, len(uses) + 1, 6), [f"{hour:02}:00" for hour in range(0, 25, 3)])
        axes.set_xlim(0, len(uses))
        axes.set_ylabel("kWh per half-hour")
        axes.set_title(f"{day.date}, {day.direction}: {sum(day.known):,.3f} kWh")
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        try:
            figure.savefig(path)
        except OSError as failure:
            raise MeterError(f"--plot {path}: {failure.strerror or failure}") from None

    return draw


def _decimals(day: Day) -> int:
    """Decimal places of kWh: to the Wh, or to the tenth of it where a register count is that."""
    return 4 if day.unit_kwh < 0.001 else 3


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
