"""What the collectors have stored, read: half-hours with what was used in them, and gaps.

Nothing is made up: use is the difference of two registers of one unit that are half an hour apart,
and where one of them is not there the use is not known. Energies are in 0.1 Wh.
"""

import enum
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from meter_runtime.clock import SLOTS_PER_DAY, slot_at
from meter_runtime.errors import MeterError
from meter_runtime.headend.readings_spans import Span, single, within, without
from meter_runtime.headend.readings_store import SCHEMA
from meter_runtime.headend.sqlite_file import open_database
from meter_runtime.storage.ring import Flag

LATE_S = 3600
"""A half-hour is missed when it has not come within the hour in which retailers want it."""


class State(enum.StrEnum):
    """How a half-hour's register stands."""

    STORED = "stored"
    NOTHING = "nothing"
    """The meter said that it has none."""
    MISSING = "missing"
    """The meter has not told of it."""


@dataclass(frozen=True, slots=True)
class HalfHour:
    """The registers when ``slot`` opens, and what flowed until it closed."""

    slot: int
    state: State
    forward_dwh: int | None = None
    reverse_dwh: int | None = None
    flags: Flag = Flag.NONE
    used_dwh: int | None = None
    fed_dwh: int | None = None


@dataclass(frozen=True, slots=True)
class UnitDay:
    """One day of one metering unit."""

    meter_id: str
    unit: str
    half_hours: tuple[HalfHour, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Half-hours ``first`` to ``last`` (inclusive) of a unit that are not stored, and why."""

    meter_id: str
    unit: str
    first: int
    last: int
    state: State


@dataclass(frozen=True, slots=True)
class StoredReading:
    """One row."""

    meter_id: str
    unit: str
    slot: int
    forward_dwh: int
    reverse_dwh: int | None
    flags: Flag


@dataclass(frozen=True, slots=True)
class _Series:
    id: int
    meter_id: str
    unit: str


class ReadingsView:
    """The reading side, beside whoever writes; within a ``with``. For one thread.

    Each method answers from one state of the store, and raises MeterError where it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def meters(self) -> tuple[str, ...]:
        """The meters of which something is stored, sorted."""
        with self._still():
            rows = self._db.execute("SELECT DISTINCT meter_id FROM series ORDER BY meter_id")
            return tuple(meter_id for (meter_id,) in rows)

    def day(self, first: int, until: int, meter_id: str | None = None) -> list[UnitDay]:
        """The day that opens with slot ``first``, of each unit that told of it, up to ``until``.

        A unit that has no register of that day is left out.
        """
        last = min(first + SLOTS_PER_DAY - 1, until)
        with self._still():
            days = [
                UnitDay(series.meter_id, series.unit, tuple(self._half_hours(series, first, last)))
                for series in self._series(meter_id)
            ]
        return [day for day in days if any(each.state is State.STORED for each in day.half_hours)]

    def gaps(self, now: float, meter_id: str | None = None) -> list[Gap]:
        """What is not stored of each unit, from its first half-hour on.

        The unit that a meter spoke of last is expected to go on to ``now``, less an hour.
        """
        with self._still():
            every = self._series(meter_id)
            current = {series.meter_id: series.id for series in every}
            return [
                gap
                for series in every
                for gap in self._gaps_of(
                    series, slot_at(now - LATE_S) if current[series.meter_id] == series.id else None
                )
            ]

    def readings(self, first: int, last: int) -> list[StoredReading]:
        """Everything stored of these slots (inclusive), by meter, unit and slot."""
        with self._still():
            rows = self._db.execute(
                "SELECT meter_id, unit, slot, forward_dwh, reverse_dwh, flags FROM series"
                " JOIN reading ON series = id AND slot BETWEEN ? AND ?"
                " ORDER BY meter_id, unit, slot",
                (first, last),
            )
            return [
                StoredReading(meter_id, unit, slot, forward, reverse, Flag(flags))
                for meter_id, unit, slot, forward, reverse, flags in rows
            ]

    def revisions(self, before: int) -> dict[int, int]:
        """How often each day (by its number) before this one has been changed."""
        with self._still():
            return dict(
                self._db.execute(
                    "SELECT number, revision FROM day WHERE number < ? ORDER BY number", (before,)
                )
            )

    def events(self, meter_id: str) -> list[str]:
        """The JSON documents of a meter's events, oldest first."""
        with self._still():
            rows = self._db.execute(
                "SELECT document FROM event WHERE meter_id = ? ORDER BY at, number", (meter_id,)
            )
            return [document for (document,) in rows]

    @contextmanager
    def _still(self) -> Iterator[None]:
        """One state of the store for all that is read in the block."""
        try:
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as failure:
            raise MeterError(f"the readings cannot be read: {failure}") from None

    def _series(self, meter_id: str | None) -> list[_Series]:
        """By meter; a meter's present unit last."""
        rows = self._db.execute(
            "SELECT id, meter_id, unit FROM series WHERE ?1 IS NULL OR meter_id = ?1"
            " ORDER BY meter_id, last_at, id",
            (meter_id,),
        )
        return [_Series(*row) for row in rows]

    def _half_hours(self, series: _Series, first: int, last: int) -> Iterator[HalfHour]:
        registers = {
            slot: (forward, reverse, Flag(flags))
            for slot, forward, reverse, flags in self._db.execute(
                "SELECT slot, forward_dwh, reverse_dwh, flags FROM reading"
                " WHERE series = ? AND slot BETWEEN ? AND ?",
                (series.id, first, last + 1),
            )
        }
        slots = range(first, last + 1)
        silent = set(within(slots, self._silence(series, (first - 1, last))))
        for slot in slots:
            if slot not in registers:
                yield HalfHour(slot, State.NOTHING if slot in silent else State.MISSING)
                continue
            forward, reverse, flags = registers[slot]
            ends = registers.get(slot + 1, (None, None))
            yield HalfHour(
                slot,
                State.STORED,
                forward,
                reverse,
                flags,
                _difference(forward, ends[0]),
                _difference(reverse, ends[1]),
            )

    def _gaps_of(self, series: _Series, expected: int | None) -> Iterator[Gap]:
        after, upto = self._reach(series)
        span = after, max(upto, expected or 0)
        if span[0] >= span[1]:
            return
        rows = self._db.execute(
            "SELECT slot FROM reading WHERE series = ? AND slot > ? AND slot <= ? ORDER BY slot",
            (series.id, *span),
        )
        stored = [slot for (slot,) in rows]
        begins = stored[0] if stored else 0
        absent = list(without(span, map(single, stored)))
        silent = self._silence(series, span)
        missing = {run for each in absent for run in without(each, silent)}
        told = {run for each in absent for run in without(each, missing)}
        for run in sorted(missing | told):
            state = State.MISSING if run in missing else State.NOTHING
            if state is State.NOTHING and run[1] < begins:
                continue  # the half-hour within which the unit was fitted
            yield Gap(series.meter_id, series.unit, run[0] + 1, run[1], state)

    def _reach(self, series: _Series) -> Span:
        """From the first to the last slot that was told of."""
        after, upto = self._db.execute(
            "SELECT min(after), max(upto) FROM (SELECT after, upto FROM chain WHERE series = ?1"
            " UNION ALL SELECT slot - 1, slot FROM reading WHERE series = ?1)",
            (series.id,),
        ).fetchone()
        return after or 0, upto or 0

    def _silence(self, series: _Series, span: Span) -> list[Span]:
        after, upto = span
        rows = self._db.execute(
            "SELECT after, upto FROM silence WHERE series = ? AND upto > ? AND after < ?"
            " ORDER BY upto",
            (series.id, after, upto),
        )
        return rows.fetchall()


def _difference(opens: int | None, closes: int | None) -> int | None:
    return None if opens is None or closes is None else closes - opens
