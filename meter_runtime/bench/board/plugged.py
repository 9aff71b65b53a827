"""Units as things that can be held in a hand: a nameplate in an EEPROM, chips, and what else is in
the case. Which chips a unit is made of, its driver's name tells: :data:`MODELS`.

A unit's file may say what a chip cannot: findings of a self-test are for checks on paper only.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from meter_runtime.bench.board import ade7953, ads1115, mcp39f521
from meter_runtime.bench.board.at24c32 import At24c32
from meter_runtime.bench.board.bus import Chip
from meter_runtime.bench.board.gpio import VirtualWire
from meter_runtime.bench.board.latching_relay import LatchingRelay
from meter_runtime.bench.board.pulse_source import PulseSource
from meter_runtime.bench.board.pzem004t import MWS_PER_WH, Pzem004tChip, Pzem004tPort
from meter_runtime.bench.board.supply import Flow, Supply
from meter_runtime.clock import Clock
from meter_runtime.units import nameplate as record
from meter_runtime.units.contracts import Nameplate, SwitchPosition
from meter_runtime.units.fitted_file import PluggedUnit
from meter_runtime.units.metering.mcp39f521.unit import ADDRESSES

KEEPS = "keeps_registers"
"""The calibration by which an MCP39F521's unit says that it feeds its chips from a buffer."""


class Part(Protocol):
    """What a unit joins to its slot's other wires when it is plugged in."""

    async def plug(self) -> None: ...

    async def unplug(self) -> None: ...


class Powered(Protocol):
    """A chip that knows what it is to be without power."""

    def power_off(self) -> None: ...

    def power_on(self) -> None: ...


@dataclass(slots=True)
class VirtualUnit:
    """One unit, in its slot or out of it."""

    nameplate: Nameplate
    """What it is, whatever its EEPROM says."""
    eeprom: At24c32 | None = None
    chips: Mapping[int, Chip] = field(default_factory=dict)
    """By their addresses on the slot's bus."""
    parts: tuple[Part, ...] = ()

    def power_off(self) -> None:
        """The board's supply fails, or the unit is pulled out."""
        for chip in self._powered():
            chip.power_off()

    def power_on(self) -> None:
        """It is back."""
        for chip in self._powered():
            chip.power_on()

    def _powered(self) -> list[Powered]:
        return [chip for chip in self.chips.values() if isinstance(chip, _POWERED)]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a unit is made for: where its wires go, and what flows through it.

    ``lines`` are the taps of the house, R and T or R alone; ``supply`` is what a metering unit
    counts. ``port`` is the path that a unit with a serial line offers it at.
    """

    clock: Clock
    wire: Callable[[str], VirtualWire]
    lines: tuple[Callable[[], Flow], ...]
    supply: Supply
    port: str


def assemble(
    plugged: PluggedUnit, around: Surroundings, parts: tuple[Part, ...] = ()
) -> VirtualUnit:
    """The unit that a file, or the bench, speaks of; ``parts`` are in its case, too."""
    plate = _printed(plugged.nameplate)
    model = MODELS.get(plate.driver)
    unit = VirtualUnit(plate) if model is None else model(plate, plugged.options, around)
    unit.parts += parts
    if plugged.labelled:
        unit.eeprom = At24c32(around.clock.monotonic)
        label(unit, damaged=plugged.unreadable)
    return unit


def label(unit: VirtualUnit, nameplate: Nameplate | None = None, *, damaged: bool = False) -> None:
    """Write the unit's EEPROM: its own nameplate or another one, or one that was ``damaged``."""
    if unit.eeprom is None:
        return
    content = bytearray(record.encode(unit.nameplate if nameplate is None else nameplate))
    if damaged:
        content[len(content) // 2] ^= 0x10
    unit.eeprom.content[: len(content)] = content


def another(nameplate: Nameplate, rng: random.Random) -> Nameplate:
    """The nameplate of another unit of this model."""
    return replace(nameplate, serial=f"{nameplate.serial[:1] or 'X'}{rng.randrange(10**9):09d}")


def _printed(plate: Nameplate) -> Nameplate:
    """The nameplate with what the maker of this front end has measured."""
    calibration = {**_CALIBRATIONS.get(plate.driver, {}), **plate.calibration}
    return replace(plate, calibration=calibration)


_CALIBRATIONS: Mapping[str, Mapping[str, int]] = {
    "ade7953": ade7953.CALIBRATION,
    "ads1115": ads1115.CALIBRATION,
}

Options = Mapping[str, Any]


def _mcp39f521(plate: Nameplate, options: Options, around: Surroundings) -> VirtualUnit:
    said = str(options.get("addresses", "")).split(",")
    places = [int(place, 16) for place in said if place] or list(ADDRESSES)
    kept = bool(plate.calibration.get(KEEPS, 0))
    supply = around.supply
    taps = [supply.tap(line) for line in range(supply.lines)]
    return VirtualUnit(
        plate,
        chips={
            place: mcp39f521.Mcp39f521Chip(tap, kept=kept)
            for place, tap in zip(places, taps, strict=False)
        },
    )


def _ade7953(plate: Nameplate, _options: Options, around: Surroundings) -> VirtualUnit:
    supply = around.supply
    taps = [supply.tap(line) for line in range(supply.lines)]
    return VirtualUnit(plate, chips={ade7953.DEFAULT_ADDRESS: ade7953.Ade7953Chip(taps)})


def _pzem004t(plate: Nameplate, _options: Options, around: Surroundings) -> VirtualUnit:
    counted_wh = around.supply.flow().forward_mws // MWS_PER_WH
    chip = Pzem004tChip(around.supply.tap(), energy_wh=counted_wh)
    return VirtualUnit(plate, parts=(SerialChip(chip, around.port),))


def _s0(plate: Nameplate, options: Options, around: Surroundings) -> VirtualUnit:
    constant = int(options.get("pulses_per_kwh", plate.calibration.get("pulses_per_kwh", 1000)))
    return VirtualUnit(plate, parts=(PulseOutputs(around, constant, two_way=plate.two_way),))


def _relay(plate: Nameplate, _options: Options, around: Surroundings) -> VirtualUnit:
    return VirtualUnit(plate, parts=(Switch(around),))


def _ads1115(plate: Nameplate, options: Options, around: Surroundings) -> VirtualUnit:
    said = options.get("address", ads1115.DEFAULT_ADDRESS)
    place = int(said, 16) if isinstance(said, str) else int(said)
    chip = ads1115.Ads1115Chip(ads1115.front_ends(around.lines), around.clock.monotonic)
    return VirtualUnit(plate, chips={place: chip})


MODELS: Mapping[str, Callable[[Nameplate, Options, Surroundings], VirtualUnit]] = {
    "mcp39f521": _mcp39f521,
    "ade7953": _ade7953,
    "pzem004t": _pzem004t,
    "s0": _s0,
    "relay": _relay,
    "ads1115": _ads1115,
}
"""Chips by the driver that speaks with them; a unit of another driver has none here."""

_POWERED = (mcp39f521.Mcp39f521Chip, ade7953.Ade7953Chip, ads1115.Ads1115Chip)


class Switch:
    """A latching relay in its socket; it stays as it is while it is out."""

    def __init__(self, around: Surroundings) -> None:
        self.relay: LatchingRelay | None = None
        self._around = around
        self._closed = True
        self._stuck = False

    @property
    def stuck(self) -> bool:
        """Its armature does not move."""
        return self._stuck

    @stuck.setter
    def stuck(self, stuck: bool) -> None:
        self._stuck = stuck
        if self.relay is not None:
            self.relay.stuck = stuck

    async def plug(self) -> None:
        wire = self._around.wire
        self.relay = LatchingRelay(
            self._around.clock,
            *(wire(role) for role in ("coil_open", "coil_close")),
            *(wire(role) for role in ("feedback_open", "feedback_closed")),
            closed=self._closed,
        )
        self.relay.stuck = self._stuck

    async def unplug(self) -> None:
        if self.relay is not None:
            self.relay.unplug()
            self._closed = self.relay.position is SwitchPosition.CLOSED
            self.relay = None


class PulseOutputs:
    """The S0 outputs of a meter, on the slot's pulse lines while it is in."""

    def __init__(self, around: Surroundings, pulses_per_kwh: int, *, two_way: bool) -> None:
        self.source: PulseSource | None = None
        self._around = around
        self._pulses_per_kwh = pulses_per_kwh
        self._two_way = two_way
        self._cut = False

    @property
    def cut(self) -> bool:
        """The wires are cut: pulses reach nobody."""
        return self._cut

    @cut.setter
    def cut(self, cut: bool) -> None:
        self._cut = cut
        if self.source is not None:
            self.source.catch_up()
            self.source.cut = cut

    async def plug(self) -> None:
        wire, supply = self._around.wire, self._around.supply
        self.source = PulseSource(
            lambda: supply.registers,
            self._pulses_per_kwh,
            wire("pulse_forward"),
            wire("pulse_reverse") if self._two_way else None,
        )
        self.source.cut = self._cut

    async def unplug(self) -> None:
        if self.source is not None:
            self.source.unplug()
            self.source = None


class SerialChip:
    """A chip that answers on a serial line of its own, offered at ``path`` while it is in."""

    def __init__(self, chip: Pzem004tChip, path: str) -> None:
        self.chip = chip
        self._path = path
        self._port: Pzem004tPort | None = None
        self._serving: asyncio.Task[None] | None = None

    async def plug(self) -> None:
        self._port = Pzem004tPort(self.chip, self._path)
        self._serving = asyncio.create_task(self._port.run(), name="serial chip")

    async def unplug(self) -> None:
        port, self._port = self._port, None
        serving, self._serving = self._serving, None
        if port is not None:
            await port.unplug()
        if serving is not None:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
