"""A board: the slots that units plug into, and the wires of each.

A *profile* is data (``hw/boards/*.toml``); a *board* is a profile with its buses and lines open.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from meter_runtime.errors import MeterError
from meter_runtime.units.buses import AsyncI2C
from meter_runtime.units.contracts import UnitKind
from meter_runtime.units.gpio import Gpio, InputLine, LineSpec, OutputLine


class NoSuchWire(MeterError):  # noqa: N818 - a fact about the board, not a failure of it
    """The profile gives the slot no such wire."""


@dataclass(frozen=True, slots=True)
class SlotProfile:
    """One place on the board. ``lines`` are by the role that drivers ask for."""

    name: str
    kind: UnitKind
    i2c: str | None = None
    """Bus name of the profile: "i2c-1"."""
    eeprom: int | None = None
    """Address of the unit's ID EEPROM on that bus."""
    uart: str | None = None
    """Port URI, as ``comm.ports`` reads them."""
    presence: LineSpec | None = None
    """Active while a unit is plugged in."""
    lines: Mapping[str, LineSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BoardProfile:
    """What ``hw/boards/NAME.toml`` says."""

    name: str
    title: str
    slots: tuple[SlotProfile, ...]
    fram: str | None = None
    """Where the FRAM is soldered, as ``[storage] fram`` names it: "i2c-1:0x50"."""
    rtc: str | None = None
    """Where the battery-backed clock is, as ``[clock] rtc`` names it."""
    button: LineSpec | None = None
    """Held by whoever stands at the meter: it opens the local port."""


class Board(Protocol):
    """A profile whose wires can be used; they are opened when first asked for."""

    @property
    def profile(self) -> BoardProfile: ...

    @property
    def gpio(self) -> Gpio:
        """Raises MeterError where this machine has none."""
        ...

    def i2c(self, bus: str) -> AsyncI2C:
        """The bus of this name, the same one each time; MeterError when it cannot be opened."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Wires:
    """A slot as its unit's driver sees it.

    Each method raises NoSuchWire where the profile gives the slot no such wire, naming board,
    slot and the key to add, and MeterError where the wire cannot be opened.
    """

    board: Board
    slot: SlotProfile

    def i2c(self) -> AsyncI2C:
        if self.slot.i2c is None:
            raise self._missing("I2C bus", "i2c")
        return self.board.i2c(self.slot.i2c)

    def uart(self) -> str:
        if self.slot.uart is None:
            raise self._missing("UART", "uart")
        return self.slot.uart

    def input(self, role: str, *, edges: bool = False, debounce_us: int = 0) -> InputLine:
        return self.board.gpio.input(self._line(role), edges=edges, debounce_us=debounce_us)

    def output(self, role: str, *, initial: bool) -> OutputLine:
        return self.board.gpio.output(self._line(role), initial=initial)

    def _line(self, role: str) -> LineSpec:
        line = self.slot.lines.get(role)
        if line is None:
            raise self._missing(f"line {role}", f"lines.{role}")
        return line

    def _missing(self, wire: str, key: str) -> NoSuchWire:
        board, slot = self.board.profile.name, self.slot.name
        return NoSuchWire(
            f"the {slot} slot of board {board} has no {wire};"
            f" add slots.{slot}.{key} to the board's profile"
        )
