"""The stored half-hours as Parquet: a file for each JST day that is over, written again when that
day's values change.

Columns are those of the meter's own export: ``meter_id``, ``unit_serial``, ``time`` (milliseconds,
Asia/Tokyo), ``forward_wh`` and ``reverse_wh`` (doubles; reverse is null on a one-way meter) and
``flags``, joined by ``|``. Rows are ordered by meter, unit and time. The day's revision stands in
the file's metadata, so that a restart knows which files are up to date.
"""

import asyncio
import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NoReturn

from meter_runtime.clock import SLOTS_PER_DAY, slot_at, slot_start
from meter_runtime.errors import MeterError
from meter_runtime.headend.readings_store import day_number, first_slot
from meter_runtime.headend.readings_view import LATE_S, ReadingsView, StoredReading
from meter_runtime.storage.media import write_whole
from meter_runtime.storage.ring import Flag

log = logging.getLogger(__name__)

EVERY_S = 300.0
_REVISION = b"revision"
_FIRST_DAY = date(1970, 1, 1)


class DayFiles:
    """The files ``YYYY-MM-DD.parquet`` in ``folder``, which is made where it is not there.

    Raises MeterError where pyarrow is missing or the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        _arrow()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as failure:
            raise MeterError(f"{folder}: cannot be made: {failure.strerror}") from None
        self._folder = folder
        self._written: dict[int, int] = {}

    def export(self, path: Path, now: float) -> list[Path]:
        """Write every day whose file is not as the store at ``path`` is; which files were written.

        A day is over when its last half-hour cannot be late any more.
        """
        written = []
        with ReadingsView(path) as view:
            for day, revision in view.revisions(day_number(slot_at(now - LATE_S))).items():
                if self._revision(day) == revision:
                    continue
                first = first_slot(day)
                readings = view.readings(first, first + SLOTS_PER_DAY - 1)
                written.append(self._write(day, revision, readings))
        return written

    async def keep(self, path: Path, wall: Callable[[], float]) -> NoReturn:
        """Export every :data:`EVERY_S`, until cancelled; failures are logged and outlived."""
        while True:
            try:
                files = await asyncio.to_thread(self.export, path, wall())
            except MeterError as failure:
                log.error("%s; it is tried again", failure)
            else:
                for file in files:
                    log.info("%s: written", file)
            await asyncio.sleep(EVERY_S)

    def _file(self, day: int) -> Path:
        return self._folder / f"{_FIRST_DAY + timedelta(days=day)}.parquet"

    def _revision(self, day: int) -> int | None:
        """What the file is of; None where there is none, or no good one."""
        if day not in self._written:
            arrow, parquet = _arrow()
            with contextlib.suppress(OSError, ValueError, KeyError, arrow.ArrowException):
                metadata = parquet.read_schema(self._file(day)).metadata or {}
                self._written[day] = int(metadata[_REVISION])
        return self._written.get(day)

    def _write(self, day: int, revision: int, readings: Sequence[StoredReading]) -> Path:
        arrow, parquet = _arrow()
        zoned = arrow.timestamp("ms", tz="Asia/Tokyo")
        columns = {
            "meter_id": arrow.array([each.meter_id for each in readings], arrow.string()),
            "unit_serial": arrow.array([each.unit for each in readings], arrow.string()),
            "time": arrow.array([slot_start(each.slot) * 1000 for each in readings], zoned),
            "forward_wh": arrow.array(
                [each.forward_dwh / 10 for each in readings], arrow.float64()
            ),
            "reverse_wh": arrow.array(
                [None if each.reverse_dwh is None else each.reverse_dwh / 10 for each in readings],
                arrow.float64(),
            ),
            "flags": arrow.array([flag_names(each.flags) for each in readings], arrow.string()),
        }
        told = arrow.table(columns).replace_schema_metadata({_REVISION: str(revision)})
        content = io.BytesIO()
        parquet.write_table(told, content)
        file = self._file(day)
        try:
            write_whole(file, content.getvalue())
        except OSError as failure:
            raise MeterError(f"{file}: cannot be written: {failure.strerror}") from None
        self._written[day] = revision
        return file


def flag_names(flags: Flag) -> str:
    """The flags as the exports name them."""
    return "|".join(str(flag.name).lower() for flag in Flag if flag in flags)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MeterError(
            "Parquet needs pyarrow; install it: pip install 'meter-runtime[history]'"
        ) from None
    return pyarrow, pyarrow.parquet
