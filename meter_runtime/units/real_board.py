"""A board of real wires: the kernel's I²C buses and GPIO lines, opened when first asked for."""

from collections.abc import Callable
from typing import Literal

from meter_runtime.i2c import FIRST_ADDRESS, I2CBus, LinuxI2C, parse_place
from meter_runtime.units.board import BoardProfile
from meter_runtime.units.board_profiles import load_profile
from meter_runtime.units.buses import AsyncI2C, WorkerBus
from meter_runtime.units.gpio import Gpio

GpioLibrary = Literal["gpiod", "rpi"]


class RealBoard:
    """This machine, wired as ``profile`` says; ``library`` is what drives its GPIO lines.

    Everything that asks for a bus shares one worker and so one transfer at a time.
    """

    def __init__(
        self,
        profile: BoardProfile,
        *,
        library: GpioLibrary = "gpiod",
        open_bus: Callable[[int], I2CBus] = LinuxI2C,
    ) -> None:
        self.profile = profile
        self._library = library
        self._open_bus = open_bus
        self._buses: dict[str, WorkerBus] = {}
        self._gpio: Gpio | None = None

    @property
    def gpio(self) -> Gpio:
        if self._gpio is None:
            self._gpio = _open_gpio(self._library)
        return self._gpio

    def i2c(self, bus: str) -> AsyncI2C:
        if bus not in self._buses:
            number, _ = parse_place(bus, FIRST_ADDRESS)
            self._buses[bus] = WorkerBus(self._open_bus(number))
        return self._buses[bus]

    def close(self) -> None:
        """Release what was opened; each bus within its bound. Does nothing the second time."""
        for bus in self._buses.values():
            bus.close()
        self._buses.clear()
        if self._gpio is not None:
            self._gpio.close()
            self._gpio = None


def _open_gpio(library: GpioLibrary) -> Gpio:
    if library == "rpi":
        from meter_runtime.units.gpio_rpi import RpiGpio

        return RpiGpio()
    from meter_runtime.units.gpio_gpiod import GpiodGpio

    return GpiodGpio()


def open_board(name: str, library: GpioLibrary = "gpiod") -> RealBoard:
    """This machine as the profile that :func:`load_profile` gives for ``name`` has it wired."""
    return RealBoard(load_profile(name), library=library)
