"""The virtual I²C bus: whole transactions, the kernel's errors, and the faults a test asks for."""

import pytest

from meter_runtime.bench.board.bus import TRANSACTIONS_KEPT, Nak, Transaction, VirtualI2C
from meter_runtime.bench.board.mb85rc256v import DEFAULT_ADDRESS, SIZE, Mb85rc256v
from meter_runtime.errors import MeterError
from meter_runtime.i2c import BusStuckError, I2CBus


class Echo:
    """Answers with what was written to it last, padded."""

    def __init__(self) -> None:
        self.heard = b""
        self.refuses = False

    def write(self, data: bytes) -> None:
        if self.refuses:
            raise Nak
        self.heard = data

    def read(self, n: int) -> bytes:
        return self.heard.ljust(n, b"\xff")[:n]


def room() -> tuple[VirtualI2C, Echo]:
    echo = Echo()
    return VirtualI2C("i2c-7", {0x20: echo}), echo


def test_it_is_a_bus_like_the_kernels() -> None:
    bus: I2CBus = room()[0]
    bus.write(0x20, b"ab")
    assert bus.read(0x20, 3) == b"ab\xff"
    assert bus.transfer(0x20, b"c", 2) == b"c\xff"


def test_nobody_at_an_address_is_told_like_the_kernel_tells_it() -> None:
    bus, _ = room()
    with pytest.raises(MeterError, match=r"i2c-7 address 0x21: Remote I/O error; check that the"):
        bus.read(0x21, 1)


def test_a_chip_may_refuse() -> None:
    bus, echo = room()
    echo.refuses = True
    with pytest.raises(MeterError, match="Remote I/O error"):
        bus.transfer(0x20, b"x", 1)
    assert bus.transactions[-1] == Transaction(0x20, b"x", b"", failed=True)


def test_asked_for_refusals_come_as_often_as_asked_and_only_at_their_address() -> None:
    bus, echo = room()
    bus.chips[0x21] = Echo()
    bus.nak(0x20, 2)
    bus.write(0x21, b"y")
    for _ in range(2):
        with pytest.raises(MeterError, match="Remote I/O error"):
            bus.write(0x20, b"x")
    assert echo.heard == b""
    bus.write(0x20, b"x")
    assert echo.heard == b"x"


def test_a_stuck_bus_times_out_until_it_is_free() -> None:
    bus, echo = room()
    bus.stuck = True
    with pytest.raises(BusStuckError, match=r"0x20: Connection timed out; the bus is stuck"):
        bus.write(0x20, b"x")
    bus.stuck = False
    bus.write(0x20, b"x")
    assert echo.heard == b"x"


def test_a_chip_can_be_pulled_and_plugged_in() -> None:
    bus, echo = room()
    del bus.chips[0x20]
    with pytest.raises(MeterError):
        bus.read(0x20, 1)
    bus.chips[0x20] = echo
    assert bus.read(0x20, 1) == b"\xff"


@pytest.mark.parametrize(
    ("nth", "heard", "answered"),
    [(0, b"\x81\x02", b"\x81\x02"), (1, b"\x01\x82", b"\x01\x82"), (3, b"\x01\x02", b"\x01\x82")],
)
def test_a_flipped_bit_reaches_whoever_receives_that_byte(
    nth: int, heard: bytes, answered: bytes
) -> None:
    bus, echo = room()
    bus.flip(nth, bit=7)
    assert bus.transfer(0x20, b"\x01\x02", 2) == answered
    assert echo.heard == heard
    assert bus.transfer(0x20, b"\x01\x02", 2) == b"\x01\x02"


def test_flips_are_counted_from_now_and_two_of_one_bit_cancel() -> None:
    bus, echo = room()
    bus.write(0x20, b"abc")
    bus.flip(0)
    bus.write(0x20, b"\x00\x00")
    assert echo.heard == b"\x01\x00"
    bus.flip(1)
    bus.flip(1)
    bus.write(0x20, b"\x00\x00")
    assert echo.heard == b"\x00\x00"


def test_the_last_transactions_are_kept_and_no_more() -> None:
    bus, _ = room()
    for n in range(TRANSACTIONS_KEPT + 5):
        bus.write(0x20, n.to_bytes(2, "big"))
    assert len(bus.transactions) == TRANSACTIONS_KEPT
    assert bus.transactions[0] == Transaction(0x20, (5).to_bytes(2, "big"), b"")


def test_a_closed_bus_answers_with_an_error() -> None:
    bus, _ = room()
    bus.close()
    bus.close()
    with pytest.raises(MeterError, match="i2c-7: it was closed already"):
        bus.read(0x20, 1)


def fram(content: bytes = b"") -> tuple[VirtualI2C, Mb85rc256v]:
    chip = Mb85rc256v()
    chip.content[: len(content)] = content
    return VirtualI2C("i2c-1", {DEFAULT_ADDRESS: chip}), chip


def test_fram_reads_from_the_address_it_was_given_and_goes_on_from_there() -> None:
    bus, _ = fram(bytes(range(256)))
    assert bus.transfer(0x50, b"\x00\x10", 3) == b"\x10\x11\x12"
    assert bus.read(0x50, 2) == b"\x13\x14"


def test_fram_goes_on_after_a_write_where_the_write_ended() -> None:
    bus, chip = fram(bytes(range(256)))
    bus.write(0x50, b"\x00\x20xyz")
    assert bytes(chip.content[0x1F:0x24]) == b"\x1fxyz\x23"
    assert bus.read(0x50, 1) == b"\x23"


def test_fram_wraps_around_at_its_end_in_both_directions() -> None:
    bus, chip = fram()
    bus.write(0x50, b"\x7f\xffab")
    assert chip.content[SIZE - 1] == ord("a")
    assert chip.content[0] == ord("b")
    assert bus.transfer(0x50, b"\x7f\xff", 3) == b"ab\x00"
    assert bus.transfer(0x50, b"\x7f\xff", SIZE + 2)[-2:] == b"ab"


def test_fram_ignores_the_top_bit_of_an_address() -> None:
    bus, chip = fram()
    bus.write(0x50, b"\x80\x02x")
    assert chip.content[2] == ord("x")


def test_fram_keeps_each_byte_up_to_the_power_cut_and_none_after_it() -> None:
    bus, chip = fram()
    chip.power_off_after(2)
    with pytest.raises(MeterError):
        bus.write(0x50, b"\x00\x00abcd")
    with pytest.raises(MeterError):
        bus.transfer(0x50, b"\x00\x00", 1)
    chip.power_on()
    assert bus.transfer(0x50, b"\x00\x00", 4) == b"ab\x00\x00"
    assert chip.stored == 2


def test_fram_with_its_write_protection_on_keeps_what_it_had() -> None:
    bus, chip = fram(b"old")
    chip.write_protected = True
    bus.write(0x50, b"\x00\x00new")
    assert bus.transfer(0x50, b"\x00\x00", 3) == b"old"
    assert chip.stored == 0
