"""Battery-backed clocks: a DS3231 at its registers, the kernel's, and which one is meant."""

import errno
import fcntl
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime import rtc
from meter_runtime.bench.board.bus import VirtualI2C
from meter_runtime.bench.board.ds3231 import (
    CONTROL,
    DEFAULT_ADDRESS,
    EOSC,
    OSF,
    REGISTERS,
    STATUS,
    Ds3231Chip,
)
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.rtc import Ds3231, KernelRtc, open_rtc


def utc(*fields: int) -> float:
    year, month, day, hour, minute, second = (*fields, 0, 0, 0)[:6]
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()


FIRST, END = utc(2000, 1, 1), utc(2200, 1, 1)
BEFORE_THE_CHIPS_LEAP_DAY = utc(2100, 2, 28, 23, 59, 59)
DAY_S = 86_400.0


class Board:
    """A DS3231 on a bus, and time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.chip = Ds3231Chip(lambda: self.now)
        self.bus = VirtualI2C("bus", {DEFAULT_ADDRESS: self.chip})
        self.rtc = Ds3231(self.bus)

    def registers(self, first: int = 0, n: int = 7) -> bytes:
        return self.bus.transfer(DEFAULT_ADDRESS, bytes((first,)), n)

    def poke(self, first: int, *octets: int) -> None:
        self.bus.write(DEFAULT_ADDRESS, bytes((first, *octets)))


def test_a_new_chip_is_not_believed() -> None:
    board = Board()
    assert board.registers(STATUS, 1)[0] & OSF
    assert board.rtc.read() is None


@pytest.mark.parametrize(
    ("wall", "registers"),
    [
        (utc(2000, 1, 1), "00 00 00 07 01 01 00"),
        (utc(2026, 11, 22, 9, 8, 7), "07 08 09 01 22 11 26"),
        (utc(2028, 2, 29, 23, 59, 59), "59 59 23 03 29 02 28"),
        (utc(2099, 12, 31, 19, 30), "00 30 19 05 31 12 99"),
        (utc(2100, 1, 1), "00 00 00 06 01 81 00"),
        (utc(2199, 12, 31, 23, 59, 59), "59 59 23 03 31 92 99"),
    ],
)
def test_the_time_registers_hold_bcd(wall: float, registers: str) -> None:
    board = Board()
    board.rtc.write(wall)
    assert board.registers() == bytes.fromhex(registers)
    assert board.rtc.read() == wall


@given(st.integers(int(FIRST), int(END) - 1))
def test_what_is_written_is_read(wall: int) -> None:
    board = Board()
    board.rtc.write(wall)
    assert board.rtc.read() == wall


@given(
    st.integers(int(FIRST), int(BEFORE_THE_CHIPS_LEAP_DAY)),
    st.floats(0, 30 * 365 * DAY_S),
)
def test_it_keeps_time_through_months_leap_years_and_the_century(wall: int, pause: float) -> None:
    board = Board()
    board.rtc.write(wall)
    board.now += pause
    expected = float(wall + int(pause))
    if expected > BEFORE_THE_CHIPS_LEAP_DAY:
        assert board.rtc.read() in (None, expected - DAY_S)
    else:
        assert board.rtc.read() == expected


@given(
    st.integers(int(FIRST), int(utc(2099, 12, 31))),
    st.integers(0, int(DAY_S)),
)
def test_a_chip_in_twelve_hour_mode_tells_the_same(wall: int, pause: int) -> None:
    board = Board()
    board.rtc.write(wall)
    hour = datetime.fromtimestamp(wall, UTC).hour
    twelve = int(str((hour + 11) % 12 + 1), 16)
    board.poke(2, 0x40 | (0x20 if hour >= 12 else 0) | twelve)
    assert board.rtc.read() == wall
    board.now += pause
    assert board.rtc.read() == wall + pause
    assert board.registers()[2] & 0x40


@pytest.mark.parametrize(("hours", "hour"), [(0x52, 0), (0x41, 1), (0x72, 12), (0x71, 23)])
def test_noon_and_midnight_in_twelve_hour_mode(hours: int, hour: int) -> None:
    board = Board()
    board.rtc.write(utc(2026, 5, 4, 3, 0, 1))
    board.poke(2, hours)
    assert board.rtc.read() == utc(2026, 5, 4, hour, 0, 1)


def test_the_time_is_one_burst_that_holds_still() -> None:
    board = Board()
    board.rtc.write(utc(2026, 12, 31, 23, 59, 59))
    board.bus.transactions.clear()
    board.rtc.read()
    (transaction,) = board.bus.transactions
    assert (transaction.written, len(transaction.read)) == (bytes((0,)), STATUS + 1)


def test_a_clock_whose_oscillator_stopped_is_not_believed_until_it_is_set() -> None:
    board = Board()
    board.rtc.write(utc(2026, 1, 2))
    board.now += 3600
    board.chip.remove_battery()
    assert board.rtc.read() is None
    board.rtc.write(utc(2026, 1, 3))
    assert board.rtc.read() == utc(2026, 1, 3)


def test_the_stop_flag_falls_after_the_time_is_complete() -> None:
    board = Board()
    board.bus.nak(DEFAULT_ADDRESS)
    with pytest.raises(MeterError, match="bus address 0x68"):
        board.rtc.write(utc(2026, 1, 2))
    assert board.rtc.read() is None
    board.rtc.write(utc(2026, 1, 2))
    writes = [t.written for t in board.bus.transactions if not t.failed and not t.read]
    assert [(written[0], len(written)) for written in writes] == [(0, 8), (CONTROL, 3)]


def test_setting_it_leaves_the_other_bits_of_control_and_status() -> None:
    board = Board()
    board.poke(CONTROL, 0x1C | EOSC)
    board.rtc.write(utc(2026, 1, 2))
    assert board.registers(CONTROL, 2) == bytes((0x1C, 0x08))


def test_it_keeps_time_on_its_battery() -> None:
    board = Board()
    board.rtc.write(utc(2026, 1, 2))
    board.chip.power_off()
    with pytest.raises(MeterError, match="0x68"):
        board.rtc.read()
    board.now += 1000
    board.chip.power_on()
    assert board.rtc.read() == utc(2026, 1, 2) + 1000


def test_an_oscillator_that_rested_on_the_battery_says_so() -> None:
    board = Board()
    board.rtc.write(utc(2026, 1, 2))
    board.poke(CONTROL, 0x1C | EOSC)
    board.chip.power_off()
    board.now += 1000
    board.chip.power_on()
    assert board.rtc.read() is None


@given(st.binary(min_size=7, max_size=7))
def test_no_registers_make_it_fail(registers: bytes) -> None:
    """A time, or nothing: noise in the registers is no reason to stop a meter."""
    board = Board()
    board.rtc.write(utc(2026, 1, 2))
    board.poke(0, *registers)
    time = board.rtc.read()
    assert time is None or FIRST <= time < END


@pytest.mark.parametrize(
    "registers",
    [
        "60 00 00 01 01 01 26",
        "5A 00 00 01 01 01 26",
        "00 00 24 01 01 01 26",
        "00 00 60 01 01 01 26",
        "00 00 53 01 01 01 26",
        "00 00 00 01 30 02 28",
        "00 00 00 01 29 02 27",
        "00 00 00 01 01 13 26",
        "00 00 00 01 00 01 26",
        "00 00 00 01 29 82 00",
    ],
)
def test_registers_that_are_no_time_are_not_believed(registers: str) -> None:
    board = Board()
    board.rtc.write(utc(2026, 1, 2))
    board.poke(0, *bytes.fromhex(registers))
    assert board.rtc.read() is None


@pytest.mark.parametrize("wall", [FIRST - 1, END])
def test_a_year_the_chip_does_not_have_is_an_error(wall: float) -> None:
    with pytest.raises(MeterError, match="cannot keep the year"):
        Board().rtc.write(wall)


def test_a_written_second_begins_anew_and_the_nearest_one_is_written() -> None:
    board = Board()
    board.now = 0.75
    board.rtc.write(utc(2026, 1, 2) + 0.004)
    board.now += 0.999
    assert board.rtc.read() == utc(2026, 1, 2)
    board.now += 0.002
    assert board.rtc.read() == utc(2026, 1, 2) + 1


def test_its_crystal_may_drift() -> None:
    board = Board()
    board.rtc.write(utc(2026, 1, 2))
    board.chip.drift_ppm = 2.0
    board.now += 1_000_000
    assert board.rtc.read() == utc(2026, 1, 2) + 1_000_002


def test_the_register_pointer_wraps_behind_the_last_one() -> None:
    board = Board()
    board.rtc.write(utc(2026, 11, 22, 9, 8, 7))
    assert board.registers(REGISTERS - 2, 4) == bytes.fromhex("19 00 07 08")
    board.poke(REGISTERS - 1, 0xFF, 0x30)
    assert board.registers(REGISTERS - 1, 2) == bytes.fromhex("00 30")


def test_nobody_at_the_address_is_an_error_that_says_what_to_do() -> None:
    board = Board()
    board.bus.chips.clear()
    with pytest.raises(MeterError, match="plugged in"):
        board.rtc.read()


@pytest.fixture
def kernel_clock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[Callable[[int, bytes], bytes]], KernelRtc]:
    """A KernelRtc whose driver is the given function of request and ``struct rtc_time``."""
    path = tmp_path / "rtc7"
    path.touch()

    def made(driver: Callable[[int, bytes], bytes]) -> KernelRtc:
        def ioctl(descriptor: int, request: int, fields: bytes) -> bytes:
            return driver(request, fields)

        monkeypatch.setattr(fcntl, "ioctl", ioctl)
        return KernelRtc(path)

    return made


KernelClock = Callable[[Callable[[int, bytes], bytes]], KernelRtc]
RTC_RD_TIME, RTC_SET_TIME = 0x80247009, 0x4024700A


def test_the_kernels_clock_gives_and_takes_struct_rtc_time(kernel_clock: KernelClock) -> None:
    held = [struct.pack("9i", 7, 8, 9, 22, 10, 126, 0, 0, 0)]

    def driver(request: int, fields: bytes) -> bytes:
        assert len(fields) == 36
        if request == RTC_SET_TIME:
            held[0] = fields
        else:
            assert request == RTC_RD_TIME
        return held[0]

    clock = kernel_clock(driver)
    assert clock.read() == utc(2026, 11, 22, 9, 8, 7)
    clock.write(utc(2028, 2, 29, 23, 59, 58) + 0.6)
    assert held[0] == struct.pack("9i", 59, 59, 23, 29, 1, 128, 2, 59, 0)
    assert clock.read() == utc(2028, 2, 29, 23, 59, 59)
    clock.close()


def test_a_kernels_clock_that_was_never_set_is_not_believed(kernel_clock: KernelClock) -> None:
    def driver(request: int, fields: bytes) -> bytes:
        raise OSError(errno.EINVAL, "Invalid argument")

    assert kernel_clock(driver).read() is None
    assert kernel_clock(lambda _request, _fields: bytes(36)).read() is None


@pytest.mark.parametrize("number", [errno.EIO, errno.EPERM, errno.EBUSY])
def test_a_kernels_clock_that_fails_is_one_line(kernel_clock: KernelClock, number: int) -> None:
    def driver(request: int, fields: bytes) -> bytes:
        raise OSError(number, "it failed")

    clock = kernel_clock(driver)
    for attempt in (clock.read, lambda: clock.write(utc(2026, 1, 1))):
        with pytest.raises(MeterError, match="rtc7: it failed; ") as raised:
            attempt()
        assert "\n" not in str(raised.value)


def test_a_file_that_is_no_clock_and_one_that_is_not_there_are_errors(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MeterError, match=r"file: .*hwclock"):
        KernelRtc(tmp_path / "file").read()
    with pytest.raises(MeterError, match=r"none: .*\[clock\] rtc"):
        KernelRtc(tmp_path / "none").read()


def test_auto_takes_the_kernels_first_clock_or_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rtc, "DEFAULT_DEVICE", tmp_path / "rtc0")
    assert open_rtc("auto") is None
    (tmp_path / "rtc0").touch()
    assert isinstance(open_rtc("auto"), KernelRtc)


def test_a_clock_is_named_by_its_place() -> None:
    assert open_rtc("none") is None
    named = open_rtc("/dev/rtc1")
    assert named is not None
    assert named.name == "/dev/rtc1"
    with pytest.raises(MeterError, match=r"/dev/i2c-213: cannot be opened"):
        open_rtc("i2c-213")


@pytest.mark.parametrize("place", ["", "ds3231", "rtc0", "i2c-", "i2c-1:68", "i2c-1:0x80", "AUTO"])
def test_a_place_that_names_no_clock_is_refused(place: str) -> None:
    with pytest.raises(UsageError):
        open_rtc(place)
