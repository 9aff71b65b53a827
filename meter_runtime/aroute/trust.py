"""Whom the meter obeys: the file of issuers and carriers, and what each of them may.

::

    [[issuer]]                     # signs commands; at most 8
    name = "new-system"            # 1 to 16 of a-z 0-9 -
    key = "64 hex digits"          # Ed25519 public key
    commands = ["broute.*"]        # names, "group.*", or "*"

    [[carrier]]                    # brings them; at most 8
    name = "scs"
    key = "64 hex digits"
    way = "control"                # or "terminal"

The file is the operator's and never written by the meter. What commands change about an issuer is
in :mod:`~meter_runtime.storage.issuer_ledger`.
"""

import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from meter_runtime.aroute.commands import COMMANDS, PUBLIC_KEY_BYTES
from meter_runtime.aroute.dispatch import Way
from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.storage.issuer_ledger import MAX_ISSUERS
from meter_runtime.tables import read_table

MAX_CARRIERS = 8
EVERYTHING = "*"

_NAME = re.compile(r"[a-z0-9-]{1,16}")
_ISSUER_KEYS = ("name", "key", "commands")
_CARRIER_KEYS = ("name", "key", "way")
_GROUPS = tuple(dict.fromkeys(f"{name.split('.')[0]}.*" for name in COMMANDS if "." in name))
PATTERNS = (EVERYTHING, *_GROUPS, *COMMANDS)
"""What ``commands`` may name."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who may command; ``commands`` are patterns."""

    name: str
    public_key: bytes
    commands: tuple[str, ...]

    def may(self, command: str) -> bool:
        """Whether one of its patterns covers this command."""
        group = command.split(".", maxsplit=1)[0] + ".*"
        return not {EVERYTHING, group, command}.isdisjoint(self.commands)


@dataclass(frozen=True, slots=True)
class Carrier:
    """Who may bring commands, on which way."""

    name: str
    public_key: bytes
    way: Way


@dataclass(frozen=True, slots=True)
class Trust:
    """The issuers and carriers of one meter, by name."""

    issuers: Mapping[str, Issuer] = field(default_factory=dict)
    carriers: Mapping[str, Carrier] = field(default_factory=dict)

    def issuer(self, name: str) -> Issuer | None:
        """None for one that is not trusted."""
        return self.issuers.get(name)

    def carrier(self, name: str, way: Way) -> Carrier | None:
        """None for one that is not trusted on this way."""
        carrier = self.carriers.get(name)
        return carrier if carrier is not None and carrier.way is way else None

    def permits(self, issuer: str, command: str) -> bool:
        """Whether this issuer may have this command carried out."""
        known = self.issuers.get(issuer)
        return known is not None and known.may(command)


T = TypeVar("T", Issuer, Carrier)


def load_trust(path: Path) -> Trust:
    """The trust in a file.

    Raises :class:`UsageError`, one line that names file, table and key, for whatever is wrong with
    it, and where everyone could write it; :class:`MeterError` where it cannot be read.
    """
    table = read_table(path, "name the file of trusted keys in [aroute] trust")
    _check_writers(path)
    _check_keys(table, ("issuer", "carrier"), str(path))
    issuers = [
        Issuer(_name(row, where), _key(row, where), _commands(row, where))
        for row, where in _rows(table, "issuer", _ISSUER_KEYS, MAX_ISSUERS, path)
    ]
    carriers = [
        Carrier(_name(row, where), _key(row, where), _way(row, where))
        for row, where in _rows(table, "carrier", _CARRIER_KEYS, MAX_CARRIERS, path)
    ]
    return Trust(_by_name(issuers, "issuer", path), _by_name(carriers, "carrier", path))


def _rows(
    table: Mapping[str, Any], kind: str, keys: tuple[str, ...], most: int, path: Path
) -> Iterable[tuple[Mapping[str, Any], str]]:
    rows = table.get(kind, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: {kind} is not a list of tables; write [[{kind}]]")
    if len(rows) > most:
        raise UsageError(f"{path}: {len(rows)} tables [[{kind}]] are too many; at most {most}")
    for number, row in enumerate(rows, 1):
        where = f"{path}: [[{kind}]] {number}"
        _check_keys(row, keys, where)
        missing = [key for key in keys if key not in row]
        if missing:
            raise UsageError(f"{where}: {missing[0]} is missing")
        yield row, where


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise UsageError(f'{where}: unknown key "{key}"; {nearest(key, known)}')


def _check_writers(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as failure:
        raise MeterError(f"{path}: cannot be read: {failure.strerror}") from None
    if mode & stat.S_IWOTH:
        raise UsageError(f"{path}: everyone can change whom the meter obeys; chmod o-w it")


def _name(row: Mapping[str, Any], where: str) -> str:
    name = row["name"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{where}: name is not 1 to 16 of a-z, 0-9 and -")
    return name


def _key(row: Mapping[str, Any], where: str) -> bytes:
    digits = 2 * PUBLIC_KEY_BYTES
    if not isinstance(row["key"], str) or not re.fullmatch(rf"[0-9A-Fa-f]{{{digits}}}", row["key"]):
        raise UsageError(f"{where}: key is not {digits} hex digits, an Ed25519 public key")
    key = bytes.fromhex(row["key"])
    if not any(key):
        # Not only a placeholder: to this point on the curve anybody can make signatures.
        raise UsageError(f"{where}: key is all zeros; put the public key there")
    return key


def _commands(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    patterns = row["commands"]
    if not isinstance(patterns, list) or not all(isinstance(one, str) for one in patterns):
        raise UsageError(f'{where}: commands is not a list of names; write ["broute.*"]')
    for pattern in patterns:
        if pattern not in PATTERNS:
            raise UsageError(f'{where}: unknown command "{pattern}"; {nearest(pattern, PATTERNS)}')
    return tuple(patterns)


def _way(row: Mapping[str, Any], where: str) -> Way:
    ways = [way.value for way in Way]
    if row["way"] not in ways:
        raise UsageError(f'{where}: unknown way "{row["way"]}"; {nearest(str(row["way"]), ways)}')
    return Way(row["way"])


def _by_name(rows: list[T], kind: str, path: Path) -> dict[str, T]:
    named: dict[str, T] = {}
    for row in rows:
        if row.name in named:
            raise UsageError(f'{path}: two tables [[{kind}]] are called "{row.name}"; rename one')
        if any(row.public_key == other.public_key for other in named.values()):
            raise UsageError(
                f'{path}: [[{kind}]] "{row.name}" has the key of another; each its own'
            )
        named[row.name] = row
    return named
