"""The live view of `./dev run`: the meter on one side, what the HEMS reads on the other."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from meter_runtime.bench.frames import CrossedFrame
from meter_runtime.bench.hems import HemsProcess
from meter_runtime.bench.laboratory import HemsModule

REFRESH_S = 0.25
FRAMES_SHOWN = 8


class Watched(Protocol):
    """The bench, as far as the view needs it."""

    @property
    def frames(self) -> Sequence[CrossedFrame]: ...
    @property
    def modules(self) -> Sequence[HemsModule]: ...

    def status(self) -> dict[str, Any]: ...


async def watch(bench: Watched, hems: HemsProcess | None, console: Console) -> None:
    """Redraw until cancelled."""
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while True:
            live.update(picture(bench, hems))
            await asyncio.sleep(REFRESH_S)


def picture(bench: Watched, hems: HemsProcess | None) -> RenderableType:
    """One frame of the view."""
    status = bench.status()
    sides = Table.grid(expand=True, padding=(0, 1))
    sides.add_column(ratio=1)
    sides.add_column(ratio=1)
    sides.add_row(_meter_panel(status), _hems_panel(status, hems))
    return Group(
        sides,
        _frames_panel(list(bench.frames)[-FRAMES_SHOWN:]),
        Text("   ".join(f"{module.profile} {module.tty}" for module in bench.modules), "dim"),
    )


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True, min_width=10)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    return grid


def _meter_panel(status: dict[str, Any]) -> Panel:
    registers, broute, clock = status["registers"], status["broute"], status["clock"]
    grid = _grid()
    grid.add_row("clock", f"{clock['now'][:19].replace('T', ' ')} JST · {clock['trust']}")
    grid.add_row("power", _unit(registers["power_w"], "W"))
    grid.add_row(
        "current", f"R {_amps(registers['current_r_a'])}  T {_amps(registers['current_t_a'])}"
    )
    grid.add_row("forward", _kwh(registers["forward_wh"]))
    grid.add_row("reverse", _kwh(registers["reverse_wh"]))
    history = status["history"]
    grid.add_row(
        "half hours", f"{history['stored']} stored, newest {(history['newest'] or '–')[:16]}"
    )
    grid.add_row("radio", broute["link"] or "starting")
    session = broute["session"]
    grid.add_row("home", f"…{session['peer'][-19:]}" if session else "nobody joined")
    good = broute["message"] == 1
    grid.add_row(
        "diagnosis", Text(f"{broute['message']} {broute['text']}", "green" if good else "yellow")
    )
    return Panel(grid, title=f"meter {status['meter_id']}", border_style="cyan")


def _hems_panel(status: dict[str, Any], hems: HemsProcess | None) -> Panel:
    if hems is None:
        return Panel(Text("point your HEMS at a tty below"), title="HEMS", border_style="magenta")
    registers = status["registers"]
    grid = _grid()
    grid.add_column(style="dim")
    grid.add_row("module", hems.tty, "")
    grid.add_row("state", hems.phase, "")

    def row(label: str, name: str, shown: str) -> None:
        reading = hems.readings.get(name)
        age = "" if reading is None else f"{time.monotonic() - reading.at:.0f} s ago"
        grid.add_row(label, shown if reading is not None else "–", age)

    def value(name: str) -> Any:
        reading = hems.readings.get(name)
        return None if reading is None else reading.value

    row("power", "power_w", _unit(value("power_w"), "W"))
    row(
        "current",
        "current_r_a",
        f"R {_amps(value('current_r_a'))}  T {_amps(value('current_t_a'))}",
    )
    row("forward", "forward_kwh", _unit(_rounded(value("forward_kwh")), "kWh"))
    if registers["reverse_wh"] is not None:
        row("reverse", "reverse_kwh", _unit(_rounded(value("reverse_kwh")), "kWh"))
    row(
        "half hour",
        "half_hour_kwh",
        f"{_unit(_rounded(value('half_hour_kwh')), 'kWh')} at {str(value('half_hour_at'))[11:16]}",
    )
    grid.add_row("announced", str(hems.announcements), "")
    if hems.log:
        grid.add_row("log", Text(hems.log[-1], overflow="ellipsis"), "")
    return Panel(grid, title="HEMS · momonga", border_style="magenta")


def _frames_panel(frames: list[CrossedFrame]) -> Panel:
    grid = Table.grid(padding=(0, 1))
    for frame in frames:
        lock = "" if frame.secured else " (clear)"
        grid.add_row(
            Text(frame.clock_time, style="dim"),
            Text(f"{frame.source} → {frame.destination}", style="cyan"),
            Text(frame.summary + lock),
        )
    return Panel(grid, title="on the air", border_style="dim")


def _unit(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value} {unit}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _amps(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} A"


def _kwh(value_wh: float | None) -> str:
    return "–" if value_wh is None else f"{value_wh / 1000:.4f} kWh"
