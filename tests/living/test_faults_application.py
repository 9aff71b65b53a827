"""What a HEMS meets while the meter answers, or announces, other than it should."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from .conftest import eventually
from .fault_room import (
    GET_RES,
    GET_SNA,
    INF,
    INFC,
    QUICK,
    Home,
    joined_home,
    properties,
    tids,
)

HALF_HOUR_S = 1800

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home() -> AsyncIterator[Home]:
    async with joined_home(QUICK) as joined:
        yield joined


async def test_the_meter_does_not_answer(home: Home) -> None:
    async with home.trouble("silent"):
        await home.send(0xE7)
        assert await home.outcome() == "00"
        await home.effects("silent", 1)
        home.bench.clear()
        told = await home.send(0xE7)
        assert tids(await home.rx_up_to(told)) == [told]


async def test_the_meter_takes_its_time(home: Home) -> None:
    async with home.trouble("slow", seconds="8s"):
        asked = await home.send(0xE7)
        await home.effects("slow", 1)
        since = home.bench.clock.monotonic()
        await home.bench.advance(10)
        assert (await home.rx(asked)).service == GET_RES
        assert home.bench.clock.monotonic() - since >= 8


async def test_one_property_cannot_be_told(home: Home) -> None:
    async with home.trouble("sna", epc="E7"):
        answer = await home.rx(await home.send(0xE7, 0xE8))
        told = properties(answer)
        assert (answer.service, told[0xE7], len(told[0xE8])) == (GET_SNA, b"", 4)
        assert (await home.rx(await home.send(0xE8))).service == GET_RES


async def test_no_property_can_be_told(home: Home) -> None:
    async with home.trouble("sna"):
        answer = await home.rx(await home.send(0x80, 0xE8))
        assert (answer.service, properties(answer)) == (GET_SNA, {0x80: b"", 0xE8: b""})


async def test_an_answer_carries_another_number(home: Home) -> None:
    async with home.trouble("wrong-tid", by=2):
        asked = await home.send(0xE7)
        assert (await home.rx(asked + 2)).service == GET_RES


async def test_an_answer_holds_fewer_properties(home: Home) -> None:
    async with home.trouble("fewer-properties"):
        assert list(await home.get(0x80, 0xE7, 0xE8)) == [0x80]
    async with home.trouble("fewer-properties", keep=0, count=1):
        assert await home.get(0xE7) == {}


async def test_an_answer_comes_twice(home: Home) -> None:
    async with home.trouble("stale-twice"):
        first, second = await home.send(0xE7), await home.send(0xE8)
        await home.rx(first)
        assert tids(await home.rx_up_to(second)) == [first, second]


async def test_half_hour_values_are_not_announced(home: Home) -> None:
    async with home.trouble("inf-lost"):
        home.terminal.announcements.clear()
        await home.bench.advance(HALF_HOUR_S + 60)
        await home.effects("inf-lost", 1)
    await home.bench.advance(HALF_HOUR_S)
    assert len(await home.terminal.announced(0xEA)) == 11
    assert not home.terminal.announcements


async def test_half_hour_values_are_announced_for_confirmation(home: Home) -> None:
    async with home.trouble("infc"):
        await home.bench.advance(HALF_HOUR_S)
        await home.effects("infc", 1)
        seen = await home.rx_up_to(await home.send(0x80))
        assert seen[0].service == INFC
        assert set(properties(seen[0])) == {0xEA, 0xEB}


async def test_an_announcement_comes_right_before_the_answer(home: Home) -> None:
    home.terminal.announcements.clear()
    async with home.trouble("inf-collides", count=1):
        asked = await home.send(0xE7)
        assert (await home.rx(asked)).service == GET_RES
        # It was there when the answer came.
        announced = home.terminal.announcements.popleft()
        assert announced.service == INF
        assert set(properties(announced)) == {0xEA, 0xEB}
        await eventually(lambda: not home.bench.faults())


async def test_the_property_map_names_what_nobody_knows(home: Home) -> None:
    plain = (await home.get(0x9F))[0x9F]
    async with home.trouble("unknown-epc", epc="F1"):
        strange = (await home.get(0x9F))[0x9F]
        assert strange[0] == plain[0] + 1
        # Low nibble 1, high nibble F: the bitmap's second byte, bit 7.
        assert strange[2] == plain[2] | 0x80
        assert (await home.rx(await home.send(0xF1))).service == GET_SNA
    assert (await home.get(0x9F))[0x9F] == plain
