"""A home on the power line: joined, read, rewritten, disturbed, and the meter without power."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.plc import JoinFailed
from meter_runtime.bench.plc.adapter import Phase
from meter_runtime.errors import MeterError
from meter_runtime.secret import Secret

from .conftest import eventually

PLC = BenchOptions(units=Path(__file__).parents[2] / "examples" / "units" / "plc.toml")
ON = b"\x30"


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    async with Bench(PLC) as running:
        yield running


async def joined(bench: Bench) -> None:
    await bench.plc.join(bench.route_b_id, bench.password)
    assert (await bench.plc.get(0x80))[0x80] == ON


async def test_the_unit_of_the_file_serves_and_the_home_has_no_radio(bench: Bench) -> None:
    unit = bench.status()["units"]["communication"]
    assert (unit["model"], unit["state"]) == ("CU-RF-PLC-1", "active")
    assert bench.status()["broute"]["medium"] == "PLC"
    (meter,) = bench.ready_document()["meters"]
    assert meter["hems_modules"] == []
    assert meter["meter_module"]["profile"] == "g3plc"
    with pytest.raises(MeterError, match="no radio module"):
        _ = bench.tty


async def test_the_home_joins_and_reads_what_the_meter_has(bench: Bench) -> None:
    await joined(bench)
    counted = await bench.plc.get(0xE0, 0xE7, 0x97)
    assert [len(counted[code]) for code in (0xE0, 0xE7, 0x97)] == [4, 4, 2]
    told = [frame.summary for frame in bench.frames if frame.source == "hems"]
    assert told[-1] == "Get E0 E7 97"
    joins = [one for one in bench.happenings if one.kind in ("joining", "joined")]
    assert [one.detail["peer"] for one in joins] == ["hems", "hems"]


async def test_the_half_hourly_value_is_announced(bench: Bench) -> None:
    await joined(bench)
    await bench.advance(1900)
    await bench.plc.get(0x80)
    await eventually(lambda: any(frame.properties for frame in bench.plc.announced))


async def test_a_wrong_password_is_refused_and_the_right_one_is_not(bench: Bench) -> None:
    with pytest.raises(JoinFailed) as refused:
        await bench.plc.join(bench.route_b_id, "WRONGWRONG12")
    assert refused.value.phase is Phase.REFUSED
    await joined(bench)


async def test_new_credentials_kick_the_home_which_joins_with_them(bench: Bench) -> None:
    await joined(bench)
    former = bench.password
    await bench.set_credentials(
        replace(
            bench.broute_credentials,
            link=replace(bench.credentials, password=Secret("NEWNEWNEW123")),
        )
    )
    await eventually(lambda: bench.plc.adapter.phase is Phase.KICKED)
    with pytest.raises(JoinFailed):
        await bench.plc.join(bench.route_b_id, former)
    await joined(bench)


async def test_the_meter_without_power_is_not_found_and_comes_back(bench: Bench) -> None:
    await joined(bench)
    assert bench.body.plc is not None
    before = bench.body.plc.modem.extended
    await bench.reboot()
    assert bench.body.plc.modem.extended == before
    assert bench.plc.adapter.phase is Phase.JOINED  # nobody told it
    await joined(bench)
    told = [one.kind for one in bench.happenings]
    assert (told.count("link-started"), told.count("joining")) == (2, 2)


async def test_another_communication_unit_has_another_modem(bench: Bench) -> None:
    await joined(bench)
    assert bench.body.plc is not None
    before = bench.body.plc.modem.extended
    await bench.unplug_unit("communication")
    await bench.plug_unit("communication", another=True)
    assert bench.body.plc.modem.extended != before
    await eventually(
        lambda: bench.body.plc is not None and bench.body.plc.modem.state.pan_id is not None
    )
    await joined(bench)
