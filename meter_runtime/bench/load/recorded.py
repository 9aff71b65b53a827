"""A load played from a CSV file, step by step, over and over.

The header names the columns: ``time`` and ``power_w``, and optionally ``current_r_a`` and
``current_t_a``. Time is ISO 8601 (JST where it names no zone) or seconds from the start. A row
holds until the next; the last one for as long as the one before it. Then the file begins again.
Power is rounded to whole watts.
"""

import csv
import math
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from meter_runtime.bench.load.curve import StepCurve
from meter_runtime.bench.load.household import line_currents
from meter_runtime.clock import JST
from meter_runtime.errors import UsageError
from meter_runtime.units.contracts import Wiring
from meter_runtime.units.metering.simulated import Load

MAX_ROWS = 1_000_000
MAX_POWER_W = 1_000_000
MAX_CURRENT_A = 10_000

_COLUMNS = ("time", "power_w", "current_r_a", "current_t_a")


class CsvLoad:
    """The load in ``path``; ``start`` (UTC seconds) is where a file in seconds begins.

    Where the file has no currents, they follow from the power and ``wiring``. Raises
    :class:`UsageError` naming the line.
    """

    def __init__(
        self, path: Path, start: float = 0.0, wiring: Wiring = Wiring.ONE_PHASE_THREE_WIRE
    ) -> None:
        self._wiring = wiring
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = _Rows(path)
                rows.read(file)
        except OSError as error:
            raise UsageError(
                f"{path}: cannot read the load: {error.strerror}; name a CSV file"
            ) from error
        except (csv.Error, UnicodeDecodeError) as error:
            raise UsageError(
                f"{path}: not a CSV file in UTF-8 ({error}); export it anew"
            ) from error
        first = rows.times_ms[0]
        starts = [t - first for t in rows.times_ms]
        last_span = starts[-1] - starts[-2] if len(starts) > 1 else 1000
        self._curve = StepCurve(starts, rows.powers, starts[-1] + last_span)
        self._currents = rows.currents
        self._origin_ms = first if rows.absolute else round(start * 1000) + first

    def power(self, at_ms: int) -> Load:
        """What flows at this instant."""
        index = self._curve.index((at_ms - self._origin_ms) % self._curve.end_ms)
        power = self._curve.power_of(index)
        r, t = line_currents(power, self._wiring)
        given_r, given_t = self._currents[index]
        return Load(power, r if given_r is None else given_r, t if given_t is None else given_t)

    def energy(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        """Forward and reverse energy between two instants, mWs."""
        before, after = self._since_origin(from_ms), self._since_origin(to_ms)
        return after[0] - before[0], after[1] - before[1]

    def _since_origin(self, at_ms: int) -> tuple[int, int]:
        rounds, within = divmod(at_ms - self._origin_ms, self._curve.end_ms)
        whole = self._curve.until(self._curve.end_ms)
        part = self._curve.until(within)
        return rounds * whole[0] + part[0], rounds * whole[1] + part[1]


class _Rows:
    """The file's columns while it is read; knows the line it is at."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._line = 1
        self.absolute = False
        self.times_ms: list[int] = []
        self.powers: list[int] = []
        self.currents: list[tuple[int | None, int | None]] = []

    def read(self, lines: Iterable[str]) -> None:
        reader = csv.reader(lines)
        header = [name.strip().lower() for name in next(reader, [])]
        for name in _COLUMNS[:2]:
            if name not in header:
                raise self._error(f"no column {name!r}", f"name the columns {','.join(_COLUMNS)}")
        at = {name: header.index(name) for name in _COLUMNS if name in header}
        for row in reader:
            self._line = reader.line_num
            if row:
                self._add({name: row[i].strip() for name, i in at.items() if i < len(row)})
        if not self.times_ms:
            raise self._error("no row follows the header", "add one")

    def _add(self, row: dict[str, str]) -> None:
        if len(self.times_ms) >= MAX_ROWS:
            raise self._error(f"more than {MAX_ROWS} rows", "use a shorter file; it is repeated")
        time_ms = self._time(row.get("time", ""))
        if self.times_ms and time_ms <= self.times_ms[-1]:
            raise self._error("the time does not increase", "sort the rows and drop doubles")
        self.times_ms.append(time_ms)
        self.powers.append(round(self._number(row.get("power_w", ""), "power_w", MAX_POWER_W)))
        self.currents.append((self._current(row, "current_r_a"), self._current(row, "current_t_a")))

    def _time(self, text: str) -> int:
        seconds = _as_number(text)
        absolute = seconds is None
        if seconds is None:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                raise self._error(
                    f"time {text!r}", "write ISO 8601 or seconds from the start"
                ) from None
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=JST)).timestamp()
        if self.times_ms and absolute is not self.absolute:
            raise self._error(f"time {text!r} is of another kind", "use one kind in a file")
        if not 0 <= seconds < 1e11:
            raise self._error(f"time {text!r} is out of range", "count from 0 or use a date")
        self.absolute = absolute
        return round(seconds * 1000)

    def _current(self, row: dict[str, str], column: str) -> int | None:
        text = row.get(column, "")
        return round(self._number(text, column, MAX_CURRENT_A) * 1000) if text else None

    def _number(self, text: str, column: str, limit: int) -> float:
        value = _as_number(text)
        if value is None or abs(value) > limit:
            raise self._error(f"{column} {text!r}", f"write a number from -{limit} to {limit}")
        return value

    def _error(self, what: str, remedy: str) -> UsageError:
        return UsageError(f"{self._path}:{self._line}: {what}; {remedy}")


def _as_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
