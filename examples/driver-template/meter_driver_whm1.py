"""The driver ``whm1``: a single-phase two-wire metering unit on I²C, made up for this example.

It keeps its registers without power, and answers any reading from address 00 on; big-endian:

====  ====  =========================================================
addr  type  content
====  ====  =========================================================
00    4     its identity, ``WHM1``
04    u48   forward energy in mWh
0A    u48   reverse energy in mWh
10    s32   power in W, negative towards the grid
14    s32   current in mA, signed like the power
18    u8    what makes the sum of all bytes 0 modulo 256
====  ====  =========================================================
"""

import asyncio

from meter_runtime.errors import UsageError
from meter_runtime.units.board import Wires
from meter_runtime.units.buses import AsyncI2C
from meter_runtime.units.contracts import Nameplate, Sample, UnitFailure, UnitKind, Wiring
from meter_runtime.units.drivers import Driver, DriverContext
from meter_runtime.units.options import Options

NAME = "whm1"
MODEL = "WHM1"
ADDRESS = 0x40

READ_BOUND_S = 0.9
ATTEMPTS = 3
"""A damaged answer is asked for again; one that stays damaged is a failure, never energy."""

_IDENTITY = b"WHM1"
_SIZE = 25


class Whm1Unit:
    """A metering unit as the runtime wants it: nameplate, readings, a self-test, and an end."""

    keeps_registers = True

    def __init__(self, nameplate: Nameplate, bus: AsyncI2C, address: int) -> None:
        self.nameplate = nameplate
        self._bus = bus
        self._address = address

    async def read(self) -> Sample:
        """What the unit says now. UnitFailure names unit, place and reason, within a second."""
        try:
            async with asyncio.timeout(READ_BOUND_S):
                said = await _ask(self._bus, self._address)
        except TimeoutError:
            raise self._failure(f"no answer within {READ_BOUND_S:g} s") from None
        except UnitFailure as failure:
            raise self._failure(str(failure)) from failure
        return Sample(
            forward_mwh=int.from_bytes(said[4:10], "big"),
            reverse_mwh=int.from_bytes(said[10:16], "big") if self.nameplate.two_way else 0,
            power_w=int.from_bytes(said[16:20], "big", signed=True),
            current_r_ma=int.from_bytes(said[20:24], "big", signed=True),
            current_t_ma=None,
        )

    async def self_test(self) -> list[str]:
        """What is wrong with it; nothing where it is well."""
        try:
            await self.read()
        except UnitFailure as failure:
            return [str(failure)]
        return []

    async def close(self) -> None:
        """There is nothing to let go of: the bus is the board's. Harmless twice."""

    def _failure(self, reason: str) -> UnitFailure:
        return UnitFailure(f"{MODEL} no. {self.nameplate.serial}: {reason}")


async def _ask(bus: AsyncI2C, address: int) -> bytes:
    """The unit's answer, checked."""
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            said = await bus.transfer(address, b"\x00", _SIZE)
        except UnitFailure as failure:  # it names bus and address already
            reason = str(failure)
            continue
        if sum(said) % 256 == 0 and said.startswith(_IDENTITY):
            return said
        reason = f"{bus.name} address {address:#04x}: the answer is damaged"
    raise UnitFailure(reason)


async def detect(wires: Wires) -> Nameplate | None:
    """Ask whether it is ours: by identity, changing nothing, within a second."""
    try:
        async with asyncio.timeout(READ_BOUND_S):
            await _ask(wires.i2c(), ADDRESS)
    except (UnitFailure, TimeoutError):
        return None
    return Nameplate(
        UnitKind.METERING,
        MODEL,
        f"{MODEL}@{ADDRESS:02x}",
        driver=NAME,
        wiring=Wiring.ONE_PHASE_TWO_WIRE,
        two_way=False,
    )


async def build(context: DriverContext) -> Whm1Unit:
    """The unit, once it has answered. Option: ``address``, by default 0x40."""
    options = Options(NAME, context.options)
    address = options.integer("address", 0x08, 0x77)
    options.end()
    if context.wires is None:
        raise UsageError(f"the {NAME} driver needs a slot with an I2C bus")
    nameplate = context.nameplate or await detect(context.wires)
    if nameplate is None:
        raise UnitFailure(f"{MODEL}: nobody answers; check that the unit is plugged in")
    unit = Whm1Unit(nameplate, context.wires.i2c(), ADDRESS if address is None else address)
    await unit.read()
    return unit


DRIVER = Driver(build=build, detect=detect)
