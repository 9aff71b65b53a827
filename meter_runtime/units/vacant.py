"""An empty metering slot: what metering reads while no unit is plugged in."""

from meter_runtime.units.contracts import Nameplate, Sample, UnitFailure, UnitKind

NOBODY = "-"
"""The serial of the history that no unit has begun yet."""


class VacantSlot:
    """In place of the metering unit ``serial``, whose history stays readable."""

    keeps_registers = True

    def __init__(self, serial: str = NOBODY, nameplate: Nameplate | None = None) -> None:
        self.nameplate = nameplate or Nameplate(UnitKind.METERING, "", serial)

    async def read(self) -> Sample:
        raise UnitFailure("no metering unit is plugged in")

    async def self_test(self) -> list[str]:
        return []

    async def close(self) -> None:
        """Nothing is held open."""
