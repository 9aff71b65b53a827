"""Faults begin, are timed, counted and told of, end, and leave nothing behind."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from meter_runtime.bench.laboratory import Bench
from meter_runtime.errors import MeterError, UsageError

from .conftest import eventually
from .fault_room import QUICK, Home, joined_home

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home() -> AsyncIterator[Home]:
    async with joined_home(QUICK) as joined:
        yield joined


async def test_a_fault_ends_when_its_time_is_over(home: Home) -> None:
    home.bench.inject("silent", for_s=30)
    await home.bench.advance(29)
    assert [fault["name"] for fault in home.bench.faults()] == ["silent"]
    await home.bench.advance(2)
    assert home.bench.faults() == []
    await home.serves()


async def test_a_fault_ends_after_so_many_effects(home: Home) -> None:
    home.bench.inject("wrong-tid", count=2)
    for left in (1, 0):
        asked = await home.send(0xE7)
        await home.rx(asked + 1)
        if left:
            assert home.bench.faults()[0]["left"] == left
    await eventually(lambda: not home.bench.faults())
    await home.serves()


async def test_a_fault_begun_again_has_its_new_parameters_only(home: Home) -> None:
    home.bench.inject("unit", code="0A")
    home.bench.inject("unit", code="02")
    assert [fault["parameters"] for fault in home.bench.faults()] == [{"code": "02"}]
    assert await home.get(0xE1) == {0xE1: b"\x02"}
    home.bench.clear("unit")
    assert await home.get(0xE1) == {0xE1: b"\x01"}


async def test_faults_overlap_and_end_in_any_order(home: Home) -> None:
    home.bench.inject("unit", code="0A")
    home.bench.inject("coefficient", value=10)
    home.bench.inject("no-data", what="power")
    home.bench.clear("unit")
    told = await home.get(0xE1, 0xD3, 0xE7)
    assert told == {0xE1: b"\x01", 0xD3: b"\0\0\0\x0a", 0xE7: bytes.fromhex("7FFFFFFE")}
    home.bench.clear()
    assert home.bench.faults() == []
    assert await home.get(0xD3) == {0xD3: b"\0\0\0\x01"}


async def test_active_faults_are_in_the_status_and_in_the_chronicle(home: Home) -> None:
    home.bench.inject("slow", for_s=60, seconds=2)
    (shown,) = home.bench.status()["faults"]
    assert (shown["name"], shown["group"]) == ("slow", "application")
    assert shown["parameters"] == {"seconds": 2.0}
    assert shown["since"] < shown["until"]
    home.bench.clear("slow")
    assert [(h.kind, h.detail["name"]) for h in tuple(home.bench.happenings)[-2:]] == [
        ("fault", "slow"),
        ("clear", "slow"),
    ]


async def test_what_is_not_possible_changes_nothing(home: Home) -> None:
    home.bench.inject("unit", code="0A")
    for name, settings, wrong in (
        ("unit", {"code": "05"}, "code=05"),
        ("silnet", {}, "silent"),
        ("reboot", {"for_s": 3.0}, "at once"),
        ("unit", {"count": 3}, "no effects to count"),
        ("silent", {"count": 0}, "count is 1"),
        ("silent", {"for_s": -1.0}, "more than 0 s"),
        ("hang", {"module": "hems7"}, 'no module "hems7"'),
    ):
        with pytest.raises(UsageError, match=wrong):
            home.bench.inject(name, **settings)
    with pytest.raises(UsageError, match="unit"):
        home.bench.clear("untt")
    assert await home.get(0xE1) == {0xE1: b"\x0a"}
    home.bench.clear()
    home.bench.clear("unit")


async def test_a_session_that_is_not_there_cannot_suffer(home: Home) -> None:
    home.bench.inject("terminate")
    await home.terminal.told("EVENT 26 ")
    for name in ("expire", "terminate", "frame-counter-jump"):
        with pytest.raises(MeterError, match="no HEMS is joined"):
            home.bench.inject(name)
    assert await home.terminal.knock()
    await home.serves()


async def test_new_passwords_are_not_in_the_status() -> None:
    async with Bench(QUICK) as bench:
        bench.inject("rewrite", password="NEWPASSWORD1")
        await bench.faults_at_work.settled()
        assert bench.password == "NEWPASSWORD1"
        assert "NEWPASSWORD1" not in str(bench.status())
        assert "NEWPASSWORD1" not in str(list(bench.happenings))


async def test_a_bench_may_be_left_in_the_middle_of_everything() -> None:
    async with Bench(QUICK) as bench:
        for name in ("reboot", "unplug", "hang", "send-limit", "midnight", "rewrite", "noise"):
            bench.inject(name)
