"""What a HEMS at the power line meets while it is bad, and that it is good again afterwards."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.plc import JoinFailed, NoAnswer
from meter_runtime.bench.plc.adapter import PATIENCE_S, Phase
from meter_runtime.broute.diagnosis import Message
from meter_runtime.errors import MeterError

from .conftest import eventually
from .fault_room import QUICK

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLC = BenchOptions(units=Path(__file__).parents[2] / "examples" / "units" / "plc.toml")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    async with Bench(PLC) as running:
        await running.plc.join(running.route_b_id, running.password)
        yield running


async def serves(bench: Bench) -> None:
    """The meter answers as if nothing had ever been."""
    assert (await bench.plc.get(0x80))[0x80] == b"\x30"
    await eventually(lambda: message(bench) is Message.ACTIVE)


def message(bench: Bench) -> Message:
    assert bench.meter.broute is not None
    now = bench.clock.monotonic()
    return bench.meter.broute.link.verdict(now).message


async def test_what_swallows_the_signal_disconnects_the_home_until_it_is_gone(
    bench: Bench,
) -> None:
    await serves(bench)
    bench.inject("plc-attenuation", db=60)
    with pytest.raises(NoAnswer):
        await bench.plc.get(0xE7, within_s=0.3)
    broute = bench.meter.broute
    assert broute is not None
    assert broute.link.session is not None
    home = broute.link.session.peer
    assert [await broute.unit.send(b"\x10\x81", home) for _ in range(3)] == [False] * 3
    await eventually(lambda: message(bench) is Message.HEMS_UNCONNECTED)
    causes = [cause["code"] for cause in bench.status()["broute"]["causes"]]
    assert {"signal_reduced", "noise"} <= set(causes)
    bench.clear("plc-attenuation")
    assert bench.faults() == []
    await serves(bench)


async def test_in_front_of_the_meter_it_keeps_everybody_out(bench: Bench) -> None:
    bench.inject("plc-attenuation", db=100, at="meter")
    joining = asyncio.create_task(bench.plc.join(bench.route_b_id, bench.password))
    await asyncio.sleep(0)
    await bench.advance(PATIENCE_S + 1)
    with pytest.raises(JoinFailed) as ended:
        await joining
    assert ended.value.phase is Phase.NOT_FOUND
    bench.clear()
    await bench.plc.join(bench.route_b_id, bench.password)
    await serves(bench)


async def test_some_noise_costs_some_answers(bench: Bench) -> None:
    await serves(bench)
    bench.inject("plc-noise", rate=0.7)
    answered = 0
    for _ in range(20):
        with contextlib.suppress(NoAnswer):
            await bench.plc.get(0xE7, within_s=0.2)
            answered += 1
    assert 0 < answered < 20
    bench.clear()
    await serves(bench)


async def test_so_much_noise_lets_nothing_through(bench: Bench) -> None:
    bench.inject("plc-noise", rate=1)
    with pytest.raises(NoAnswer):
        await bench.plc.get(0xE7, within_s=0.3)
    bench.clear()
    await serves(bench)


async def test_a_house_on_the_radio_has_no_power_line_to_disturb() -> None:
    async with Bench(QUICK) as radio:
        with pytest.raises(MeterError, match="B-route is on the radio"):
            radio.inject("plc-noise")
        with pytest.raises(MeterError, match="B-route is on the radio"):
            _ = radio.plc
