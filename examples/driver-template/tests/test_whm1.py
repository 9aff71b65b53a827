"""The driver over a model of its chip: what it says, and that damage never becomes energy."""

import pytest
from meter_driver_whm1 import ADDRESS, DRIVER, Whm1Unit
from whm1_chip import Whm1Chip

from meter_runtime.bench.board.bus import VirtualI2C
from meter_runtime.bench.board.supply import Flow
from meter_runtime.errors import UsageError
from meter_runtime.system_clock import SystemClock
from meter_runtime.units.board import BoardProfile, SlotProfile, Wires
from meter_runtime.units.buses import AsyncI2C, ImmediateBus
from meter_runtime.units.contracts import UnitFailure, UnitKind
from meter_runtime.units.drivers import DriverContext
from meter_runtime.units.gpio import Gpio

FLOW = Flow(3_600_000, 7200, 500_000, 5000, 101_000, 50_000)
SLOT = SlotProfile("metering", UnitKind.METERING, i2c="i2c-1")


class OneBus:
    """A board with one bus, and one chip on it."""

    profile = BoardProfile("test", "one bus", (SLOT,))

    def __init__(self) -> None:
        self.virtual = VirtualI2C("i2c-1", {ADDRESS: Whm1Chip(lambda: FLOW)})

    @property
    def gpio(self) -> Gpio:
        raise NotImplementedError

    def i2c(self, bus: str) -> AsyncI2C:
        return ImmediateBus(self.virtual)

    def close(self) -> None:
        pass


@pytest.fixture
def board() -> OneBus:
    return OneBus()


async def built(board: OneBus, **options: object) -> Whm1Unit:
    context = DriverContext(SystemClock(), options, wires=Wires(board, SLOT))
    unit: Whm1Unit = await DRIVER.build(context)
    return unit


async def test_it_says_what_the_chip_says(board: OneBus) -> None:
    sample = await (await built(board)).read()
    assert (sample.forward_mwh, sample.power_w, sample.current_r_ma) == (1000, 500, 5000)


@pytest.mark.parametrize("bit", range(8 * 26))
async def test_no_flipped_bit_becomes_energy(board: OneBus, bit: int) -> None:
    unit = await built(board)
    healthy = await unit.read()
    board.virtual.flip(bit // 8, bit % 8)
    assert await unit.read() == healthy


async def test_a_silent_unit_is_named(board: OneBus) -> None:
    unit = await built(board)
    board.virtual.chips.clear()
    with pytest.raises(UnitFailure, match=r"WHM1 no\. WHM1@40: i2c-1 address 0x40"):
        await unit.read()


async def test_an_unknown_option_names_the_nearest(board: OneBus) -> None:
    with pytest.raises(UsageError, match='did you mean "address"'):
        await built(board, adress=0x41)
