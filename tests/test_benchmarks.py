"""``./dev bench``: every group measures real work and its figures reach the table.

The counts are tiny: what is tested is that a figure comes, not how large it is.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import aroute, aroute_reading, datagram, echonet, flood, startup, storage, units
from benchmarks.groups import GROUPS
from benchmarks.machine import describe
from benchmarks.row import Row
from meter_runtime.errors import MeterError

ROOT = Path(__file__).parents[1]
LOAD_THE_SERVICE = """\
import sys
import meter_runtime.cli.run
import meter_runtime.comm.skstack.unit
import meter_runtime.units.metering.simulated
print(*sys.modules)
"""
MACHINE: dict[str, str | int] = {"cpu": "Z80", "cores": 1}
RESULTS = {
    "echonet": [Row("E7 x 1", 7.126, "µs/request", 8.0), Row("E2 x 10,000", 12_345.67, "µs")],
    "startup": [Row("run: first beacon", 251.04, "ms", 600.0)],
}


def names(rows: Sequence[Row]) -> list[str]:
    assert all(row.figure > 0 for row in rows), rows
    return [row.name for row in rows]


def test_every_request_is_measured_in_every_batch() -> None:
    assert names(echonet.measure(history_days=2, batches=((1, 2), (3, 1)))) == [
        "E7 x 1",
        "E7 x 3",
        "six properties x 1",
        "six properties x 3",
        "E2 x 1",
        "E2 x 3",
        "E2 of another day each time",
    ]


def test_a_wrong_answer_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echonet, "_DWH_PER_COUNT", 999)
    with pytest.raises(AssertionError):
        echonet.measure(history_days=2, batches=((1, 1),))


def test_an_answer_is_set_beside_an_echo() -> None:
    assert names(datagram.measure(datagrams=20, repeats=1)) == [
        "UDP echo",
        "UDP answer to E7",
        "answer : echo",
    ]


def test_a_durable_half_hour_is_weighed_beside_sqlite_and_a_bare_write() -> None:
    rows = storage.measure(half_hours=96, openings=1)
    # A file system without a device of its own has no count of it.
    told = [name for name in names(rows) if not name.endswith(("on the device", "with metadata"))]
    assert told == [
        "half hours lived through",
        "file: bytes asked",
        "file: a half hour",
        "SQLite: bytes asked",
        "SQLite: a half hour",
        "files, from the first to the last",
        "SQLite's files at the end",
        "ring append",
        "bare write and fdatasync",
        "append : bare",
        "append : bare, lower quartile",
        "append : bare, upper quartile",
        "FRAM: bytes at the chip",
        "recovery of 2,016 values",
        "recovery of 12,960 values",
    ]
    figures = {row.name: row.figure for row in rows}
    assert figures["half hours lived through"] == 96
    # The first registers are written twice.
    assert figures["file: bytes asked"] == 64 + 48 / 96
    assert figures["FRAM: bytes at the chip"] == 64


def test_a_store_that_forgets_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.SqliteContender, "store", lambda *_: None)
    with pytest.raises(AssertionError):
        storage.measure(half_hours=4, openings=1)


def test_a_slow_disk_lives_through_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "WITHIN_S", 0.0)
    rows = storage.measure(half_hours=96, openings=1)
    assert rows[0] == Row("half hours lived through", 1, "half hours")


def test_the_service_is_started_found_and_asked() -> None:
    rows = startup.measure(runs=1)
    assert names(rows) == [
        "import meter_runtime.runtime",
        "run: first beacon",
        "run: first answer",
        "run: memory while serving",
    ]
    assert rows[1].figure < rows[2].figure


def test_commands_half_hours_and_an_idle_meter_are_measured() -> None:
    rows = aroute.measure(commands=3, readings=2, idle_s=0.5)
    told = names(rows)
    assert told[:6] == [
        "New System: sign and seal",
        "control side: dispatch",
        "message with a new password",
        "meter: open and verify",
        "meter: all of it, in memory",
        "meter: all of it, in files",
    ]
    brokers = [name.split(":")[0] for name in told if name.endswith(": on the wire")]
    assert brokers == ["bench's broker", "Mosquitto, TLS"][: len(brokers)] != []
    assert told[-3:] == [
        "idle without an A-route",
        "idle with one, connected",
        "idle: with : without",
    ]


def test_a_meter_that_does_not_obey_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aroute, "_PROOF_KEY", b"too short")
    with pytest.raises(AssertionError):
        aroute.measure(commands=1)


def test_a_meter_that_fails_on_its_way_to_the_utility_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aroute_reading, "mosquitto", lambda: None)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(MeterError, match="the meter of the benchmark failed"):
        aroute_reading.measure(readings=1)


def test_a_service_that_ends_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(startup, "_CONFIGURATION", "[meter]\n")
    with pytest.raises(MeterError, match="the service ended"):
        startup.measure(runs=1)
    assert '[meter] lacks the key "id"' in capfd.readouterr().err


def test_the_firmware_service_carries_nothing_of_the_laboratory() -> None:
    loaded = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", LOAD_THE_SERVICE],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert "meter_runtime.comm.skstack.driver" in loaded
    heavy = {"meter_runtime.bench", "rich", "matplotlib", "numpy", "momonga", "pyarrow"}
    assert heavy.isdisjoint(loaded)


def test_the_table_names_the_machine_the_figures_and_the_aims() -> None:
    assert command.table(MACHINE, RESULTS) == (
        "cpu           Z80\n"
        "cores         1\n"
        "\n"
        "                                      figure  unit            aim\n"
        "echonet\n"
        "  E7 x 1                                7.13  µs/request      <= 8\n"
        "  E2 x 10,000                       12,345.7  µs\n"
        "startup\n"
        "  run: first beacon                    251.0  ms              <= 600\n"
    )


def test_one_document_holds_all_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "GROUPS", {"startup": lambda: RESULTS["startup"]})
    assert command.main(["--json"]) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["machine"].keys() == describe().keys()
    assert document["rows"] == [
        {
            "group": "startup",
            "name": "run: first beacon",
            "figure": 251.04,
            "unit": "ms",
            "aim": 600.0,
        }
    ]
    assert said.err == "measuring startup\n"


def test_the_machine_is_described_in_full() -> None:
    machine = describe()
    assert all(machine.values())
    assert machine.keys() >= {"cpu", "cores", "kernel", "python", "date"}


def test_groups_are_chosen_by_name_in_the_order_of_the_table() -> None:
    assert command.choose("startup, echonet") == ["echonet", "startup"]
    assert set(command.choose(",".join(GROUPS))) == set(GROUPS)


def test_an_unknown_group_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(["--only", "echonet,strtup"]) == 2
    assert capsys.readouterr().err == 'benchmarks: no group "strtup"; did you mean "startup"?\n'


def test_a_flood_is_measured_beside_a_quiet_home() -> None:
    rows = flood.measure(seconds=5, pairs=1)
    figures = {row.name: row.figure for row in rows}
    assert len(figures) == len(rows)
    assert all(figure > 0 for name, figure in figures.items() if " grew, " not in name), figures
    assert figures["requests at the meter, flooded"] > 400
    # The home is answered more than once a second, and not beyond what one home is granted.
    assert 10 < figures["answers, flooded"] <= 150


def test_units_are_found_and_read_and_no_pulse_is_lost() -> None:
    rows = units.measure(discoveries=2, idle_s=0.2, pulses_s=3)
    assert [row.unit for row in rows] == ["ms", "ms/s", "ms/s", "pulses"]
    assert all(row.figure > 0 for row in rows[:-1])
    assert rows[-1].figure == 0
