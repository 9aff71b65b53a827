"""Whole load profiles to and from files: the files, the rules, the directory, the options."""

import asyncio
import builtins
import csv
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter_runtime import control, report
from meter_runtime.bench import Bench
from meter_runtime.bench.household import UNIT_FILE
from meter_runtime.bench.options import BenchOptions
from meter_runtime.cli import history_export, history_files, history_import, main
from meter_runtime.cli.history_files import Profile, Row
from meter_runtime.clock import HALF_HOUR_S
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.storage.media import FILE_WRITE_UNIT, FileMedia
from meter_runtime.storage.registers import Checkpoint, RegisterStore, unit_mark
from meter_runtime.storage.ring import (
    FINE_DEPTHS,
    LOAD_PROFILE_DEPTH,
    MAX_ENERGY_DWH,
    Flag,
    Record,
    Ring,
)
from meter_runtime.storage.stores import FINE_FILES, REGISTERS_FILE, RING_FILE

SERIAL = "S000000001"
NOON = 1_795_057_200 // HALF_HOUR_S
"""The slot that opens at 2026-11-19T12:00+09:00."""
DEPTHS = {HALF_HOUR_S: LOAD_PROFILE_DEPTH, **FINE_DEPTHS}
NAMES = {HALF_HOUR_S: RING_FILE, **FINE_FILES}
OPTIONS = {HALF_HOUR_S: "30m", 300: "5m", 60: "1m"}
RECORDS = (
    Record(NOON, 123_456, 78, Flag.POWER_FAIL | Flag.ADJUSTED),
    Record(NOON + 1, 123_460, 78),
    Record(NOON + 3, 123_471, 79, Flag.COARSE),
)
CSV = """\
meter_id,unit_serial,time,forward_wh,reverse_wh,flags
M-1,S000000001,2026-11-19T12:00:00+09:00,12345.6,7.8,adjusted|power_fail
M-1,S000000001,2026-11-19T12:30:00+09:00,12346.0,7.8,
M-1,S000000001,2026-11-19T13:30:00+09:00,12347.1,7.9,coarse
"""
HEADER, FIRST, SECOND, THIRD = CSV.splitlines(keepends=True)


def store(
    directory: Path, records: Sequence[Record], interval_s: int = HALF_HOUR_S, serial: str = SERIAL
) -> None:
    directory.mkdir(exist_ok=True)
    depth = DEPTHS[interval_s]
    path = directory / NAMES[interval_s]
    with closing(FileMedia(path, Ring.size_for(depth, FILE_WRITE_UNIT))) as media:
        assert Ring.open(media, interval_s, depth, serial).extend(records) == list(records)


def stored(directory: Path, interval_s: int = HALF_HOUR_S, serial: str = SERIAL) -> list[Record]:
    depth = DEPTHS[interval_s]
    path = directory / NAMES[interval_s]
    with closing(FileMedia(path, Ring.size_for(depth, FILE_WRITE_UNIT))) as media:
        assert Ring.serial_on(media) == serial
        return list(Ring.open(media, interval_s, depth, serial).records())


def keep_registers(directory: Path, checkpoint: Checkpoint) -> None:
    with closing(_registers(directory)) as media:
        RegisterStore(media).save(checkpoint)


def kept_registers(directory: Path) -> Checkpoint | None:
    with closing(_registers(directory)) as media:
        return RegisterStore(media).load()


def _registers(directory: Path) -> FileMedia:
    directory.mkdir(exist_ok=True)
    return FileMedia(directory / REGISTERS_FILE, RegisterStore.size_for(FILE_WRITE_UNIT))


def history(*words: object) -> int:
    return main(["history", *map(str, words)])


def read_all(path: Path) -> list[Row]:
    return list(history_files.read(path))


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """What a ring may hold by now: sparse slots, registers that never decrease."""
    interval_s = draw(st.sampled_from(list(DEPTHS)))
    serial = draw(
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=12)
    )
    newest = int(time.time()) // interval_s
    slots = draw(st.sets(st.integers(0, DEPTHS[interval_s] - 1), min_size=1, max_size=40))
    forward, reverse = (
        sorted(draw(st.lists(st.integers(0, MAX_ENERGY_DWH), min_size=n, max_size=n)))
        for n in (len(slots), len(slots))
    )
    flags = draw(st.lists(st.integers(0, 7), min_size=len(slots), max_size=len(slots)))
    records = [
        Record(newest - ago, f, r, Flag(bits))
        for ago, f, r, bits in zip(
            sorted(slots, reverse=True), forward, reverse, flags, strict=True
        )
    ]
    return Profile("M", serial, interval_s, records)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@settings(max_examples=15, deadline=None)
@given(profile=profiles())
def test_what_is_exported_imported_and_exported_again_is_the_same(
    ending: str, profile: Profile
) -> None:
    interval = OPTIONS[profile.interval_s]
    with tempfile.TemporaryDirectory() as scratch:
        room = Path(scratch)
        first, second = room / f"first.{ending}", room / f"second.{ending}"
        store(room / "meter", profile.records, profile.interval_s, profile.unit_serial)
        for directory, path in (("meter", first), ("lab", second)):
            assert (
                history("--export", path, "--state", room / directory, "--interval", interval) == 0
            )
            if path == first:
                assert (
                    history("--import", path, "--state", room / "lab", "--interval", interval) == 0
                )
        assert second.read_bytes() == first.read_bytes()
        assert stored(room / "lab", profile.interval_s, profile.unit_serial) == profile.records


def test_a_csv_says_registers_times_and_flags(tmp_path: Path) -> None:
    store(tmp_path / "meter", RECORDS)
    path = tmp_path / "profile.csv"
    assert history("--export", path, "--state", tmp_path / "meter", "--meter-id", "M-1") == 0
    assert path.read_text("ascii") == CSV


def test_a_parquet_file_says_the_same_with_types(tmp_path: Path) -> None:
    path = tmp_path / "profile.parquet"
    history_files.write(path, Profile("M-1", SERIAL, HALF_HOUR_S, RECORDS))
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == list(history_files.COLUMNS)
    assert table.schema.field("time").type == pyarrow.timestamp("ms", "Asia/Tokyo")
    assert table.schema.field("forward_wh").type == pyarrow.float64()
    assert table.drop_columns("time").to_pylist()[0] == {
        "meter_id": "M-1",
        "unit_serial": SERIAL,
        "forward_wh": 12345.6,
        "reverse_wh": 7.8,
        "flags": "adjusted|power_fail",
    }
    at_ms = table.column("time").cast(pyarrow.int64()).to_pylist()
    assert at_ms == [record.slot * HALF_HOUR_S * 1000 for record in RECORDS]


def test_the_export_tells_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path, RECORDS)
    path = tmp_path / "profile.csv"
    assert history("--export", path, "--state", tmp_path) == 0
    assert capsys.readouterr().out == (
        f"{path}: 3 boundaries of unit {SERIAL},"
        " 2026-11-19T12:00:00+09:00 to 2026-11-19T13:30:00+09:00\n"
    )


def test_both_formats_read_as_the_same_rows(tmp_path: Path) -> None:
    text, table = tmp_path / "profile.csv", tmp_path / "profile.parquet"
    for path in (text, table):
        history_files.write(path, Profile("M-1", SERIAL, HALF_HOUR_S, RECORDS))
    rows = [(r.unit_serial, r.at, r.forward_dwh, r.reverse_dwh, r.flags) for r in read_all(text)]
    assert rows == [
        (r.unit_serial, r.at, r.forward_dwh, r.reverse_dwh, r.flags) for r in read_all(table)
    ]
    assert rows == [
        (SERIAL, r.slot * HALF_HOUR_S, r.forward_dwh, r.reverse_dwh, r.flags) for r in RECORDS
    ]


@given(dwh=st.integers(0, MAX_ENERGY_DWH))
@example(dwh=MAX_ENERGY_DWH)
def test_every_register_fits_a_double_and_a_text(dwh: int) -> None:
    assert history_files._energy(dwh / 10) == dwh
    assert history_files._energy(history_files.watt_hours(dwh)) == dwh


def test_a_file_cut_anywhere_is_refused_or_ends_with_a_whole_row(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv"
    path.write_text(CSV, "ascii")
    whole = read_all(path)
    lengths = set()
    for length in range(len(CSV)):
        path.write_text(CSV[:length], "ascii")
        try:
            rows = read_all(path)
        except UsageError as refused:
            assert str(path) in str(refused)  # noqa: PT017 - either way is right
        else:
            assert rows == whole[: len(rows)]
            lengths.add(len(rows))
            assert CSV[:length].count("\n") == len(rows) + 1
    assert lengths == {0, 1, 2}


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300), ending=st.sampled_from(["csv", "parquet"]))
@example(content=b"\xff\xfet\x00i\x00m\x00e\x00\n\x00", ending="csv")
@example(content=b"time,forward_wh\n" + b"9" * 5000 + b"\n", ending="csv")
@example(content=b'time,forward_wh\n"', ending="csv")
@example(content=b"PAR1\xff\xff\xff\x7fPAR1", ending="parquet")
def test_garbage_is_told_in_one_line(content: bytes, ending: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"garbage.{ending}"
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"^/.*garbage\.(csv|parquet)"):
            history_import.check(path, history_files.read(path), HALF_HOUR_S, None, time.time())


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_parquet_file_is_refused_or_says_the_same(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "damaged.parquet"
        history_files.write(path, Profile("M-1", SERIAL, HALF_HOUR_S, RECORDS))
        content = bytearray(path.read_bytes())
        # The footer has no checksum: a damaged name or type there may pass unseen.
        footer = int.from_bytes(content[-8:-4], "little")
        whole = read_all(path)
        at = data.draw(st.integers(0, len(content) - 9 - footer))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        try:
            assert read_all(path) == whole
        except UsageError as refused:
            assert "damaged" in str(refused)  # noqa: PT017 - either way is right


@pytest.mark.parametrize("length", [0, 3, 4, 8, 100, -1, -8])
def test_a_parquet_file_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.parquet"
    history_files.write(path, Profile("M-1", SERIAL, HALF_HOUR_S, RECORDS))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UsageError, match="no Parquet file, or a damaged one; export it again"):
        read_all(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ": is empty; its first line names the columns"),
        (HEADER, ": holds no rows; there is nothing to import"),
        ("time\n", ': lacks the column "forward_wh"; add it'),
        ("time,forward_wh,time\n", ': two columns are named "time"; keep one'),
        (
            "time,forward_wh,revers_wh\n",
            ": no column is named 'revers_wh'; did you mean \"reverse_wh\"?",
        ),
        (HEADER + FIRST[:-1], ", line 2: the last line does not end; the file was cut short"),
        (HEADER + "M-1,S1\n", ", line 2: 2 cells under 6 columns; complete the line"),
        (HEADER + FIRST.replace("M-1", '"M'), ", line 2: no CSV: "),
        (HEADER + FIRST.replace("+09:00", ""), "'2026-11-19T12:00:00' has no offset; add +09:00"),
        (HEADER + FIRST.replace("2026", "26"), "is no time; write it like 2026-11-22T12:00:00"),
        (HEADER + FIRST.replace("00+", "00.5+"), "is within a second; give full seconds"),
        (HEADER + FIRST.replace("12345.6", "12345.67"), "forward_wh '12345.67' is no register"),
        (HEADER + FIRST.replace("12345.6", "-1.0"), "line 2: forward_wh '-1.0' is no register"),
        (HEADER + FIRST.replace("12345.6", "1e5"), "line 2: forward_wh '1e5' is no register"),
        (HEADER + FIRST.replace("12345.6", "١٢"), "line 2: forward_wh '١٢' is no register"),
        (HEADER + FIRST.replace("12345.6", ""), "line 2: forward_wh is empty; drop the row"),
        (
            HEADER + FIRST.replace("12345.6", "999999999999.9"),
            "line 2: forward_wh is out of range; a register is 0 to 109951162777.5 Wh",
        ),
        (
            HEADER + FIRST.replace("power_fail", "power_fial"),
            "flags 'power_fial' is not one; did you mean",
        ),
        (HEADER + FIRST.replace("2026", "2066"), "time is in the future; drop the row"),
        (HEADER + FIRST.replace("2026", "1966"), "time is before 1970; drop the row"),
        (
            HEADER + FIRST.replace("12:00", "12:05"),
            "time 2026-11-19T12:05:00+09:00 is no boundary of 30 min; see --interval",
        ),
        (
            HEADER + SECOND + FIRST,
            "line 3: time 2026-11-19T12:00:00+09:00 after 2026-11-19T12:30:00+09:00; sort the rows",
        ),
        (HEADER + FIRST + FIRST, "line 3: time 2026-11-19T12:00:00+09:00 after 2026-11-19T12:00"),
        (
            HEADER + FIRST + SECOND.replace("12346.0", "12345.5"),
            "line 3: forward_wh 12345.5 after 12345.6: a register never decreases; mend the row",
        ),
        (
            HEADER + FIRST + SECOND.replace("7.8", "7"),
            "line 3: reverse_wh 7.0 after 7.8: a register never decreases; mend the row",
        ),
        (
            HEADER + FIRST + SECOND.replace("0001", "0002"),
            "line 3: unit_serial S000000002 after S000000001; split the file",
        ),
        (HEADER + FIRST.replace(SERIAL, ""), "line 2: no unit_serial; add it, or name the unit"),
        (HEADER + FIRST.replace(SERIAL, "S" * 13), "line 2: unit_serial has not 1 to 12 printable"),
        (HEADER + FIRST.replace(SERIAL, "é"), "line 2: unit_serial has not 1 to 12 printable"),
    ],
)
def test_the_first_wrong_row_ends_an_import_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    path = tmp_path / "profile.csv"
    path.write_text(content, "utf-8")
    assert history("--import", path, "--state", tmp_path / "lab") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"meter-runtime: {path}")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("time", pyarrow.array([0], pyarrow.timestamp("us")), "time is timestamp[us]; make it"),
        ("time", pyarrow.array([1.0]), "time is double; make it a timestamp with a time zone"),
        ("time", pyarrow.array([None], pyarrow.timestamp("s", "UTC")), "row 1: time is empty"),
        ("time", pyarrow.array([1], pyarrow.timestamp("ns", "UTC")), "is within a second"),
        ("forward_wh", pyarrow.array([-0.1]), "row 1: forward_wh is out of range"),
        ("forward_wh", pyarrow.array([0.25]), "row 1: forward_wh 0.25 is finer than 0.1 Wh"),
        ("forward_wh", pyarrow.array([float("nan")]), "forward_wh 'nan' is no number; write Wh"),
        ("forward_wh", pyarrow.array([True]), "forward_wh 'True' is no number; write Wh"),
        ("forward_wh", pyarrow.array([[1]]), "forward_wh '[1]' is no number; write Wh"),
        ("forward_wh", pyarrow.array([1e300]), "row 1: forward_wh is out of range"),
        ("unit_serial", pyarrow.array([b"S1"]), "unit_serial \"b'S1'\" is no text; make the"),
        ("flags", pyarrow.array([3]), "row 1: flags '3' is no text; make the column one"),
    ],
)
def test_wrong_cells_of_a_parquet_file_are_named(
    tmp_path: Path, column: str, values: Any, said: str
) -> None:
    columns = {
        "unit_serial": pyarrow.array([SERIAL]),
        "time": pyarrow.array([0], pyarrow.timestamp("s", "UTC")),
        "forward_wh": pyarrow.array([1.0]),
        "flags": pyarrow.array([""]),
    }
    path = tmp_path / "profile.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns | {column: values}), path)
    with pytest.raises(UsageError) as wrong:
        history_import.check(path, history_files.read(path), HALF_HOUR_S, None, time.time())
    assert said in str(wrong.value)


def test_what_other_tools_write_is_read(tmp_path: Path) -> None:
    """Nanoseconds of another zone, categories, integers, decimals, no flags, other order."""
    at = NOON * HALF_HOUR_S
    columns = {
        "reverse_wh": pyarrow.array([None], pyarrow.decimal128(12, 1)),
        "forward_wh": pyarrow.array([12345], pyarrow.int64()),
        "unit_serial": pyarrow.array([SERIAL]).dictionary_encode(),
        "time": pyarrow.array([at * 10**9], pyarrow.timestamp("ns", "UTC")),
    }
    table = tmp_path / "profile.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), table)
    text = tmp_path / "profile.csv"
    text.write_bytes(
        b"\xef\xbb\xbfforward_wh,time,unit_serial\r\n12345,2026-11-19T03:00:00Z,S000000001\r\n\r\n"
    )
    for path in (table, text):
        [row] = read_all(path)
        assert (row.unit_serial, row.at, row.forward_dwh) == (SERIAL, at, 123_450)
        assert (row.reverse_dwh, row.flags) == (0, Flag.NONE)


def test_rows_beyond_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_import, "MAX_ROWS", 10)
    rows = (Row(f"line {n}", SERIAL, n * 60, n, 0, Flag.NONE) for n in itertools.count())
    with pytest.raises(UsageError, match=r"line 10: more than 10 rows; split the file"):
        history_import.check(Path("endless.csv"), rows, 60, None, time.time())


def lines(first: int, count: int) -> str:
    """Half hours from a slot on, each 1 Wh above the last, in step with the slot."""
    return HEADER + "".join(
        f"M-1,{SERIAL},{history_files.stamp(slot * HALF_HOUR_S)},{slot - NOON + 5000}.0,0.0,\n"
        for slot in range(first, first + count)
    )


def imported(
    tmp_path: Path, content: str, *options: object, directory: str = "lab"
) -> tuple[int, Path]:
    path = tmp_path / "profile.csv"
    path.write_text(content, "ascii")
    lab = tmp_path / directory
    return history("--import", path, "--state", lab, *options), lab


def test_what_the_directory_holds_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(tmp_path, lines(NOON - 50, 50))[0] == 0
    status, lab = imported(
        tmp_path, lines(NOON - 60, 70).replace("4990.0,0.0,", "4990.0,0.0,coarse")
    )
    assert status == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{lab}: unit {SERIAL}: 50 boundaries stored, 0 kept as they were, 0 too old",
        f"{lab}: unit {SERIAL}: 20 boundaries stored, 50 kept as they were, 0 too old",
    ]
    records = stored(lab)
    assert [record.slot for record in records] == list(range(NOON - 60, NOON + 10))
    assert {record.flags for record in records} == {Flag.NONE}


def test_only_what_the_ring_keeps_is_stored_of_a_long_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(tmp_path, lines(NOON - 3000, 3000))[0] == 0
    status, lab = imported(tmp_path, lines(NOON - 2500, 1000))
    assert status == 0
    assert [line.partition(": unit ")[2] for line in capsys.readouterr().out.splitlines()] == [
        f"{SERIAL}: 2,016 boundaries stored, 0 kept as they were, 984 too old",
        f"{SERIAL}: 0 boundaries stored, 516 kept as they were, 484 too old",
    ]
    assert [record.slot for record in stored(lab)] == list(range(NOON - 2016, NOON))


@pytest.mark.parametrize("interval_s", list(DEPTHS))
def test_the_registers_stand_at_the_newest_boundary(tmp_path: Path, interval_s: int) -> None:
    path = tmp_path / "profile.parquet"
    slot = NOON * HALF_HOUR_S // interval_s
    records = [Record(slot - 1, 123_456, 78), Record(slot, 123_460, 79)]
    history_files.write(path, Profile("M", SERIAL, interval_s, records))
    lab = tmp_path / "lab"
    assert history("--import", path, "--state", lab, "--interval", OPTIONS[interval_s]) == 0
    assert kept_registers(lab) == Checkpoint(
        12_346_000, 7_900, 12_346_000, 7_900, unit_mark(SERIAL), NOON * HALF_HOUR_S
    )
    # Whichever interval it was: the directory is of this unit.
    assert stored(lab) == (records if interval_s == HALF_HOUR_S else [])


def test_registers_are_raised_in_step_with_the_units_and_never_lowered(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    ahead = Checkpoint(5_010_000, 99, 7_010_000, 88, unit_mark(SERIAL), (NOON + 9) * 1800.0 + 60)
    keep_registers(lab, ahead)
    assert imported(tmp_path, lines(NOON, 10))[0] == 0
    assert kept_registers(lab) == ahead
    assert imported(tmp_path, lines(NOON, 31))[0] == 0
    assert kept_registers(lab) == Checkpoint(
        5_030_000, 99, 7_030_000, 88, unit_mark(SERIAL), (NOON + 30) * 1800.0
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            lines(NOON + 10, 1).replace("5010.0", "5008.9"),
            (
                "line 2: forward_wh 5008.9 contradicts the 5009.0 that the directory holds for"
                " 2026-11-19T16:30:00+09:00; import into a directory of its own"
            ),
        ),
        (
            lines(NOON - 1, 1).replace("4999.0", "5000.1"),
            (
                "line 2: forward_wh 5000.1 contradicts the 5000.0 that the directory holds for"
                " 2026-11-19T12:00:00+09:00"
            ),
        ),
        (
            lines(NOON - 1, 1).replace(",0.0,", ",0.1,"),
            "line 2: reverse_wh 0.1 contradicts the 0.0 that the directory holds",
        ),
    ],
)
def test_rows_that_contradict_the_directory_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    assert imported(tmp_path, lines(NOON, 10))[0] == 0
    status, lab = imported(tmp_path, content)
    assert status == 2
    assert said in capsys.readouterr().err
    assert len(stored(lab)) == 10


def test_rows_that_contradict_the_registers_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = Checkpoint(5_005_099, 0, 0, 0, unit_mark(SERIAL), NOON * 1800.0 + 60)
    keep_registers(tmp_path / "lab", checkpoint)
    assert imported(tmp_path, lines(NOON, 10))[0] == 2
    assert (
        "line 3: forward_wh 5001.0 contradicts the 5005.0 that the directory holds for"
        " 2026-11-19T12:01:00+09:00" in capsys.readouterr().err
    )
    assert kept_registers(tmp_path / "lab") == checkpoint


def test_a_directory_keeps_its_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported(tmp_path, lines(NOON, 10))[0] == 0
    for options in ((), ("--interval", "1m")):
        assert imported(tmp_path, lines(NOON, 1).replace(SERIAL, "OTHER"), *options)[0] == 2
        assert (
            f"history of unit OTHER, and the directory holds that of unit {SERIAL};"
            " import into a directory of its own" in capsys.readouterr().err
        )
    keep_registers(tmp_path / "registers", Checkpoint(0, 0, 0, 0, unit_mark("OTHER"), None))
    assert imported(tmp_path, lines(NOON, 1), directory="registers")[0] == 2
    assert "the directory holds that of another unit" in capsys.readouterr().err


def test_a_serial_that_is_named_stands_for_all_rows(tmp_path: Path) -> None:
    content = lines(NOON, 2).replace(SERIAL, "A", 1)
    status, lab = imported(tmp_path, content, "--serial", "LAB-7")
    assert status == 0
    assert len(stored(lab, serial="LAB-7")) == 2
    assert imported(tmp_path, "time,forward_wh\n", "--serial", "LAB-7")[0] == 2


def test_a_benchs_unit_is_not_overtaken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported(tmp_path, lines(NOON, 10))[0] == 0
    (tmp_path / "lab" / UNIT_FILE).write_text("{}")
    assert imported(tmp_path, lines(NOON - 5, 15))[0] == 0
    assert imported(tmp_path, lines(NOON, 11))[0] == 2
    assert "line 12: time is after what the bench in" in capsys.readouterr().err
    assert len(stored(tmp_path / "lab")) == 15


def test_a_ring_whose_header_is_damaged_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(tmp_path, lines(NOON, 10))[0] == 0
    ring = tmp_path / "lab" / RING_FILE
    with ring.open("r+b") as file:
        file.write(b"\xff" * 1024)
    before = ring.read_bytes()
    assert imported(tmp_path, lines(NOON, 11))[0] == 1
    assert "does not tell whose history it holds; import into" in capsys.readouterr().err
    assert history("--export", tmp_path / "out.csv", "--state", ring.parent) == 1
    assert "does not tell whose history it holds; start the" in capsys.readouterr().err
    assert ring.read_bytes() == before


@pytest.fixture
def in_use(tmp_path: Path) -> Iterator[Path]:
    """A state directory that a meter holds."""
    store(tmp_path / "meter", RECORDS)
    size = Ring.size_for(LOAD_PROFILE_DEPTH, FILE_WRITE_UNIT)
    with closing(FileMedia(tmp_path / "meter" / RING_FILE, size)):
        yield tmp_path / "meter"


def test_a_running_meters_directory_is_left_alone(
    in_use: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "profile.csv"
    assert history("--export", path, "--state", in_use) == 1
    assert "another meter uses this file; stop it" in capsys.readouterr().err
    assert not path.exists()
    path.write_text(CSV, "ascii")
    assert history("--import", path, "--state", in_use) == 1
    assert "another meter uses this file; stop it" in capsys.readouterr().err


def test_a_directory_without_history_is_named_and_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, RECORDS)
    for interval, name in (("5m", "five-minute.ring"), ("1m", "one-minute.ring")):
        assert (
            history("--export", tmp_path / "a.csv", "--state", tmp_path, "--interval", interval)
            == 1
        )
        assert f"{tmp_path / name}: no such file" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [RING_FILE]


def test_a_file_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, RECORDS)
    assert history("--export", tmp_path / "no" / "a.csv", "--state", tmp_path) == 1
    assert "a.csv: cannot be written: No such file or directory" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.csv", "a.parquet"):
        assert history("--import", tmp_path / name, "--state", tmp_path / "lab") == 1
        assert f"{name}: cannot be read: No such file or directory" in capsys.readouterr().err


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    store(tmp_path, RECORDS)
    monkeypatch.setattr(builtins, "__import__", without)
    assert history("--export", tmp_path / "a.parquet", "--state", tmp_path) == 1
    assert "pip install 'meter-runtime[history]', or name a .csv file" in capsys.readouterr().err
    assert history("--export", tmp_path / "a.csv", "--state", tmp_path) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--export a.txt", "--export a.txt: name a file that ends in .csv or .parquet"),
        ("--import a.txt --state .", "--import a.txt: name a file that ends in .csv or .parquet"),
        ("--export a.csv --import a.csv", "--export and --import are two commands; give one"),
        ("--export a.csv --day 0", "--day is not an option with --export; it is of all days"),
        ("--export a.csv --reverse", "--reverse is not an option with --export"),
        ("--export a.csv --json", "--json is not an option with --export"),
        ("--import a.csv --state . --csv", "--csv is not an option with --import"),
        ("--import a.csv --state . --plot a.png", "--plot is not an option with --import"),
        ("--import a.csv", "--import needs the directory to store into; add --state DIR"),
        ("--import a.csv --control a.sock", "--control is not an option with --import; stop the"),
        ("--import a.csv --state . --meter-id M", "--meter-id is not an option with --import"),
        ("--import a.csv --state . --serial 1234567890123", "a serial has 1 to 12 printable"),
        ("--export a.csv --serial S", "--serial is not an option with --export"),
        ("--export a.csv --meter-id M", "--meter-id is not an option without --state"),
        ("--export a.csv --state . --control a.sock", "--control is not an option with --state"),
        ("--export a.csv --interval 2m", "argument --interval: invalid choice: '2m'"),
        ("--interval 5m", "--interval is not an option of a day; add --export FILE"),
        ("--day 1 --state .", "--state is not an option of a day; add --export FILE"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    assert history(*words.split()) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_the_help_has_an_example_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        history("--help")
    shown = capsys.readouterr().out
    assert "meter-runtime history --export profile.parquet" in shown
    assert "meter-runtime history --import profile.parquet --state lab" in shown


async def test_a_running_meter_and_its_directory_give_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "EXPORT_PAGE", 100)
    options = BenchOptions(history_days=2, state_dir=tmp_path / "meter")
    running, paused = tmp_path / "running.csv", tmp_path / "paused.csv"
    async with Bench(options) as bench:
        await bench.advance(3600)
        records = list(bench.meter.metering.ring.records())
        meter_id = bench.meter.config.meter.id
        status = await asyncio.to_thread(
            history, "--export", running, "--control", bench.control_path
        )
    assert status == 0
    assert len(records) > 96
    assert history("--export", paused, "--state", tmp_path / "meter", "--meter-id", meter_id) == 0
    assert running.read_bytes() == paused.read_bytes()
    with running.open(encoding="ascii", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(records)


async def test_a_bench_serves_the_history_that_was_imported(tmp_path: Path) -> None:
    source = tmp_path / "profile.csv"
    async with Bench(BenchOptions(history_days=3, seed=5)) as bench:
        there = list(bench.meter.metering.ring.records())
        serial = bench.meter.metering.ring.serial
        status = await asyncio.to_thread(
            history, "--export", source, "--control", bench.control_path
        )
    assert status == 0
    lab = tmp_path / "lab"
    assert history("--import", source, "--state", lab) == 0
    async with Bench(BenchOptions(state_dir=lab, seed=6)) as bench:
        await bench.advance(3600)
        ring = bench.meter.metering.ring
        assert ring.serial == serial
        assert list(ring.records())[: len(there)] == there
        assert len(ring) > len(there)
        newest = ring.newest()
        assert newest is not None
        assert newest.forward_dwh >= there[-1].forward_dwh


async def test_a_meter_asked_for_what_it_cannot_tell_answers_with_what_it_can() -> None:
    async with Bench(BenchOptions()) as bench:
        answer = report.handlers(bench.meter)["history-export"]
        with pytest.raises(UsageError, match="interval_s 7: give one of 1800, 60, 300"):
            await answer({"interval_s": 7})
        with pytest.raises(UsageError, match="from_slot 'a': give a slot"):
            await answer({"interval_s": 60, "from_slot": "a"})


async def test_the_minutes_of_a_running_meter_are_exported_and_five_minutes_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    minutes, fives = tmp_path / "minutes.csv", tmp_path / "fives.csv"
    async with Bench(BenchOptions()) as bench:
        await bench.advance(600)
        latest = int(bench.clock.wall()) // 60
        for path, interval in ((minutes, "1m"), (fives, "5m")):
            words = ("--export", path, "--interval", interval, "--control", bench.control_path)
            assert await asyncio.to_thread(history, *words) == 0
    assert {row.at // 60 for row in read_all(minutes)} >= set(range(latest - 8, latest + 1))
    assert read_all(fives) == []
    assert "0 boundaries of unit" in capsys.readouterr().out.splitlines()[1]


async def test_a_unit_replaced_during_an_export_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages: Iterator[dict[str, Any]] = iter(
        (
            {"meter_id": "M", "unit_serial": "A", "records": [[1, 2, 3, 0]], "next": 9},
            {"meter_id": "M", "unit_serial": "B", "records": [], "next": None},
        )
    )
    monkeypatch.setattr(control, "ask", lambda *_args, **_words: next(pages))
    with pytest.raises(MeterError, match="its metering unit was replaced meanwhile"):
        history_export.profile_of(tmp_path, 60)
