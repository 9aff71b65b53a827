"""What the Supervisory Control System has to send, has sent, and has been answered.

One SQLite file that the sending process and ``headend send`` share; what a method has returned
from survives a crash. A *task* is one sealed command: fetched from the relay, or the control
side's own. The message to the meter is kept as it was first sent, so that every further sending is
the same bytes and an answer that names no command can be told by the message it answers.
Instants are UTC seconds.
"""

import enum
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meter_runtime.aroute import envelope
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.results import Result
from meter_runtime.errors import MeterError
from meter_runtime.headend.relay_spool import Request
from meter_runtime.headend.sqlite_file import open_database, transaction

MAX_OPEN = 10_000
KEPT_S = 30 * 86_400
ANSWER_GRACE_S = 300
"""An answer given at the last moment is still on its way for so long."""

_PASSING = frozenset({Code.BUSY, Code.NOT_YET})

_SCHEMA = """
CREATE TABLE IF NOT EXISTS task (
    request_id TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    meter_id TEXT NOT NULL,
    command TEXT NOT NULL,
    command_id BLOB NOT NULL,
    expiry INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    operator TEXT NOT NULL,
    note TEXT NOT NULL,
    added_at REAL NOT NULL,
    message BLOB,
    answer_to BLOB,
    sent INTEGER NOT NULL DEFAULT 0,
    next_at REAL NOT NULL DEFAULT 0,
    code TEXT,
    result BLOB,
    answered_at REAL,
    final INTEGER NOT NULL DEFAULT 0,
    told INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS due ON task (next_at) WHERE final = 0;
CREATE INDEX IF NOT EXISTS untold ON task (next_at) WHERE told = 0;
CREATE INDEX IF NOT EXISTS waiting ON task (meter_id, source) WHERE final = 0;
CREATE INDEX IF NOT EXISTS by_command ON task (meter_id, command_id);
CREATE TABLE IF NOT EXISTS counter (
    meter_id TEXT PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT;
"""
_COLUMNS = (
    "request_id",
    "source",
    "meter_id",
    "command",
    "command_id",
    "expiry",
    "envelope",
    "operator",
    "note",
    "message",
    "sent",
    "code",
    "result",
    "final",
)
"""Of a :class:`Task`, in its order."""


class Source(enum.StrEnum):
    """Where a task came from, which is where its result goes."""

    RELAY = "relay"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Task:
    """One sealed command; ``result`` is the last that came, whole and signed."""

    request_id: str
    source: Source
    meter_id: str
    command: str
    command_id: bytes
    expiry: int
    envelope: bytes
    operator: str
    note: str
    message: bytes | None
    sent: int
    code: str | None
    result: bytes | None
    final: bool
    """The result is the last word."""

    def expired(self, now: float) -> bool:
        """No answer may be expected any more."""
        return now > self.expiry + ANSWER_GRACE_S


class Recorded(enum.Enum):
    """What a result was to the store."""

    NEW = "new"
    DUPLICATE = "duplicate"
    FOREIGN = "foreign"
    """It answers nothing that is known here."""


class ScsStore:
    """The store in one file."""

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, _SCHEMA)

    def close(self) -> None:
        self._db.close()

    def fetched(self, request: Request, now: float) -> None:
        """Keep what the relay gave; a request that is known already changes nothing.

        Raises ``MalformedError`` for what is no envelope.
        """
        with transaction(self._db):
            self._add(Source.RELAY, request.request_id, request.envelope, now=now)

    def issue(
        self,
        meter_id: str,
        seal: Callable[[int], bytes],
        *,
        operator: str,
        note: str,
        now: float,
    ) -> str:
        """Seal an own command under this meter's next counter and keep it; its request id.

        The counter is on the disk before anyone can see the envelope. It never lies below the
        clock, so that a lost store does not make a meter refuse everything as stale.
        """
        with transaction(self._db):
            row = self._db.execute(
                "SELECT last FROM counter WHERE meter_id = ?", (meter_id,)
            ).fetchone()
            counter = max(0 if row is None else row[0] + 1, int(now))
            self._db.execute("INSERT OR REPLACE INTO counter VALUES (?, ?)", (meter_id, counter))
            sealed = seal(counter)
            request_id = envelope.routing(sealed).command_id.hex()
            self._add(Source.OWN, request_id, sealed, operator=operator, note=note, now=now)
        return request_id

    def has_room(self, now: float) -> bool:
        """Whether more may be fetched."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM task WHERE final = 0 AND expiry > ?", (now,)
        ).fetchone()
        return bool(count < MAX_OPEN)

    def due(self, limit: int, now: float) -> list[Task]:
        """What is to be sent now: of each issuer and meter the oldest that has not ended.

        One after another, because a meter that has seen a later counter refuses an earlier one.
        """
        return self._tasks(
            "final = 0 AND expiry > ? AND next_at <= ? AND NOT EXISTS"
            " (SELECT 1 FROM task AS before WHERE before.meter_id = task.meter_id"
            " AND before.source = task.source AND before.final = 0 AND before.expiry > ?"
            " AND before.rowid < task.rowid) ORDER BY next_at LIMIT ?",
            now,
            now,
            now,
            limit,
        )

    def sending(self, task: Task, message: bytes, answer_to: bytes) -> None:
        """Keep the message before it leaves for the first time."""
        with transaction(self._db):
            self._db.execute(
                "UPDATE task SET message = ?, answer_to = ? WHERE request_id = ?",
                (message, answer_to, task.request_id),
            )

    def sent(self, task: Task, *, taken: bool, next_at: float) -> None:
        """Send again at ``next_at``; ``taken`` when the broker has it."""
        with transaction(self._db):
            self._db.execute(
                "UPDATE task SET sent = sent + ?, next_at = ? WHERE request_id = ? AND final = 0",
                (int(taken), next_at, task.request_id),
            )

    def record(self, result: Result, message: bytes, now: float) -> Recorded:
        """Keep a verified result with what it answers; the first final one counts."""
        with transaction(self._db):
            if result.command_id is not None:
                where, key = "command_id = ?", result.command_id
            else:
                where, key = "answer_to = ?", result.answer_to
            where = f"meter_id = ? AND {where}"
            rows = self._db.execute(
                f"SELECT final FROM task WHERE {where}",  # noqa: S608 - one of two constants
                (result.meter_id, key),
            ).fetchall()
            if not rows:
                return Recorded.FOREIGN
            if all(final for (final,) in rows):
                return Recorded.DUPLICATE
            final = not _is_passing(result)
            self._db.execute(
                "UPDATE task SET code = ?, result = ?, answered_at = ?, final = ?,"  # noqa: S608
                f" next_at = iif(?, 0, next_at) WHERE {where} AND final = 0",
                (result.code.value, message, now, final, final, result.meter_id, key),
            )
        return Recorded.NEW

    def untold(self, limit: int, now: float) -> list[Task]:
        """Results that the relay is to get now: final ones, and the last word at expiry."""
        return self._tasks(
            "told = 0 AND source = 'relay' AND result IS NOT NULL AND (final = 1 OR expiry <= ?)"
            " AND next_at <= ? ORDER BY next_at LIMIT ?",
            now,
            now,
            limit,
        )

    def told(self, task: Task) -> None:
        """The relay has the result."""
        with transaction(self._db):
            self._db.execute(
                "UPDATE task SET told = 1, final = 1 WHERE request_id = ?", (task.request_id,)
            )

    def tell_later(self, task: Task, next_at: float) -> None:
        """The relay could not be told; try at ``next_at``."""
        with transaction(self._db):
            self._db.execute(
                "UPDATE task SET next_at = ? WHERE request_id = ?", (next_at, task.request_id)
            )

    def task(self, request_id: str) -> Task:
        """One task; MeterError when it is not here."""
        found = self._tasks("request_id = ?", request_id)
        if not found:
            raise MeterError(f"{request_id}: no such command here")
        return found[0]

    def own(self, limit: int) -> list[Task]:
        """The control side's own commands, the newest first."""
        return self._tasks("source = 'own' ORDER BY added_at DESC LIMIT ?", limit)

    def purge(self, now: float) -> None:
        """Forget what was answered or has expired long ago."""
        with transaction(self._db):
            self._db.execute(
                "DELETE FROM task WHERE max(coalesce(answered_at, 0), expiry) < ?", (now - KEPT_S,)
            )

    def _add(
        self,
        source: Source,
        request_id: str,
        sealed: bytes,
        *,
        operator: str = "",
        note: str = "",
        now: float,
    ) -> None:
        told = envelope.routing(sealed)
        self._db.execute(
            "INSERT OR IGNORE INTO task (request_id, source, meter_id, command, command_id, expiry,"
            " envelope, operator, note, added_at, told) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                request_id,
                source,
                told.meter_id,
                told.command,
                told.command_id,
                told.expiry,
                sealed,
                operator,
                note,
                now,
                source is Source.OWN,
            ),
        )

    def _tasks(self, where: str, *values: object) -> list[Task]:
        columns = ", ".join(_COLUMNS)
        try:
            rows = self._db.execute(
                f"SELECT {columns} FROM task WHERE {where}",  # noqa: S608 - constants of this file
                values,
            ).fetchall()
        except sqlite3.Error as failure:
            raise MeterError(f"the SCS's store cannot be read: {failure}") from None
        return [_task(row) for row in rows]


def _task(row: tuple[Any, ...]) -> Task:
    known = dict(zip(_COLUMNS, row, strict=True))
    return Task(**known | {"source": Source(known["source"]), "final": bool(known["final"])})


def _is_passing(result: Result) -> bool:
    """It says "not now": the same command is sent again until it expires."""
    unwritten = result.code is Code.STORE_FAILED and result.details.get("reason") == "journal"
    return unwritten or result.code in _PASSING
