"""``headend mdms|readings|gaps``, and the days as Parquet."""

import csv
import io
import json
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from headend_room import make_lab

from meter_runtime import cli
from meter_runtime.aroute.messages import Reading, Readings
from meter_runtime.cli import headend_mdms
from meter_runtime.cli.parser import Parser
from meter_runtime.clock import first_slot_of, jst_day, slot_start
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend.lab import MDMS, Lab
from meter_runtime.headend.readings_parquet import DayFiles
from meter_runtime.headend.readings_store import FILE_NAME, ReadingsStore
from meter_runtime.headend.readings_view import LATE_S

DAY = jst_day(time.time()) - timedelta(days=2)
FIRST = first_slot_of(DAY)
Command = Callable[..., str]


def readings(
    first: int, last: int, *, without: tuple[int, ...] = (), sequence: int = 1, meter_id: str = "M1"
) -> Readings:
    """Half-hours ``first`` to ``last`` of the day, 100 Wh each; some of them the meter has not."""
    return Readings(
        meter_id=meter_id,
        unit="U1",
        sequence=sequence,
        after=FIRST + first - 1,
        upto=FIRST + last,
        readings=tuple(
            Reading(FIRST + each, 12_345_670 + 1000 * each, None, 2 if each == 5 else 0)
            for each in range(first, last + 1)
            if each not in without
        ),
        sent_at=0.0,
    )


def store(path: Path, *messages: Readings) -> None:
    with closing(ReadingsStore(path)) as opened:
        opened.take(messages, "collector-1", time.time())


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return make_lab(tmp_path, meters=("M1", "M2"))


@pytest.fixture
def command(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(action: str, *options: str) -> str:
        parser = Parser()
        headend_mdms.register(parser.add_subparsers(parser_class=Parser))
        args = parser.parse_args([action, "--lab", str(lab.path), *options])
        assert headend_mdms.run(args) == 0
        return capsys.readouterr().out

    return call


@pytest.fixture
def path(lab: Lab) -> Path:
    return lab.folder(MDMS) / FILE_NAME


def test_a_day_is_shown_with_what_was_used_and_what_is_not_known(
    command: Command, path: Path
) -> None:
    store(path, readings(0, 40, without=(7, 8)))
    lines = command("readings", "--meter", "M1", "--day", str(DAY)).splitlines()
    assert lines[0] == f"{DAY}  meter M1, unit U1"
    assert lines[3] == "00:00      1,234.5670     0.1000"
    assert lines[8] == "02:30      1,235.0670     0.1000  power_fail"
    assert lines[9] == "03:00      1,235.1670          -"
    assert lines[10] == "03:30               -          -  the meter has none"
    assert lines[44] == "20:30               -          -  not told by the meter"
    assert lines[-1].split() == ["sum", "3.7000", "(37", "of", "48", "half-hours)"]


def test_a_day_is_one_document_or_one_table_of_all_meters(command: Command, path: Path) -> None:
    store(path, readings(0, 48), readings(3, 60, meter_id="M2"))
    [first, second] = json.loads(command("readings", "--day", str(DAY), "--json"))
    assert (first["meter_id"], second["meter_id"]) == ("M1", "M2")
    assert first["date"] == str(DAY)
    assert first["half_hours"][5] == {
        "time": f"{DAY}T02:30:00+09:00",
        "forward_wh": 1_235_067.0,
        "reverse_wh": None,
        "used_wh": 100.0,
        "fed_wh": None,
        "flags": "power_fail",
        "state": "stored",
    }
    assert sum(each["used_wh"] for each in first["half_hours"]) == 4800
    rows = list(csv.DictReader(io.StringIO(command("readings", "--day", str(DAY), "--csv"))))
    assert len(rows) == 96
    assert rows[48]["state"] == "missing"
    assert rows[51]["meter_id"] == "M2"
    assert rows[51]["forward_wh"] == "1234867.0"


def test_gaps_are_listed_with_their_reason_and_meters_that_never_spoke(
    command: Command, path: Path
) -> None:
    assert command("gaps") == "M1  nothing was ever stored\nM2  nothing was ever stored\n"
    store(path, readings(0, 10, without=(7, 8)), readings(12, 300, sequence=2))
    assert command("gaps").splitlines() == [
        f"M1  U1  {DAY}T03:30+09:00 to {DAY}T04:00+09:00: 2 missing, the meter has none",
        f"M1  U1  {DAY}T05:30+09:00 to {DAY}T05:30+09:00: 1 missing, not told by the meter",
        "M2  nothing was ever stored",
    ]
    document = json.loads(command("gaps", "--json"))
    assert [gap["state"] for gap in document["gaps"]] == ["nothing", "missing"]
    assert document["silent"] == ["M2"]
    assert json.loads(command("gaps", "--json", "--meter", "M2")) == {"gaps": [], "silent": ["M2"]}
    store(path, readings(0, 300, sequence=3), readings(0, 300, meter_id="M2"))
    assert command("gaps") == "none\n"


def test_a_day_without_values_says_so(command: Command) -> None:
    assert command("readings", "--day", "2026-01-01") == "2026-01-01: nothing stored\n"
    assert json.loads(command("readings", "--json")) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("readings", "--meter", "M3"), 'meter "M3" is not enrolled'),
        (("readings", "--day", "yesterday"), "is no day"),
        (("gaps", "--meter", "M3"), 'meter "M3" is not enrolled'),
        (("mdms", "--name", "one two"), "letters, digits"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    command: Command, options: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        command(*options)


def test_the_commands_are_found_under_headend(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "headend", "the utility's side")
    assert cli.main(["headend", "gaps", "--lab", str(lab.path)]) == 0
    assert "M2" in capsys.readouterr().out


def test_each_day_that_is_over_is_a_file_that_follows_its_corrections(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path, folder = tmp_path / FILE_NAME, tmp_path / "days"
    over = float(slot_start(FIRST + 48) + LATE_S)
    store(path, readings(-2, 60), readings(0, 3, meter_id="M0"))
    files = DayFiles(folder)
    assert files.export(path, over - 1) == [folder / f"{DAY - timedelta(days=1)}.parquet"]
    assert files.export(path, over) == [folder / f"{DAY}.parquet"]
    table = parquet.read_table(folder / f"{DAY}.parquet")
    assert table.num_rows == 52
    assert str(table.schema.field("time").type) == "timestamp[ms, tz=Asia/Tokyo]"
    row = table.slice(9, 1).to_pylist()[0]
    assert row["time"].isoformat() == f"{DAY}T02:30:00+09:00"
    assert (row["meter_id"], row["unit_serial"], row["forward_wh"]) == ("M1", "U1", 1_235_067.0)
    assert (row["reverse_wh"], row["flags"]) == (None, "power_fail")
    # Another process does not write again what is there.
    assert DayFiles(folder).export(path, over) == []
    store(path, readings(0, 1, without=(1,), sequence=2))
    assert DayFiles(folder).export(path, over) == [folder / f"{DAY}.parquet"]
    assert parquet.read_table(folder / f"{DAY}.parquet").num_rows == 51
    (folder / f"{DAY}.parquet").write_bytes(b"PAR1")
    assert DayFiles(folder).export(path, over) == [folder / f"{DAY}.parquet"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow.parquet")
    (tmp_path / "file").touch()
    with pytest.raises(MeterError, match="cannot be made"):
        DayFiles(tmp_path / "file" / "days")
