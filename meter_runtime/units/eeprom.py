"""A unit's ID EEPROM: a 24C32 on I²C, and the nameplate at its beginning.

Two address bytes, high one first; reads of any length; writes within a page of 32 bytes, after
which the chip is deaf for up to 5 ms (AT24C32E DS20006109 and 24AA32A/24LC32A DS21713, as others
reproduce them). Reading sets the chip's address and changes nothing in it.

I²C has no checksum: a reading counts when the record's CRC holds, and *blank* counts when it was
read twice.
"""

from meter_runtime.clock import Clock, sleep_until
from meter_runtime.errors import MeterError
from meter_runtime.i2c import BusStuckError
from meter_runtime.units import nameplate as record
from meter_runtime.units.buses import AsyncI2C
from meter_runtime.units.contracts import Nameplate, UnitFailure
from meter_runtime.units.nameplate import NameplateUnreadable

PAGE_SIZE = 32
CHUNK = 128
"""Bytes of one reading: 12 ms at 100 kHz, so that others get their turn on the bus."""

READ_TRIES = 3

POLL_S = 0.001
WRITE_BOUND_S = 0.05
"""Ten times what a chip of today takes for a page; the eldest take 20 ms at low supply."""

_BLANK = b"\xff" * PAGE_SIZE


async def read_nameplate(bus: AsyncI2C, address: int) -> Nameplate | None:
    """The unit's nameplate; None where its EEPROM is blank.

    Raises NameplateUnreadable (U-23) for a record that is damaged or of another version, and
    UnitFailure where no EEPROM answers. Each is told after :data:`READ_TRIES` tries, but a stuck
    bus after the first, for it costs the kernel's time-out.
    """
    trouble: UnitFailure | NameplateUnreadable | None = None
    blank = 0
    for _ in range(READ_TRIES):
        try:
            found = await _read_once(bus, address)
        except UnitFailure as failure:
            if not is_silence(failure):
                raise
            # One that answered once is there, whatever it does now.
            trouble = trouble or failure
        except NameplateUnreadable as unreadable:
            where = f"{bus.name} address {address:#04x}"
            trouble = NameplateUnreadable(f"{where}: {unreadable}")
        else:
            if found is not None:
                return found
            blank += 1
            if blank == 2:
                return None
    raise trouble or UnitFailure(f"{bus.name} address {address:#04x}: no two readings agree")


async def write_nameplate(
    bus: AsyncI2C, address: int, nameplate: Nameplate, clock: Clock
) -> Nameplate:
    """Write the record over whatever is there and give what is read back.

    Pages are written from the last to the first: until the first is there, a new EEPROM is blank
    still, and an old nameplate's CRC no longer holds. Raises UsageError for a nameplate that no
    record can hold, UnitFailure where the chip does not answer, MeterError where it keeps
    something else.
    """
    content = record.encode(nameplate)
    for start in reversed(range(0, len(content), PAGE_SIZE)):
        await bus.write(address, _place(start) + content[start : start + PAGE_SIZE])
        await _wait_until_written(bus, address, clock)
    try:
        kept = await read_nameplate(bus, address)
    except NameplateUnreadable:
        kept = None
    if kept != nameplate:
        raise MeterError(
            f"{bus.name} address {address:#04x}: the nameplate reads back otherwise than written;"
            " tie WP to ground, and check that this is a 24C32"
        )
    return kept


def is_silence(failure: UnitFailure) -> bool:
    """Nobody answers at this address, while the bus itself works."""
    reason = failure.__cause__
    return isinstance(reason, MeterError) and not isinstance(reason, BusStuckError)


async def _read_once(bus: AsyncI2C, address: int) -> Nameplate | None:
    content = await bus.transfer(address, _place(0), PAGE_SIZE)
    if content == _BLANK:
        return None
    size = record.record_size(content)
    try:
        while len(content) < size:
            n = min(CHUNK, size - len(content))
            content += await bus.transfer(address, _place(len(content)), n)
    except UnitFailure as failure:
        if not is_silence(failure):
            raise
        raise NameplateUnreadable("it fell silent in the middle of its record") from failure
    return record.decode(content)


async def _wait_until_written(bus: AsyncI2C, address: int, clock: Clock) -> None:
    """Ask until the chip acknowledges again (acknowledge polling)."""
    deadline = clock.monotonic() + WRITE_BOUND_S
    while True:
        try:
            await bus.write(address, _place(0))
        except UnitFailure as failure:
            if not is_silence(failure) or clock.monotonic() >= deadline:
                raise
            await sleep_until(clock, clock.monotonic() + POLL_S)
        else:
            return


def _place(offset: int) -> bytes:
    return offset.to_bytes(2, "big")
