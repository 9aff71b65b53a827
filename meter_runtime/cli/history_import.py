"""A load profile from a file into the state directory of a laboratory's meter.

Everything is checked before anything is written: each row by itself, the rows among each other,
and both with what the directory holds. What the directory holds stands (the first snapshot of a
boundary does, as ever), and a directory keeps its metering unit: history of another serial is
refused, never put over it.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from meter_runtime.cli.history_files import Row, stamp, watt_hours, wrong_row
from meter_runtime.cli.history_state import depth_of, open_for_import
from meter_runtime.clock import HALF_HOUR_S
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.storage.media import Media
from meter_runtime.storage.registers import Checkpoint, RegisterStore, unit_mark
from meter_runtime.storage.ring import MAX_ENERGY_DWH, Record, Ring

MAX_ROWS = 1_000_000
"""Of one file: more than a year of minutes."""
MAX_SERIAL = 12
"""Characters of a unit's serial, as it is served to the home (EPC 8D)."""

_MWH_PER_DWH = 100


@dataclass(frozen=True, slots=True)
class Checked:
    """A file whose rows are right among themselves.

    ``rows`` are the newest, as many as the ring keeps; ``count`` is of all.
    """

    path: Path
    unit_serial: str
    interval_s: int
    rows: Sequence[Row]
    count: int

    def slot(self, row: Row) -> int:
        return row.at // self.interval_s


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file's rows."""

    unit_serial: str
    stored: int
    kept: int
    """The directory had the boundary already."""
    too_old: int
    """Before what the ring keeps, or before the unit was fitted."""


def check(
    path: Path, rows: Iterable[Row], interval_s: int, serial: str | None, now: float
) -> Checked:
    """Hold the rows of a file against the rules; UsageError names the first wrong one.

    ``serial`` stands for what the rows say of their unit; ``now`` is UTC seconds.
    """
    newest: deque[Row] = deque(maxlen=depth_of(interval_s))
    unit = serial
    count = 0
    last: Row | None = None
    for row in rows:
        count += 1
        if count > MAX_ROWS:
            raise wrong_row(path, row.where, f"more than {MAX_ROWS:,} rows; split the file")
        if unit is None:
            unit = row.unit_serial
        wrong = (
            _wrong_instant(row, interval_s, now)
            or _wrong_register("forward_wh", row.forward_dwh)
            or _wrong_register("reverse_wh", row.reverse_dwh)
            or (_wrong_serial(row.unit_serial, unit) if serial is None else None)
            or (_wrong_after(last, row) if last is not None else None)
        )
        if wrong is not None:
            raise wrong_row(path, row.where, wrong)
        newest.append(row)
        last = row
    if unit is None or last is None:
        raise UsageError(f"{path}: holds no rows; there is nothing to import")
    return Checked(path, unit, interval_s, newest, count)


def check_serial(serial: str) -> None:
    """UsageError unless a metering unit can have this serial."""
    if not _is_serial(serial):
        raise UsageError(
            f"--serial {serial!r}: a serial has 1 to {MAX_SERIAL} printable ASCII characters"
        )


def into_state(checked: Checked, directory: Path) -> Imported:
    """Store what the directory has not; the registers then stand at the newest boundary.

    Raises :class:`UsageError` where the file contradicts the directory, with nothing written, and
    :class:`MeterError` where the directory is in use or fails: the same import may then be tried
    again.
    """
    serial = checked.unit_serial
    with open_for_import(directory, checked.interval_s) as state:
        for media in state.rings.values():
            _check_unit(checked, media)
        registers = RegisterStore(state.registers)
        checkpoint = registers.load()
        if checkpoint is not None and checkpoint.unit != unit_mark(serial):
            raise _another_unit(checked, "another unit")
        # Whatever the interval: the load profile tells whose directory it is.
        state.ring(HALF_HOUR_S, serial)
        ring = state.ring(checked.interval_s, serial)
        wanted, kept = _missing(checked, ring)
        _check_against(checked, wanted, ring, checkpoint)
        if state.has_bench_unit:
            _check_not_after(checked, wanted, ring, checkpoint, directory)
        stored = ring.extend([_record(checked, row) for row in wanted])
        _raise_registers(ring, registers, checkpoint)
    return Imported(serial, len(stored), kept, checked.count - len(stored) - kept)


def _wrong_instant(row: Row, interval_s: int, now: float) -> str | None:
    if row.at < 0:
        return "time is before 1970; drop the row"
    if row.at > now:
        return "time is in the future; drop the row, or mend this computer's clock"
    if row.at % interval_s:
        return f"time {stamp(row.at)} is no boundary of {interval_s // 60} min; see --interval"
    return None


def _wrong_register(name: str, dwh: int) -> str | None:
    if 0 <= dwh <= MAX_ENERGY_DWH:
        return None
    return f"{name} is out of range; a register is 0 to {watt_hours(MAX_ENERGY_DWH)} Wh"


def _wrong_serial(serial: str, first: str | None) -> str | None:
    if not serial:
        return "no unit_serial; add it, or name the unit with --serial"
    if not _is_serial(serial):
        return f"unit_serial has not 1 to {MAX_SERIAL} printable ASCII characters; see --serial"
    if serial != first:
        return f"unit_serial {serial} after {first}; split the file: one unit, one import"
    return None


def _wrong_after(last: Row, row: Row) -> str | None:
    if row.at <= last.at:
        return f"time {stamp(row.at)} after {stamp(last.at)}; sort the rows, each time once"
    for name, before, after in _registers_of(last, row):
        if after < before:
            return (
                f"{name} {watt_hours(after)} after {watt_hours(before)}: a register never"
                " decreases; mend the row"
            )
    return None


def _registers_of(last: Row, row: Row) -> tuple[tuple[str, int, int], ...]:
    return (
        ("forward_wh", last.forward_dwh, row.forward_dwh),
        ("reverse_wh", last.reverse_dwh, row.reverse_dwh),
    )


def _is_serial(text: str) -> bool:
    return 1 <= len(text) <= MAX_SERIAL and text.isascii() and text.isprintable()


def _check_unit(checked: Checked, media: Media) -> None:
    """A ring that is new, or of the file's unit."""
    serial = Ring.serial_on(media)
    if serial is None:
        if any(media.read(0, media.size)):
            raise MeterError(
                f"{media.name}: does not tell whose history it holds; import into a directory of"
                " its own"
            )
    elif serial != checked.unit_serial:
        raise _another_unit(checked, f"unit {serial}")


def _another_unit(checked: Checked, whose: str) -> UsageError:
    return UsageError(
        f"{checked.path}: history of unit {checked.unit_serial}, and the directory holds that of"
        f" {whose}; import into a directory of its own"
    )


def _missing(checked: Checked, ring: Ring) -> tuple[list[Row], int]:
    """The rows that the ring would take, and how many others it has already."""
    newest = ring.newest()
    last = checked.slot(checked.rows[-1])
    oldest = max(last, newest.slot if newest is not None else 0) - ring.depth + 1
    young = [r for r in checked.rows if checked.slot(r) >= max(oldest, ring.first_slot)]
    missing = [row for row in young if ring.get(checked.slot(row)) is None]
    return missing, len(young) - len(missing)


def _record(checked: Checked, row: Row) -> Record:
    return Record(checked.slot(row), row.forward_dwh, row.reverse_dwh, row.flags)


def _check_against(
    checked: Checked, rows: Sequence[Row], ring: Ring, checkpoint: Checkpoint | None
) -> None:
    """The new rows among the boundaries and the registers that the directory holds."""
    held = [
        Row("", "", r.slot * ring.interval_s, r.forward_dwh, r.reverse_dwh, r.flags)
        for r in ring.records()
    ]
    everything = sorted([*held, *rows], key=lambda row: row.at)
    if checkpoint is not None and checkpoint.wall is not None:
        wall, flags = int(checkpoint.wall), everything[0].flags
        now = Row("", "", wall, *_in_dwh(checkpoint), flags)
        place = sum(row.at <= wall for row in everything)
        everything.insert(place, now)
    for last, row in pairwise(everything):
        for name, before, after in _registers_of(last, row):
            if after >= before or not (last.where or row.where):
                continue
            new, held_at = (row, last) if row.where else (last, row)
            raise wrong_row(
                checked.path,
                new.where,
                f"{name} {watt_hours(after if new is row else before)} contradicts the"
                f" {watt_hours(before if new is row else after)} that the directory holds for"
                f" {stamp(held_at.at)}; import into a directory of its own",
            )


def _check_not_after(
    checked: Checked,
    rows: Sequence[Row],
    ring: Ring,
    checkpoint: Checkpoint | None,
    directory: Path,
) -> None:
    """A bench's unit has its own registers: history cannot go on behind its back."""
    newest = ring.newest()
    known = newest.slot * ring.interval_s if newest is not None else 0
    if checkpoint is not None and checkpoint.wall is not None:
        known = max(known, int(checkpoint.wall))
    late = next((row for row in rows if row.at > known), None)
    if late is not None:
        raise wrong_row(
            checked.path,
            late.where,
            f"time is after what the bench in {directory} has counted; import into a directory of"
            " its own, and start a bench there",
        )


def _raise_registers(ring: Ring, registers: RegisterStore, checkpoint: Checkpoint | None) -> None:
    """A unit that begins on this directory goes on from the newest boundary."""
    newest = ring.newest()
    if newest is None:
        raise MeterError("the ring has lost what was just stored; check the disk")
    forward, reverse = newest.forward_dwh * _MWH_PER_DWH, newest.reverse_dwh * _MWH_PER_DWH
    wall = float(newest.slot * ring.interval_s)
    if checkpoint is None:
        registers.save(Checkpoint(forward, reverse, forward, reverse, unit_mark(ring.serial), wall))
        return
    more_forward = max(0, forward - checkpoint.forward_mwh)
    more_reverse = max(0, reverse - checkpoint.reverse_mwh)
    if not more_forward and not more_reverse:
        return
    registers.save(
        replace(
            checkpoint,
            forward_mwh=checkpoint.forward_mwh + more_forward,
            reverse_mwh=checkpoint.reverse_mwh + more_reverse,
            unit_forward_mwh=checkpoint.unit_forward_mwh + more_forward,
            unit_reverse_mwh=checkpoint.unit_reverse_mwh + more_reverse,
            wall=max(wall, checkpoint.wall or 0.0),
        )
    )


def _in_dwh(checkpoint: Checkpoint) -> tuple[int, int]:
    return checkpoint.forward_mwh // _MWH_PER_DWH, checkpoint.reverse_mwh // _MWH_PER_DWH
