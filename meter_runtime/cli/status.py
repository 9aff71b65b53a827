"""``meter-runtime status``: the running meter on one screen."""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from meter_runtime import control, control_paths
from meter_runtime.cli import status_broute
from meter_runtime.cli.parser import add_command, add_control_option
from meter_runtime.duration import format_duration

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands

_LABEL_WIDTH = 12
_NONE = "-"

Status = Mapping[str, Any]


def register(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "status",
        "Show the running meter: clock, units, registers, history, and the B-route's diagnosis.",
        "meter-runtime status --json | jq .registers",
    )
    parser.add_argument("--json", action="store_true", help="the whole status as one document")
    add_control_option(parser)


def run(args: argparse.Namespace) -> int:
    status = control.ask(control_paths.find(args.control), "status")
    print(json.dumps(status, indent=2) if args.json else render(status))
    return 0


def render(status: Status) -> str:
    """What the status holds, section by section; what it does not hold is left out."""
    lines: list[str] = []
    for label, text in _rows(status):
        lines.append(f"{label:<{_LABEL_WIDTH}}{text}".rstrip())
    return "\n".join(lines)


def _rows(status: Status) -> Iterator[tuple[str, str]]:
    """Rows of label and text; a row that continues a section has no label."""
    yield (
        "meter",
        _joined(
            status.get("meter_id"),
            f"version {status['version']}" if "version" in status else None,
            f"up {format_duration(status['uptime_s'])}" if "uptime_s" in status else None,
        ),
    )
    sections: dict[str, Callable[[Any], Iterator[str]]] = {
        "clock": _clock,
        "registers": _registers,
        "history": _history,
        "storage": _storage,
        "units": _units,
        "combination": _combination,
        "broute": status_broute.rows,
        "aroute": _aroute,
        "faults": _faults,
    }
    titles = {"broute": "B-route", "aroute": "A-route"}
    for name, rows in sections.items():
        section = status.get(name)
        if not section:
            continue
        label = titles.get(name, name)
        for text in rows(section):
            yield label, text
            label = ""


def _clock(clock: Status) -> Iterator[str]:
    source = clock.get("source")
    yield _joined(
        clock.get("now"),
        clock.get("trust"),
        f"by {source}" if source is not None else None,
        f"slewing {clock['slewing_s']:+g} s" if clock.get("slewing_s") else None,
    )
    if clock.get("rtc_trouble"):
        yield str(clock["rtc_trouble"])


def _registers(registers: Status) -> Iterator[str]:
    yield _joined(
        f"forward {_kwh(registers.get('forward_wh'))}",
        f"reverse {_kwh(registers.get('reverse_wh'))}",
    )
    power = registers.get("power_w")
    direction = " to the grid" if power is not None and power < 0 else ""
    yield _joined(
        f"power {_quantity(power, 'W')}{direction}",
        f"R {_quantity(registers.get('current_r_a'), 'A')}",
        f"T {_quantity(registers.get('current_t_a'), 'A')}",
    )


def _history(history: Status) -> Iterator[str]:
    stored = f"{history.get('stored', 0):,} half-hours"
    oldest, newest = history.get("oldest"), history.get("newest")
    yield _joined(stored, f"{oldest} to {newest}" if oldest and newest else None)


def _storage(storage: Status) -> Iterator[str]:
    waiting, dropped = storage.get("waiting"), storage.get("dropped")
    yield _joined(
        storage.get("place"),
        f"{waiting} half-hours wait to be stored" if waiting else None,
        f"{dropped} half-hours were lost" if dropped else None,
    )
    yield from storage.get("troubles", ())


def _units(units: Status) -> Iterator[str]:
    for kind, unit in units.items():
        if not unit:
            yield f"{kind:<15}none"
            continue
        known = ("model", "serial", "state")
        more = [_fact(key, value) for key, value in unit.items() if key not in known and value]
        serial = f"no. {unit['serial']}" if unit.get("serial") else None
        yield f"{kind:<15}" + _joined(unit.get("model"), serial, unit.get("state"), *more)


def _combination(combination: Status) -> Iterator[str]:
    yield "valid" if combination.get("ok") else "not valid"
    for finding in combination.get("findings", ()):
        yield f"{finding.get('code')} {finding.get('severity')}: {finding.get('text')}"


def _aroute(aroute: Status) -> Iterator[str]:
    protocol, acknowledged = aroute.get("protocol"), aroute.get("acknowledged_up_to")
    connected = "connected" if aroute.get("connected") else "not connected"
    waiting = [
        _plural(aroute.get(key) or 0, what)
        for key, what in (
            ("queued", "half-hour"),
            ("queued_events", "event"),
            ("queued_results", "result"),
        )
        if aroute.get(key)
    ]
    yield _joined(
        f"{connected} by MQTT {protocol}" if aroute.get("connected") and protocol else connected,
        f"waiting: {', '.join(waiting)}" if waiting else "nothing waits",
        f"acknowledged up to {acknowledged}" if acknowledged else "nothing acknowledged yet",
    )
    last = aroute.get("last_command")
    if last:
        yield _joined(f"last command {last['id']}", last["code"], f"answered {last['answered']}")
    answers = (aroute.get("counters") or {}).get("commands") or {}
    if any(answers.values()):
        counted = (f"{name} {count:,}" for name, count in answers.items() if count)
        yield _joined("commands", *counted)


def _faults(faults: Sequence[Status]) -> Iterator[str]:
    for fault in faults:
        settings = (f"{key}={value}" for key, value in fault["parameters"].items())
        until = f"until {fault['until']}" if fault.get("until") else None
        yield _joined(fault["name"], *settings, until)


def _joined(*parts: object) -> str:
    return "  ".join(str(part) for part in parts if part not in {None, ""})


def _fact(key: str, value: object) -> str:
    name = key.replace("_", " ")
    return name if value is True else f"{name} {value}"


def _kwh(energy_wh: float | None) -> str:
    return f"{_NONE} kWh" if energy_wh is None else f"{energy_wh / 1000:,.3f} kWh"


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _quantity(value: float | None, unit: str) -> str:
    return f"{_NONE} {unit}" if value is None else f"{value:,} {unit}"
