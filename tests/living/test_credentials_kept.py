"""What the utility provisioned last stays in force, whatever happens to the power."""

import dataclasses
from pathlib import Path

import pytest

from meter_runtime import config as cfg
from meter_runtime import report, runtime
from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.laboratory import DEVICE_KEY, Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.clock import first_slot_of, jst_day
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.secret import Secret
from meter_runtime.units.board_profiles import GENERIC, load_profile
from meter_runtime.units.real_board import RealBoard

from .conftest import Home
from .terminal import Terminal

REWRITTEN = "NEWPASSWORD1"
EDITED = "EDITEDPASS12"


def options(folder: Path) -> BenchOptions:
    return BenchOptions(hems_modules=("bp35a1",), air="fast", state_dir=folder / "state")


def rewritten(bench: Bench) -> BRouteCredentials:
    today = jst_day(bench.clock.wall())
    return BRouteCredentials(LinkCredentials(bench.route_b_id, Secret(REWRITTEN)), today)


async def joins(bench: Bench, password: str) -> bool:
    """A home with this password gets in; found out by really joining."""
    async with Terminal(bench.tty).opened() as hems:
        try:
            await hems.join(bench.route_b_id, password)
        except AssertionError:
            return False
        return True


async def test_rewritten_credentials_outlive_a_power_cut_and_a_new_process(folder: Path) -> None:
    async with Bench(options(folder)) as bench:
        before = bench.password
        await bench.set_credentials(rewritten(bench))
        await bench.reboot()
        assert await joins(bench, REWRITTEN)
    async with Bench(options(folder)) as bench:
        assert bench.password == REWRITTEN
        assert bench.broute_credentials == rewritten(bench)
        assert not await joins(bench, before)
        assert await joins(bench, REWRITTEN)


async def test_the_acceptance_day_outlives_it_with_the_password(folder: Path) -> None:
    async with Bench(dataclasses.replace(options(folder), history_days=1)) as bench:
        await bench.set_credentials(rewritten(bench))
        await bench.reboot()
        async with Home(bench).joined() as home:
            yesterday = await home.get("historical_cumulative_energy_1", day=1)
            today = await home.get("historical_cumulative_energy_1", day=0)
        first = first_slot_of(jst_day(bench.clock.wall()))
        assert bench.meter.metering.record(first - 1) is not None
        assert {row["cumulative energy"] for row in yesterday} == {None}
        assert today[0]["cumulative energy"] is not None


async def test_an_edited_configuration_wins_once_and_a_stale_one_never(folder: Path) -> None:
    edited = dataclasses.replace(options(folder), password=Secret(EDITED))
    async with Bench(options(folder)) as bench:
        await bench.set_credentials(rewritten(bench))
    async with Bench(edited) as bench:
        assert bench.password == EDITED
        await bench.set_credentials(rewritten(bench))
    async with Bench(edited) as bench:
        assert bench.password == REWRITTEN


async def test_under_another_device_key_the_meter_measures_and_serves_nobody(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = folder / "state"
    settings = cfg.Config(
        meter=cfg.Meter(id="M-1"),
        storage=cfg.Storage(state_dir=state),
        units=cfg.Units(
            metering=cfg.MeteringUnit(driver="simulated"),
            communication=cfg.CommunicationUnit(port="serial:/dev/null"),
        ),
        broute=cfg.BRoute(id="0" * 32, password=Secret(EDITED)),
    )
    lives = ((DEVICE_KEY, True), (bytes(32), False), (DEVICE_KEY, True))
    for day, (key, serves) in enumerate(lives):
        clock = BenchClock(1_800_000_000.0 + 86_400 * day)
        stores = runtime.open_stores(settings)
        board = RealBoard(load_profile(GENERIC))
        meter = await runtime.build(settings, stores, clock, key, board=board)
        await meter.metering.poll()
        assert meter.metering.forward_mwh
        assert (meter.broute is not None) is serves
        troubles = report.status(meter)["storage"]["troubles"]
        assert troubles == ([] if serves else ["the stored credentials cannot be used"])
        await meter.close()
    assert "sealed under another device key" in caplog.text
    assert EDITED not in caplog.text
