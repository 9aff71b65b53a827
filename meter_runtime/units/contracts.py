"""What a plug-in unit is: its nameplate, and what the runtime asks of each kind.

A driver says what the chip says. Registers, boundaries and history are not its business.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
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


class BRouteMedium(enum.Enum):
    """What a communication unit reaches the home by."""

    RADIO = "920MHz"
    PLC = "PLC"


class ARouteBearer(enum.Enum):
    """What a communication unit reaches the utility by: the kind of site it is made for."""

    RF = "RF"
    """Wireless multi-hop: detached houses."""
    PLC = "PLC"
    """Power line: large multi-dwelling buildings."""


class OptionalFunction(enum.Enum):
    """What an optional unit does."""

    SWITCHING = "switching"
    VOLTAGE = "voltage"


@dataclass(frozen=True, slots=True)
class Nameplate:
    """What is printed on a unit, and written into its ID EEPROM.

    ``serial`` is at most 12 ASCII characters: the metering unit's is served to the home as
    EPC 0x8D. ``driver`` names who speaks with it, "" where the model tells.
    """

    kind: UnitKind
    model: str
    serial: str
    maker: str = ""
    hw_version: str = ""
    fw_version: str = ""
    driver: str = ""
    wiring: Wiring | None = None
    """Of a metering or switching unit."""
    capacity_a: int | None = None
    """Rated current: metering 5, 30, 60 or 120 A, switching 60 or 120 A."""
    two_way: bool = True
    """Of a metering or communication unit."""
    broute: bool = True
    """Of a metering unit: it has what the B-route serves."""
    broute_medium: BRouteMedium | None = None
    """Of a communication unit; None without a B-route."""
    aroute: ARouteBearer | None = None
    """Of a communication unit."""
    function: OptionalFunction | None = None
    """Of an optional unit."""
    certified_until: date | None = None
    """Of a metering unit: the last day of its certification."""
    calibration: Mapping[str, int] = field(default_factory=dict)
    """What the driver needs to know of this very unit, by the driver's names; signed 32 bits."""


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

    async def close(self) -> None:
        """Let go of the unit; harmless twice."""
        ...


class SwitchPosition(enum.Enum):
    """Where a switching unit's contacts are, by its feedback."""

    OPEN = "open"
    CLOSED = "closed"
    BETWEEN = "between"
    """Neither: it moves, or it is stuck."""
    UNKNOWN = "unknown"


class SwitchingUnit(Protocol):
    """A switching unit: a latching switch between the meter and the house.

    Every method raises :class:`UnitFailure`. When and whether to switch is not its business.
    """

    @property
    def nameplate(self) -> Nameplate: ...

    async def open_contacts(self) -> None:
        """Drive the contacts apart; returns when the drive is over, whatever came of it."""
        ...

    async def close_contacts(self) -> None:
        """Drive the contacts together; returns when the drive is over."""
        ...

    async def position(self) -> SwitchPosition: ...

    async def self_test(self) -> list[str]: ...

    async def close(self) -> None:
        """Let go of the unit; it stays where it is. Harmless twice."""
        ...


@dataclass(frozen=True, slots=True)
class VoltageSample:
    """RMS voltages in mV; None where the unit has no such line."""

    r_n_mv: int | None
    t_n_mv: int | None
    r_t_mv: int | None


class VoltageUnit(Protocol):
    """A voltage unit."""

    @property
    def nameplate(self) -> Nameplate: ...

    async def read(self) -> VoltageSample:
        """The voltages now; raises :class:`UnitFailure`, within a second."""
        ...

    async def self_test(self) -> list[str]: ...

    async def close(self) -> None:
        """Let go of the unit; harmless twice."""
        ...
