"""What the home may be told, read live from the meter.

Joins the live registers, the ring and the clock into the values the ECHONET Lite objects show,
and applies the service's rules on the way: nothing without credentials, nothing from before the
acceptance day, and generation shown as forward energy where the contract feeds everything in.
"""

from collections.abc import Callable
from typing import Protocol

from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.clock import HALF_HOUR_S, Clock, Trust, first_slot_of
from meter_runtime.storage.ring import Record

_DAY_BITS = 22
"""Room for any calendar day's ordinal."""
_ALL_DAYS = 0
_MINUTE_S = 60
_NO_DAY = (1 << _DAY_BITS) - 1
"""After every day of the calendar."""


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
    """Implements :class:`meter_runtime.broute.echonet.data.MeterData` on the running meter.

    ``credentials`` are None once they were revoked. ``feed_in_as_forward`` may change while it
    serves.
    """

    def __init__(
        self,
        meter: LiveMeter,
        clock: Clock,
        eui64: Callable[[], bytes | None],
        credentials: Callable[[], BRouteCredentials | None],
        *,
        feed_in_as_forward: Callable[[], bool] = lambda: False,
    ) -> None:
        self._meter = meter
        self._clock = clock
        self._eui64 = eui64
        self._credentials = credentials
        self._swaps = feed_in_as_forward

    @property
    def epoch(self) -> int:
        # With the credentials the acceptance day changes, and with it what may be told.
        return (self._meter.version << 1 | self._swaps()) << _DAY_BITS | self._first_day()

    def wall(self) -> float:
        return self._clock.wall()

    def eui64(self) -> bytes | None:
        return self._eui64()

    def clock_trusted(self) -> bool:
        return self._clock.trust is not Trust.UNSET

    def fault(self) -> bool:
        return self._meter.faulty

    def forward_mwh(self) -> int | None:
        return self._register(reverse=self._swaps())

    def reverse_mwh(self) -> int | None:
        return self._register(reverse=not self._swaps())

    def power_w(self) -> int | None:
        return self._signed(self._meter.power_w)

    def current_r_ma(self) -> int | None:
        return self._signed(self._meter.current_r_ma)

    def current_t_ma(self) -> int | None:
        return self._signed(self._meter.current_t_ma)

    def boundary(self, slot: int) -> tuple[int, int] | None:
        if not self._is_told(slot):
            return None
        record = self._meter.record(slot)
        return None if record is None else self._ordered((record.forward_dwh, record.reverse_dwh))

    def minute(self, minute: int) -> tuple[int, int] | None:
        if not self._is_told(minute * _MINUTE_S // HALF_HOUR_S):
            return None
        values = self._meter.minute(minute)
        return None if values is None else self._ordered(values)

    def _is_told(self, slot: int) -> bool:
        """The values of this half-hour are the present customer's."""
        credentials = self._credentials()
        if credentials is None:
            return False
        accepted_on = credentials.accepted_on
        return accepted_on is None or slot >= first_slot_of(accepted_on)

    def _first_day(self) -> int:
        credentials = self._credentials()
        if credentials is None:
            return _NO_DAY
        day = credentials.accepted_on
        return _ALL_DAYS if day is None else day.toordinal()

    def _register(self, *, reverse: bool) -> int | None:
        if self._credentials() is None:
            return None
        return self._meter.reverse_mwh if reverse else self._meter.forward_mwh

    def _ordered(self, pair: tuple[int, int]) -> tuple[int, int]:
        return (pair[1], pair[0]) if self._swaps() else pair

    def _signed(self, value: int | None) -> int | None:
        if value is None or self._credentials() is None:
            return None
        return -value if self._swaps() else value
