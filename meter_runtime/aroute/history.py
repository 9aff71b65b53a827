"""The half-hours of the metering unit that is plugged in, as the uplink may tell them.

Only what is durable: a boundary that waits for storage to heal is told once it is stored. After a
restart the meter would not know it any more, and take it back.
"""

from meter_runtime.metrology.service import MeteringService
from meter_runtime.storage.ring import Record
from meter_runtime.units.vacant import NOBODY


class UnitHistory:
    """What ``metering`` has, unit by unit; satisfies :class:`~meter_runtime.aroute.uplink.History`.

    An empty slot's history is that of the unit which was in it.
    """

    def __init__(self, metering: MeteringService) -> None:
        self._metering = metering

    @property
    def serial(self) -> str | None:
        serial = self._metering.ring.serial
        return None if serial == NOBODY else serial

    @property
    def two_way(self) -> bool | None:
        plate = self._metering.unit.nameplate
        # After a restart without the unit nothing but its serial is known.
        return plate.two_way if plate.model else None

    @property
    def newest(self) -> int | None:
        return self._metering.recorder.newest()

    @property
    def reach(self) -> int:
        ring, newest = self._metering.ring, self.newest
        return ring.first_slot if newest is None else max(ring.first_slot, newest - ring.depth + 1)

    def record(self, slot: int) -> Record | None:
        record = self._metering.record(slot)
        return record if record is not None and self._metering.ring.get(slot) == record else None
