"""The bench's board: the wires of a Pi made of models, and sockets that units are plugged into.

It is a :class:`~meter_runtime.units.board.Board` by the profile ``virtual``, and the other side of
the same wires. Plugging a unit in puts its chips on its slot's bus and pulls its presence contact;
what may be wrong between a unit and the board is its socket's :class:`Contact`. Closing the board
is what a meter without power does to it: lines and buses can be opened again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from meter_runtime.bench.board.bus import Chip, Nak, VirtualI2C
from meter_runtime.bench.board.gpio import VirtualGpio, VirtualWire
from meter_runtime.bench.board.plugged import VirtualUnit
from meter_runtime.clock import Clock
from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.units.board import BoardProfile, SlotProfile
from meter_runtime.units.board_profiles import load_profile
from meter_runtime.units.buses import AsyncI2C, ImmediateBus
from meter_runtime.units.gpio import LineSpec

PROFILE = "virtual"
GPIO_LINES = 28
"""As many as the header of a Pi has."""


@dataclass(slots=True)
class Contact:
    """What is wrong between a unit's chips and the bus; as it is made, nothing is."""

    refuses: Callable[[], bool] | None = None
    """Asked at each transaction: true, and it is not acknowledged."""
    spoils: Callable[[bytes], bytes] | None = None
    """What becomes of the bytes that a chip answers; as many as before."""


class Socket:
    """One slot of the board from the outside."""

    def __init__(self, board: "VirtualBoard", profile: SlotProfile) -> None:
        self.profile = profile
        self.contact = Contact()
        self.unit: VirtualUnit | None = None
        self._board = board

    def wire(self, role: str) -> VirtualWire:
        """The copper at one of the slot's lines; MeterError where the slot has none."""
        line = self.profile.lines.get(role)
        if line is None:
            raise MeterError(f"the {self.profile.name} slot has no line {role}")
        return self._board.wire(line)

    async def plug(self, unit: VirtualUnit) -> None:
        """Push a unit in. MeterError, and nothing changes, where something is in its way."""
        if self.unit is not None:
            raise MeterError(f"the {self.profile.name} slot is taken; unplug its unit first")
        chips = {address: _Contacted(chip, self.contact) for address, chip in unit.chips.items()}
        if unit.eeprom is not None and self.profile.eeprom is not None:
            chips[self.profile.eeprom] = _Contacted(unit.eeprom, self.contact)
        bus = self._bus()
        if chips and bus is None:
            raise MeterError(f"the {self.profile.name} slot has no bus for the unit's chips")
        if bus is not None:
            for address in chips:
                if address in bus.chips:
                    raise MeterError(
                        f"two chips would be at {bus.name} address {address:#04x};"
                        " plug in one of the units"
                    )
            bus.chips.update(chips)
        self.unit = unit
        unit.power_on()
        for part in unit.parts:
            await part.plug()
        self._show(present=True)

    async def unplug(self) -> VirtualUnit | None:
        """Pull out the unit, which loses its power; None where the slot is empty."""
        unit, self.unit = self.unit, None
        if unit is None:
            return None
        self._show(present=False)
        bus = self._bus()
        if bus is not None:
            for address, chip in tuple(bus.chips.items()):
                if isinstance(chip, _Contacted) and chip.contact is self.contact:
                    del bus.chips[address]
        for part in unit.parts:
            await part.unplug()
        unit.power_off()
        return unit

    def _bus(self) -> VirtualI2C | None:
        return None if self.profile.i2c is None else self._board.bus(self.profile.i2c)

    def _show(self, *, present: bool) -> None:
        line = self.profile.presence
        if line is not None:
            self._board.wire(line).drive(not line.active_low if present else None)


class VirtualBoard:
    """The board of one bench; ``uarts`` are the port URIs of its slots, by name."""

    def __init__(self, clock: Clock, uarts: Mapping[str, str] | None = None) -> None:
        wired = load_profile(PROFILE)
        ports = {} if uarts is None else uarts
        slots = tuple(replace(slot, uart=ports.get(slot.name)) for slot in wired.slots)
        self.profile: BoardProfile = replace(wired, slots=slots)
        self.sockets = {slot.name: Socket(self, slot) for slot in slots}
        self.gpio = VirtualGpio(clock, dict.fromkeys(_chips_of(slots), GPIO_LINES))
        self._buses = {slot.i2c: VirtualI2C(slot.i2c, {}) for slot in slots if slot.i2c is not None}
        self._opened: dict[str, ImmediateBus] = {}

    def socket(self, slot: str) -> Socket:
        """A slot by name; UsageError names the nearest."""
        if slot not in self.sockets:
            raise UsageError(f'the board has no slot "{slot}"; {nearest(slot, self.sockets)}')
        return self.sockets[slot]

    def bus(self, name: str) -> VirtualI2C:
        """The copper of a bus; MeterError where the board has none of this name."""
        if name not in self._buses:
            raise MeterError(f"the virtual board has no bus {name}; {nearest(name, self._buses)}")
        return self._buses[name]

    def wire(self, line: LineSpec) -> VirtualWire:
        """The copper at a line."""
        return self.gpio.wire(line.chip, line.offset)

    def i2c(self, bus: str) -> AsyncI2C:
        if bus not in self._opened:
            self._opened[bus] = ImmediateBus(self.bus(bus))
        return self._opened[bus]

    def close(self) -> None:
        """Let go of every line and bus; the units stay where they are."""
        self._opened.clear()
        self.gpio.close()


class _Contacted:
    """A chip behind its socket's contact."""

    def __init__(self, chip: Chip, contact: Contact) -> None:
        self.contact = contact
        self._chip = chip

    def write(self, data: bytes) -> None:
        self._touch()
        self._chip.write(data)

    def read(self, n: int) -> bytes:
        self._touch()
        told = self._chip.read(n)
        return told if self.contact.spoils is None else self.contact.spoils(told)

    def _touch(self) -> None:
        if self.contact.refuses is not None and self.contact.refuses():
            raise Nak


def _chips_of(slots: tuple[SlotProfile, ...]) -> set[str]:
    lines = [line for slot in slots for line in (slot.presence, *slot.lines.values())]
    return {line.chip for line in lines if line is not None}
