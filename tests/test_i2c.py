"""The kernel's I²C bus without one: what is sent to the kernel, and what its errors tell."""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import smbus2

from meter_runtime.errors import MeterError, UsageError
from meter_runtime.i2c import BusStuckError, LinuxI2C, parse_place

I2C_M_RD = 1
NO_BUS = 250
"""A bus number that no machine has."""


class Kernel:
    """Stands in for smbus2.SMBus: notes each message and answers reads with 1, 2, 3 ..."""

    opened: Sequence["Kernel"] = ()

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls: list[list[tuple[int, int, bytes]]] = []
        self.fails_with = 0
        self.closed = 0
        Kernel.opened = (*Kernel.opened, self)

    def i2c_rdwr(self, *messages: Any) -> None:
        if self.fails_with:
            raise OSError(self.fails_with, os.strerror(self.fails_with))
        call = []
        for message in messages:
            if message.flags & I2C_M_RD:
                for at in range(message.len):
                    message.buf[at] = at + 1
                call.append((message.addr, message.flags, bytes(message.len)))
            else:
                call.append((message.addr, message.flags, bytes(message)))
        self.calls.append(call)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> type[Kernel]:
    monkeypatch.setattr(Kernel, "opened", ())
    monkeypatch.setattr(smbus2, "SMBus", Kernel)
    return Kernel


def test_a_missing_bus_says_how_to_switch_it_on() -> None:
    with pytest.raises(MeterError, match=r"^/dev/i2c-250: cannot be opened: No such.*dtparam"):
        LinuxI2C(NO_BUS)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_forbidden_bus_names_the_group(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def forbid(bus: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(smbus2, "SMBus", forbid)
    with pytest.raises(MeterError, match="let the meter's user into the group i2c"):
        LinuxI2C(1)


def test_without_smbus2_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smbus2", None)
    with pytest.raises(MeterError, match=r"/dev/i2c-1 needs smbus2; .*meter-runtime\[rpi\]"):
        LinuxI2C(1)


def test_each_method_is_one_combined_transaction(kernel: type[Kernel]) -> None:
    bus = LinuxI2C(3)
    bus.write(0x50, b"\x00\x10data")
    assert bus.read(0x51, 2) == b"\x01\x02"
    assert bus.transfer(0x52, b"\x7f\xff", 3) == b"\x01\x02\x03"
    (opened,) = kernel.opened
    assert opened.number == 3
    assert opened.calls == [
        [(0x50, 0, b"\x00\x10data")],
        [(0x51, I2C_M_RD, bytes(2))],
        [(0x52, 0, b"\x7f\xff"), (0x52, I2C_M_RD, bytes(3))],
    ]


@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (errno.EREMOTEIO, MeterError, "Remote I/O error; check that the chip is plugged in"),
        (errno.ENXIO, MeterError, "check that the chip is plugged in and powered"),
        (errno.ETIMEDOUT, BusStuckError, "Connection timed out; the bus is stuck"),
        (errno.EOPNOTSUPP, MeterError, "no combined transactions"),
    ],
)
def test_a_failed_transaction_names_bus_address_reason_and_remedy(
    kernel: type[Kernel], number: int, kind: type[MeterError], told: str
) -> None:
    bus = LinuxI2C(1)
    kernel.opened[0].fails_with = number
    with pytest.raises(MeterError, match=f"^/dev/i2c-1 address 0x50: .*{told}") as raised:
        bus.transfer(0x50, b"x", 1)
    assert type(raised.value) is kind


def test_a_closed_bus_answers_with_an_error(kernel: type[Kernel]) -> None:
    bus = LinuxI2C(1)
    bus.close()
    bus.close()
    with pytest.raises(MeterError, match="/dev/i2c-1: it was closed already"):
        bus.write(0x50, b"x")
    assert kernel.opened[0].calls == []
    assert kernel.opened[0].closed == 1


@pytest.mark.parametrize(
    ("place", "meant"),
    [("i2c-1", (1, 0x50)), ("i2c-1:0x57", (1, 0x57)), ("i2c-10:0x8", (10, 8))],
)
def test_a_place_is_a_bus_and_an_address(place: str, meant: tuple[int, int]) -> None:
    assert parse_place(place, 0x50) == meant


@pytest.mark.parametrize(
    "place", ["", "i2c", "i2c-", "1", "i2c-1:80", "i2c-1:0x", "/dev/i2c-1", "i2c-١", "i2c-1:0x50 "]
)
def test_what_is_no_place_is_refused_with_one_that_is(place: str) -> None:
    with pytest.raises(UsageError, match="names no I2C chip; write i2c-1 or i2c-1:0x50"):
        parse_place(place, 0x50)


@pytest.mark.parametrize("address", ["0x7", "0x78", "0xa0"])
def test_an_eight_bit_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="take the 7-bit one"):
        parse_place(f"i2c-1:{address}", 0x50)


def test_a_wrong_place_names_the_key_it_stands_under() -> None:
    with pytest.raises(UsageError, match=r'^\[storage\] fram: "spi-0" names no I2C chip'):
        parse_place("spi-0", 0x50, "[storage] fram")
