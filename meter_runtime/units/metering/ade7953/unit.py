"""The metering unit of one ADE7953, a meter chip with two current channels, and its driver.

Channel A measures line R, channel B line T; both share one voltage input, so line T's voltage is
taken for line R's. The chip only counts, in 24 bits that wrap and are lost without power: the
registers are this driver's, from the counters' differences, and begin anew with it. Registers:
:mod:`~meter_runtime.units.metering.ade7953.chip`.

The counters run at 206.9 kHz at full scale at most ("Active energy calculation"). A difference is
certain while less than 2^23 counts can have passed; after a longer silence the unit says so once,
and what flowed meanwhile is not known. Between two readings the counters net what flowed either
way: energy that turned round within T seconds is then missing from both registers, at most
P * T / 2 of each where the power is below P. Forward minus reverse is exact.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from meter_runtime.clock import Clock
from meter_runtime.errors import UsageError, nearest
from meter_runtime.units.board import Wires
from meter_runtime.units.contracts import Nameplate, Sample, UnitFailure, UnitKind, Wiring
from meter_runtime.units.drivers import Driver, DriverContext
from meter_runtime.units.eeprom import is_silence
from meter_runtime.units.metering.ade7953.chip import (
    ACCMODE,
    ACCUMULATION,
    ADDRESS,
    CONFIG,
    LCYCMODE,
    PERFORMANCE,
    STAY_ON_I2C,
    VERSION,
    VRMS,
    Ade7953,
    Unconfirmed,
    size_of,
)
from meter_runtime.units.options import Options

NAME = "ade7953"
MODEL = "ADE7953"

COUNTER_BITS = 24
FULL_SCALE_HZ = 206_900
OVERLOAD_VA_PER_A = 156
"""What a unit can meet at most, per ampere of its rating: 1.2 times the current, 130 V.
*Unverified.*"""

DETECT_BOUND_S = 0.9
START_MAX_MWH = 10**12

_PWH_PER_MWH = 10**9
SETTINGS = {
    "pga_v": 0x007,
    "pga_ia": 0x008,
    "pga_ib": 0x009,
    "a_current_gain": 0x380,
    "a_voltage_gain": 0x381,
    "a_watt_gain": 0x382,
    "b_current_gain": 0x38C,
    "b_voltage_gain": 0x38D,
    "b_watt_gain": 0x38E,
}
"""Calibration that is written into the chip at the start."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One current channel: its registers, and the calibration that says what they are worth."""

    name: str
    power: int
    current: int
    energy: int

    @property
    def energy_pwh(self) -> str:
        """Calibration: picowatt-hours (10^-12 Wh) of a count."""
        return f"{self.name}_energy_pwh"

    @property
    def power_nw(self) -> str:
        """Calibration: nanowatts of a digit."""
        return f"{self.name}_power_nw"

    @property
    def current_pa(self) -> str:
        """Calibration: picoamperes of a digit."""
        return f"{self.name}_current_pa"


A = Channel("a", 0x312, 0x31A, 0x31E)
B = Channel("b", 0x313, 0x31B, 0x31F)


class Ade7953Unit:
    """A metering unit of one ADE7953; made ready by :meth:`start`.

    ``registers`` are what its registers begin with, in mWh.
    """

    keeps_registers = False

    def __init__(
        self,
        nameplate: Nameplate,
        chip: Ade7953,
        clock: Clock,
        registers: tuple[int, int] = (0, 0),
    ) -> None:
        self.nameplate = nameplate
        self._chip = chip
        self._clock = clock
        two_wire = nameplate.wiring is Wiring.ONE_PHASE_TWO_WIRE
        self._channels = (A,) if two_wire else (A, B)
        self._scale = _checked_calibration(nameplate, self._channels)
        self._forward_pwh, self._reverse_pwh = (each * _PWH_PER_MWH for each in registers)
        self._counters: list[int] = []
        self._at = 0.0
        self._turn = asyncio.Lock()

    @property
    def longest_gap_s(self) -> float:
        """How long the counters can be left alone: 2^23 counts at the most power there can be."""
        capacity = self.nameplate.capacity_a
        fastest = float(FULL_SCALE_HZ)
        if capacity is not None:
            finest = min(self._scale[channel.energy_pwh] for channel in self._channels)
            fastest = min(fastest, capacity * OVERLOAD_VA_PER_A * 10**12 / 3600 / finest)
        return (1 << COUNTER_BITS - 1) / fastest

    async def start(self) -> None:
        """Prepare the chip; UnitFailure when it does not answer. The counters are not cleared."""
        try:
            await self._prepare()
        except UnitFailure as failure:
            raise self._named(failure) from failure

    async def read(self) -> Sample:
        async with self._turn:
            try:
                return await self._read()
            except UnitFailure as failure:
                raise self._named(failure) from failure

    async def self_test(self) -> list[str]:
        """What the chip's settings give to say, and whether there is a voltage."""
        findings = []
        try:
            if await self._chip.read(LCYCMODE) != ACCUMULATION:
                findings.append(f"{self._chip.place}: reading clears its counters: it was reset")
            if await self._chip.read(ACCMODE) & 0x0F:
                findings.append(f"{self._chip.place}: energy is accumulated without its sign")
            if await self._chip.read(VRMS) == 0:
                findings.append(f"{self._chip.place}: there is no voltage")
        except UnitFailure as failure:
            findings.append(str(failure))
        return findings

    async def close(self) -> None:
        """Let go of the chip; it counts on. Harmless twice."""

    async def _prepare(self) -> None:
        for name, register in SETTINGS.items():
            if name in self._scale:
                await self._chip.write(register, self._scale[name])
        await self._chip.write(PERFORMANCE, 0x0030, key=0xAD)
        await self._chip.write(CONFIG, STAY_ON_I2C)
        await self._chip.write(ACCMODE, 0)
        await self._chip.write(LCYCMODE, ACCUMULATION)
        self._counters = await self._read_counters()

    async def _read_counters(self) -> list[int]:
        counters = [await self._chip.read_signed(channel.energy) for channel in self._channels]
        self._at = self._clock.monotonic()
        return counters

    async def _read(self) -> Sample:
        if await self._chip.read(LCYCMODE) != ACCUMULATION:
            # After a reset a reading would clear the counters, which count from 0 anyway.
            await self._prepare()
            raise UnitFailure(
                f"{self._chip.place}: the chip was reset; what flowed since the last reading is"
                " not known"
            )
        before, since = self._counters, self._at
        self._counters = await self._read_counters()
        silent_s = self._at - since
        if silent_s >= self.longest_gap_s:
            raise UnitFailure(
                f"{self._chip.place}: its counters may have wrapped in {silent_s:.0f} s without a"
                " reading; what flowed meanwhile is not known"
            )
        gained_pwh = sum(
            _difference(now, then) * self._scale[channel.energy_pwh]
            for channel, now, then in zip(self._channels, self._counters, before, strict=True)
        )
        self._forward_pwh += max(0, gained_pwh)
        if self.nameplate.two_way:
            self._reverse_pwh += max(0, -gained_pwh)
        powers = [
            await self._chip.read_signed(channel.power) * self._scale[channel.power_nw]
            for channel in self._channels
        ]
        currents = [
            await self._chip.read(channel.current) * self._scale[channel.current_pa] // 10**9
            for channel in self._channels
        ]
        signed = [-ma if nw < 0 else ma for ma, nw in zip(currents, powers, strict=True)]
        return Sample(
            self._forward_pwh // _PWH_PER_MWH,
            self._reverse_pwh // _PWH_PER_MWH,
            (sum(powers) + 5 * 10**8) // 10**9,
            signed[0],
            signed[1] if len(signed) == 2 else None,
        )

    def _named(self, failure: UnitFailure) -> UnitFailure:
        return UnitFailure(f"{MODEL} no. {self.nameplate.serial}: {failure}")


def _difference(now: int, then: int) -> int:
    """Counts from one reading to another, of a counter that wraps; -2^23 to 2^23 - 1."""
    half = 1 << COUNTER_BITS - 1
    return (now - then + half) % (2 * half) - half


def _checked_calibration(nameplate: Nameplate, channels: tuple[Channel, ...]) -> Mapping[str, int]:
    """The nameplate's calibration; UnitFailure where it cannot be this chip's."""
    given = nameplate.calibration
    who = f"{MODEL} no. {nameplate.serial}: its nameplate"
    needed = [
        name for each in channels for name in (each.energy_pwh, each.power_nw, each.current_pa)
    ]
    known = {
        *SETTINGS,
        *(name for each in (A, B) for name in (each.energy_pwh, each.power_nw, each.current_pa)),
    }
    for name in given:
        if name not in known:
            raise UnitFailure(f'{who} has a calibration "{name}"; {nearest(name, known)}')
    for name in needed:
        if given.get(name, 0) <= 0:
            raise UnitFailure(
                f"{who} does not say what a count is worth ({name}); label the unit with it"
            )
    for name, register in SETTINGS.items():
        if name in given and not 0 <= given[name] < 1 << 8 * size_of(register):
            raise UnitFailure(f"{who} has {name} = {given[name]}, which no register holds")
    return given


async def detect(wires: Wires) -> Nameplate | None:
    """A chip that tells its version, and remembers having been asked for it.

    It has no serial number: its address stands for it. Nothing is written. UnitFailure: the bus
    does not let anybody be asked.
    """
    bus = wires.i2c()
    try:
        async with asyncio.timeout(DETECT_BOUND_S):
            version = await Ade7953(bus).read(VERSION)
    except TimeoutError:
        raise UnitFailure(f"{bus.name}: no answer within {DETECT_BOUND_S:g} s") from None
    except Unconfirmed:
        return None
    except UnitFailure as failure:
        if is_silence(failure):
            return None
        raise
    if version in (0x00, 0xFF):
        return None
    return Nameplate(
        UnitKind.METERING,
        MODEL,
        f"{MODEL}@{ADDRESS:02x}",
        maker="Analog Devices",
        hw_version=str(version),
        driver=NAME,
        wiring=Wiring.ONE_PHASE_THREE_WIRE,
    )


async def build(context: DriverContext) -> Ade7953Unit:
    """The unit, counting.

    Options: ``start_forward_mwh`` and ``start_reverse_mwh``, what its registers begin with. What a
    count is worth must stand on the nameplate.
    """
    options = Options(NAME, context.options)
    forward = options.integer("start_forward_mwh", 0, START_MAX_MWH) or 0
    reverse = options.integer("start_reverse_mwh", 0, START_MAX_MWH) or 0
    options.end()
    if context.wires is None:
        raise UsageError(
            f"the {NAME} driver needs a slot with an I2C bus; give the board's profile"
        )
    bus = context.wires.i2c()
    nameplate = context.nameplate or await detect(context.wires)
    if nameplate is None:
        raise UnitFailure(
            f"{MODEL}: nobody answers at {bus.name} address {ADDRESS:#04x}; check that the unit is"
            " plugged in and powered"
        )
    unit = Ade7953Unit(nameplate, Ade7953(bus), context.clock, (forward, reverse))
    await unit.start()
    return unit


DRIVER = Driver(build=build, detect=detect)
