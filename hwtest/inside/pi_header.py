"""The header of a Pi 4 as the product's own board profile has it, on simulated lines.

The simulated chip has the label of the Pi's; the lines' numbers come from the profile.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwtest.inside.simulated_gpio import SimulatedChip
from meter_runtime.system_clock import SystemClock
from meter_runtime.units.board import Wires
from meter_runtime.units.board_profiles import load_profile
from meter_runtime.units.drivers import DriverContext
from meter_runtime.units.gpio import LineSpec
from meter_runtime.units.real_board import RealBoard

BOARD = "pi4"
_LINES = 58


@dataclass(frozen=True, slots=True)
class Header:
    """The lines of one slot, from the outside, and what its driver is built from."""

    chip: SimulatedChip
    wires: Wires

    def spec(self, role: str) -> LineSpec:
        return self.wires.slot.lines[role]

    def put(self, role: str, *, active: bool) -> None:
        """The outside makes this line active or not."""
        spec = self.spec(role)
        self.chip.pull(spec.offset, up=active is not spec.active_low)

    def active(self, role: str) -> bool:
        """Whether the line is active, by the voltage on it."""
        spec = self.spec(role)
        return self.chip.value(spec.offset) is not spec.active_low

    def pull_file(self, role: str) -> Path:
        return self.chip.pull_file(self.spec(role).offset)

    def context(self, options: Mapping[str, Any]) -> DriverContext:
        return DriverContext(SystemClock(), options, wires=self.wires)


@contextlib.contextmanager
def header(slot: str) -> Iterator[Header]:
    """The lines of this slot, all inactive."""
    profile = load_profile(BOARD)
    there = next(each for each in profile.slots if each.name == slot)
    (label,) = {spec.chip for spec in there.lines.values()}
    chip = SimulatedChip(label, _LINES)
    board = RealBoard(profile)
    found = Header(chip, Wires(board, there))
    for role in there.lines:
        found.put(role, active=False)
    try:
        yield found
    finally:
        board.close()
        chip.unplug()
