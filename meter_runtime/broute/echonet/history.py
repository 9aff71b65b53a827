"""Load profile history: the day rows (E2, E4, E5) and the ranges the home picks (EC to EF).

Owns which instant the home has chosen and what of the stored registers it may see: nothing from
the future, nothing of days more than :data:`HISTORY_DAYS` ago, nothing while the clock was never
set. Appendix release R, 3.3.25; the forty days are the utility's terms of service, article 12.

Days are counted in JST since 1970-01-01. "Now" is handed in, so that all properties of one answer
speak of the same instant.
"""

import struct
from collections.abc import Callable
from datetime import datetime
from enum import IntEnum

from meter_runtime.broute.echonet.data import MeterData
from meter_runtime.broute.echonet.values import NO_ENERGY, EnergyScale, u16
from meter_runtime.clock import HALF_HOUR_S, JST, SLOTS_PER_DAY, slot_at

HISTORY_DAYS = 40
"""The oldest day served, counted from today."""

MAX_DAY = 99
"""The oldest day EPC E5 can name."""

_DAY_S = 86_400
_JST_OFFSET_S = 9 * 3600
_JST_OFFSET_SLOTS = _JST_OFFSET_S // HALF_HOUR_S

_NEVER_SET = 0xFF
_row = struct.Struct(f">{SLOTS_PER_DAY}I").pack
_pair = struct.Struct(">II").pack
_EMPTY_ROW = _row(*(NO_ENERGY,) * SLOTS_PER_DAY)
_EMPTY_PAIR = _pair(NO_ENERGY, NO_ENERGY)

_instant = struct.Struct(">HBBBBB")


class Direction(IntEnum):
    """Index into a (forward, reverse) pair."""

    FORWARD = 0
    REVERSE = 1


def day_at(epoch: float) -> int:
    """The JST day that contains this instant, counted from 1970-01-01."""
    return int((epoch + _JST_OFFSET_S) // _DAY_S)


class DayHistory:
    """One day's registers at 00:00 … 23:30: E2 forward, E4 reverse, of the day E5 chose.

    E5 is relative to "today". The date it means is frozen when it is set, and the number of days
    is worked out anew at each Get, so that a controller reading across midnight gets the day it
    asked for, under its right number. A date that is more than :data:`MAX_DAY` days ago by then,
    or not yet come because the clock was put back, counts as never set (*unverified*).
    """

    def __init__(self, data: MeterData, scale: EnergyScale) -> None:
        self._data = data
        self._scale = scale
        self._chosen: int | None = None
        self._rows: list[tuple[tuple[int, int, int], bytes] | None] = [None, None]

    def choose(self, edt: bytes, now: float) -> bool:
        """Set E5: one byte, 0 to 99 days ago. Days beyond the history are taken, and empty."""
        if len(edt) != 1 or edt[0] > MAX_DAY:
            return False
        self._chosen = day_at(now) - edt[0]
        return True

    def chosen(self, now: float) -> bytes:
        """Get E5: how many days ago the chosen date is now; FF = never set."""
        day = self._chosen_day(now)
        return bytes((_NEVER_SET if day is None else day_at(now) - day,))

    def read(self, direction: Direction, now: float) -> bytes:
        """Get E2 or E4: days ago (2 bytes) and 48 registers, oldest first."""
        day = self._chosen_day(now)
        if day is None:
            return u16(_NEVER_SET) + _EMPTY_ROW
        days_ago = day_at(now) - day
        if days_ago > HISTORY_DAYS or not self._data.clock_trusted():
            return u16(days_ago) + _EMPTY_ROW
        return u16(days_ago) + self._registers(day, direction, now)

    def _chosen_day(self, now: float) -> int | None:
        if self._chosen is None or not 0 <= day_at(now) - self._chosen <= MAX_DAY:
            return None
        return self._chosen

    def _registers(self, day: int, direction: Direction, now: float) -> bytes:
        """A day's row. Stored boundaries do not change, so a row is kept while nothing is added."""
        first = day * SLOTS_PER_DAY - _JST_OFFSET_SLOTS
        last = min(slot_at(now), first + SLOTS_PER_DAY - 1)
        key = (self._data.epoch, day, last)
        kept = self._rows[direction]
        if kept is not None and kept[0] == key:
            return kept[1]
        counts = [NO_ENERGY] * SLOTS_PER_DAY
        for slot in range(first, last + 1):
            registers = self._data.boundary(slot)
            if registers is not None:
                counts[slot - first] = self._scale.of_dwh(registers[direction])
        row = _row(*counts)
        self._rows[direction] = (key, row)
        return row


class RangeHistory:
    """A few registers up to an instant the home chose, newest first, both directions.

    EC and ED with half-hour steps (up to 12), EE and EF with minutes (up to 10). What the home
    sets is YYYY MM DD hh mm and the number of registers; the answer repeats it before the
    registers. On one-way meters the reverse half has no data.
    """

    def __init__(
        self,
        data: MeterData,
        scale: EnergyScale,
        *,
        step_s: int,
        max_count: int,
        registers_at: Callable[[int], tuple[int, int] | None],
        two_way: bool,
    ) -> None:
        self._data = data
        self._scale = scale
        self._step_s = step_s
        self._max_count = max_count
        self._registers_at = registers_at
        self._two_way = two_way
        self._newest: int | None = None
        self._count = 1
        self._chosen = bytes.fromhex("FFFFFFFFFFFF01")

    def choose(self, edt: bytes, _now: float) -> bool:
        """Set ED or EF: seven bytes; an instant no calendar has, or off the step, is refused."""
        if len(edt) != _instant.size:
            return False
        year, month, day, hour, minute, count = _instant.unpack(edt)
        if not 1 <= count <= self._max_count or minute * 60 % self._step_s:
            return False
        try:
            instant = datetime(year, month, day, hour, minute, tzinfo=JST)
        except ValueError:
            return False
        self._newest = int(instant.timestamp()) // self._step_s
        self._count = count
        self._chosen = edt
        return True

    def chosen(self) -> bytes:
        """Get ED or EF: what was set, or the initial value."""
        return self._chosen

    def read(self, now: float) -> bytes:
        """Get EC or EE: the choice, then (forward, reverse) for each step back from it."""
        if self._newest is None:
            return self._chosen + _EMPTY_PAIR
        steps = range(self._newest, self._newest - self._count, -1)
        return self._chosen + b"".join(self._registers(step, now) for step in steps)

    def _registers(self, step: int, now: float) -> bytes:
        at = step * self._step_s
        if at > now or day_at(now) - day_at(at) > HISTORY_DAYS or not self._data.clock_trusted():
            return _EMPTY_PAIR
        registers = self._registers_at(step)
        if registers is None:
            return _EMPTY_PAIR
        forward, reverse = registers
        return _pair(
            self._scale.of_dwh(forward), self._scale.of_dwh(reverse if self._two_way else None)
        )
