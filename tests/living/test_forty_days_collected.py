"""Forty days of half-hours, for a moment: whatever ends meanwhile, the MDMS has every one once."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from mosquitto_broker import MosquittoBroker, free_port, mosquitto

from fuzz import collecting
from meter_runtime import cli, report
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.clock import JST, slot_at
from meter_runtime.headend.lab import Lab
from meter_runtime.headend.readings_view import Gap, ReadingsView, State

from . import utility_room
from .conftest import eventually

OPENS = datetime(2026, 8, 31, 23, 50, tzinfo=JST)


@pytest.fixture(autouse=True)
def _needs_mosquitto() -> None:
    mosquitto()


@pytest.mark.timeout(400)
def test_forty_days_are_collected_through_outages_power_cuts_and_killed_collectors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert collecting.main(["1", "--seed", "3"]) == 0
    (life, last) = capsys.readouterr().out.splitlines()
    assert life.startswith("seed 3: 1921 boundaries in ")
    for kind in collecting.HAPPENINGS:
        assert re.search(rf"\b[1-9]\d* {kind}\b", life)
    assert last == "1 lives, every half-hour collected once"


def test_a_value_that_is_not_the_meters_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*asked: Any) -> dict[str, Any]:
        page = export(*asked)
        page["records"][-1][1] += 1
        return page

    export = report.export_page
    monkeypatch.setattr(report, "export_page", other)
    for name, days in (("DAYS", 1), ("BOUNDARIES", 49)):
        monkeypatch.setattr(collecting, name, days)
    assert collecting.main(["1", "--seed", "3"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"collect: seed 3: boundary \d+ is \w+ as \(.*\), and stored is \(", told)


async def test_of_a_half_hour_that_opened_without_power_the_store_says_that_there_is_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = Lab.create(folder / "lab", broker_port=free_port())
    with MosquittoBroker(folder, lab=lab):
        async with (
            Bench(BenchOptions(start=OPENS, lab=lab.path)) as bench,
            utility_room.collecting(bench) as store,
        ):
            await bench.advance(2 * 3600)
            missed = slot_at(bench.clock.wall()) + 1
            await utility_room.power_cut(bench, 1200)
            await bench.advance(2 * 3600)
            await eventually(lambda: bench.status()["aroute"]["queued"] == 0)
            assert bench.meter.metering.record(missed) is None
            with ReadingsView(store) as view:
                gaps = view.gaps(bench.clock.wall())
                stored = {each.slot for each in view.readings(0, missed + 10)}
    unit = bench.meter.metering.unit.nameplate.serial
    assert gaps == [Gap("BENCH-1", unit, missed, missed, State.NOTHING)]
    assert {missed - 1, missed + 1} <= stored
    words = ("readings", "--lab", str(lab.path), "--day", "2026-09-01")
    assert cli.main(["headend", *words]) == 0
    assert capsys.readouterr().out.count("the meter has none") == 1
    assert cli.main(["headend", *words, "--json"]) == 0
    (day,) = json.loads(capsys.readouterr().out)
    unknown = [half["state"] for half in day["half_hours"] if half["used_wh"] is None]
    assert unknown.count("nothing") == 1
