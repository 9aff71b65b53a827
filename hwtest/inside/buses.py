"""I²C buses by what the kernel calls their adapters: numbers are given as they come."""

from pathlib import Path

from meter_runtime.i2c import LinuxI2C

SABRELITE_BUS = "21a0000.i2c"
"""The SABRE Lite's first controller, where its chips are."""

_CLASS = Path("/sys/class/i2c-dev")


def bus_number(adapter: str) -> int:
    """N of ``/dev/i2c-N`` whose adapter's name begins like this."""
    for device in sorted(_CLASS.iterdir()):
        if (device / "name").read_text().startswith(adapter):
            return int(device.name.removeprefix("i2c-"))
    raise AssertionError(f"no bus of this machine is called {adapter}")


def open_bus(adapter: str) -> LinuxI2C:
    """That bus; whoever opens it closes it."""
    return LinuxI2C(bus_number(adapter))
