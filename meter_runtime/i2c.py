"""I²C: what a driver asks of a bus, and the bus of a Linux kernel.

Addresses are the 7-bit ones (0x08 to 0x77). Transfers block: a byte takes nine bits of the bus
(90 µs at 100 kHz, 22.5 µs at 400 kHz), and the kernel gives a stuck bus up after about a second.
"""

import errno
import re
import threading
from typing import TYPE_CHECKING, Protocol

from meter_runtime.errors import MeterError, UsageError

if TYPE_CHECKING:
    from smbus2 import i2c_msg

FIRST_ADDRESS = 0x08
LAST_ADDRESS = 0x77


class I2CBus(Protocol):
    """One bus; every method raises :class:`MeterError`, which names bus, address and reason."""

    @property
    def name(self) -> str: ...

    def write(self, address: int, data: bytes) -> None:
        """One write transaction: START, address, ``data``, STOP."""
        ...

    def read(self, address: int, n: int) -> bytes:
        """One read transaction of ``n`` bytes."""
        ...

    def transfer(self, address: int, data: bytes, n: int) -> bytes:
        """Write ``data``, then read ``n`` bytes after a repeated START."""
        ...

    def close(self) -> None:
        """Release the bus; does nothing the second time."""
        ...


class BusStuckError(MeterError):
    """The bus did not move: each further attempt would cost another second."""


class LinuxI2C:
    """``/dev/i2c-N`` by combined transactions (I2C_RDWR), which 16-bit addresses need.

    Its methods may be called from several threads: one transfer at a time is on the bus.
    """

    def __init__(self, number: int) -> None:
        self.name = f"/dev/i2c-{number}"
        try:
            from smbus2 import SMBus, i2c_msg
        except ImportError:
            raise MeterError(
                f"{self.name} needs smbus2; install it: pip install 'meter-runtime[rpi]'"
            ) from None
        try:
            self._bus = SMBus(number)
        except OSError as error:
            remedy = _OPENING_REMEDIES.get(error.errno or 0, "check that it is an I2C bus")
            raise MeterError(
                f"{self.name}: cannot be opened: {error.strerror or error}; {remedy}"
            ) from error
        self._message = i2c_msg
        self._turn = threading.Lock()
        self._closed = False

    def write(self, address: int, data: bytes) -> None:
        self._run(address, self._message.write(address, data))

    def read(self, address: int, n: int) -> bytes:
        reading = self._message.read(address, n)
        self._run(address, reading)
        return bytes(reading)

    def transfer(self, address: int, data: bytes, n: int) -> bytes:
        reading = self._message.read(address, n)
        self._run(address, self._message.write(address, data), reading)
        return bytes(reading)

    def close(self) -> None:
        with self._turn:
            if not self._closed:
                self._closed = True
                self._bus.close()

    def _run(self, address: int, *messages: "i2c_msg") -> None:
        with self._turn:
            if self._closed:
                raise MeterError(f"{self.name}: it was closed already; open it again")
            try:
                self._bus.i2c_rdwr(*messages)
            except OSError as error:
                raise failure(self.name, address, error) from error


def failure(bus: str, address: int, error: OSError) -> MeterError:
    """What a transaction's error means to a person; :class:`BusStuckError` when it timed out."""
    remedy = _REMEDIES.get(error.errno or 0, "check that the chip is plugged in and powered")
    kind = BusStuckError if error.errno == errno.ETIMEDOUT else MeterError
    return kind(f"{bus} address {address:#04x}: {error.strerror or error}; {remedy}")


def parse_place(place: str, default_address: int, key: str = "") -> tuple[int, int]:
    """Bus number and address of ``i2c-N`` or ``i2c-N:0xADDRESS``.

    Raises UsageError, which begins with the configuration's ``key`` where one is given.
    """
    where = f'{key}: "{place}"' if key else f'"{place}"'
    found = _PLACE.fullmatch(place)
    if found is None:
        raise UsageError(f"{where} names no I2C chip; write i2c-1 or i2c-1:{default_address:#04x}")
    address = default_address if found["address"] is None else int(found["address"], 16)
    if not FIRST_ADDRESS <= address <= LAST_ADDRESS:
        raise UsageError(
            f"{where}: an I2C address is {FIRST_ADDRESS:#04x} to {LAST_ADDRESS:#04x};"
            " take the 7-bit one that i2cdetect shows"
        )
    return int(found["bus"]), address


_PLACE = re.compile(r"i2c-(?P<bus>[0-9]{1,3})(:0x(?P<address>[0-9A-Fa-f]{1,2}))?", re.ASCII)

_OPENING_REMEDIES = {
    errno.ENOENT: "switch I2C on in the boot configuration (dtparam=i2c_arm=on)",
    errno.EACCES: "let the meter's user into the group i2c",
    errno.EPERM: "let the meter's user into the group i2c",
}

_REMEDIES = {
    errno.ETIMEDOUT: "the bus is stuck: check SDA, SCL and their pull-ups, or cycle its power",
    errno.EOPNOTSUPP: "this bus has no combined transactions: use another one",
    errno.ENODEV: "the bus is gone: check its adapter",
}
