"""The metering unit of one or two MCP39F521, and the driver ``mcp39f521``.

One chip at 0x74 measures a single-phase two-wire supply. Two, at 0x74 and 0x75, measure two
elements: lines R and T of a single-phase three-wire supply, or two of a three-phase one, and what
counts is their sum: P = V1 * I1 + V2 * I2 (:mod:`~meter_runtime.units.metering.mcp39f521.netting`).

A reading is two frames of each chip: the output registers (status to reactive power) and the two
energy counters, which no reading clears. Registers, frames and where the facts come from:
:mod:`~meter_runtime.units.metering.mcp39f521.frames`.

At the start, and when a chip has lost its power, the driver writes what is not so already: the
gains, phases and ranges that the nameplate's calibration names (``r_gain_current`` ..., ``t_...``
for the second chip), accumulation interval 2, and that energy is counted. Nothing else is ever
written but the circulation of :mod:`~meter_runtime.units.metering.mcp39f521.netting`.

The chip forgets its counters when it loses power (*unverified*). A unit that feeds it from a buffer
says so on its nameplate, by the calibration ``keeps_registers`` = 1, or the configuration does, by
``volatile = false``.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meter_runtime.clock import Clock, sleep_until
from meter_runtime.errors import UsageError, nearest
from meter_runtime.units.board import Wires
from meter_runtime.units.buses import AsyncI2C
from meter_runtime.units.contracts import Nameplate, Sample, UnitFailure, UnitKind, Wiring
from meter_runtime.units.drivers import Driver, DriverContext
from meter_runtime.units.eeprom import is_silence
from meter_runtime.units.metering.mcp39f521 import frames
from meter_runtime.units.metering.mcp39f521.chip import SETTINGS, Mcp39f521, Unintelligible
from meter_runtime.units.metering.mcp39f521.frames import Register, Status
from meter_runtime.units.metering.mcp39f521.netting import Circulation
from meter_runtime.units.options import Options

log = logging.getLogger(__name__)

NAME = "mcp39f521"
MODEL = "MCP39F521"
FIRST_ADDRESS = 0x74
ADDRESSES = range(FIRST_ADDRESS, FIRST_ADDRESS + 4)
"""By the pins A0 and A1."""

DETECT_BOUND_S = 0.9

LINES = "rt"

_OUTPUT_BYTES = 28
_ENERGY_BYTES = 16
_KEEPS = "keeps_registers"


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one chip says: mWh counted either way, 10 mW signed, 0.1 mA."""

    imported_mwh: int
    exported_mwh: int
    power_cw: int
    current_dma: int


class _Line:
    """One chip, and what it had counted before it lost its power."""

    def __init__(self, chip: Mcp39f521, calibration: dict[str, int]) -> None:
        self.chip = chip
        self._calibration = calibration
        self._last = (0, 0)
        self._before = (0, 0)

    async def prepare(self) -> None:
        await self.chip.prepare(self._calibration)

    async def read(self) -> _Reading:
        output = await self.chip.read(Register.STATUS, _OUTPUT_BYTES)
        imported, exported = await self._counted()
        status = Status(_number(output, Register.STATUS, 2))
        power_cw = _number(output, Register.ACTIVE_POWER, 4)
        return _Reading(
            self._before[0] + imported,
            self._before[1] + exported,
            power_cw if Status.IMPORTING in status else -power_cw,
            _number(output, Register.CURRENT, 4),
        )

    async def _counted(self) -> tuple[int, int]:
        """What the chip counted since it has power; one that has lost it counts nothing."""
        counted = await self._counters()
        if self._fell(counted) and not (await self.chip.read_settings())[1]:
            log.warning("%s: the chip has lost its power; it counts on from here", self.chip.place)
            await self.prepare()
            self._before = self._before[0] + self._last[0], self._before[1] + self._last[1]
            self._last = (0, 0)
            counted = await self._counters()
        self._last = counted
        return counted

    def _fell(self, counted: tuple[int, int]) -> bool:
        return counted[0] < self._last[0] or counted[1] < self._last[1]

    async def _counters(self) -> tuple[int, int]:
        data = await self.chip.read(Register.IMPORTED, _ENERGY_BYTES)
        half = _ENERGY_BYTES // 2
        imported, exported = (int.from_bytes(part, "little") for part in (data[:half], data[half:]))
        return imported * frames.MWH_PER_COUNT, exported * frames.MWH_PER_COUNT


class Mcp39f521Unit:
    """A metering unit of one or two chips; made ready by :meth:`start`.

    With one chip the registers are the chip's own. With two, they are the chips' sums less what
    circulated between the lines. On a one-way unit the reverse register stays 0.
    """

    def __init__(
        self,
        nameplate: Nameplate,
        chips: Sequence[Mcp39f521],
        clock: Clock,
        *,
        keeps_registers: bool,
    ) -> None:
        self.nameplate = nameplate
        self.keeps_registers = keeps_registers
        self._clock = clock
        self._lines = [
            _Line(chip, _calibration_of(line, nameplate.calibration))
            for line, chip in zip(LINES, chips, strict=False)
        ]
        self._circulation = Circulation(chips[0]) if len(chips) == 2 else None
        self._totals = (0, 0)
        self._at: float | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    async def start(self) -> None:
        """Prepare the chips; UnitFailure when one does not answer."""
        try:
            for line in self._lines:
                await line.prepare()
            readings = [await line.read() for line in self._lines]
            self._totals = _totals(readings)
            self._at = self._clock.monotonic()
            if self._circulation is not None:
                await self._circulation.load(self._totals[0])
        except UnitFailure as failure:
            raise self._named(failure) from failure

    async def read(self) -> Sample:
        async with self._turn:
            at = self._clock.monotonic()
            try:
                readings = [await line.read() for line in self._lines]
            except UnitFailure as failure:
                raise self._named(failure) from failure
            imported, exported = _totals(readings)
            circulated = 0
            if self._circulation is not None:
                elapsed_s = at - (at if self._at is None else self._at)
                gained = imported - self._totals[0], exported - self._totals[1]
                self._circulation.take(*gained, elapsed_s)
                await self._circulation.store(imported)
                circulated = self._circulation.mwh
            self._totals, self._at = (imported, exported), at
        currents = [_signed_ma(reading) for reading in readings]
        return Sample(
            imported - circulated,
            exported - circulated if self.nameplate.two_way else 0,
            _rounded(sum(reading.power_cw for reading in readings), 100),
            currents[0],
            currents[1] if len(currents) == 2 else None,
        )

    async def self_test(self) -> list[str]:
        """What the chips' settings and events give to say."""
        findings = []
        for line in self._lines:
            place = line.chip.place
            try:
                interval, counts = await line.chip.read_settings()
                status = Status(int.from_bytes(await line.chip.read(Register.STATUS, 2), "little"))
            except UnitFailure as failure:
                findings.append(str(failure))
                continue
            if interval != frames.COUNTING_INTERVAL:
                findings.append(f"{place}: accumulation interval {interval}: energy is miscounted")
            if not counts:
                findings.append(f"{place}: energy is not counted")
            findings += [f"{place}: {text}" for bit, text in _EVENTS.items() if bit in status]
        return findings

    async def close(self) -> None:
        """Store what has circulated; the chips count on. Harmless twice."""
        if self._closed or self._circulation is None:
            return
        self._closed = True
        await self._circulation.store(self._totals[0], at_once=True)

    def _named(self, failure: UnitFailure) -> UnitFailure:
        return UnitFailure(f"{MODEL} no. {self.nameplate.serial}: {failure}")


_EVENTS = {
    Status.SAG: "the voltage is too low",
    Status.SURGE: "the voltage is too high",
    Status.OVER_CURRENT: "the current is too high",
    Status.OVER_POWER: "the power is too high",
}


def _totals(readings: Sequence[_Reading]) -> tuple[int, int]:
    imported = sum(reading.imported_mwh for reading in readings)
    return imported, sum(reading.exported_mwh for reading in readings)


def _number(output: bytes, register: Register, size: int) -> int:
    """A register of the frame that begins with the status."""
    begin = register - Register.STATUS
    return int.from_bytes(output[begin : begin + size], "little")


def _signed_ma(reading: _Reading) -> int:
    current = _rounded(reading.current_dma, 10)
    return -current if reading.power_cw < 0 else current


def _rounded(value: int, unit: int) -> int:
    """To the nearest, halves away from zero."""
    whole = (2 * abs(value) + unit) // (2 * unit)
    return whole if value >= 0 else -whole


def _calibration_of(line: str, calibration: Mapping[str, int]) -> dict[str, int]:
    """What is set in the chip of this line, of what the nameplate says of all."""
    prefix = f"{line}_"
    return {
        name.removeprefix(prefix): value
        for name, value in calibration.items()
        if name.startswith(prefix)
    }


def _check_calibration(nameplate: Nameplate) -> None:
    known = {_KEEPS, *(f"{line}_{setting}" for line in LINES for setting in SETTINGS)}
    for name in nameplate.calibration:
        if name not in known:
            raise UnitFailure(
                f'{MODEL} no. {nameplate.serial}: its nameplate has a calibration "{name}" that'
                f" the driver does not know; {nearest(name, known)}"
            )


def _addresses(text: str) -> list[int]:
    """The chips of ``addresses = "0x74,0x75"``: line R's first."""
    try:
        found = [int(part, 16) for part in text.split(",")]
    except ValueError:
        found = []
    if not 1 <= len(found) <= 2 or len(set(found)) != len(found) or not set(found) <= {*ADDRESSES}:
        raise UsageError(
            f'the {NAME} driver: addresses = "{text}"; give one or two of'
            f" {', '.join(f'{address:#04x}' for address in ADDRESSES)}, line R's chip first"
        )
    return found


async def _who_answers(bus: AsyncI2C) -> dict[int, int]:
    """The chips on a bus: version by address."""
    found = {}
    for address in ADDRESSES:
        try:
            data = await Mcp39f521(bus, address, asyncio.sleep).read(Register.VERSION, 2)
        except Unintelligible:
            continue
        except UnitFailure as failure:
            if is_silence(failure):
                continue
            raise
        version = int.from_bytes(data, "little")
        if version not in (0x0000, 0xFFFF):
            found[address] = version
    return found


async def detect(wires: Wires) -> Nameplate | None:
    """One or two chips that answer in their own frames. They have no serial number: the first
    one's address stands for it.

    The request is for the version alone. Another chip at such an address would take it for a
    write to itself. UnitFailure: the bus does not let anybody be asked.
    """
    bus = wires.i2c()
    try:
        async with asyncio.timeout(DETECT_BOUND_S):
            found = await _who_answers(bus)
    except TimeoutError:
        raise UnitFailure(f"{bus.name}: no answer within {DETECT_BOUND_S:g} s") from None
    if not found:
        return None
    first = min(found)
    return Nameplate(
        UnitKind.METERING,
        MODEL,
        f"{MODEL}@{first:02x}",
        maker="Microchip",
        fw_version=f"{found[first]:04X}",
        driver=NAME,
        wiring=Wiring.ONE_PHASE_TWO_WIRE if len(found) == 1 else Wiring.ONE_PHASE_THREE_WIRE,
    )


async def build(context: DriverContext) -> Mcp39f521Unit:
    """The unit, counting.

    Options: ``addresses``, one or two, line R's chip first; by default 0x74, and 0x75 where the
    nameplate says two elements. ``volatile``: the chips forget their counters without power.
    """
    options = Options(NAME, context.options)
    places = options.text("addresses", 16)
    volatile = options.flag("volatile")
    options.end()
    if context.wires is None:
        raise UsageError(
            f"the {NAME} driver needs a slot with an I2C bus; give the board's profile"
        )
    given = None if places is None else _addresses(places)
    nameplate = context.nameplate or await detect(context.wires)
    bus = context.wires.i2c()
    if nameplate is None:
        raise UnitFailure(
            f"{MODEL}: nobody answers at {bus.name} addresses {ADDRESSES[0]:#04x} to"
            f" {ADDRESSES[-1]:#04x}; check that the unit is plugged in and powered"
        )
    _check_calibration(nameplate)
    elements = 1 if nameplate.wiring is Wiring.ONE_PHASE_TWO_WIRE else 2
    addresses = given or [FIRST_ADDRESS + element for element in range(elements)]
    if len(addresses) != elements:
        raise UsageError(
            f'the {NAME} driver: addresses = "{places}" names {len(addresses)} and unit'
            f" {nameplate.serial} has {elements} elements; name each one's chip"
        )
    if volatile is None:
        volatile = not nameplate.calibration.get(_KEEPS, 0)

    async def pause(seconds: float) -> None:
        await sleep_until(context.clock, context.clock.monotonic() + seconds)

    chips = [Mcp39f521(bus, address, pause) for address in addresses]
    unit = Mcp39f521Unit(nameplate, chips, context.clock, keeps_registers=not volatile)
    await unit.start()
    return unit


DRIVER = Driver(build=build, detect=detect)
