"""``python -m benchmarks``: run the groups and print one table, or one JSON document."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from benchmarks.groups import GROUPS
from benchmarks.machine import describe
from benchmarks.row import Row
from meter_runtime.cli.parser import Parser
from meter_runtime.errors import MeterError, UsageError, nearest


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 0 done, 1 the world failed, 2 wrongly asked."""
    try:
        parser = Parser(
            prog="benchmarks",
            description="Measure this program on this machine.",
            epilog="example: python -m benchmarks --only echonet,startup",
            allow_abbrev=False,
        )
        parser.add_argument(
            "--only", metavar="GROUP,…", help=f"some of the groups: {', '.join(GROUPS)}"
        )
        parser.add_argument("--json", action="store_true", help="one JSON document")
        args = parser.parse_args(argv)
        results = run(GROUPS if args.only is None else choose(args.only))
    except UsageError as wrong:
        return _complain(wrong, 2)
    except MeterError as failure:
        return _complain(failure, 1)
    machine = describe()
    if args.json:
        print(json.dumps(document(machine, results), ensure_ascii=False))
    else:
        print(table(machine, results), end="")
    return 0


def choose(names: str) -> list[str]:
    """The groups of a comma-separated list, in the table's order; UsageError for others."""
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in GROUPS:
            raise UsageError(f'no group "{name}"; {nearest(name, GROUPS)}')
    return [name for name in GROUPS if name in wanted]


def run(names: Iterable[str]) -> dict[str, list[Row]]:
    """Measure group after group; which one is under way is told on standard error."""
    results = {}
    for name in names:
        print(f"measuring {name}", file=sys.stderr)
        results[name] = GROUPS[name]()
    return results


def table(machine: Mapping[str, str | int], results: Mapping[str, Sequence[Row]]) -> str:
    """The machine, then each group's rows."""
    lines = [f"{key:<14}{value}" for key, value in machine.items()]
    lines += ["", f"{'':<34}{'figure':>10}  {'unit':<16}aim"]
    for group, rows in results.items():
        lines.append(group)
        for row in rows:
            aim = "" if row.aim is None else f"<= {row.aim:g}"
            figure = f"{row.figure:,.{1 if row.figure >= 20 else 2}f}"
            lines.append(f"  {row.name:<32}{figure:>10}  {row.unit:<16}{aim}".rstrip())
    return "\n".join(lines) + "\n"


def document(
    machine: Mapping[str, str | int], results: Mapping[str, Sequence[Row]]
) -> dict[str, object]:
    """The same for programs."""
    rows = [{"group": group} | asdict(row) for group, rows in results.items() for row in rows]
    return {"machine": dict(machine), "rows": rows}


def _complain(failure: MeterError, status: int) -> int:
    print(f"benchmarks: {failure}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
