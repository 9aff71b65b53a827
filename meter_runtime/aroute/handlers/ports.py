"""What the handlers ask of the meter: one small protocol for each room that they reach into."""

from collections.abc import Mapping
from datetime import date
from typing import Any, Protocol

from meter_runtime.clock import Trust
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.discipline import Correction
from meter_runtime.units.contracts import SwitchPosition


class BRouteControl(Protocol):
    """The service to the home, as the utility begins, changes and ends it."""

    @property
    def version(self) -> int:
        """How often what is in force was stored; 0: never."""
        ...

    @property
    def counter(self) -> int:
        """Of the command that set or revoked what is in force; 0 where none did."""
        ...

    @property
    def credentials(self) -> LinkCredentials | None:
        """Those in force; None while the home is not served."""
        ...

    @property
    def accepted_on(self) -> date | None:
        """First JST day whose history is served; None without a limit, or without a service."""
        ...

    async def provision(
        self, credentials: LinkCredentials, accepted_on: date | None, counter: int
    ) -> None:
        """Store all of it in one step; the home must join anew. Raises MeterError."""
        ...

    async def revoke(self, counter: int) -> None:
        """End the service, stored in one step. Raises MeterError."""
        ...

    def report(self) -> Mapping[str, Any]:
        """The ``broute`` part of the status document."""
        ...


class Plate(Protocol):
    """As much of a nameplate as goes with a reading."""

    @property
    def serial(self) -> str: ...

    @property
    def two_way(self) -> bool: ...


class Metered(Protocol):
    """The metering unit."""

    @property
    def nameplate(self) -> Plate: ...


class Registers(Protocol):
    """The running metrology. Registers are None before the first reading, the rest in silence."""

    @property
    def unit(self) -> Metered: ...
    @property
    def forward_mwh(self) -> int | None: ...
    @property
    def reverse_mwh(self) -> int | None: ...
    @property
    def power_w(self) -> int | None: ...
    @property
    def current_r_ma(self) -> int | None: ...
    @property
    def current_t_ma(self) -> int | None: ...


class History(Protocol):
    """Whoever publishes half-hour values."""

    def request_history(self, first: int, last: int, command_id: bytes) -> bool:
        """Publish these slots on ``reading/history``, inclusive; False: too many are waiting."""
        ...


class SupplyStatus(Protocol):
    """The switch at a glance."""

    @property
    def fitted(self) -> bool: ...
    @property
    def position(self) -> SwitchPosition: ...
    @property
    def wanted(self) -> SwitchPosition: ...
    @property
    def mismatch(self) -> bool: ...


class Supply(Protocol):
    """The supply's switch."""

    @property
    def status(self) -> SupplyStatus: ...

    async def command(self, wanted: SwitchPosition) -> SwitchPosition:
        """Move it and wait for its feedback; raises SwitchRefusedError."""
        ...


class ClockSetter(Protocol):
    """The meter's clock."""

    @property
    def trust(self) -> Trust: ...

    def wall(self) -> float: ...

    def adjust(self, wall: float) -> Correction:
        """The utility says that it is ``wall``, UTC seconds; what was made of it."""
        ...


class Units(Protocol):
    """What is plugged in."""

    def inventory(self) -> Mapping[str, Any]:
        """Each slot's unit, and what was found of their combination; compact."""
        ...

    async def self_test(self) -> Mapping[str, list[str] | None]:
        """What each slot's unit finds of itself, bounded; None where none is plugged in."""
        ...


class Directives(Protocol):
    """What the utility said that outlives a restart; in force on return. Raises MeterError."""

    @property
    def limit_counter(self) -> int:
        """Of the command that said the limit last."""
        ...

    @property
    def direction_counter(self) -> int:
        """Of the command that said the direction last."""
        ...

    @property
    def feed_in_as_forward(self) -> bool: ...

    def say_limit(self, limit_a: float | None, counter: int) -> None: ...

    def say_direction(self, feed_in_as_forward: bool | None, counter: int) -> None: ...
