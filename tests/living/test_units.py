"""A bench of plug-in units, and momonga, which reads what the chips have counted."""

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from meter_runtime.bench.board.mcp39f521 import Mcp39f521Chip
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.units.contracts import Wiring

from .conftest import Home, steady
from .program import command, program

EXAMPLES = Path(__file__).parents[2] / "examples" / "units"
MWH_PER_COUNT = 100_000
"""EPC E1 of the bench: 0.1 kWh."""
MA_PER_COUNT = 100


def chips(bench: Bench) -> list[Mcp39f521Chip]:
    found = bench.body.unit("metering").chips.values()
    assert all(isinstance(chip, Mcp39f521Chip) for chip in found)
    return [chip for chip in found if isinstance(chip, Mcp39f521Chip)]


def counted_mwh(bench: Bench, direction: int) -> int:
    return sum(chip.counters_mwh[direction] for chip in chips(bench))


def counts_held(bench: Bench, direction: int) -> int:
    return counted_mwh(bench, direction) // MWH_PER_COUNT


async def units_of(control: str) -> dict[str, Any]:
    told = await command("status", "--json", "--control", control)
    assert (told.status, told.err) == (0, "")
    units: dict[str, Any] = json.loads(told.out)["units"]
    return units


async def test_the_command_boots_the_units_of_a_file(folder: Path) -> None:
    units = EXAMPLES / "two-way-60a.toml"
    env = {"XDG_RUNTIME_DIR": str(folder), "TMPDIR": str(folder)}
    async with program("bench", "--no-ui", "--units", units, env=env) as started:
        control = json.loads(await started.line())["control"]
        found = await units_of(control)
        assert {slot: (unit["model"], unit["serial"]) for slot, unit in found.items()} == {
            "communication": ("CU-RF-920-2", "C00000000001"),
            "metering": ("MU-1P3W-60-2", "M00000000001"),
            "optional": ("OU-SW-60", "S00000000001"),
        }
        assert {unit["state"] for unit in found.values()} == {"active"}
        for fault in ("unit-unplug", "nak"):
            done = await command("inject", fault, "slot=optional", "--control", control)
            assert (done.status, done.err) == (0, "")
        await command("advance", "1m", "--control", control)
        assert (await units_of(control))["optional"]["state"] == "removed"
        await command("clear", "--control", control)
        await command("advance", "1m", "--control", control)
        assert (await units_of(control))["optional"]["state"] == "active"
        assert (await started.end(signal.SIGINT)).status == 0


@pytest.mark.parametrize(
    ("argv", "wrong"),
    [
        (("--units", "nowhere.toml"), "nowhere.toml: no such file"),
        (("--units", "{}", "--one-way"), "--units: the file says the wiring and the ways"),
    ],
)
async def test_a_wrong_file_of_units_is_told_before_anything_is_made(
    argv: tuple[str, ...], wrong: str
) -> None:
    example = str(EXAMPLES / "voltage.toml")
    ended = await command("bench", *(each.format(example) for each in argv))
    assert ended.status == 2
    assert wrong in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("units", ["two-way-60a", "voltage", None])
async def test_momonga_reads_what_the_chips_hold(units: str | None) -> None:
    options = BenchOptions(units=None if units is None else EXAMPLES / f"{units}.toml")
    async with Bench(options) as bench, Home(bench).joined() as home:
        await bench.advance(3600)
        for direction, reverse in enumerate((False, True)):
            read, held = await steady(
                partial(counts_held, bench, direction),
                partial(home.get, "measured_cumulative_energy", reverse=reverse),
            )
            assert round(read * 10) == held
        house = bench.body.household.supply
        power, held = await steady(
            lambda: sum(house.flow(line).power_mw for line in (0, 1)),
            lambda: home.get("instantaneous_power"),
        )
        assert abs(power * 1000 - held) <= 1000
        currents, ma = await steady(
            lambda: [house.flow(line).current_ma for line in (0, 1)],
            lambda: home.get("instantaneous_current"),
        )
        for phase, of_line in zip("rt", ma, strict=True):
            assert abs(abs(currents[f"{phase} phase current"]) * 1000 - of_line) <= MA_PER_COUNT


@pytest.mark.parametrize(
    ("options", "model", "lines"),
    [
        (BenchOptions(wiring=Wiring.ONE_PHASE_TWO_WIRE, two_way=False), "MU-1P2W-120-1", 1),
        (BenchOptions(two_way=False), "MU-1P3W-60-1", 2),
        (BenchOptions(wiring=Wiring.THREE_PHASE_THREE_WIRE), "MU-3P3W-60-2", 2),
    ],
)
async def test_other_wirings_and_ways_have_their_own_units(
    options: BenchOptions, model: str, lines: int
) -> None:
    async with Bench(options) as bench:
        await bench.advance(60)
        status = bench.status()
        assert status["units"]["metering"]["model"] == model
        assert len(chips(bench)) == lines
        assert (status["registers"]["current_t_a"] is None) is (lines == 1)
        assert status["combination"] == {"ok": True, "in_service": True, "findings": []}
        forward = int(status["registers"]["forward_wh"] * 1000)
        assert counted_mwh(bench, 0) - forward in range(50)


async def test_a_kept_unit_counts_on_while_the_bench_is_away(tmp_path: Path) -> None:
    options = BenchOptions(state_dir=tmp_path, units=EXAMPLES / "two-way-60a.toml")
    async with Bench(options) as bench:
        await bench.advance(3600)
        before = bench.status()["registers"]
    async with Bench(options) as bench:
        await bench.advance(60)
        after = bench.status()["registers"]
        assert bench.status()["combination"]["findings"] == []
    for direction in ("forward_wh", "reverse_wh"):
        assert 0 <= after[direction] - before[direction] < 200


async def test_units_that_do_not_suit_each_other_are_out_of_service() -> None:
    async with Bench(BenchOptions(units=EXAMPLES / "four-mistakes.toml")) as bench:
        combination = bench.status()["combination"]
        assert not combination["in_service"]
        assert {"U-08", "U-16"} <= {finding["code"] for finding in combination["findings"]}
        assert bench.status()["broute"]["in_service"] is False
        await bench.advance(60)
        assert bench.status()["registers"]["forward_wh"] is not None


UNLABELLED = """
[[unit]]
slot = "communication"
model = "CU-RF-920-2"
serial = "C1"

[[unit]]
slot = "metering"
model = "{model}"
serial = "M1"
driver = "{driver}"
labelled = false
options = {options}
"""


@pytest.mark.parametrize(
    ("model", "driver", "options", "serial"),
    [
        ("MCP39F521", "mcp39f521", "{}", "MCP39F521@74"),
        ("S0", "s0", '{ serial = "P1", pulses_per_kwh = 1000 }', "P1"),
    ],
)
async def test_a_unit_without_a_nameplate_is_detected_or_believed(
    tmp_path: Path, model: str, driver: str, options: str, serial: str
) -> None:
    units = tmp_path / "units.toml"
    units.write_text(UNLABELLED.format(model=model, driver=driver, options=options), "utf-8")
    async with Bench(BenchOptions(units=units)) as bench:
        shown = bench.status()["units"]["metering"]
        assert (shown["serial"], shown["state"]) == (serial, "active")
        await bench.advance(3600)
        assert bench.status()["registers"]["power_w"] is not None
