"""Every driver over a model of its chip: one line in the table of its kind, and one class.

A rig builds the real driver in a :class:`~room.Room`, and can make its unit fall silent.
"""

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Protocol

from room import CHIP, Room

from meter_runtime.bench.board import ade7953 as ade7953_model
from meter_runtime.bench.board import ads1115 as ads1115_model
from meter_runtime.bench.board.bus import Chip
from meter_runtime.bench.board.latching_relay import LatchingRelay
from meter_runtime.bench.board.mcp39f521 import Mcp39f521Chip
from meter_runtime.bench.board.pulse_source import PulseSource
from meter_runtime.bench.board.pzem004t import Pzem004tChip, Pzem004tPort
from meter_runtime.units.catalogue import shipped
from meter_runtime.units.contracts import (
    MeteringUnit,
    Nameplate,
    SwitchingUnit,
    SwitchPosition,
    UnitKind,
    VoltageUnit,
)
from meter_runtime.units.drivers import Driver
from meter_runtime.units.metering import ade7953, mcp39f521, pzem004t, s0
from meter_runtime.units.metering.simulated import SimulatedMeteringUnit
from meter_runtime.units.optional import ads1115, relay

TEMPLATE = Path(__file__).parents[2] / "examples" / "driver-template"


class MeteringRig(Protocol):
    """A metering unit in its room; ``resolution_mwh`` is how far it may lag behind the supply."""

    room: Room
    resolution_mwh: int
    driver: Driver | None

    async def build(self) -> MeteringUnit: ...

    def silence(self) -> None:
        """It does not answer until :meth:`wake`; its house and its counting go on."""
        ...

    def wake(self) -> None: ...

    async def end(self) -> None:
        """Pull it out for good."""
        ...


class _OnBus:
    """What the chips of a room's bus have in common: they fall silent by leaving it."""

    room: Room

    def plug(self, chips: Mapping[int, Chip]) -> None:
        self._chips = dict(chips)
        self.wake()

    def silence(self) -> None:
        self.room.bus.chips.clear()

    def wake(self) -> None:
        self.room.bus.chips.update(self._chips)

    async def end(self) -> None:
        self.room.close()


class Simulated:
    """No driver of its own board: the unit itself."""

    driver: Driver | None = None
    resolution_mwh = 1

    def __init__(self, nameplate: Nameplate) -> None:
        self.room = Room(UnitKind.METERING, nameplate)
        self._unit: SimulatedMeteringUnit | None = None

    async def build(self) -> MeteringUnit:
        if self._unit is None:
            room = self.room
            self._unit = SimulatedMeteringUnit(
                room.clock, room.house, room.nameplate, room.clock.at
            )
        return self._unit

    def silence(self) -> None:
        assert self._unit is not None
        self._unit.failure = "no answer"

    def wake(self) -> None:
        assert self._unit is not None
        self._unit.failure = None

    async def end(self) -> None:
        self.room.close()


class Mcp39f521(_OnBus):
    driver: Driver | None = mcp39f521.DRIVER
    resolution_mwh = 2

    def __init__(self, nameplate: Nameplate) -> None:
        self.room = Room(UnitKind.METERING, replace(nameplate, calibration={"keeps_registers": 1}))
        lines = range(self.room.supply.lines)
        self.plug({0x74 + line: Mcp39f521Chip(self.room.supply.tap(line)) for line in lines})

    async def build(self) -> MeteringUnit:
        unit: MeteringUnit = await mcp39f521.DRIVER.build(self.room.context())
        return unit


class Ade7953(_OnBus):
    driver: Driver | None = ade7953.DRIVER
    resolution_mwh = 2

    def __init__(self, nameplate: Nameplate) -> None:
        self.room = Room(
            UnitKind.METERING, replace(nameplate, calibration=ade7953_model.CALIBRATION)
        )
        taps = [self.room.supply.tap(line) for line in range(self.room.supply.lines)]
        self.plug({ade7953.ADDRESS: ade7953_model.Ade7953Chip(taps)})

    async def build(self) -> MeteringUnit:
        unit: MeteringUnit = await ade7953.DRIVER.build(self.room.context())
        return unit


class S0:
    """1000 pulses per kWh: a pulse is 1000 mWh, and the newest one may not be believed yet."""

    driver: Driver | None = s0.DRIVER
    resolution_mwh = 2000

    def __init__(self, nameplate: Nameplate) -> None:
        self.room = Room(
            UnitKind.METERING, replace(nameplate, calibration={"pulses_per_kwh": 1000})
        )
        wires = [self.room.gpio.wire(CHIP, offset) for offset in range(2)]
        self._meter = PulseSource(
            lambda: self.room.supply.registers,
            1000,
            *(wires if nameplate.two_way else wires[:1]),
        )

    async def build(self) -> MeteringUnit:
        unit: MeteringUnit = await s0.DRIVER.build(self.room.context())
        return unit

    def silence(self) -> None:
        self.room.gpio.failure = "the chip is gone"

    def wake(self) -> None:
        self.room.gpio.failure = None

    async def end(self) -> None:
        self.room.close()


class Pzem004t:
    """Counts whole watt-hours. Its port is a pseudo-terminal in real time, made as fast as it goes;
    used within a running loop."""

    driver: Driver | None = pzem004t.DRIVER
    resolution_mwh = 1000

    def __init__(self, nameplate: Nameplate) -> None:
        self._folder = TemporaryDirectory(prefix="pzem-")
        self.room = Room(UnitKind.METERING, nameplate)
        self._chip = Pzem004tChip(self.room.supply.tap())
        self._port = Pzem004tPort(self._chip, f"{self._folder.name}/tty")
        self._port.byte_s = 0
        self.room.slot = replace(self.room.slot, uart=self._port.uri)
        self._running = asyncio.create_task(self._port.run())
        self._units: list[MeteringUnit] = []

    async def build(self) -> MeteringUnit:
        unit: MeteringUnit = await pzem004t.DRIVER.build(self.room.context())
        self._units.append(unit)
        return unit

    def silence(self) -> None:
        self._chip.silent = True

    def wake(self) -> None:
        self._chip.silent = False

    async def end(self) -> None:
        for unit in self._units:
            await unit.close()
        await self._port.unplug()
        await self._running
        self._folder.cleanup()


class Template(_OnBus):
    """The driver that docs/write-a-driver.md writes."""

    resolution_mwh = 1

    def __init__(self, nameplate: Nameplate) -> None:
        self.room = Room(UnitKind.METERING, nameplate)
        module = _template("meter_driver_whm1")
        self.driver: Driver | None = module.DRIVER
        model = _template("tests/whm1_chip")
        self.plug({module.ADDRESS: model.Whm1Chip(self.room.supply.tap())})

    async def build(self) -> MeteringUnit:
        assert self.driver is not None
        unit: MeteringUnit = await self.driver.build(self.room.context())
        return unit


def _template(name: str) -> ModuleType:
    """A module of the template, which is not installed here."""
    path = TEMPLATE / f"{name}.py"
    if path.stem in sys.modules:
        return sys.modules[path.stem]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


class Relay:
    """A switching unit; ``closed`` is where it is found."""

    driver: Driver | None = relay.DRIVER

    def __init__(self, nameplate: Nameplate, *, closed: bool = True) -> None:
        self.room = Room(UnitKind.OPTIONAL, nameplate)
        wires = [self.room.gpio.wire(CHIP, offset) for offset in range(4)]
        self._relay = LatchingRelay(self.room.clock, *wires, closed=closed)

    async def build(self) -> SwitchingUnit:
        unit: SwitchingUnit = await relay.DRIVER.build(self.room.context())
        return unit

    def silence(self) -> None:
        self.room.gpio.failure = "the chip is gone"

    def wake(self) -> None:
        self.room.gpio.failure = None

    @property
    def contacts(self) -> SwitchPosition:
        """Where they truly are."""
        return self._relay.position

    @property
    def operations(self) -> int:
        """How often they moved."""
        return self._relay.operations

    @property
    def mistreated(self) -> list[str]:
        """What the unit's parts met that they must not."""
        return [violation.what for violation in self._relay.violations]


class Ads1115(_OnBus):
    driver: Driver | None = ads1115.DRIVER

    def __init__(self, nameplate: Nameplate) -> None:
        self.room = Room(
            UnitKind.OPTIONAL, replace(nameplate, calibration=ads1115_model.CALIBRATION)
        )
        lines = [self.room.supply.tap(0), self.room.supply.tap(1)]
        inputs = ads1115_model.front_ends(lines)
        chip = ads1115_model.Ads1115Chip(inputs, self.room.clock.monotonic)
        self.plug({ads1115_model.DEFAULT_ADDRESS: chip})

    async def build(self) -> VoltageUnit:
        unit: VoltageUnit = await ads1115.DRIVER.build(self.room.context())
        return unit


def new(model: str) -> Nameplate:
    """The nameplate of a new unit of the catalogue."""
    found = [line[model] for line in shipped().models.values() if model in line]
    return found[0].nameplate("CONTRACT0001")


METERING: Mapping[str, tuple[Callable[[Nameplate], MeteringRig], tuple[str, ...]]] = {
    "simulated": (Simulated, ("MU-1P3W-60-1", "MU-1P3W-60-2")),
    "mcp39f521": (
        Mcp39f521,
        ("MU-1P2W-120-1", "MU-1P3W-60-1", "MU-1P3W-60-2", "MU-3P3W-60-2"),
    ),
    "ade7953": (Ade7953, ("MU-1P3W-5-1", "MU-1P3W-5-2", "MU-3P3W-5-2")),
    "pzem004t": (Pzem004t, ("MU-1P2W-30-1",)),
    "s0": (S0, ("MU-1P3W-60-1", "MU-1P3W-60-2")),
    "template": (Template, ("MU-1P2W-30-1",)),
}
"""Each driver's rig, and the units of the catalogue that it is tested as."""

SWITCHING = {"relay": (Relay, ("OU-SW-60", "OU-SW-120"))}
VOLTAGE = {"ads1115": (Ads1115, ("OU-VOLT",))}
