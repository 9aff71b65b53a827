"""A DS3231 real-time clock at its registers, as its datasheet describes them.

Nineteen registers, 00 to 12; the pointer counts up with each byte and wraps to 00. The time is
held still for a transaction and taken anew at each START and at the wrap. Writing the seconds
begins a second. The century bit toggles when the years go from 99 to 00, and each year that four
divides has a 29 February, 2100 too. Alarms, square wave and aging are kept and do nothing, the
temperature stays 25 °C. What the datasheet calls undefined, an illogical time, stands still here.
"""

from collections.abc import Callable

from meter_runtime.bench.board.bus import Nak

DEFAULT_ADDRESS = 0x68

TIME = 0x00
CONTROL = 0x0E
STATUS = 0x0F
REGISTERS = 0x13

EOSC = 0x80
OSF = 0x80

_TIME_REGISTERS = 7
_TEMPERATURE = 0x11
_TWELVE_HOURS = 0x40
_PM = 0x20
_CENTURY = 0x80
_POWER_ON = bytes.fromhex("00 00 00 01 01 01 00 00000000000000 1C 88 00 1900")
_FLAGS_ONLY_CLEARED = 0x83
"""OSF, A2F and A1F: writing 1 leaves them as they are."""
_WRITABLE_STATUS = 0x8B

_DAY_S = 86_400
_CENTURY_DAYS = 36_525
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Ds3231Chip:
    """The chip; ``now`` is what its crystal counts, in seconds from anywhere.

    ``drift_ppm`` is how much faster the crystal runs. A new chip has no battery behind it: its
    oscillator-stop flag is set and it begins at 2000-01-01 00:00:00.
    """

    def __init__(self, now: Callable[[], float], *, drift_ppm: float = 0.0) -> None:
        self._now = now
        self._rate = 1 + drift_ppm / 1e6
        self._powered = True
        self._start_over()

    @property
    def drift_ppm(self) -> float:
        """Drift of the crystal from now on, parts per million; positive runs fast."""
        return (self._rate - 1) * 1e6

    @drift_ppm.setter
    def drift_ppm(self, ppm: float) -> None:
        self._count()
        self._rate = 1 + ppm / 1e6

    def remove_battery(self) -> None:
        """Lose main and battery power for a moment: everything is forgotten."""
        self._start_over()

    def power_off(self) -> None:
        """Main power fails; the battery keeps time, unless EOSC lets the oscillator rest."""
        self._count()
        self._powered = False

    def power_on(self) -> None:
        """Main power is back."""
        self._count()
        self._powered = True

    def write(self, data: bytes) -> None:
        if not self._powered:
            raise Nak
        self._count()
        if not data:
            return
        self._pointer = data[0] % REGISTERS
        for byte in data[1:]:
            self._store(self._pointer, byte)
            self._pointer = (self._pointer + 1) % REGISTERS

    def read(self, n: int) -> bytes:
        if not self._powered:
            raise Nak
        self._count()
        answer = bytearray()
        for _ in range(n):
            answer.append(self._registers[self._pointer])
            self._pointer = (self._pointer + 1) % REGISTERS
            if self._pointer == TIME:
                self._count()
        return bytes(answer)

    def _start_over(self) -> None:
        self._registers = bytearray(_POWER_ON)
        self._pointer = 0
        self._fraction = 0.0
        self._counted_at = self._now()

    def _store(self, register: int, byte: int) -> None:
        if register >= _TEMPERATURE:
            return
        if register == STATUS:
            present = self._registers[STATUS]
            kept = present & byte & _FLAGS_ONLY_CLEARED
            byte = kept | byte & _WRITABLE_STATUS & ~_FLAGS_ONLY_CLEARED
        if register == TIME:
            self._fraction = 0.0
        self._registers[register] = byte

    def _count(self) -> None:
        """Let the time registers catch up with the crystal."""
        now = self._now()
        elapsed = (now - self._counted_at) * self._rate
        self._counted_at = now
        if not self._powered and self._registers[CONTROL] & EOSC:
            self._registers[STATUS] |= OSF
            return
        seconds = _seconds(bytes(self._registers[:_TIME_REGISTERS]))
        if seconds is None:
            return
        whole, self._fraction = divmod(self._fraction + elapsed, 1.0)
        days = (seconds + int(whole)) // _DAY_S - seconds // _DAY_S
        weekday = (self._registers[3] - 1 + days) % 7 + 1
        twelve_hours = bool(self._registers[2] & _TWELVE_HOURS)
        self._registers[:_TIME_REGISTERS] = _registers(
            seconds + int(whole), weekday, twelve_hours=twelve_hours
        )


def _seconds(registers: bytes) -> int | None:
    """Seconds since 2000 on the chip's calendar; None for an illogical time."""
    weekday = registers[3]
    twelve_hours = registers[2] & _TWELVE_HOURS
    hour_digits = registers[2] & (0x1F if twelve_hours else 0xFF)
    month_digits = registers[5] & ~_CENTURY
    digits = (registers[0], registers[1], hour_digits, registers[4], month_digits, registers[6])
    if any(octet >> 4 > 9 or octet & 0x0F > 9 for octet in digits):
        return None
    second, minute, hour, day, month, year = ((o >> 4) * 10 + (o & 0x0F) for o in digits)
    if twelve_hours:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if registers[2] & _PM else 0)
    if second > 59 or minute > 59 or hour > 23 or not 1 <= weekday <= 7:
        return None
    if not 1 <= month <= 12 or not 1 <= day <= _days_of(month, year):
        return None
    days = (_CENTURY_DAYS if registers[5] & _CENTURY else 0) + _days_before(year)
    days += sum(_days_of(earlier, year) for earlier in range(1, month)) + day - 1
    return days * _DAY_S + hour * 3600 + minute * 60 + second


def _registers(seconds: int, weekday: int, *, twelve_hours: bool) -> bytes:
    """Registers 00 to 06 of a time on the chip's calendar."""
    days, rest = divmod(seconds, _DAY_S)
    century, days = divmod(days, _CENTURY_DAYS)
    year = 0
    while _days_before(year + 1) <= days:
        year += 1
    day = days - _days_before(year) + 1
    month = 1
    while day > _days_of(month, year):
        day -= _days_of(month, year)
        month += 1
    hour = rest // 3600
    if twelve_hours:
        hours = _TWELVE_HOURS | (_PM if hour >= 12 else 0) | _bcd((hour + 11) % 12 + 1)
    else:
        hours = _bcd(hour)
    return bytes(
        (
            _bcd(rest % 60),
            _bcd(rest // 60 % 60),
            hours,
            weekday,
            _bcd(day),
            _bcd(month) | (_CENTURY if century % 2 else 0),
            _bcd(year),
        )
    )


def _days_before(year: int) -> int:
    """Days of the century before this year of it."""
    return year * 365 + (year + 3) // 4


def _days_of(month: int, year: int) -> int:
    return 29 if month == 2 and year % 4 == 0 else _MONTH_DAYS[month - 1]


def _bcd(number: int) -> int:
    return number // 10 << 4 | number % 10
