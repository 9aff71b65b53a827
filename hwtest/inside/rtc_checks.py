"""Battery-backed clocks on a real bus, :mod:`meter_runtime.rtc`.

QEMU's chip is a DS1338. Registers 00 to 06 are those of a DS3231 and run; 07 is its control, and
08 to 3F are memory, so that the DS3231's control and status (0E, 0F) keep what they are given and
do nothing. The oscillator-stopped bit is therefore set here by hand. QEMU makes a date of each byte
as it comes, so that a 31st written before its month becomes a 1st: no moment here is later in its
month than the 28th.
"""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from hwtest.inside.buses import SABRELITE_BUS, bus_number, open_bus
from meter_runtime.rtc import DEFAULT_ADDRESS, Ds3231, KernelRtc

_CLOCKS = Path("/sys/class/rtc")
_STATUS = b"\x0f"
_STOPPED = 0x80
_MOMENTS = (
    datetime(2026, 12, 28, 12, 0, 0, tzinfo=UTC),
    datetime(2028, 2, 28, 23, 59, 58, tzinfo=UTC),
    datetime(2037, 8, 9, 19, 8, 9, tzinfo=UTC),
)


async def a_ds3231_keeps_the_time() -> str:
    clock = Ds3231(open_bus(SABRELITE_BUS))
    told = []
    for moment in _MOMENTS:
        clock.write(moment.timestamp())
        first = clock.read()
        await asyncio.sleep(2.5)
        second = clock.read()
        assert first is not None
        assert second is not None
        assert 0 <= first - moment.timestamp() <= 1, (moment, first)
        assert 2 <= second - moment.timestamp() <= 4, (moment, second)
        told.append(datetime.fromtimestamp(second, UTC).isoformat(" ", "seconds")[:19])
    clock.close()
    return f"registers 00 to 06 written, read and running: {', '.join(told)}"


async def a_stopped_oscillator_is_not_believed() -> str:
    bus = open_bus(SABRELITE_BUS)
    clock = Ds3231(bus)
    clock.write(_MOMENTS[0].timestamp())
    bus.write(DEFAULT_ADDRESS, bytes((*_STATUS, _STOPPED)))
    before = clock.read()
    clock.write(_MOMENTS[0].timestamp())
    after = clock.read()
    status = bus.transfer(DEFAULT_ADDRESS, _STATUS, 1)[0]
    clock.close()
    assert before is None, before
    assert after is not None
    assert not status & _STOPPED, status
    return "no time while bit 7 of 0F stands; setting the time clears it"


async def the_kernels_driver_reads_the_same_clock() -> str:
    bus = open_bus(SABRELITE_BUS)
    clock = Ds3231(bus)
    clock.write(_MOMENTS[0].timestamp())
    before = set(_CLOCKS.iterdir())
    adapter = Path(f"/sys/bus/i2c/devices/i2c-{bus_number(SABRELITE_BUS)}")
    (adapter / "new_device").write_text(f"ds1338 {DEFAULT_ADDRESS:#04x}")
    (fresh,) = set(_CLOCKS.iterdir()) - before  # the driver is bound before the write returns
    kernels = KernelRtc(Path("/dev") / fresh.name)
    same = kernels.read()
    kernels.write(_MOMENTS[1].timestamp())
    ours = clock.read()
    (adapter / "delete_device").write_text(f"{DEFAULT_ADDRESS:#04x}")
    clock.close()
    assert same is not None
    assert ours is not None
    assert 0 <= same - _MOMENTS[0].timestamp() <= 10, same
    assert 0 <= ours - _MOMENTS[1].timestamp() <= 2, ours
    return f"{kernels.name} (rtc-ds1307) reads what we wrote, and we what it wrote"


CHECKS = (
    a_ds3231_keeps_the_time,
    a_stopped_oscillator_is_not_believed,
    the_kernels_driver_reads_the_same_clock,
)
