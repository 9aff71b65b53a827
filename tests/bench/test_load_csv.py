"""A load from a file: step-wise, repeated, and strict about its lines."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.bench.load import CsvLoad
from meter_runtime.errors import UsageError
from meter_runtime.units.contracts import Wiring
from meter_runtime.units.metering.simulated import Load

START = 1_790_000_000.0
START_MS = 1_790_000_000_000


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "load.csv"
    path.write_text(text)
    return path


def test_steps_hold_and_the_file_begins_again(tmp_path: Path) -> None:
    path = written(tmp_path, "time,power_w\n0,100\n10,-50\n15.5,0\n")
    load = CsvLoad(path, START)
    at = [(0, 100), (9.999, 100), (10, -50), (15.5, 0), (20.999, 0), (21, 100), (31, -50)]
    for seconds, power in [*at, (-0.001, 0), (-21, 100)]:
        assert load.power(START_MS + round(seconds * 1000)).power_w == power
    assert load.energy(START_MS, START_MS + 21_000) == (1_000_000, 275_000)
    assert load.energy(START_MS - 21_000, START_MS + 210_000) == (11_000_000, 3_025_000)
    assert load.energy(START_MS + 9_000, START_MS + 11_000) == (100_000, 50_000)


def test_dates_place_the_file_in_time(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "time,power_w\n2026-11-22T00:00:00,1\n2026-11-22T12:00+09:00,2\n",
    )
    load = CsvLoad(path, START)
    midnight_jst_ms = 1_795_273_200_000
    assert load.power(midnight_jst_ms).power_w == 1
    assert load.power(midnight_jst_ms - 1).power_w == 2
    assert load.power(midnight_jst_ms + 86_400_000).power_w == 1


def test_currents_are_the_files_or_follow_from_the_power(tmp_path: Path) -> None:
    path = written(tmp_path, "power_w,time,current_r_a,current_t_a\n100,0,1.5,-0.2\n200,5,,\n")
    load = CsvLoad(path, START)
    assert load.power(START_MS) == Load(100, 1500, -200)
    assert load.power(START_MS + 5000) == Load(200, 1000, 1000)
    two_wire = CsvLoad(written(tmp_path, "time,power_w\n0,100\n"), START, Wiring.ONE_PHASE_TWO_WIRE)
    assert two_wire.power(START_MS) == Load(100, 1000, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"load.csv:1: no column 'time'; name the columns time,power_w"),
        ("time,watts\n0,1\n", r"load.csv:1: no column 'power_w'"),
        ("time,power_w\n", r"load.csv:1: no row follows the header; add one"),
        ("time,power_w\n0,1\n\n5,x\n", r"load.csv:4: power_w 'x'; write a number"),
        ("time,power_w\n0,1\n5\n", r"load.csv:3: power_w ''"),
        ("time,power_w\n0,nan\n", r"load.csv:2: power_w 'nan'"),
        ("time,power_w\n0,1e9\n", r"load.csv:2: power_w '1e9'"),
        ("time,power_w\nnoon,1\n", r"load.csv:2: time 'noon'; write ISO 8601"),
        ("time,power_w\n-1,1\n", r"load.csv:2: time '-1' is out of range"),
        ("time,power_w\n5,1\n5,1\n", r"load.csv:3: the time does not increase"),
        ("time,power_w\n5,1\n2026-11-22,1\n", r"load.csv:3: time '2026-11-22' is of another kind"),
        ("time,power_w,current_r_a\n0,1,much\n", r"load.csv:2: current_r_a 'much'"),
        ("time,power_w\n0,1\n5,\x00\n", r"load.csv"),
    ],
)
def test_a_wrong_line_is_named_with_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CsvLoad(written(tmp_path, text), START)


def test_a_missing_file_and_a_binary_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.csv: cannot read the load: No such file"):
        CsvLoad(tmp_path / "none.csv", START)
    (tmp_path / "load.csv").write_bytes(b"time,power_w\n\xff\xfe,1\n")
    with pytest.raises(UsageError, match="not a CSV file in UTF-8"):
        CsvLoad(tmp_path / "load.csv", START)


@given(st.text(max_size=80))
def test_any_text_is_a_load_or_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(("time,power_w\n" + text).encode("utf-8", "surrogatepass"))
    try:
        load = CsvLoad(path, START)
    except UsageError:
        return
    forward, reverse = load.energy(START_MS, START_MS + 86_400_000)
    assert forward >= 0
    assert reverse >= 0
