"""What other systems say of a customer's place: five sources, imported from CSV files.

Each source is another department's, brought up to date at its own time, so each row keeps the day
that it tells of. All are keyed by the contract's code. A file is taken over whole or not at all,
and never over a newer row. That there are these five sources and one key is published; which field
comes from which of them is inferred.

A file has a header; its first column is ``contract``, the others are fields of the source. An empty
value says nothing.
"""

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.headend.audit import AuditLog
from meter_runtime.headend.authority import Role
from meter_runtime.headend.register_schema import Database
from meter_runtime.headend.register_staff import Staff
from meter_runtime.units.catalogue import Cover
from meter_runtime.units.combination import Site
from meter_runtime.units.contracts import BRouteMedium, Wiring

if TYPE_CHECKING:
    from _csv import Reader

MAX_ROWS = 100_000
KEY = "contract"
_MAX_VALUE = 64

_YES_NO = {"yes": True, "no": False}
_CAPACITY = re.compile(r"[1-9][0-9]{0,3}")

FIELDS: Mapping[str, tuple[str, ...] | None] = {
    "renewables": tuple(_YES_NO),
    "broute": tuple(_YES_NO),
    "switching": tuple(_YES_NO),
    "voltage": tuple(_YES_NO),
    "capacity_a": None,
    "wiring": tuple(each.value for each in Wiring),
    "site": tuple(each.value for each in Site),
    "medium": tuple(each.value for each in BRouteMedium),
    "cover": tuple(each.value for each in Cover),
}
"""Every field with the words it may have; None: a number of ampere."""

SOURCES: Mapping[str, tuple[str, ...]] = {
    "customer": ("renewables", "broute", "switching", "capacity_a"),
    "construction-results": ("wiring", "capacity_a", "cover"),
    "construction-records": ("wiring", "site", "cover"),
    "implemented-site": ("site", "medium"),
    "distribution": ("wiring", "renewables", "voltage"),
}
"""The fields of each source."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What one source says of one contract. ``line`` is where it stood: "customer.csv line 7"."""

    source: str
    contract: str
    as_of: date
    line: str
    facts: Mapping[str, str]


class Sources:
    """What was imported."""

    def __init__(self, database: Database, audit: AuditLog, staff: Staff) -> None:
        self._database = database
        self._audit = audit
        self._staff = staff

    def take(self, at: float, by: str, source: str, path: Path, as_of: date) -> int:
        """Import a file; how many rows it had.

        Raises :class:`UsageError` with file, line and column for the first mistake in it.
        """
        self._staff.require(by, Role.REGISTRAR, "import")
        statements = read(source, path, as_of)
        with self._database.transaction():
            for statement in statements:
                self._store(statement)
            self._audit.append(
                at, by, "import", source, as_of=as_of.isoformat(), rows=len(statements)
            )
        self._audit.seal()
        return len(statements)

    def of(self, contract: str) -> list[Statement]:
        """One for each source that says something, in the order of the sources."""
        rows = self._database.all(
            "SELECT * FROM source_row WHERE contract = :contract", contract=contract
        )
        found = {
            row["source"]: Statement(
                row["source"],
                row["contract"],
                date.fromisoformat(row["as_of"]),
                row["line"],
                json.loads(row["facts"]),
            )
            for row in rows
        }
        return [found[source] for source in SOURCES if source in found]

    def _store(self, statement: Statement) -> None:
        changed = self._database.write(
            "INSERT INTO source_row VALUES (:source, :contract, :as_of, :line, :facts)"
            " ON CONFLICT DO UPDATE SET as_of = excluded.as_of, line = excluded.line,"
            " facts = excluded.facts WHERE as_of <= excluded.as_of",
            source=statement.source,
            contract=statement.contract,
            as_of=statement.as_of.isoformat(),
            line=statement.line,
            facts=json.dumps(dict(statement.facts)),
        )
        if not changed:
            raise UsageError(
                f"{statement.line}: contract {statement.contract} is known from a newer file"
                f" than of {statement.as_of}; nothing was imported"
            )


def read(source: str, path: Path, as_of: date) -> list[Statement]:
    """The rows of a file, checked."""
    if source not in SOURCES:
        raise UsageError(f'no source is called "{source}"; {nearest(source, SOURCES)}')
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _rows(source, path, as_of, csv.reader(file, strict=True))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as failure:
        raise MeterError(f"{path}: cannot be read: {failure.strerror}") from None
    except UnicodeDecodeError as wrong:
        raise UsageError(f"{path}: not UTF-8 text at byte {wrong.start}") from None
    except csv.Error as wrong:
        raise UsageError(f"{path}: not CSV: {wrong}") from None


def _rows(source: str, path: Path, as_of: date, lines: "Reader") -> list[Statement]:
    header = [name.strip() for name in next(lines, [])]
    known = (KEY, *SOURCES[source])
    for name in header:
        if name not in known:
            raise UsageError(f'{path}: {source} has no field "{name}"; {nearest(name, known)}')
    if KEY not in header or len(set(header)) != len(header):
        raise UsageError(f'{path}: its first line names each column once, "{KEY}" among them')
    statements: dict[str, Statement] = {}
    for row in lines:
        where = f"{path.name} line {lines.line_num}"
        if not any(value.strip() for value in row):
            continue
        if len(row) != len(header):
            raise UsageError(f"{where}: {len(row)} values under {len(header)} columns")
        facts = {name: value.strip() for name, value in zip(header, row, strict=True)}
        contract = facts.pop(KEY)
        if not 0 < len(contract) <= _MAX_VALUE:
            raise UsageError(f"{where}: no contract code")
        if contract in statements:
            raise UsageError(f"{where}: contract {contract} is there twice")
        if len(statements) == MAX_ROWS:
            raise UsageError(f"{where}: more than {MAX_ROWS:,} rows; split the file")
        said = {name: _checked(where, name, value) for name, value in facts.items() if value}
        statements[contract] = Statement(source, contract, as_of, where, said)
    return list(statements.values())


def _checked(where: str, name: str, value: str) -> str:
    words = FIELDS[name]
    if words is None:
        if not _CAPACITY.fullmatch(value):
            raise UsageError(f"{where}: {name}: whole ampere, 1 to 9999")
        return value
    if value not in words:
        raise UsageError(f'{where}: {name} "{value[:_MAX_VALUE]}"; {nearest(value, words)}')
    return value
