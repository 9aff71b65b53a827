"""A SQLite file that several processes share and a crash does not harm.

What a transaction has written is on the disk when it ends. What the tables mean is their owner's
business.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meter_runtime.errors import MeterError

BUSY_S = 5.0
"""How long one process waits for another that writes."""


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """The database in ``path``, mode 0600, made with ``schema`` when it is new."""
    try:
        with _alone_in(path.parent):
            path.touch(0o600)
            database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.executescript(schema)
    except (OSError, sqlite3.Error) as failure:
        raise MeterError(f"{path}: the database cannot be opened: {failure}") from None
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All of what is done in the block, or nothing; :class:`MeterError` when the disk refuses."""
    try:
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
            database.execute("COMMIT")
        except BaseException:
            # Of a full disk SQLite has taken the transaction back already.
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
    except sqlite3.Error as failure:
        raise MeterError(f"the database failed: {failure}; look at its disk") from None


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """SQLite does not wait for another process that makes the same file a WAL database."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
