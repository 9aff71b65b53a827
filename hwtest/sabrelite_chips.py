"""The chips on the SABRE Lite's first bus: known to who fits them and to who asks for them."""

from meter_runtime.rtc import DEFAULT_ADDRESS
from meter_runtime.storage.fram import FRAM_ADDRESS, FRAM_SIZE

FRAM = FRAM_ADDRESS
"""An EEPROM of :data:`FRAM_SIZE` bytes that stands for the FRAM."""
ID_EEPROM = 0x51
ID_EEPROM_SIZE = 4096
RTC = DEFAULT_ADDRESS


def new_fram() -> bytes:
    """What an FRAM holds that comes from the factory."""
    return bytes(FRAM_SIZE)


def new_id_eeprom() -> bytes:
    """What an EEPROM holds that comes from the factory."""
    return b"\xff" * ID_EEPROM_SIZE
