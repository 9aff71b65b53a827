"""The body of the bench's meter: its board, the units in the slots, and the house behind them.

A unit can be pulled out, put back, and swapped for another one of its model, while the meter runs
or while it has no power; nobody is told. Where another unit is in a slot the state directory says
so: the next bench finds that one.
"""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from meter_runtime.bench.board.plugged import Part, Surroundings, VirtualUnit, another, assemble
from meter_runtime.bench.board.virtual_board import VirtualBoard
from meter_runtime.bench.files import write_atomically
from meter_runtime.bench.fitted import fitted_file
from meter_runtime.bench.household import Household
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.plc import PlcHouse
from meter_runtime.bench.stored import Stored
from meter_runtime.clock import Clock
from meter_runtime.errors import MeterError
from meter_runtime.units.contracts import Nameplate, UnitKind
from meter_runtime.units.fitted_file import PluggedUnit

SWAPS_FILE = "swapped-units.json"
METERING = UnitKind.METERING.value
COMMUNICATION = UnitKind.COMMUNICATION.value
_RADIO_DRIVER = "skstack"
_PLC_DRIVER = "g3plc"


class MeterBody:
    """The body of one bench; ``private`` is where its units may offer serial lines.

    ``radio`` is the module in the case of a Wi-SUN communication unit, which answers at ``port``;
    ``new_radio`` puts another one in its place.
    """

    def __init__(
        self,
        options: BenchOptions,
        clock: Clock,
        state_dir: Path,
        private: Path,
        *,
        radio: Part,
        new_radio: Callable[[], None],
        port: Path,
        epoch: float | None = None,
        stored: Stored | None = None,
    ) -> None:
        self.given = fitted_file(options)
        self.units: dict[str, PluggedUnit] = {unit.slot: unit for unit in self.given.units}
        """What the bench was given, by slots; a swap leaves it as it is."""
        meters = self.units.get(METERING)
        self._serial_line = private / "metering-unit"
        self.plc: PlcHouse | None = None
        """The wiring of a house whose B-route is on it."""
        if any(self.is_plc(unit) for unit in self.given.units):
            self.plc = PlcHouse(clock, options.seed, private / "plc-modem")
            port = self.plc.port
        self.board = VirtualBoard(
            clock, {COMMUNICATION: f"serial:{port}", METERING: f"serial:{self._serial_line}"}
        )
        self.household = Household(
            options,
            clock,
            state_dir,
            _UNMETERED if meters is None else meters.nameplate,
            epoch=epoch,
            stored=stored,
        )
        self._options = options
        self._clock = clock
        self._radio = radio
        self._new_radio = new_radio
        self._swaps_file = state_dir / SWAPS_FILE
        self._swaps = self._remembered_swaps()
        self._out: dict[str, VirtualUnit] = {}

    def is_radio(self, plugged: PluggedUnit) -> bool:
        """This unit has the radio module in its case."""
        return plugged.slot == COMMUNICATION and plugged.nameplate.driver == _RADIO_DRIVER

    def is_plc(self, plugged: PluggedUnit) -> bool:
        """This unit has the PLC modem in its case."""
        return plugged.slot == COMMUNICATION and plugged.nameplate.driver == _PLC_DRIVER

    def unit(self, slot: str) -> VirtualUnit:
        """The unit in a slot; MeterError where it is empty, UsageError for no slot."""
        unit = self.board.socket(slot).unit
        if unit is None:
            raise MeterError(f"the {slot} slot is empty; plug its unit in first")
        return unit

    @property
    def has_radio(self) -> bool:
        """A unit with the radio module is plugged in."""
        unit = self.board.socket(COMMUNICATION).unit
        return unit is not None and self._radio in unit.parts

    async def assemble(self) -> None:
        """Plug every unit in. MeterError where two are in each other's way."""
        for slot in self.units:
            await self.board.socket(slot).plug(self._made(slot))
        if not self.has_radio:
            await self._radio.unplug()

    async def unplug(self, slot: str) -> None:
        """Pull a unit out; does nothing where none is in."""
        unit = await self.board.socket(slot).unplug()
        if unit is not None:
            self._out[slot] = unit
            if slot == METERING:
                self.household.unplug()

    async def plug(self, slot: str) -> None:
        """Put back the unit that was pulled out; does nothing where none was."""
        unit = self._out.pop(slot, None)
        if unit is not None:
            if slot == METERING:
                self.household.plug()
            await self.board.socket(slot).plug(unit)

    async def swap(self, slot: str) -> None:
        """Take the unit out and put another one of its model in."""
        if slot not in self.units:
            self.unit(slot)
        await self.unplug(slot)
        self._out.pop(slot, None)
        if slot == METERING:
            self.household.replace_unit()
        else:
            self._swaps[slot] = self._swaps.get(slot, 0) + 1
            write_atomically(self._swaps_file, json.dumps(self._swaps))
        if slot == COMMUNICATION:
            self._new_radio()
            if self.plc is not None:
                self.plc.renew_modem()
        await self.board.socket(slot).plug(self._made(slot))

    def cut_modem(self) -> None:
        """The PLC modem has no power: what the meter says on its way out reaches nobody."""
        if self.plc is not None:
            self.plc.dongle.power_off()

    def power_off(self) -> None:
        """The board has no power; the meter has let go of it."""
        self.cut_modem()
        self.board.close()
        for socket in self.board.sockets.values():
            if socket.unit is not None:
                socket.unit.power_off()

    def power_on(self) -> None:
        """The board has power again."""
        if self.plc is not None:
            self.plc.dongle.power_on()
        for socket in self.board.sockets.values():
            if socket.unit is not None:
                socket.unit.power_on()

    async def close(self) -> None:
        """Take everything apart; the house is told of nothing."""
        self.board.close()
        for socket in self.board.sockets.values():
            await socket.unplug()

    def _made(self, slot: str) -> VirtualUnit:
        plugged = self.units[slot]
        plugged = replace(plugged, nameplate=self._plate(plugged))
        around = Surroundings(
            self._clock,
            self.board.socket(slot).wire,
            self.household.taps,
            self.household.supply,
            str(self._serial_line),
        )
        return assemble(plugged, around, self._in_its_case(plugged))

    def _in_its_case(self, plugged: PluggedUnit) -> tuple[Part, ...]:
        if self.plc is not None and self.is_plc(plugged):
            return (self.plc.dongle,)
        return (self._radio,) if self.is_radio(plugged) else ()

    def _plate(self, plugged: PluggedUnit) -> Nameplate:
        if plugged.slot == METERING:
            return self.household.nameplate
        swaps = self._swaps.get(plugged.slot, 0)
        if not swaps:
            return plugged.nameplate
        rng = random.Random(f"{plugged.slot} unit {self._options.seed}.{swaps}")
        return another(plugged.nameplate, rng)

    def _remembered_swaps(self) -> dict[str, int]:
        try:
            kept = json.loads(self._swaps_file.read_text("ascii"))
            return {str(slot): int(times) for slot, times in kept.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError):
            raise MeterError(
                f"{self._swaps_file}: is damaged; remove it to have the first units again"
            ) from None


_UNMETERED = Nameplate(UnitKind.METERING, "", "-", two_way=False)
"""In front of a house whose meter has no metering unit."""
