"""Battery-backed clocks (RTC): what the meter asks of one, a DS3231 on I²C, and the kernel's.

An RTC keeps UTC in whole seconds while the meter has no power. One whose oscillator stood still,
or that was never set, says so, and is not believed: better no time than an invented one. When it
is read and written is decided in :mod:`~meter_runtime.system_clock`.
"""

import errno
import fcntl
import os
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from meter_runtime.errors import MeterError, UsageError
from meter_runtime.i2c import I2CBus, LinuxI2C, parse_place

DEFAULT_ADDRESS = 0x68
DEFAULT_DEVICE = Path("/dev/rtc0")


class RealTimeClock(Protocol):
    """One battery-backed clock; its methods raise :class:`MeterError` when it does not answer."""

    @property
    def name(self) -> str: ...

    def read(self) -> float | None:
        """The second it is in, UTC seconds; None when it is not to be believed."""
        ...

    def write(self, wall: float) -> None:
        """Set it to the nearest second; exact when called at a full one."""
        ...

    def close(self) -> None:
        """Release what it holds; does nothing the second time."""
        ...


class Ds3231:
    """A DS3231: BCD time in registers 00 to 06, control and status in 0E and 0F.

    ==  ================================================================
    00  seconds
    01  minutes
    02  hours; bit 6: twelve hours, then bit 5 is PM
    03  day of the week, 1 to 7; Sunday is 1, as Linux has it
    04  day of the month
    05  month; bit 7: century, set for 2100 to 2199
    06  year of the century
    0E  bit 7 (EOSC): the oscillator rests while the chip is on its battery
    0F  bit 7 (OSF): the oscillator stood still since it was cleared
    ==  ================================================================

    The chip holds the time still during a transaction, so one that spans all registers is
    consistent. It takes 2100 for a leap year: its date is behind by a day after that February.
    """

    def __init__(self, bus: I2CBus, address: int = DEFAULT_ADDRESS) -> None:
        self._bus = bus
        self._address = address
        self.name = f"the DS3231 at {bus.name} address {address:#04x}"

    def read(self) -> float | None:
        registers = self._bus.transfer(self._address, bytes((0,)), _STATUS + 1)
        if registers[_STATUS] & _OSF:
            return None
        return _decode(registers[:_STATUS])

    def write(self, wall: float) -> None:
        """Raises MeterError also for a year that the chip does not have."""
        self._bus.write(self._address, bytes((0,)) + _encode(wall))
        # Only a time that is complete may be believed, and only one that goes on without power.
        control, status = self._bus.transfer(self._address, bytes((_CONTROL,)), 2)
        self._bus.write(self._address, bytes((_CONTROL, control & ~_EOSC, status & ~_OSF)))

    def close(self) -> None:
        self._bus.close()


_CONTROL = 0x0E
_EOSC = 0x80
_STATUS = 0x0F
_OSF = 0x80
_TWELVE_HOURS = 0x40
_PM = 0x20
_CENTURY = 0x80


def _decode(registers: bytes) -> float | None:
    """UTC seconds of registers 00 to 06; None for what is no time."""
    second, minute, hour, _, day, month, year = registers[:7]
    century = 100 if month & _CENTURY else 0
    try:
        if hour & _TWELVE_HOURS:
            twelve = _from_bcd(hour & 0x1F)
            if not 1 <= twelve <= 12:
                return None
            hours = twelve % 12 + (12 if hour & _PM else 0)
        else:
            hours = _from_bcd(hour)
        return datetime(
            2000 + century + _from_bcd(year),
            _from_bcd(month & ~_CENTURY),
            _from_bcd(day),
            hours,
            _from_bcd(minute),
            _from_bcd(second),
            tzinfo=UTC,
        ).timestamp()
    except ValueError:
        return None


def _encode(wall: float) -> bytes:
    """Registers 00 to 06 of the nearest second, in 24-hour mode."""
    time = datetime.fromtimestamp(round(wall), UTC)
    if not 2000 <= time.year < 2200:
        raise MeterError(f"a DS3231 cannot keep the year {time.year}; set the clock right first")
    return bytes(
        (
            _to_bcd(time.second),
            _to_bcd(time.minute),
            _to_bcd(time.hour),
            time.isoweekday() % 7 + 1,
            _to_bcd(time.day),
            _to_bcd(time.month) | (_CENTURY if time.year >= 2100 else 0),
            _to_bcd(time.year % 100),
        )
    )


def _from_bcd(octet: int) -> int:
    """Raises ValueError for a digit above 9."""
    return int(f"{octet:x}")


def _to_bcd(number: int) -> int:
    return int(str(number), 16)


class KernelRtc:
    """An RTC that the kernel drives, ``/dev/rtcN``.

    It is opened for each use only: the kernel gives it to one program at a time, and to others
    the meter leaves theirs.
    """

    def __init__(self, path: Path = DEFAULT_DEVICE) -> None:
        self._path = path
        self.name = str(path)

    def read(self) -> float | None:
        blank = bytes(_RTC_TIME.size)
        try:
            answer = self._ask(_RTC_RD_TIME, blank)
        except OSError as error:
            if error.errno == errno.EINVAL:  # the driver itself does not believe the chip
                return None
            raise self._failure(error) from error
        second, minute, hour, day, month, year, *_ = _RTC_TIME.unpack(answer)
        try:
            time = datetime(1900 + year, 1 + month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            return None
        return time.timestamp()

    def write(self, wall: float) -> None:
        time = datetime.fromtimestamp(round(wall), UTC)
        fields = _RTC_TIME.pack(
            *(time.second, time.minute, time.hour, time.day, time.month - 1, time.year - 1900),
            *(time.isoweekday() % 7, time.timetuple().tm_yday - 1, 0),
        )
        try:
            self._ask(_RTC_SET_TIME, fields)
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Nothing is held."""

    def _ask(self, request: int, fields: bytes) -> bytes:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return fcntl.ioctl(descriptor, request, fields)
        finally:
            os.close(descriptor)

    def _failure(self, error: OSError) -> MeterError:
        remedy = _REMEDIES.get(error.errno or 0, "check that it is a clock and works: hwclock -r")
        return MeterError(f"{self._path}: {error.strerror or error}; {remedy}")


_RTC_TIME = struct.Struct("9i")
"""struct rtc_time: second, minute, hour, day, month from 0, year from 1900, three more."""

_RTC_RD_TIME = 0x80247009
_RTC_SET_TIME = 0x4024700A
"""As <linux/rtc.h> has them on ARM and x86."""

_REMEDIES = {
    errno.ENOENT: "check the device-tree overlay of the clock, or name another in [clock] rtc",
    errno.EACCES: "let the meter's user open it, or run as a service",
    errno.EPERM: "setting it needs CAP_SYS_TIME",
    errno.EBUSY: "another program holds it: end that",
}


def open_rtc(place: str) -> RealTimeClock | None:
    """The RTC that ``[clock] rtc`` names.

    ``auto`` (``/dev/rtc0``, and no RTC where that does not open), ``none``, ``/dev/rtcN``,
    ``i2c-N`` or ``i2c-N:0xADDRESS`` (a DS3231 without a kernel driver). A chip that does not
    answer is told when it is read. Raises UsageError for any other name and MeterError for an
    I²C bus that cannot be opened.
    """
    if place == "none":
        return None
    if place == "auto":
        return KernelRtc(DEFAULT_DEVICE) if _opens(DEFAULT_DEVICE) else None
    if place.startswith("/dev/"):
        return KernelRtc(Path(place))
    if place.startswith("i2c-"):
        bus, address = parse_place(place, DEFAULT_ADDRESS, "[clock] rtc")
        return Ds3231(LinuxI2C(bus), address)
    raise UsageError(
        f'[clock] rtc: "{place}" names no clock; write auto, none, /dev/rtc0, i2c-1 or i2c-1:0x68'
    )


def _opens(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
