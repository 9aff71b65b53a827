"""What a HEMS meets while the meter's clock is wrong, or the day ends at a bad moment."""

import dataclasses
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from .fault_room import QUICK, SET_C, SET_RES, Home, joined_home

MINUTES_A_DAY = 24 * 60
NO_ENERGY = bytes.fromhex("FFFFFFFE")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home() -> AsyncIterator[Home]:
    async with joined_home(dataclasses.replace(QUICK, history_days=1)) as joined:
        yield joined


async def minute_of_day(home: Home) -> int:
    """EPC 97."""
    hour, minute = (await home.get(0x97))[0x97]
    return hour * 60 + minute


async def passed(home: Home, since: int) -> int:
    return (await minute_of_day(home) - since) % MINUTES_A_DAY


async def test_the_clock_is_wrong_by_hours_until_it_is_set_right(home: Home) -> None:
    before = await minute_of_day(home)
    async with home.trouble("step", seconds="2h"):
        assert await passed(home, before) in (120, 121)
    assert await passed(home, before) in (0, 1)


async def test_a_drifting_clock_gains(home: Home) -> None:
    before = await minute_of_day(home)
    async with home.trouble("drift", ppm=100_000):
        await home.bench.advance(100 * 60)
        assert await passed(home, before) in (110, 111)
    before = await minute_of_day(home)
    await home.bench.advance(100 * 60)
    assert await passed(home, before) in (100, 101)


async def test_midnight_passes_between_the_choice_of_a_day_and_its_reading(home: Home) -> None:
    async with home.trouble("midnight"):
        today = (await home.get(0x98))[0x98]
        chosen = await home.rx(await home.send(0xE5, esv=SET_C, edt=b"\x00"))
        assert chosen.service == SET_RES
        told = await home.get(0xE5, 0xE2, 0x98)
        assert told[0x98] != today
        # The chosen day is yesterday's by now, and complete.
        assert told[0xE5] == b"\x01"
        assert told[0xE2][:2] == b"\x00\x01"
        assert told[0xE2][-4:] != NO_ENERGY
        assert home.bench.faults() == []
