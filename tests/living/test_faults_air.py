"""What a HEMS meets while the air is bad, and that it is good again afterwards."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from .fault_room import QUICK, Home, joined_home, tids

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home() -> AsyncIterator[Home]:
    async with joined_home(QUICK) as joined:
        yield joined


async def test_a_lost_frame_is_reported_as_not_sent(home: Home) -> None:
    async with home.trouble("loss", rate=1, traffic="echonet", direction="up"):
        for _ in range(2):
            await home.send(0xE7)
            assert await home.outcome() == "01"


async def test_so_many_frames_are_lost_as_were_asked_for(home: Home) -> None:
    await home.begin("loss", rate=1, traffic="echonet", count=2)
    outcomes = []
    for _ in range(3):
        await home.send(0xE7)
        outcomes.append(await home.outcome())
    assert outcomes == ["01", "01", "00"]
    await home.serves()
    assert home.bench.faults() == []


async def test_a_late_answer_comes_when_its_time_has_passed(home: Home) -> None:
    async with home.trouble("delay", seconds="60s", direction="down", traffic="echonet"):
        tid = await home.send(0xE7)
        assert await home.outcome() == "00"
        await home.effects("delay", 1)
        since = home.bench.clock.monotonic()
        await home.bench.advance(61)
        assert (await home.rx(tid)).service == 0x72
        assert home.bench.clock.monotonic() - since >= 60


async def test_a_frame_may_arrive_several_times(home: Home) -> None:
    async with home.trouble("duplicate", copies=3, direction="down", traffic="echonet"):
        asked = await home.send(0xE7)
        assert [(await home.rx(asked)).payload[10] for _ in range(3)] == [0x72] * 3


async def test_answers_overtake_each_other(home: Home) -> None:
    settings = {"rate": 1, "within": "30s", "direction": "down", "traffic": "echonet"}
    async with home.trouble("reorder", **settings):
        asked = []
        for _ in range(6):
            asked.append(await home.send(0xE7))
            assert await home.outcome() == "00"
        await home.effects("reorder", 6)
        await home.bench.advance(31)
        home.bench.clear("reorder")
        came = tids(await home.rx_up_to(await home.send(0x80)))[:-1]
        assert sorted(came) == asked
        assert came != asked


async def test_a_weaker_link_shows_in_the_scan(home: Home) -> None:
    before = await home.terminal.scan()
    async with home.trouble("attenuate", db=22):
        found = await home.terminal.scan()
    assert before is not None
    assert found is not None
    # 0.275 dB each.
    assert int(before["LQI"], 16) - int(found["LQI"], 16) == 80
    assert await home.terminal.scan() == before


async def test_in_noise_nobody_finds_a_pause_to_send(home: Home) -> None:
    async with home.trouble("noise"):
        await home.send(0xE7)
        assert await home.outcome() == "01"


async def test_out_of_range_there_is_no_meter(home: Home) -> None:
    async with home.trouble("out-of-range"):
        assert await home.terminal.scan() is None
        await home.send(0xE7)
        assert await home.outcome() == "01"
    assert await home.terminal.scan() is not None
