"""A unit's ID EEPROM on a real bus, :mod:`meter_runtime.units.eeprom`.

QEMU's EEPROM has the 24C32's size and addresses; it knows no pages and is never busy.
"""

from hwtest.inside.buses import SABRELITE_BUS, open_bus
from hwtest.sabrelite_chips import ID_EEPROM
from meter_runtime.system_clock import SystemClock
from meter_runtime.units.buses import WorkerBus
from meter_runtime.units.contracts import Nameplate, UnitKind, Wiring
from meter_runtime.units.eeprom import read_nameplate, write_nameplate

_NAMEPLATE = Nameplate(
    UnitKind.METERING,
    "M60-1P3W",
    "HWTEST000001",
    maker="Lab",
    wiring=Wiring.ONE_PHASE_THREE_WIRE,
    capacity_a=60,
    calibration={"gain_u": 32768, "offset_i": -17},
)


async def a_nameplate_is_written_and_read() -> str:
    # An emulated controller is slow; how long a transfer may take is not the question here.
    bus = WorkerBus(open_bus(SABRELITE_BUS), bound_s=10.0)
    blank = await read_nameplate(bus, ID_EEPROM)
    await write_nameplate(bus, ID_EEPROM, _NAMEPLATE, SystemClock())
    kept = await read_nameplate(bus, ID_EEPROM)
    bus.close()
    assert blank is None, blank
    assert kept == _NAMEPLATE, kept
    return f"a blank chip, then {kept.model} {kept.serial}, in {bus.statistics.transfers} transfers"


CHECKS = (a_nameplate_is_written_and_read,)
