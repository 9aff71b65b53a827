"""Load profiles as files: what a row is, how CSV and Parquet hold it, and which cells are wrong.

A row is one boundary: the registers at its instant. A boundary that the meter does not have is no
row. Columns, in this order when written; a file to be read may have them in any order:

===============  ===============================================================================
``meter_id``     text; may be missing, and is not read
``unit_serial``  text, the metering unit's serial
``time``         JST, ``2026-11-22T12:00:00+09:00``; in Parquet a timestamp of milliseconds (it
                 has none of seconds) with the zone Asia/Tokyo. Read with any offset or zone
``forward_wh``   register, Wh with one decimal; in Parquet a double
``reverse_wh``   the same towards the grid; missing or empty counts as 0
``flags``        ``adjusted``, ``power_fail`` and ``coarse``, joined by ``|``; mostly empty
===============  ===============================================================================

How rows follow each other, and where they go, is not this module's business.
"""

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from meter_runtime.clock import jst
from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.storage.media import write_whole
from meter_runtime.storage.ring import Flag, Record

COLUMNS = ("meter_id", "unit_serial", "time", "forward_wh", "reverse_wh", "flags")
NEEDED = ("time", "forward_wh")

MAX_LINE = 4096
"""Characters of the longest line that is read."""

_ENERGY = re.compile(r"([0-9]{1,12})(?:\.([0-9])0*)?")
_FLAGS = {str(flag.name).lower(): flag for flag in Flag}
_TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Of Parquet's time stamps, in a second."""
_ROUNDING_DWH = Decimal("0.001")
"""How far a double may be from a tenth of a Wh: seven bits more than the largest one's error."""
_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Profile:
    """All boundaries of one interval that one unit's history has, oldest first."""

    meter_id: str
    unit_serial: str
    interval_s: int
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Row:
    """One row as read: ``at`` in UTC seconds, registers in 0.1 Wh; ``where`` finds it again."""

    where: str
    unit_serial: str
    at: int
    forward_dwh: int
    reverse_dwh: int
    flags: Flag


class _WrongCellError(Exception):
    """What is wrong with a cell and what to do, without its place."""


def check_name(path: Path, option: str) -> None:
    """UsageError unless the name ends in a format that is known; MeterError without its library."""
    if path.suffix.lower() not in _WRITERS:
        raise UsageError(f"{option} {path}: name a file that ends in .csv or .parquet")
    if path.suffix.lower() == ".parquet":
        _parquet()


def write(path: Path, profile: Profile) -> None:
    """Make or replace the file, whole and durable or not at all; it is its owner's alone."""
    content = _WRITERS[path.suffix.lower()](profile)
    try:
        write_whole(path, content)
    except OSError as failure:
        raise MeterError(
            f"{path}: cannot be written: {failure.strerror}; name a file in a directory of yours"
        ) from None


def read(path: Path) -> Iterator[Row]:
    """The rows in the file's order.

    Raises :class:`UsageError` for the first cell or line that is wrong, with its place, and
    :class:`MeterError` where the file cannot be read.
    """
    try:
        yield from _READERS[path.suffix.lower()](path)
    except OSError as failure:
        raise MeterError(f"{path}: cannot be read: {failure.strerror or failure}") from None


def wrong_row(path: Path, where: str, what: str) -> UsageError:
    """The error of one row: where it is, what is wrong and what to do."""
    return UsageError(f"{path}, {where}: {what}")


def watt_hours(dwh: int) -> str:
    """0.1 Wh as Wh with one decimal, exactly."""
    return f"{dwh // 10}.{dwh % 10}"


def stamp(at: int) -> str:
    """JST as it is written into a file."""
    return jst(at).isoformat(timespec="seconds")


def _csv_of(profile: Profile) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows(
        (
            profile.meter_id,
            profile.unit_serial,
            stamp(record.slot * profile.interval_s),
            watt_hours(record.forward_dwh),
            watt_hours(record.reverse_dwh),
            _flags_text(record.flags),
        )
        for record in profile.records
    )
    return text.getvalue().encode()


def _parquet_of(profile: Profile) -> bytes:
    arrow, parquet = _parquet()
    records, count = profile.records, len(profile.records)
    at_ms = [record.slot * profile.interval_s * 1000 for record in records]
    table = arrow.table(
        {
            "meter_id": arrow.array([profile.meter_id] * count, arrow.string()),
            "unit_serial": arrow.array([profile.unit_serial] * count, arrow.string()),
            "time": arrow.array(at_ms, arrow.timestamp("ms", "Asia/Tokyo")),
            "forward_wh": arrow.array([r.forward_dwh / 10 for r in records], arrow.float64()),
            "reverse_wh": arrow.array([r.reverse_dwh / 10 for r in records], arrow.float64()),
            "flags": arrow.array([_flags_text(r.flags) for r in records], arrow.string()),
        }
    )
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, write_page_checksum=True)
    return buffer.getvalue()


def _read_csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(_lines(path, file), strict=True)
        try:
            header = next(lines, None)
            if header is None:
                raise UsageError(f"{path}: is empty; its first line names the columns")
            _check_columns(path, header)
            for cells in lines:
                where = f"line {lines.line_num}"
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise wrong_row(
                        path,
                        where,
                        f"{len(cells)} cells under {len(header)} columns; complete the line",
                    )
                yield _row(path, where, dict(zip(header, cells, strict=True)), _text_instant)
        except csv.Error as wrong:
            raise wrong_row(
                path, f"line {lines.line_num}", f"no CSV: {wrong}; mend the line"
            ) from None
        except UnicodeDecodeError:
            raise wrong_row(
                path, f"after line {lines.line_num}", "not UTF-8 text; save it as UTF-8"
            ) from None


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if not line.endswith(("\n", "\r")):
            what = (
                f"longer than {MAX_LINE} characters; give a file as the export writes it"
                if len(line) == MAX_LINE
                # The last cell may have lost digits, too.
                else "the last line does not end; the file was cut short: restore it"
            )
            raise wrong_row(path, f"line {number}", what)
        yield line


def _read_parquet(path: Path) -> Iterator[Row]:
    arrow, parquet = _parquet()
    number = 0
    with path.open("rb") as file:
        try:
            source = parquet.ParquetFile(file, page_checksum_verification=True)
            names = source.schema_arrow.names
            _check_columns(path, names)
            instant = _ticks_instant(path, arrow, source.schema_arrow.field("time").type)
            for batch in source.iter_batches(batch_size=_BATCH):
                columns = [
                    (column.cast(arrow.int64()) if name == "time" else column).to_pylist()
                    for name, column in zip(names, batch.columns, strict=True)
                ]
                for cells in zip(*columns, strict=True):
                    number += 1
                    row = dict(zip(names, cells, strict=True))
                    yield _row(path, f"row {number}", row, instant)
            if number != source.metadata.num_rows:
                raise ValueError  # a page was lost with its header, which has no checksum
        except (arrow.ArrowException, OSError, ValueError) as wrong:
            if isinstance(wrong, OSError) and wrong.errno is not None:
                raise
            raise UsageError(
                f"{path}: no Parquet file, or a damaged one; export it again"
            ) from None


def _check_columns(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            raise UsageError(
                f"{path}: no column is named {_quoted(name)}; {nearest(name, COLUMNS)}"
            )
        if names.count(name) > 1:
            raise UsageError(f'{path}: two columns are named "{name}"; keep one')
    for name in NEEDED:
        if name not in names:
            raise UsageError(f'{path}: lacks the column "{name}"; add it')


def _row(path: Path, where: str, cells: dict[str, Any], instant: Callable[[Any], int]) -> Row:
    """The row of these cells; what a column is not there for is None."""
    name = ""
    try:
        name = "unit_serial"
        serial = _text(cells.get(name))
        name = "time"
        at = instant(cells[name])
        name = "forward_wh"
        forward = _energy(cells[name])
        name = "reverse_wh"
        reverse = _energy(cells[name]) if cells.get(name) not in (None, "") else 0
        name = "flags"
        flags = _flags(_text(cells.get(name)))
    except _WrongCellError as wrong:
        raise wrong_row(path, where, f"{name} {wrong}") from None
    return Row(where, serial, at, forward, reverse, flags)


def _text_instant(cell: str) -> int:
    try:
        at = datetime.fromisoformat(cell)
    except ValueError:
        raise _WrongCellError(
            f"{_quoted(cell)} is no time; write it like 2026-11-22T12:00:00+09:00"
        ) from None
    if at.tzinfo is None:
        raise _WrongCellError(f"{_quoted(cell)} has no offset; add +09:00")
    if at.microsecond:
        raise _WrongCellError(f"{_quoted(cell)} is within a second; give full seconds")
    return math.floor(at.timestamp())


def _ticks_instant(path: Path, arrow: Any, kind: Any) -> Callable[[Any], int]:
    """How a cell of a Parquet time column becomes an instant."""
    if not arrow.types.is_timestamp(kind) or kind.tz is None:
        raise UsageError(
            f"{path}: time is {kind}; make it a timestamp with a time zone, like Asia/Tokyo"
        )
    ticks = _TICKS[kind.unit]

    def instant(cell: int | None) -> int:
        if cell is None:
            raise _WrongCellError("is empty; drop the row")
        at, rest = divmod(cell, ticks)
        if rest:
            raise _WrongCellError("is within a second; give full seconds")
        return at

    return instant


def _energy(cell: object) -> int:
    """0.1 Wh of a cell, which may be any integer; raises :class:`_WrongCellError`."""
    match cell:
        case None | "":
            raise _WrongCellError("is empty; drop the row")
        case str():
            found = _ENERGY.fullmatch(cell)
            if found is None:
                raise _WrongCellError(
                    f"{_quoted(cell)} is no register; write Wh with at most one decimal, like"
                    " 1234.5"
                )
            return int(found[1]) * 10 + int(found[2] or 0)
        case bool():
            pass
        case int():
            return cell * 10
        case float() | Decimal() if math.isfinite(cell):
            tenths = Decimal(cell) * 10
            dwh = round(tenths)
            if abs(tenths - dwh) <= _ROUNDING_DWH:
                return dwh
            raise _WrongCellError(f"{cell} is finer than 0.1 Wh; round it")
    raise _WrongCellError(f"{_quoted(str(cell))} is no number; write Wh")


def _text(cell: object) -> str:
    match cell:
        case None:
            return ""
        case str():
            return cell
    raise _WrongCellError(f"{_quoted(str(cell))} is no text; make the column one")


def _flags(text: str) -> Flag:
    flags = Flag.NONE
    for word in text.split("|") if text else ():
        if word not in _FLAGS:
            raise _WrongCellError(f"{_quoted(word)} is not one; {nearest(word, _FLAGS)}")
        flags |= _FLAGS[word]
    return flags


def _flags_text(flags: Flag) -> str:
    return "|".join(name for name, flag in _FLAGS.items() if flag in flags)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _parquet() -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``; MeterError where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MeterError(
            "Parquet needs pyarrow; install it: pip install 'meter-runtime[history]', or name a"
            " .csv file"
        ) from None
    return pyarrow, pyarrow.parquet


_WRITERS: dict[str, Callable[[Profile], bytes]] = {".csv": _csv_of, ".parquet": _parquet_of}
_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
