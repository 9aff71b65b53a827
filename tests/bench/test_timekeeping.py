"""What a bench keeps of its time: read back as written, and never believed when damaged."""

import contextlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.bench.timekeeping import TIME_FILE, KeptTime, kept_time
from meter_runtime.errors import MeterError

SECONDS = st.floats(-1e10, 1e10)
HOST = 1_800_000_000.0


def read(content: bytes) -> KeptTime | None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, TIME_FILE).write_bytes(content)
        return kept_time(Path(folder))


def test_nothing_is_known_before_the_first_run(tmp_path: Path) -> None:
    assert kept_time(tmp_path) is None


@given(st.builds(KeptTime, SECONDS, SECONDS, SECONDS))
def test_it_is_read_as_it_was_written(kept: KeptTime) -> None:
    assert read(json.dumps(asdict(kept)).encode()) == kept


def test_a_bare_number_is_an_earlier_versions_offset() -> None:
    assert read(b"-191397.846\n") == KeptTime(-191397.846)


@given(st.binary(max_size=80))
def test_whatever_else_stands_there_is_damage_or_a_time(content: bytes) -> None:
    with contextlib.suppress(MeterError):
        assert isinstance(read(content), KeptTime)


@pytest.mark.parametrize(
    "content",
    ["", "null", "true", "NaN", "-Infinity", '"1.0"', "[1.0]", '{"offset_s": "1"}', '{"x": 1.0}'],
)
def test_what_is_no_time_is_damage(content: str) -> None:
    with pytest.raises(MeterError, match="is damaged"):
        read(content.encode())


def test_every_cut_of_the_file_is_damage() -> None:
    whole = json.dumps(asdict(KeptTime(1.5, 2.5, 3.5)))
    for length in range(len(whole)):
        with pytest.raises(MeterError, match="is damaged"):
            read(whole[:length].encode())


def test_true_time_is_the_hosts_and_the_offset() -> None:
    assert KeptTime(100.0, -7.0, 9.0).true_time(HOST, None) == HOST + 100


def test_true_time_is_never_before_what_was_stored() -> None:
    assert KeptTime(0.0).true_time(HOST, HOST + 5000) == HOST + 5000
    assert KeptTime(0.0).true_time(HOST, HOST - 5000) == HOST


def test_what_was_stored_by_a_fast_clock_is_as_much_earlier() -> None:
    assert KeptTime(0.0, 0.0, 3600.0).true_time(HOST, HOST + 5000) == HOST + 1400
