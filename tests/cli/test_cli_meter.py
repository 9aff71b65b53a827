"""The commands that talk to a running meter, over a real control socket."""

import asyncio
import builtins
import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from meter_runtime.cli import main
from meter_runtime.control import ControlServer

SLOTS = [1_234_500 + 100 * index for index in range(48)]
STATUS: dict[str, Any] = {
    "meter_id": "M-0001",
    "version": "0.1.0",
    "uptime_s": 273_845,
    "clock": {"now": "2026-11-22T12:00:07+09:00", "trust": "synced"},
    "units": {
        "communication": {
            "model": "BP35A1",
            "serial": "001D129012345678",
            "state": "active",
            "address": "FE80::1",
        },
        "metering": {"model": "SIM-30", "serial": "S000000001", "state": "active"}
        | {"wiring": "1P3W", "two_way": True, "broute": False},
        "optional": None,
    },
    "combination": {
        "ok": True,
        "findings": [{"code": "U-22", "severity": "info", "text": "communication unit replaced"}],
    },
    "registers": {
        "forward_wh": 12_345_678,
        "reverse_wh": 123,
        "power_w": -450,
        "current_r_a": -2.2,
        "current_t_a": None,
    },
    "history": {"stored": 1969, "oldest": "2026-10-12T00:00", "newest": "2026-11-22T12:00"},
    "broute": {
        "in_service": True,
        "message": 1,
        "text": "active status",
        "items": {
            "startup": "clear",
            "authentication": "clear",
            "connection": "clear",
            "communication_unit": "normal",
        },
        "undefined_combination": False,
        "medium": "920MHz",
        "session": {"peer": "FE80::2", "since": "10:00:00", "expires": "11:00:00"},
        "counters": {"received": 1234, "malformed": 0},
    },
    "aroute": {
        "connected": True,
        "protocol": "5",
        "queued": 1,
        "queued_results": 0,
        "queued_events": 1200,
        "acknowledged_up_to": "2026-11-22T11:30:00+09:00",
        "last_command": {
            "id": "0102030405060708090a0b0c0d0e0f10",
            "code": "OK",
            "answered": "2026-11-22T11:58:00+09:00",
        },
        "counters": {
            "link": {"published": 900},
            "commands": {"OK": 2, "REJECTED": 0, "silent": 1},
        },
    },
}


@dataclass
class Meter:
    """A meter that answers what the test put in, and remembers what it was asked."""

    path: Path
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def command(self, *argv: str) -> int:
        return await asyncio.to_thread(main, [*argv, "--control", str(self.path)])


@pytest.fixture
async def meter(tmp_path: Path) -> AsyncIterator[Meter]:
    meter = Meter(tmp_path / "control.sock", {"status": STATUS, "advance": {"now": "13:30"}})
    meter.answers["history"] = day(SLOTS, SLOTS[-1] + 150)

    async def status(arguments: dict[str, Any]) -> object:
        return meter.answers["status"]

    async def history(arguments: dict[str, Any]) -> object:
        meter.asked.append(arguments)
        return meter.answers["history"]

    async def advance(arguments: dict[str, Any]) -> object:
        meter.asked.append(arguments)
        return meter.answers["advance"]

    server = ControlServer(meter.path, {"status": status, "history": history, "advance": advance})
    await server.start()
    yield meter
    await server.close()


def day(values: list[Any], following: float | None, unit_kwh: float = 0.001) -> dict[str, Any]:
    return {
        "day": 1,
        "date": "2026-11-21",
        "direction": "forward",
        "unit_kwh": unit_kwh,
        "values_wh": values,
        "next_wh": following,
    }


async def test_the_status_fits_one_screen(meter: Meter, capsys: pytest.CaptureFixture[str]) -> None:
    assert await meter.command("status") == 0
    assert (
        capsys.readouterr().out
        == """\
meter       M-0001  version 0.1.0  up 3d 4h
clock       2026-11-22T12:00:07+09:00  synced
registers   forward 12,345.678 kWh  reverse 0.123 kWh
            power -450 W to the grid  R -2.2 A  T - A
history     1,969 half-hours  2026-10-12T00:00 to 2026-11-22T12:00
units       communication  BP35A1  no. 001D129012345678  active  address FE80::1
            metering       SIM-30  no. S000000001  active  wiring 1P3W  two way
            optional       none
combination valid
            U-22 info: communication unit replaced
B-route     message 1: active status
            startup clear  authentication clear  connection clear  communication unit normal
            920MHz  HEMS FE80::2  since 10:00:00  until 11:00:00
            received 1,234
A-route     connected by MQTT 5  waiting: 1 half-hour, 1,200 events\
  acknowledged up to 2026-11-22T11:30:00+09:00
            last command 0102030405060708090a0b0c0d0e0f10  OK  answered 2026-11-22T11:58:00+09:00
            commands  OK 2  silent 1
"""
    )


async def test_the_status_as_a_document_is_the_meters_own(
    meter: Meter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await meter.command("status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == STATUS


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"meter_id": "M"},
        {"broute": {}, "aroute": None, "units": {}},
        {"registers": {"forward_wh": None}, "broute": {"in_service": False, "session": None}},
        {"combination": {"ok": False}, "history": {"stored": 0, "oldest": None, "newest": None}},
        {"clock": {"trust": "unset"}, "uptime_s": 0, "version": "9"},
    ],
)
async def test_a_status_with_less_in_it_is_shown_all_the_same(
    meter: Meter, capsys: pytest.CaptureFixture[str], status: dict[str, Any]
) -> None:
    meter.answers["status"] = status
    assert await meter.command("status") == 0
    assert capsys.readouterr().out.startswith("meter")


async def test_a_utility_that_is_away_is_told_with_what_waits_for_it(
    meter: Meter, capsys: pytest.CaptureFixture[str]
) -> None:
    aroute: dict[str, Any] = {"connected": False, "protocol": None, "queued": 2}
    aroute |= {"queued_results": 1, "acknowledged_up_to": None, "last_command": None}
    aroute |= {"counters": {"commands": {}}}
    meter.answers["status"] = {"aroute": aroute}
    assert await meter.command("status") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "A-route     not connected  waiting: 2 half-hours, 1 result  nothing acknowledged yet"
    ]


async def test_a_day_is_a_table_with_its_sum(
    meter: Meter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await meter.command("history", "--day", "1", "--reverse") == 0
    assert meter.asked == [{"day": 1, "reverse": True}]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2026-11-21  forward"
    assert lines[3] == "00:00       1,234.500      0.100  " + "▇" * 20
    assert lines[50] == "23:30       1,239.200      0.150  " + "▇" * 30
    assert lines[-1] == "sum" + " " * 24 + "4.850"
    assert lines[-1].index("4.850") == lines[3].index("0.100")


async def test_unknown_half_hours_are_no_zeros(
    meter: Meter, capsys: pytest.CaptureFixture[str]
) -> None:
    meter.answers["history"] = day([*SLOTS[:10], None, *SLOTS[11:40], *[None] * 8], None)
    assert await meter.command("history") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[12] == "04:30       1,235.400          -"
    assert lines[13] == "05:00               -          -"
    assert lines[-1].endswith("3.700  (37 of 48 half-hours)")


async def test_a_day_without_any_value_is_a_table_too(
    meter: Meter, capsys: pytest.CaptureFixture[str]
) -> None:
    meter.answers["history"] = day([None] * 48, None)
    assert await meter.command("history", "--day", "41") == 0
    assert capsys.readouterr().out.endswith("0.000  (0 of 48 half-hours)\n")


async def test_a_day_is_shown_to_the_wh_or_to_what_a_count_is_worth(
    meter: Meter, capsys: pytest.CaptureFixture[str]
) -> None:
    meter.answers["history"] = day([100.5 * index for index in range(48)], None, 0.0001)
    assert await meter.command("history") == 0
    assert "00:30          0.1005     0.1005" in capsys.readouterr().out
    meter.answers["history"] = day(SLOTS, None, 0.1)
    assert await meter.command("history") == 0
    assert "00:30       1,234.600      0.100" in capsys.readouterr().out


async def test_a_day_as_csv(meter: Meter, capsys: pytest.CaptureFixture[str]) -> None:
    meter.answers["history"] = day([*SLOTS[:47], None], 1)
    assert await meter.command("history", "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 48
    assert rows[0] == {
        "date": "2026-11-21",
        "time": "00:00",
        "register_kwh": "1234.500",
        "use_kwh": "0.100",
    }
    assert (rows[46]["use_kwh"], rows[47]["register_kwh"]) == ("", "")


async def test_a_day_as_a_document_is_the_meters_own(
    meter: Meter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await meter.command("history", "--json") == 0
    assert json.loads(capsys.readouterr().out) == meter.answers["history"]


async def test_a_day_is_drawn(
    meter: Meter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "day.png"
    meter.answers["history"] = day([*SLOTS[:20], None, *SLOTS[21:]], None)
    assert await meter.command("history", "--plot", str(picture)) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"{picture}\n"


async def test_a_picture_that_cannot_be_written_is_named(
    meter: Meter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert await meter.command("history", "--plot", str(tmp_path / "no" / "day.png")) == 1
    assert "day.png: No such file or directory" in capsys.readouterr().err


async def test_without_matplotlib_the_extra_is_named(
    meter: Meter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert await meter.command("history", "--plot", "day.png") == 1
    assert "pip install 'meter-runtime[bench]'" in capsys.readouterr().err
    assert meter.asked == []


async def test_the_clock_is_moved(meter: Meter, capsys: pytest.CaptureFixture[str]) -> None:
    assert await meter.command("advance", "1h30m") == 0
    assert meter.asked == [{"seconds": 5400.0}]
    assert capsys.readouterr().out == "advanced 1h 30m; the meter's clock shows 13:30\n"


async def test_a_clock_that_does_not_tell_is_moved_all_the_same(
    meter: Meter, capsys: pytest.CaptureFixture[str]
) -> None:
    meter.answers["advance"] = None
    assert await meter.command("advance", "90s") == 0
    assert capsys.readouterr().out == "advanced 1m 30s\n"


def test_a_socket_nobody_serves_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--control", str(tmp_path / "none.sock")]) == 1
    assert "no meter runs here" in capsys.readouterr().err
