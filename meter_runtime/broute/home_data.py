"""What the home may be told, read live from the meter.

Joins the live registers, the ring and the clock into the values the ECHONET Lite objects show,
and applies the service's rules on the way: nothing from before the acceptance day, and
generation shown as forward energy where the contract feeds everything in.
"""

from collections.abc import Callable
from typing import Protocol

from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.clock import Clock, Trust, first_slot_of
from meter_runtime.storage.ring import Record

_DAY_BITS = 22
"""Room for any calendar day's ordinal."""


class LiveMeter(Protocol):
    """The running metrology, as far as the home sees it."""

    @property
    def version(self) -> int: ...
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
    @property
    def faulty(self) -> bool: ...

    def record(self, slot: int) -> Record | None: ...

    def minute(self, minute: int) -> tuple[int, int] | None: ...


class HomeData:
    """Implements :class:`meter_runtime.broute.echonet.data.MeterData` on the running meter."""

    def __init__(
        self,
        meter: LiveMeter,
        clock: Clock,
        eui64: Callable[[], bytes | None],
        credentials: Callable[[], BRouteCredentials],
        *,
        feed_in_as_forward: bool = False,
    ) -> None:
        self._meter = meter
        self._clock = clock
        self._eui64 = eui64
        self._credentials = credentials
        self._swap = feed_in_as_forward

    @property
    def epoch(self) -> int:
        # With the credentials the acceptance day changes, and with it what may be told.
        accepted_on = self._credentials().accepted_on
        day = 0 if accepted_on is None else accepted_on.toordinal()
        return self._meter.version << _DAY_BITS | day

    def wall(self) -> float:
        return self._clock.wall()

    def eui64(self) -> bytes | None:
        return self._eui64()

    def clock_trusted(self) -> bool:
        return self._clock.trust is not Trust.UNSET

    def fault(self) -> bool:
        return self._meter.faulty

    def forward_mwh(self) -> int | None:
        return self._meter.reverse_mwh if self._swap else self._meter.forward_mwh

    def reverse_mwh(self) -> int | None:
        return self._meter.forward_mwh if self._swap else self._meter.reverse_mwh

    def power_w(self) -> int | None:
        return self._signed(self._meter.power_w)

    def current_r_ma(self) -> int | None:
        return self._signed(self._meter.current_r_ma)

    def current_t_ma(self) -> int | None:
        return self._signed(self._meter.current_t_ma)

    def boundary(self, slot: int) -> tuple[int, int] | None:
        accepted_on = self._credentials().accepted_on
        if accepted_on is not None and slot < first_slot_of(accepted_on):
            return None
        record = self._meter.record(slot)
        return None if record is None else self._ordered((record.forward_dwh, record.reverse_dwh))

    def minute(self, minute: int) -> tuple[int, int] | None:
        values = self._meter.minute(minute)
        return None if values is None else self._ordered(values)

    def _ordered(self, pair: tuple[int, int]) -> tuple[int, int]:
        return (pair[1], pair[0]) if self._swap else pair

    def _signed(self, value: int | None) -> int | None:
        return -value if self._swap and value is not None else value
