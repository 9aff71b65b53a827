"""The relay's spool: requests that wait for the control side, results that wait for the business.

One SQLite file; what a method has returned from survives a crash. The spool knows nothing of what
is sealed in an envelope. Everything is bounded: open requests, all requests, the size of each, and
the time that each is kept. Instants are UTC seconds.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meter_runtime.errors import MeterError
from meter_runtime.headend.sqlite_file import open_database, transaction

MAX_OPEN = 10_000
"""Requests that wait for a result and have not expired."""
MAX_KEPT = 100_000
"""Requests altogether."""
MAX_BYTES = 4096
"""Of an envelope, and of a result."""
KEPT_S = 30 * 86_400
"""A request is forgotten this long after it was answered, or has expired."""
LEASE_S = 30
"""Whoever fetched a request answers it within this time, or another may fetch it. The meter may be
away for days, so the lease of one that stays unanswered doubles each time, to :data:`MAX_LEASE_S`.
"""
MAX_LEASE_S = 900
MAX_FETCH = 100
_MAX_AHEAD_S = 366 * 86_400

_REQUEST_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS request (
    id TEXT PRIMARY KEY,
    meter_id TEXT NOT NULL,
    expiry INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    put_at REAL NOT NULL,
    fetches INTEGER NOT NULL DEFAULT 0,
    leased_until REAL NOT NULL DEFAULT 0,
    result BLOB,
    answered_at REAL
) STRICT;
CREATE INDEX IF NOT EXISTS waiting ON request (fetches, put_at) WHERE result IS NULL;
CREATE INDEX IF NOT EXISTS of_meter ON request (meter_id) WHERE result IS NULL;
"""


class RefusedError(MeterError):
    """What was asked of the spool cannot be; ``status`` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One sealed command on its way to a meter."""

    request_id: str
    meter_id: str
    expiry: int
    envelope: bytes


class Spool:
    """The spool in one file; ``max_open`` and ``max_kept`` are smaller in tests."""

    def __init__(self, path: Path, *, max_open: int = MAX_OPEN, max_kept: int = MAX_KEPT) -> None:
        self._max_open = max_open
        self._max_kept = max_kept
        self._db = open_database(path, _SCHEMA)

    def close(self) -> None:
        self._db.close()

    def put(self, request: Request, now: float) -> None:
        """Keep a request; the same once more changes nothing. Raises :class:`RefusedError`."""
        if not _REQUEST_ID.fullmatch(request.request_id):
            raise RefusedError(400, "a request id is 1 to 64 letters, digits and . _ -")
        if not 0 < len(request.meter_id) <= 64:
            raise RefusedError(400, "a meter id has 1 to 64 characters")
        if not 0 < len(request.envelope) <= MAX_BYTES:
            raise RefusedError(413, f"an envelope has 1 to {MAX_BYTES} bytes")
        if not now < request.expiry <= now + _MAX_AHEAD_S:
            raise RefusedError(400, "the request has expired, or would in more than a year")
        with transaction(self._db):
            there = self._one("SELECT * FROM request WHERE id = ?", request.request_id)
            if there is not None:
                if there[1:4] == (request.meter_id, request.expiry, request.envelope):
                    return
                raise RefusedError(409, f"{request.request_id} is another request already")
            self._purge(now)
            waiting = self._one(
                "SELECT count(*) FROM request WHERE result IS NULL AND expiry > ?", now
            )
            kept = self._one("SELECT count(*) FROM request")
            if waiting is not None and waiting[0] >= self._max_open:
                raise RefusedError(429, f"{self._max_open} requests are waiting; come again later")
            if kept is not None and kept[0] >= self._max_kept:
                raise RefusedError(507, f"the spool is full with {self._max_kept} requests")
            self._db.execute(
                "INSERT INTO request (id, meter_id, expiry, envelope, put_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    request.request_id,
                    request.meter_id,
                    request.expiry,
                    request.envelope,
                    now,
                ),
            )

    def result(self, request_id: str) -> bytes | None:
        """The result, or None while there is none; 404 for a request that is not here."""
        row = self._one("SELECT result FROM request WHERE id = ?", request_id)
        if row is None:
            raise RefusedError(404, "no such request")
        result: bytes | None = row[0]
        return result

    def fetch(self, limit: int, now: float) -> list[Request]:
        """Lease requests that nobody holds: those never fetched before come first.

        Of each meter the oldest that is open, and the next one when that has ended: commands must
        not overtake each other, because a meter that has seen a later counter refuses an earlier.
        """
        with transaction(self._db):
            rows = self._db.execute(
                "SELECT id, meter_id, expiry, envelope, fetches FROM request"
                " WHERE result IS NULL AND expiry > ? AND leased_until <= ? AND NOT EXISTS"
                " (SELECT 1 FROM request AS before WHERE before.meter_id = request.meter_id"
                " AND before.result IS NULL AND before.expiry > ?"
                " AND before.rowid < request.rowid) ORDER BY fetches, put_at LIMIT ?",
                (now, now, now, max(0, min(limit, MAX_FETCH))),
            ).fetchall()
            for request_id, *_, fetches in rows:
                lease = min(LEASE_S * 2 ** min(fetches, 16), MAX_LEASE_S)
                self._db.execute(
                    "UPDATE request SET fetches = fetches + 1, leased_until = ? WHERE id = ?",
                    (now + lease, request_id),
                )
        return [Request(*row[:4]) for row in rows]

    def answer(self, request_id: str, result: bytes, now: float) -> None:
        """Keep the result. The first counts: the same once more is well, another is refused."""
        if not 0 < len(result) <= MAX_BYTES:
            raise RefusedError(413, f"a result has 1 to {MAX_BYTES} bytes")
        with transaction(self._db):
            there = self.result(request_id)
            if there is None:
                self._db.execute(
                    "UPDATE request SET result = ?, answered_at = ? WHERE id = ?",
                    (result, now, request_id),
                )
            elif there != result:
                raise RefusedError(409, f"{request_id} has another result already")

    def _purge(self, now: float) -> None:
        self._db.execute(
            "DELETE FROM request WHERE coalesce(answered_at, expiry) < ?", (now - KEPT_S,)
        )

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._db.execute(sql, values).fetchone()
        return row
