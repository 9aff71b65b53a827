"""What a plug-in unit is: its nameplate, and what the runtime asks of each kind.

A driver says what the chip says. Registers, boundaries and history are not its business.
"""

import enum
from dataclasses import dataclass
from typing import Protocol


class UnitKind(enum.Enum):
    """The three places a unit plugs into."""

    COMMUNICATION = "communication"
    METERING = "metering"
    OPTIONAL = "optional"


class Wiring(enum.Enum):
    """Wire connection of a metering unit."""

    ONE_PHASE_TWO_WIRE = "1P2W"
    ONE_PHASE_THREE_WIRE = "1P3W"
    THREE_PHASE_THREE_WIRE = "3P3W"


@dataclass(frozen=True, slots=True)
class Nameplate:
    """What is printed on a unit.

    ``serial`` is at most 12 ASCII characters: the metering unit's is served to the home as
    EPC 0x8D. ``capacity_a`` is the rated current (5, 30, 60 or 120 A).
    """

    kind: UnitKind
    model: str
    serial: str
    maker: str = ""
    hw_version: str = ""
    fw_version: str = ""
    wiring: Wiring | None = None
    capacity_a: int | None = None
    two_way: bool = True
    broute: bool = True


@dataclass(frozen=True, slots=True)
class UnitSnapshot:
    """The unit's own registers, in mWh, at a boundary it logged by its own clock.

    ``at`` is UTC seconds by the meter's wall clock: the driver has moved the unit's stamp by what
    the two clocks differ when the log is read. It is therefore the boundary's instant only as far
    as the unit's clock was right.
    """

    at: float
    forward_mwh: int
    reverse_mwh: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of a metering unit.

    ``forward_mwh`` and ``reverse_mwh`` are the unit's own cumulative registers in integer
    milliwatt-hours; ``power_w`` is signed, negative while energy flows to the grid. A current
    is in milliampere, signed like the power of its line, and ``None`` where the unit has no
    such line (T on single-phase two-wire).

    ``snapshots`` are the boundaries that the unit logged since the last reading it gave, at most
    some days of them, each told once; a unit without a log never has any.
    """

    forward_mwh: int
    reverse_mwh: int
    power_w: int
    current_r_ma: int | None
    current_t_ma: int | None
    snapshots: tuple[UnitSnapshot, ...] = ()


class UnitFailure(Exception):  # noqa: N818 - what a driver raises when its chip does not answer
    """The unit did not answer, or answered nonsense; the message names the unit and the reason."""


class MeteringUnit(Protocol):
    """A metering unit as the metrology core sees it."""

    @property
    def nameplate(self) -> Nameplate: ...

    @property
    def keeps_registers(self) -> bool:
        """The registers outlive a power cut, in the unit itself."""
        ...

    async def read(self) -> Sample:
        """The unit's registers now; raises :class:`UnitFailure`, within a second."""
        ...

    async def self_test(self) -> list[str]:
        """Findings of the unit's self-test, empty when it is well."""
        ...
