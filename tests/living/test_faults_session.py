"""What a HEMS meets while its session suffers."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from .conftest import eventually
from .fault_room import QUICK, Home, joined_home

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home() -> AsyncIterator[Home]:
    async with joined_home(QUICK) as joined:
        yield joined


async def test_the_meter_refuses_every_join(home: Home) -> None:
    await home.begin("auth-refused")
    assert not await home.terminal.knock()
    assert not await home.terminal.knock()
    assert home.bench.status()["broute"]["items"]["authentication"] == "failure"
    home.bench.clear()
    assert await home.terminal.knock()
    await home.serves()


async def test_the_meter_refuses_once(home: Home) -> None:
    await home.begin("auth-refused", count=1)
    assert not await home.terminal.knock()
    await eventually(lambda: not home.bench.faults())
    assert await home.terminal.knock()
    await home.serves()


async def test_a_session_expires_and_the_next_begins_anew(home: Home) -> None:
    await home.begin("expire")
    await home.terminal.told("EVENT 29 ")
    await home.send(0xE7)
    assert await home.outcome() == "01"
    assert await home.terminal.knock()
    await home.serves()


async def test_the_meter_ends_the_session(home: Home) -> None:
    await home.begin("terminate")
    await home.terminal.told("EVENT 26 ")
    await eventually(lambda: home.bench.status()["broute"]["session"] is None)
    assert await home.terminal.knock()
    await home.serves()


async def test_reauthentication_is_blocked_and_the_session_lives(home: Home) -> None:
    await home.begin("reauth-blocked", seconds="10m")
    assert await home.terminal.ask("SKREJOIN") == ["OK"]
    await home.effects("reauth-blocked", 1)
    await home.bench.advance(120)
    await home.terminal.told("EVENT 24 ")
    await home.serves()
    await home.bench.advance(600)
    assert home.bench.faults() == []
    assert await home.terminal.ask("SKREJOIN") == ["OK"]
    await home.terminal.told("EVENT 25 ")
    await home.serves()


@pytest.mark.parametrize("whose", ["meter", "hems"])
async def test_replayed_frames_are_acknowledged_and_not_heard(home: Home, whose: str) -> None:
    await home.begin("frame-counter-jump", of=whose)
    before = len(home.bench.frames)
    await home.send(0xE7)
    assert await home.outcome() == "00"
    if whose == "meter":
        await eventually(lambda: len(home.bench.frames) >= before + 2)
    assert await home.terminal.knock()
    await home.serves()
