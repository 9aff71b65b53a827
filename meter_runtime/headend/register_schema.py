"""The New System's one database: its tables, its version, and how it is written.

One SQLite file, mode 0600. Every change is one transaction that is on the disk when it ends
(``synchronous=FULL``); what is deleted is overwritten (``secure_delete``), and :meth:`scrub` also
empties the write-ahead log. What the rows mean is the business of the ``register_*`` modules,
:mod:`~meter_runtime.headend.audit` and :mod:`~meter_runtime.headend.letters`.

Instants are UTC seconds, days ``YYYY-MM-DD`` in JST.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meter_runtime.errors import MeterError
from meter_runtime.headend.sqlite_file import open_database, transaction

_PRAGMAS = "PRAGMA secure_delete=ON; PRAGMA foreign_keys=ON;"

AUDIT_SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    who TEXT NOT NULL,
    on_behalf_of TEXT NOT NULL,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    details TEXT NOT NULL,
    chain BLOB NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS audit_stands BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is not changed'); END;
CREATE TRIGGER IF NOT EXISTS audit_stays BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is not shortened'); END;
"""
"""The audit log's, which other databases have, too."""

_FIRST = """
CREATE TABLE supply_point (
    id TEXT PRIMARY KEY,
    address TEXT NOT NULL
) STRICT;
CREATE TABLE contract (
    code TEXT PRIMARY KEY,
    customer TEXT NOT NULL,
    supply_point TEXT NOT NULL REFERENCES supply_point,
    renewables INTEGER NOT NULL,
    switching INTEGER NOT NULL,
    capacity_a INTEGER,
    accepted_on TEXT,
    updated_on TEXT NOT NULL,
    ended_on TEXT
) STRICT;
CREATE UNIQUE INDEX one_contract_at_a_time ON contract (supply_point) WHERE ended_on IS NULL;
CREATE TABLE meter (
    id TEXT PRIMARY KEY,
    supply_point TEXT NOT NULL REFERENCES supply_point,
    route_b_id TEXT NOT NULL UNIQUE,
    credentials TEXT NOT NULL,
    credential_version INTEGER,
    contract TEXT REFERENCES contract
) STRICT;
CREATE TABLE staff (
    name TEXT PRIMARY KEY,
    roles TEXT NOT NULL
) STRICT;
CREATE TABLE counter (
    issuer TEXT NOT NULL,
    meter TEXT NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (issuer, meter)
) STRICT;
CREATE TABLE request (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    command TEXT NOT NULL,
    meter TEXT NOT NULL REFERENCES meter,
    issuer TEXT NOT NULL,
    counter INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    expiry INTEGER NOT NULL,
    requested_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    contract TEXT REFERENCES contract,
    envelope BLOB NOT NULL,
    proof BLOB,
    draft BLOB,
    state TEXT NOT NULL,
    code TEXT,
    said TEXT NOT NULL DEFAULT '',
    result BLOB,
    answered_at REAL,
    UNIQUE (issuer, meter, counter)
) STRICT;
CREATE INDEX request_of_meter ON request (meter, number);
CREATE INDEX request_by_state ON request (state);
CREATE TABLE source_row (
    source TEXT NOT NULL,
    contract TEXT NOT NULL,
    as_of TEXT NOT NULL,
    line TEXT NOT NULL,
    facts TEXT NOT NULL,
    PRIMARY KEY (source, contract)
) STRICT;
"""

_SERVICE_LIFE = """
ALTER TABLE contract ADD COLUMN service_ended_on TEXT;
ALTER TABLE contract ADD COLUMN service_end TEXT;
ALTER TABLE contract ADD COLUMN service_end_note TEXT;
ALTER TABLE meter ADD COLUMN settled_at REAL;
ALTER TABLE meter ADD COLUMN hung_on TEXT;
ALTER TABLE meter ADD COLUMN removed_on TEXT;
ALTER TABLE meter ADD COLUMN replaced_by TEXT REFERENCES meter;
"""

_STEPS = (_FIRST + AUDIT_SCHEMA, _SERVICE_LIFE)
"""A new file takes all of them, an older one those that it lacks; none is ever changed."""

VERSION = len(_STEPS)


class Database:
    """The open file."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> "Database":
        """The database in ``path``, made where it is missing (its folder is there).

        One of an older version is brought up to date. Raises :class:`MeterError` for a file that is
        none, or that a newer program made.
        """
        connection = open_database(path, _PRAGMAS)
        connection.row_factory = sqlite3.Row
        database = cls(path, connection)
        try:
            with database.transaction():
                database._settle_version()
        except MeterError:
            connection.close()
            raise
        return database

    def _settle_version(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise MeterError(
                f"{self.path}: written by another meter-runtime (schema {version}, this one has"
                f" {VERSION}); install that version"
            )
        for step in _STEPS[version:]:
            for statement in _statements(step):
                self._connection.execute(statement)
        self._connection.execute(f"PRAGMA user_version={VERSION}")

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside, or nothing of it; durable when the block ends.

        Whoever else would write waits, so what is read inside is still true when it is written.
        """
        with transaction(self._connection):
            yield

    def all(self, query: str, /, **values: object) -> list[sqlite3.Row]:
        return self._run(query, values).fetchall()

    def one(self, query: str, /, **values: object) -> sqlite3.Row | None:
        """The first row, if there is one."""
        row: sqlite3.Row | None = self._run(query, values).fetchone()
        return row

    def write(self, statement: str, /, **values: object) -> int:
        """How many rows it changed."""
        return self._run(statement, values).rowcount

    def scrub(self) -> None:
        """Have nothing of deleted rows left in the files.

        Where another command reads at this moment, the next scrub does it. What a file system or
        a flash drive keeps of overwritten blocks is out of reach.
        """
        self._run("PRAGMA wal_checkpoint(TRUNCATE)", {})

    def _run(self, statement: str, values: dict[str, object]) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.OperationalError as failure:
            raise MeterError(f"{self.path}: {failure}; try again") from None


def _statements(script: str) -> Iterator[str]:
    """executescript() would commit in between."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
