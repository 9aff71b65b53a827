"""A slot with a driver's lines on virtual chips, for the tests of drivers without a bus."""

from dataclasses import dataclass

from meter_runtime.bench.board.gpio import VirtualGpio, VirtualWire
from meter_runtime.units.board import BoardProfile, SlotProfile, Wires
from meter_runtime.units.buses import AsyncI2C
from meter_runtime.units.contracts import UnitKind
from meter_runtime.units.gpio import LineSpec

CHIP = "virtual"


@dataclass(frozen=True, slots=True)
class LinesOnly:
    """A board that has lines and nothing else."""

    profile: BoardProfile
    gpio: VirtualGpio

    def i2c(self, bus: str) -> AsyncI2C:
        raise AssertionError(f"nobody should ask for {bus}")

    def close(self) -> None:
        self.gpio.close()


def slot_with(kind: UnitKind, gpio: VirtualGpio, lines: dict[str, LineSpec]) -> Wires:
    """One slot of this kind with these lines."""
    slot = SlotProfile(kind.value, kind, lines=lines)
    return Wires(LinesOnly(BoardProfile("test", "Test board", (slot,)), gpio), slot)


def wire_of(wires: Wires, gpio: VirtualGpio, role: str) -> VirtualWire:
    """The copper at a role's line."""
    line = wires.slot.lines[role]
    return gpio.wire(line.chip, line.offset)
