"""The driver ``ads1115``: a voltage unit of one ADS1115 behind RMS-to-DC front ends.

A front end makes a DC voltage of an effective value; AIN0 takes that of R-N, AIN1 of T-N, AIN2 of
R-T, each against ground. What a volt of the line is worth there, the unit's calibration says, and
it also says which channels there are: the ones it has a value for. Without a channel of its own,
R-T is the sum of the other two, which are in opposite phase on a three-wire service.

Datasheet SBAS444E, section 8.1; *unverified* is said where it is. Registers are big-endian, 16
bits, chosen by a pointer byte:

====  ==========  =====================================================================
00    conversion  two's complement; 7FFF is full scale, and all that is above it
01    config      8583 after reset. Bit 15 OS: written 1 begins a conversion, read 0
                  while one goes on; 14-12 MUX: 4, 5, 6 are AIN0, 1, 2 against ground;
                  11-9 PGA: full scale 6.144, 4.096, 2.048, 1.024, 0.512, 0.256 V;
                  8 MODE: 1 is single-shot; 7-5 DR: 7 is 860 a second; 1-0: 3 switches
                  the comparator off
02    Lo_thresh   8000 after reset
03    Hi_thresh   7FFF after reset
====  ==========  =====================================================================

A conversion takes 1/860 s, by an oscillator that may be 10 % off, and 25 µs to wake up. I²C has no
checksum, and a conversion that was not begun leaves the value of the one before. So the setting is
read back, the value is read twice, and each channel is converted twice, with results that agree.

A conversion sees the ripple that its front end leaves: smoothing is the front end's.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from meter_runtime.clock import Clock, sleep_until
from meter_runtime.errors import UsageError, nearest
from meter_runtime.units.board import Wires
from meter_runtime.units.buses import AsyncI2C
from meter_runtime.units.contracts import (
    Nameplate,
    OptionalFunction,
    UnitFailure,
    UnitKind,
    VoltageSample,
)
from meter_runtime.units.drivers import Driver, DriverContext
from meter_runtime.units.options import Options

NAME = "ads1115"
MODEL = "ADS1115"
ADDRESSES = range(0x48, 0x4C)

CONVERSION, CONFIG, LO_THRESH, HI_THRESH = range(4)
OS = 0x8000
RESET = {CONFIG: 0x8583, LO_THRESH: 0x8000, HI_THRESH: 0x7FFF}

SINGLE_SHOT_860 = OS | 0x0100 | 0x00E0 | 0x0003
"""One conversion at 860 a second, comparator off."""

CONVERSION_S = 0.0014
POLLS = 8
"""Looks at the OS bit, :data:`CONVERSION_S` apart, before a conversion counts as stalled."""

ATTEMPTS = 2
READ_BOUND_S = 0.9
DETECT_BOUND_S = 0.9

RANGES_UV = {5: 256_000, 4: 512_000, 3: 1_024_000, 2: 2_048_000, 1: 4_096_000, 0: 6_144_000}
"""Full scale by PGA, the finest first."""

FULL_SCALE = 0x8000

AGREEMENT_MV = 2000
"""How far two conversions in a row may be apart: no front end is that fast. *Unverified.*"""

ZERO_MV = 1000
"""A dead line may read this far below 0, by the offset of its front end. *Unverified.*"""

MISMATCH_MV = 10_000
"""By how much R-T may differ from R-N and T-N together before it is a finding."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One input: its multiplexer setting, and the most volts it must be able to show."""

    name: str
    mux: int
    most_v: int

    @property
    def scale(self) -> str:
        """Calibration: microvolts at the input for each volt of the line."""
        return f"{self.name}_uv_per_v"

    @property
    def offset(self) -> str:
        """Calibration: microvolts at the input while the line is dead; 0 where not given."""
        return f"{self.name}_offset_uv"


# A broken neutral drives one line towards the voltage between both.
R_N = Channel("r", 4, 250)
T_N = Channel("t", 5, 250)
R_T = Channel("rt", 6, 300)
CHANNELS = (R_N, T_N, R_T)

SCALE_MAX = max(RANGES_UV.values()) // min(channel.most_v for channel in CHANNELS)
OFFSET_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Input:
    """A channel with its calibration, and the range of the chip that suits it."""

    channel: Channel
    uv_per_v: int
    offset_uv: int
    pga: int

    @property
    def config(self) -> int:
        """What begins a conversion of it."""
        return SINGLE_SHOT_860 | self.channel.mux << 12 | self.pga << 9

    def millivolts(self, counts: int) -> int:
        """The line's voltage by a conversion's result, rounded to the nearest."""
        numerator = (counts * RANGES_UV[self.pga] - self.offset_uv * FULL_SCALE) * 1000
        denominator = self.uv_per_v * FULL_SCALE
        return (2 * numerator + denominator) // (2 * denominator)


class Ads1115Unit:
    """A voltage unit of one ADS1115."""

    def __init__(
        self, nameplate: Nameplate, bus: AsyncI2C, address: int, clock: Clock, inputs: list[Input]
    ) -> None:
        self.nameplate = nameplate
        self._bus = bus
        self._address = address
        self._clock = clock
        self._inputs = inputs
        self._place = f"{bus.name} address {address:#04x}"
        self._turn = asyncio.Lock()
        self._closed = False

    async def read(self) -> VoltageSample:
        measured = await self._measure()
        r_n, t_n = measured.get(R_N), measured.get(T_N)
        summed = r_n + t_n if r_n is not None and t_n is not None else None
        return VoltageSample(r_n, t_n, measured.get(R_T, summed))

    async def self_test(self) -> list[str]:
        """Whether each channel can be read, and whether they agree."""
        try:
            measured = await self._measure()
        except UnitFailure as failure:
            return [str(failure)]
        if len(measured) < len(CHANNELS):
            return []
        summed, between = measured[R_N] + measured[T_N], measured[R_T]
        if abs(summed - between) <= MISMATCH_MV:
            return []
        finding = (
            f"{self._place}: R-T is {between / 1000:.1f} V, and R-N and T-N make"
            f" {summed / 1000:.1f} V: check the wires of its front ends and their calibration"
        )
        return [finding]

    async def close(self) -> None:
        """Let go of the chip, which sleeps between conversions. Harmless twice."""
        self._closed = True

    async def _measure(self) -> dict[Channel, int]:
        """Millivolts of each channel; UnitFailure, which names the unit."""
        try:
            if self._closed:
                raise UnitFailure(f"{self._place}: the unit was closed already")
            async with asyncio.timeout(READ_BOUND_S), self._turn:
                return {each.channel: await self._read(each) for each in self._inputs}
        except TimeoutError:
            reason = f"{self._place}: no reading within {READ_BOUND_S:g} s"
        except UnitFailure as failure:
            reason = str(failure)
        raise UnitFailure(f"{MODEL} no. {self.nameplate.serial}: {reason}")

    async def _read(self, of: Input) -> int:
        counts = await self._convert(of)
        where = self._named(of)
        if not -FULL_SCALE < counts < FULL_SCALE - 1:
            raise UnitFailure(
                f"{where}: saturated; the line or its front end gives more than"
                f" {RANGES_UV[of.pga] // 1000} mV"
            )
        millivolts = of.millivolts(counts)
        if millivolts < -ZERO_MV:
            raise UnitFailure(
                f"{where}: {millivolts} mV, and an effective value is never negative: check the"
                " polarity of its front end"
            )
        return max(0, millivolts)

    async def _convert(self, of: Input) -> int:
        reason = ""
        for _ in range(ATTEMPTS):
            try:
                first = await self._convert_once(of.config)
                counts = await self._convert_once(of.config)
            except UnitFailure as failure:
                reason = str(failure)
                continue
            if abs(of.millivolts(counts) - of.millivolts(first)) <= AGREEMENT_MV:
                return counts
            reason = f"{self._named(of)}: two conversions in a row do not agree"
        raise UnitFailure(reason)

    async def _convert_once(self, config: int) -> int:
        await self._bus.write(self._address, bytes((CONFIG, *config.to_bytes(2, "big"))))
        told = await self._register(CONFIG)
        for _ in range(POLLS):
            if told & OS:
                break
            await sleep_until(self._clock, self._clock.monotonic() + CONVERSION_S)
            told = await self._register(CONFIG)
        else:
            raise UnitFailure(f"{self._place}: its conversion does not end")
        value = await self._register(CONVERSION)
        if told != config or value != await self._register(CONVERSION):
            raise UnitFailure(f"{self._place}: its setting or its value was damaged on the bus")
        return value - (1 << 16) if value >> 15 else value

    def _named(self, of: Input) -> str:
        return f"{self._place}, channel {of.channel.name}"

    async def _register(self, register: int) -> int:
        return await _register(self._bus, self._address, register)


async def _register(bus: AsyncI2C, address: int, register: int) -> int:
    return int.from_bytes(await bus.transfer(address, bytes((register,)), 2), "big")


def inputs_of(nameplate: Nameplate) -> list[Input]:
    """The channels that the nameplate's calibration has; UnitFailure where it makes no sense."""
    given = nameplate.calibration
    who = f"{MODEL} no. {nameplate.serial}: its calibration"
    known = [name for channel in CHANNELS for name in (channel.scale, channel.offset)]
    for name in given:
        if name not in known:
            raise UnitFailure(f'{who} has a value "{name}"; {nearest(name, known)}')
    inputs = [_input(channel, given, who) for channel in CHANNELS if channel.scale in given]
    if not inputs:
        raise UnitFailure(
            f"{who} does not say what a volt is worth ({R_N.scale}); label the unit with it"
        )
    return inputs


def _input(channel: Channel, given: Mapping[str, int], who: str) -> Input:
    """In the finest range that shows the most volts there can be."""
    scale, offset = given[channel.scale], given.get(channel.offset, 0)
    if scale <= 0 or abs(offset) > OFFSET_MAX:
        raise UnitFailure(
            f"{who} has {channel.scale} = {scale} and {channel.offset} = {offset}; give a scale"
            f" above 0 and an offset of at most {OFFSET_MAX}"
        )
    needed_uv = channel.most_v * scale + max(0, offset)
    for pga, range_uv in RANGES_UV.items():
        if needed_uv < range_uv:
            return Input(channel, scale, offset, pga)
    raise UnitFailure(
        f"{who} has {channel.scale} = {scale}: {channel.most_v} V would be more than the"
        f" {max(RANGES_UV.values()) // 1000} mV that the chip can measure"
    )


async def _find(bus: AsyncI2C) -> int | None:
    """The first address at which a chip answers with what an ADS1115 holds; nothing is written.

    It has no identity. What must fit are both thresholds, which this driver leaves alone, and the
    configuration: the reset value, or one that this driver left there before a restart. An ADS1114
    or ADS1015 looks the same (*unverified*).
    """
    for address in ADDRESSES:
        try:
            config = await _register(bus, address, CONFIG)
            if config != RESET[CONFIG] and config not in _OWN_CONFIGS:
                continue
            thresholds = [await _register(bus, address, each) for each in (LO_THRESH, HI_THRESH)]
        except UnitFailure:
            continue
        if thresholds == [RESET[LO_THRESH], RESET[HI_THRESH]]:
            return address
    return None


_OWN_CONFIGS = {
    Input(channel, 1, 0, pga).config & ~busy
    for channel in CHANNELS
    for pga in RANGES_UV
    for busy in (0, OS)
}


async def detect(wires: Wires) -> Nameplate | None:
    """A chip that looks like an ADS1115: weak evidence, see :func:`_find`.

    Its serial number is its address. What a volt is worth, nobody can detect.
    """
    try:
        async with asyncio.timeout(DETECT_BOUND_S):
            address = await _find(wires.i2c())
    except TimeoutError:
        return None
    return None if address is None else _plain_nameplate(f"{MODEL}@{address:02x}")


async def build(context: DriverContext) -> Ads1115Unit:
    """The unit, once its chip has answered. The options:

    * ``address``, 0x48 to 0x4B; the chip is looked for where it is not given;
    * ``r_uv_per_v``, ``t_uv_per_v``, ``rt_uv_per_v`` and ``r_offset_uv``, ``t_offset_uv``,
      ``rt_offset_uv``: calibration, in the nameplate's place where that does not have it;
    * ``serial`` of a unit that has no nameplate.

    UsageError tells what is wrong with them; UnitFailure that nobody answers, or that the
    calibration makes no sense.
    """
    options = Options(NAME, context.options)
    address = options.integer("address", ADDRESSES.start, ADDRESSES.stop - 1)
    calibration: dict[str, int | None] = {}
    for channel in CHANNELS:
        calibration[channel.scale] = options.integer(channel.scale, 1, SCALE_MAX)
        calibration[channel.offset] = options.integer(channel.offset, -OFFSET_MAX, OFFSET_MAX)
    nameplate = context.nameplate or _plain_nameplate(options.text("serial", 12) or MODEL)
    options.end()
    if nameplate.function is not OptionalFunction.VOLTAGE:
        raise UsageError(
            f"the {NAME} driver: unit {nameplate.serial} ({nameplate.model}) is no voltage unit"
        )
    if context.wires is None:
        raise UsageError(
            f"the {NAME} driver needs a slot with an I2C bus; give the board's profile"
        )
    given = {name: value for name, value in calibration.items() if value is not None}
    nameplate = replace(nameplate, calibration={**given, **nameplate.calibration})
    inputs = inputs_of(nameplate)
    bus = context.wires.i2c()
    if address is not None:
        await _register(bus, address, CONFIG)
    else:
        address = await _find(bus)
    if address is None:
        raise UnitFailure(
            f"{MODEL} no. {nameplate.serial}: no chip that looks like one answers on {bus.name} at"
            f" {ADDRESSES.start:#04x} to {ADDRESSES.stop - 1:#04x}; check that the unit is plugged"
            " in, or give its address"
        )
    return Ads1115Unit(nameplate, bus, address, context.clock, inputs)


def _plain_nameplate(serial: str) -> Nameplate:
    """Of a unit that has none we could read."""
    return Nameplate(
        UnitKind.OPTIONAL,
        MODEL,
        serial,
        maker="Texas Instruments",
        driver=NAME,
        function=OptionalFunction.VOLTAGE,
    )


DRIVER = Driver(build=build, detect=detect)
