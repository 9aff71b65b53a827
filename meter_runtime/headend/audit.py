"""The audit log: who did what, when, and on whose behalf.

Entries are appended in the transaction of the deed, so that none happens without its entry. Each
carries the SHA-256 of itself and of the one before it: an entry that was changed or taken out
breaks the chain. Entries taken off the *end* leave a chain that fits, so a second file, the
*head*, remembers the last one; whoever copies the head elsewhere can tell even when both files
were rewritten. Details never hold a password, a key or a proof.
"""

import getpass
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from meter_runtime.errors import MeterError
from meter_runtime.headend.register_schema import AUDIT_SCHEMA, Database
from meter_runtime.headend.sqlite_file import open_database
from meter_runtime.storage.media import write_whole

_NOTHING = bytes(32)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. ``who`` is the account on the machine."""

    number: int
    at: float
    who: str
    on_behalf_of: str
    what: str
    subject: str
    details: Mapping[str, object]
    chain: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry: its number, 0 for none, and its link of the chain."""

    number: int
    chain: bytes

    def __str__(self) -> str:
        return f"{self.number} {self.chain.hex()}"


class AuditLog:
    """The log in its database, and its head in a file beside it."""

    def __init__(self, database: Database, head_file: Path) -> None:
        self._database = database
        self._head_file = head_file

    @classmethod
    def in_file(cls, path: Path) -> "AuditLog":
        """A log in a database of its own, made where it is missing, and its head beside it."""
        connection = open_database(path, AUDIT_SCHEMA)
        connection.row_factory = sqlite3.Row
        return cls(Database(path, connection), path.with_suffix(".head"))

    def close(self) -> None:
        """Close the database, of a log that has one of its own."""
        self._database.close()

    def record(
        self, at: float, on_behalf_of: str, what: str, subject: str, **details: object
    ) -> None:
        """Append in a transaction of its own, what no other table tells."""
        with self._database.transaction():
            self.append(at, on_behalf_of, what, subject, **details)
        self.seal()

    def append(
        self, at: float, on_behalf_of: str, what: str, subject: str, **details: object
    ) -> None:
        """Inside the transaction of what it tells."""
        number, chain = self._last()
        fields = (
            number + 1,
            float(at),  # as the database gives it back
            account(),
            on_behalf_of,
            what,
            subject,
            json.dumps(details, ensure_ascii=False, sort_keys=True),
        )
        names = ("number", "at", "who", "on_behalf_of", "what", "subject", "details")
        self._database.write(
            "INSERT INTO audit VALUES"
            " (:number, :at, :who, :on_behalf_of, :what, :subject, :details, :chain)",
            **dict(zip(names, fields, strict=True)),
            chain=_link(chain, fields),
        )

    def seal(self) -> None:
        """After the transaction: write down where the log ends."""
        # Of two commands that end at once the slower may write the older head, which is true, too.
        head = Head(*self._last())
        try:
            write_whole(self._head_file, f"{head}\n".encode())
        except OSError as failure:
            raise MeterError(f"{self._head_file}: cannot be written: {failure.strerror}") from None

    def entries(self, last: int | None = None) -> Iterator[Entry]:
        """All of them, or the ``last`` so many, oldest first."""
        rows = self._database.all(
            "SELECT * FROM (SELECT * FROM audit ORDER BY number DESC LIMIT :last) ORDER BY number",
            last=-1 if last is None else last,
        )
        for row in rows:
            values = dict(zip(row.keys(), row, strict=True))
            yield Entry(**(values | {"details": json.loads(row["details"])}))

    def check(self) -> Head:
        """The head, when every entry is there as it was written.

        Raises :class:`MeterError` that names the first entry that is not.
        """
        before, expected = _NOTHING, 1
        links = {0: _NOTHING}
        for row in self._database.all("SELECT * FROM audit ORDER BY number"):
            fields = tuple(row)[:-1]
            if row["number"] != expected:
                raise _broken(expected, "is missing")
            if _link(before, fields) != row["chain"]:
                raise _broken(expected, "is not what was written, or one before it is not")
            before, expected = row["chain"], expected + 1
            links[row["number"]] = before
        head = self._remembered()
        if head.number not in links:
            raise _broken(expected, f"is missing: there were {head.number} at least")
        if links[head.number] != head.chain:
            raise _broken(head.number, f"is not the one that {self._head_file.name} remembers")
        return Head(expected - 1, before)

    def _last(self) -> tuple[int, bytes]:
        row = self._database.one("SELECT number, chain FROM audit ORDER BY number DESC LIMIT 1")
        return (0, _NOTHING) if row is None else (row["number"], row["chain"])

    def _remembered(self) -> Head:
        try:
            number, chain = self._head_file.read_text(encoding="ascii").split()
            return Head(int(number), bytes.fromhex(chain))
        except FileNotFoundError:
            if self._last()[0] == 0:
                return Head(0, _NOTHING)
            raise MeterError(
                f"{self._head_file}: is gone: nobody can tell whether the log lost its end"
            ) from None
        except (OSError, ValueError):
            raise MeterError(f"{self._head_file}: cannot be read as the log's head") from None


def account() -> str:
    """Who runs this program, as the system knows him."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def _link(before: bytes, fields: tuple[object, ...]) -> bytes:
    told = json.dumps(fields, ensure_ascii=False).encode()
    return hashlib.sha256(before + told).digest()


def _broken(number: int, how: str) -> MeterError:
    return MeterError(f"audit log: entry {number} {how}; restore the register and find out who")
