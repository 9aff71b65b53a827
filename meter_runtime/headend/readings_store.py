"""What the MDMS has of every meter: half-hours, and how far it has been told without a break.

One SQLite file that several collectors and readers share. Of one slot of one metering unit the
message with the highest sequence is right, in whatever order they come and however often; a slot
about which it is silent has none. So every slot is a row of ``reading``, or lies in a run of
``silence``, or was not told of; a meter whose clock leapt makes one long run and not a thousand
rows. ``chain`` has the runs that ``reading/30m`` has told, joined where they touch: the mark is the
end of the one in which the unit's first message began. What answers a request fills slots and
moves no mark.

What a method has returned from is on the disk. Energies are in 0.1 Wh, instants in UTC seconds.
"""

from collections.abc import Sequence
from pathlib import Path

from meter_runtime.aroute.messages import Mark, Reading, Readings
from meter_runtime.clock import SLOTS_PER_DAY
from meter_runtime.headend.readings_spans import Span, single, within, without
from meter_runtime.headend.sqlite_file import open_database, transaction

FILE_NAME = "readings.db"

SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY,
    meter_id TEXT NOT NULL,
    unit TEXT NOT NULL,
    begins INTEGER,
    highest INTEGER NOT NULL,
    first_at REAL NOT NULL,
    last_at REAL NOT NULL,
    UNIQUE (meter_id, unit)
) STRICT;
CREATE TABLE IF NOT EXISTS reading (
    series INTEGER NOT NULL REFERENCES series,
    slot INTEGER NOT NULL,
    forward_dwh INTEGER NOT NULL,
    reverse_dwh INTEGER,
    flags INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    received_at REAL NOT NULL,
    collector TEXT NOT NULL,
    PRIMARY KEY (series, slot)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS silence (
    series INTEGER NOT NULL REFERENCES series,
    after INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (series, upto)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chain (
    series INTEGER NOT NULL REFERENCES series,
    after INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    PRIMARY KEY (series, upto)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS day (
    number INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS event (
    meter_id TEXT NOT NULL,
    at REAL NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    document TEXT NOT NULL,
    received_at REAL NOT NULL,
    PRIMARY KEY (meter_id, at, number)
) STRICT, WITHOUT ROWID;
"""

_JST_SLOTS = 18
"""JST days begin so many slots before UTC's."""

_ReadingRow = tuple[int, int, int, int | None, int, int, float, str]

StoredEvent = tuple[str, float, int, str, str]
"""Meter, instant, number, kind, and the JSON document as it came."""


def day_number(slot: int) -> int:
    """Days since 1970-01-01 of the JST day in which this slot opens."""
    return (slot + _JST_SLOTS) // SLOTS_PER_DAY


def first_slot(day: int) -> int:
    """The slot that opens the day with this number."""
    return day * SLOTS_PER_DAY - _JST_SLOTS


class ReadingsStore:
    """The writing side. For one thread; raises MeterError when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, SCHEMA)

    def close(self) -> None:
        self._db.close()

    def take(
        self, batch: Sequence[Readings | StoredEvent], collector: str, now: float
    ) -> list[tuple[str, Mark]]:
        """Store all of it, or nothing (MeterError); meter and mark for each message of a chain."""
        marks = []
        with transaction(self._db):
            for message in batch:
                if isinstance(message, Readings):
                    mark = self._take_readings(message, collector, now)
                    if mark is not None:
                        marks.append((message.meter_id, mark))
                else:
                    self._db.execute(
                        "INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?, ?, ?)", (*message, now)
                    )
        return marks

    def _take_readings(self, message: Readings, collector: str, now: float) -> Mark | None:
        """Store what is said of each slot; the mark, where the message is of the chain."""
        chained = message.request is None
        begins = message.after if chained else None
        series, begins, highest = self._db.execute(
            "INSERT INTO series (meter_id, unit, begins, highest, first_at, last_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " begins = coalesce(begins, excluded.begins),"
            " highest = max(highest, excluded.highest), last_at = excluded.last_at"
            " RETURNING id, begins, highest",
            (message.meter_id, message.unit, begins, message.sequence, now, now),
        ).fetchone()
        self._tell(series, message, collector, now)
        if not chained:
            return None
        upto = self._chain(series, begins, (message.after, message.upto))
        return Mark(unit=message.unit, upto=upto, sequence=highest, resend=upto < message.upto)

    def _tell(self, series: int, message: Readings, collector: str, now: float) -> None:
        """Let the message's word count wherever none above it was said."""
        span, sequence = (message.after, message.upto), message.sequence
        settled = self._said_above(series, span, sequence)
        changed = self._forget_below(series, span, sequence)
        told = {reading.slot: reading for reading in message.readings}
        counting = list(within(sorted(told), without(span, settled)))
        self._db.executemany(
            "INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (_row(series, told[slot], sequence, now, collector) for slot in counting),
        )
        silent = without(span, [*settled, *map(single, told)])
        self._db.executemany(
            "INSERT INTO silence VALUES (?, ?, ?, ?)",
            ((series, after, upto, sequence) for after, upto in silent),
        )
        changed.update(map(day_number, counting))
        self._db.executemany(
            "INSERT INTO day VALUES (?, 1) ON CONFLICT DO UPDATE SET revision = revision + 1",
            ((day,) for day in changed),
        )

    def _said_above(self, series: int, span: Span, sequence: int) -> list[Span]:
        """Where in ``span`` a message with this sequence, or a higher one, has spoken."""
        after, upto = span
        rows = self._db.execute(
            "SELECT slot - 1, slot FROM reading"
            " WHERE series = ? AND slot > ? AND slot <= ? AND sequence >= ?"
            " UNION ALL SELECT after, upto FROM silence"
            " WHERE series = ? AND upto > ? AND after < ? AND sequence >= ?",
            (series, after, upto, sequence, series, after, upto, sequence),
        )
        return rows.fetchall()

    def _forget_below(self, series: int, span: Span, sequence: int) -> set[int]:
        """Take back what lower sequences said of ``span``; the days that lost a reading."""
        after, upto = span
        lost = self._db.execute(
            "DELETE FROM reading WHERE series = ? AND slot > ? AND slot <= ? AND sequence < ?"
            " RETURNING slot",
            (series, after, upto, sequence),
        ).fetchall()
        runs = self._db.execute(
            "DELETE FROM silence WHERE series = ? AND upto > ? AND after < ? AND sequence < ?"
            " RETURNING after, upto, sequence",
            (series, after, upto, sequence),
        ).fetchall()
        self._db.executemany(
            "INSERT INTO silence VALUES (?, ?, ?, ?)",
            (
                (series, *rest, below)
                for first, last, below in runs
                for rest in without((first, last), [span])
            ),
        )
        return {day_number(slot) for (slot,) in lost}

    def _chain(self, series: int, begins: int, span: Span) -> int:
        """Join the span to the chain; the slot up to which it is whole."""
        after, upto = span
        touching = self._db.execute(
            "DELETE FROM chain WHERE series = ? AND upto >= ? AND after <= ? RETURNING after, upto",
            (series, after, upto),
        ).fetchall()
        joined: Span = (
            min([after, *(a for a, _ in touching)]),
            max([upto, *(u for _, u in touching)]),
        )
        self._db.execute("INSERT INTO chain VALUES (?, ?, ?)", (series, *joined))
        whole: int
        (whole,) = self._db.execute(
            "SELECT upto FROM chain WHERE series = ? AND after <= ? AND upto > ?",
            (series, begins, begins),
        ).fetchone()
        return whole


def _row(series: int, reading: Reading, sequence: int, now: float, collector: str) -> _ReadingRow:
    return (
        series,
        reading.slot,
        reading.forward_dwh,
        reading.reverse_dwh,
        reading.flags,
        sequence,
        now,
        collector,
    )
