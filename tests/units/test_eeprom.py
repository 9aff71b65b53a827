"""A nameplate in a 24C32: written, read, torn, and read over a bus that fails."""

import asyncio
from collections.abc import Callable

import pytest

from meter_runtime.bench.board.at24c32 import PAGE_SIZE, SIZE, WRITE_CYCLE_S, At24c32
from meter_runtime.bench.board.bus import VirtualI2C
from meter_runtime.clock import Timer, Trust
from meter_runtime.errors import MeterError
from meter_runtime.units.buses import ImmediateBus
from meter_runtime.units.contracts import Nameplate, UnitFailure, UnitKind
from meter_runtime.units.eeprom import READ_TRIES, WRITE_BOUND_S, read_nameplate, write_nameplate
from meter_runtime.units.nameplate import NameplateUnreadable, encode

ADDRESS = 0x51
OLD = Nameplate(UnitKind.METERING, "MU-1P-30", "OLD000000001", calibration={"gain": 1})
NEW = Nameplate(
    UnitKind.METERING,
    "MU-3W60-2",
    "NEW000000002",
    maker="maker",
    calibration={f"channel_{n}": n * 1000 for n in range(6)},
)


class HastyClock:
    """Whoever waits finds that it is time already."""

    trust = Trust.UNSET

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        self.now = max(self.now, when)
        return asyncio.get_running_loop().call_soon(callback)

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


class Lab:
    """One EEPROM on one bus."""

    def __init__(self) -> None:
        self.clock = HastyClock()
        self.chip = At24c32(self.clock.monotonic)
        self.wire = VirtualI2C("i2c-1", {ADDRESS: self.chip})
        self.bus = ImmediateBus(self.wire)

    def hold(self, nameplate: Nameplate) -> None:
        record = encode(nameplate)
        self.chip.content[: len(record)] = record

    async def read(self) -> Nameplate | None:
        return await read_nameplate(self.bus, ADDRESS)

    async def write(self, nameplate: Nameplate) -> Nameplate:
        return await write_nameplate(self.bus, ADDRESS, nameplate, self.clock)


async def test_a_new_eeprom_is_blank() -> None:
    assert await Lab().read() is None


async def test_what_is_written_is_read_and_nothing_behind_it_is_touched() -> None:
    lab = Lab()
    assert await lab.write(NEW) == NEW
    assert await lab.read() == NEW
    size = len(encode(NEW))
    assert bytes(lab.chip.content[:size]) == encode(NEW)
    assert bytes(lab.chip.content[size:]) == b"\xff" * (SIZE - size)
    assert lab.chip.write_cycles == -(-size // PAGE_SIZE)


async def test_a_shorter_nameplate_replaces_a_longer_one() -> None:
    lab = Lab()
    await lab.write(NEW)
    await lab.write(OLD)
    assert await lab.read() == OLD


async def test_reading_writes_nothing() -> None:
    lab = Lab()
    lab.hold(NEW)
    await lab.read()
    assert lab.chip.write_cycles == 0
    assert all(len(t.written) == 2 for t in lab.wire.transactions)


@pytest.mark.parametrize("nth", range(3))
async def test_a_disturbed_reading_is_repeated(nth: int) -> None:
    lab = Lab()
    lab.hold(NEW)
    for disturbance in range(nth):
        lab.wire.flip(disturbance * (2 + PAGE_SIZE) + 9, bit=3)
    assert await lab.read() == NEW


async def test_each_flipped_bit_on_the_wire_is_healed() -> None:
    lab = Lab()
    lab.hold(OLD)
    crossing = len(encode(OLD)) + 4
    for byte in range(crossing):
        for bit in range(8):
            lab.wire.flip(byte, bit)
            assert await lab.read() == OLD


async def test_a_unit_that_stays_silent_for_a_moment_is_asked_again() -> None:
    lab = Lab()
    lab.hold(NEW)
    lab.wire.nak(ADDRESS, READ_TRIES - 1)
    assert await lab.read() == NEW
    lab.wire.nak(ADDRESS, READ_TRIES)
    with pytest.raises(UnitFailure, match="i2c-1 address 0x51: Remote I/O error"):
        await lab.read()


async def test_a_stuck_bus_is_not_asked_twice() -> None:
    lab = Lab()
    lab.wire.stuck = True
    with pytest.raises(UnitFailure, match="the bus is stuck"):
        await lab.read()
    assert len(lab.wire.transactions) == 1


async def test_damage_is_told_with_its_place() -> None:
    lab = Lab()
    lab.hold(NEW)
    lab.chip.content[20] ^= 1
    with pytest.raises(NameplateUnreadable, match="i2c-1 address 0x51: the nameplate is damaged"):
        await lab.read()
    assert NameplateUnreadable.code == "U-23"


async def test_a_sound_record_read_from_a_wrong_place_is_not_taken_for_blank() -> None:
    lab = Lab()
    lab.hold(NEW)
    lab.wire.flip(0, bit=3)  # the address becomes 0x0800, where all is FF
    assert await lab.read() == NEW


async def test_other_content_is_no_nameplate() -> None:
    lab = Lab()
    lab.chip.content[:2] = b"LP"
    with pytest.raises(NameplateUnreadable, match="this is no nameplate; label the unit"):
        await lab.read()


async def test_a_write_protected_eeprom_is_told() -> None:
    lab = Lab()
    lab.hold(OLD)
    lab.chip.write_protected = True
    with pytest.raises(MeterError, match="reads back otherwise than written; tie WP to ground"):
        await lab.write(NEW)
    assert await lab.read() == OLD


async def test_an_eeprom_that_never_comes_back_is_given_up() -> None:
    lab = Lab()
    lab.chip.power_off_after(PAGE_SIZE)
    with pytest.raises(UnitFailure, match="address 0x51"):
        await lab.write(NEW)
    assert lab.clock.monotonic() <= WRITE_BOUND_S + 0.01


@pytest.mark.parametrize("before", [None, OLD])
async def test_power_that_fails_at_any_byte_leaves_old_new_blank_or_unreadable(
    before: Nameplate | None,
) -> None:
    outcomes = set()
    for cut in range(len(encode(NEW)) + 1):
        lab = Lab()
        if before is not None:
            lab.hold(before)
        lab.chip.power_off_after(cut)
        with pytest.raises(UnitFailure):
            await lab.write(NEW)
        lab.chip.power_on()
        try:
            found = await lab.read()
        except NameplateUnreadable:
            outcomes.add("unreadable")
        else:
            assert found in (None, before, NEW)
            outcomes.add("none" if found is None else found.serial)
        assert await lab.write(NEW) == NEW
    expected = "none" if before is None else before.serial
    assert outcomes == {expected, "unreadable", NEW.serial}


async def test_the_chip_wraps_within_its_page_and_the_later_byte_wins() -> None:
    lab = Lab()
    data = bytes(range(PAGE_SIZE + 4))
    lab.wire.write(ADDRESS, b"\x00\x20" + data)
    assert bytes(lab.chip.content[0x20:0x40]) == bytes(range(32, 36)) + bytes(range(4, 32))
    assert lab.chip.content[0x40] == 0xFF


async def test_the_chip_hears_nothing_while_it_writes() -> None:
    lab = Lab()
    lab.wire.write(ADDRESS, b"\x00\x00x")
    with pytest.raises(MeterError):
        lab.wire.transfer(ADDRESS, b"\x00\x00", 1)
    lab.clock.now = WRITE_CYCLE_S
    assert lab.wire.transfer(ADDRESS, b"\x00\x00", 1) == b"x"


async def test_the_chip_reads_on_from_where_it_was_and_wraps_at_its_end() -> None:
    lab = Lab()
    lab.chip.content[-1:] = b"z"
    lab.chip.content[:2] = b"ab"
    assert lab.wire.transfer(ADDRESS, b"\x0f\xff", 2) == b"za"
    assert lab.wire.read(ADDRESS, 1) == b"b"
    assert lab.wire.transfer(ADDRESS, b"\xf0\x00", 1) == b"a"


async def test_the_chip_that_loses_power_within_a_page_leaves_one_cell_erased() -> None:
    lab = Lab()
    lab.chip.content[:4] = b"OLD!"
    lab.chip.power_off_after(1)
    lab.wire.write(ADDRESS, b"\x00\x00new.")
    with pytest.raises(MeterError):
        lab.wire.read(ADDRESS, 1)
    lab.chip.power_on()
    assert lab.wire.transfer(ADDRESS, b"\x00\x00", 4) == b"n\xffD!"
