"""inject, clear and clock, as the commands ask a running bench over its control socket."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from meter_runtime import control
from meter_runtime.bench.laboratory import Bench
from meter_runtime.errors import UsageError

from .fault_room import QUICK

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    async with Bench(QUICK) as running:
        yield running


async def test_faults_are_begun_shown_and_ended(bench: Bench) -> None:
    path = bench.control_path
    answer = await control.request(
        path, "inject", fault="slow", for_s=60, count=None, parameters={"seconds": "3s"}
    )
    assert [fault["name"] for fault in answer["faults"]] == ["slow"]
    assert (await control.request(path, "status"))["faults"] == answer["faults"]
    assert await control.request(path, "clear", fault="silent") == {"cleared": []}
    assert await control.request(path, "clear") == {"cleared": ["slow"]}
    assert (await control.request(path, "status"))["faults"] == []


async def test_an_answer_waits_until_the_meter_serves_again(bench: Bench) -> None:
    before = bench.meter
    await control.request(bench.control_path, "inject", fault="reboot", parameters={"down": 0})
    assert bench.meter is not before
    assert bench.meter.broute is not None
    assert bench.meter.broute.started.is_set()
    history = await control.request(bench.control_path, "history", day=0)
    assert history["day"] == 0


@pytest.mark.parametrize(
    ("do", "request_", "wrong"),
    [
        ("inject", {}, "name of a fault"),
        ("inject", {"fault": "slow", "for_s": "long"}, "for_s"),
        ("inject", {"fault": "slow", "parameters": [1]}, "is an object"),
        ("inject", {"fault": "slow", "parameters": {"second": 1}}, "seconds"),
        ("clear", {"fault": 3}, "name of a fault"),
        ("clock", {"set": "now"}, '"set", "step" or "rate"'),
        ("clock", {"rate": 1e9}, "ppm"),
        ("advance", {"seconds": "1h"}, "number of seconds"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    bench: Bench, do: str, request_: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(UsageError, match=wrong):
        await control.request(bench.control_path, do, **request_)
    assert bench.faults() == []


async def test_the_clock_is_moved_without_time_passing(bench: Bench) -> None:
    path, monotonic = bench.control_path, bench.clock.monotonic()
    answer = await control.request(path, "clock", set=1795359590)
    assert answer == {"now": "2026-11-22T23:59:50+09:00"}
    before = bench.clock.wall()
    await control.request(path, "clock", step=-3600)
    assert before - bench.clock.wall() == pytest.approx(3600, abs=5)
    await control.request(path, "clock", rate=50)
    assert bench.clock.rate_ppm == pytest.approx(50)
    assert bench.clock.monotonic() - monotonic < 60
