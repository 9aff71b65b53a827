"""A bus that has no combined transactions, :mod:`meter_runtime.i2c`."""

from pathlib import Path

from hwtest.inside.buses import open_bus
from meter_runtime.errors import MeterError
from meter_runtime.i2c import LinuxI2C

ADDRESS = 0x50


async def a_bus_without_combined_transactions_says_so() -> str:
    bus = open_bus("SMBus stub driver")
    try:
        bus.transfer(ADDRESS, b"\0\0", 1)
    except MeterError as error:
        told = str(error)
    else:
        raise AssertionError("i2c-stub took a combined transaction")
    finally:
        bus.close()
    assert "no combined transactions" in told, told
    return told


async def a_bus_that_is_not_there_says_so() -> str:
    number = 1 + max(int(path.name.removeprefix("i2c-")) for path in Path("/dev").glob("i2c-*"))
    try:
        LinuxI2C(number).close()
    except MeterError as error:
        told = str(error)
    else:
        raise AssertionError(f"/dev/i2c-{number} opens")
    assert "switch I2C on" in told, told
    return told


CHECKS = (
    a_bus_without_combined_transactions_says_so,
    a_bus_that_is_not_there_says_so,
)
