"""Who is let in and who is not, and what the meter's diagnosis says of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import momonga
import pytest

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions

from .conftest import Home, eventually
from .terminal import Terminal

WRONG_ID = "0123456789ABCDEF0123456789ABCDEF"
WRONG_PASSWORD = "000000000000"
ACTIVE, HEMS_FAILURE, HEMS_UNCONNECTED = 1, 2, 3


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    options = BenchOptions(
        hems_modules=("bp35a1:pace=1ms", "bp35c2:pace=1ms"), meter_module="bp35a1:pace=1ms"
    )
    async with Bench(options) as running:
        yield running


@pytest.fixture
async def hems(bench: Bench) -> AsyncIterator[list[Terminal]]:
    """A terminal on each of the home's two modules."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Terminal(module.tty, dual=dual).opened())
            for module, dual in zip(bench.modules, (False, True), strict=True)
        ]


def diagnosis(bench: Bench) -> dict[str, Any]:
    report: dict[str, Any] = bench.status()["broute"]
    return report


async def message_becomes(bench: Bench, message: int) -> None:
    await eventually(lambda: diagnosis(bench)["message"] == message)


async def test_a_wrong_id_finds_no_meter(bench: Bench, hems: list[Terminal]) -> None:
    for terminal in hems:
        await terminal.log_in(WRONG_ID, bench.password)
        assert await terminal.scan() is None
    assert diagnosis(bench)["message"] == HEMS_UNCONNECTED


async def test_a_wrong_password_fails_and_the_right_one_mends_it(
    bench: Bench, hems: list[Terminal]
) -> None:
    terminal = hems[0]
    assert diagnosis(bench)["message"] == HEMS_UNCONNECTED
    await terminal.log_in(bench.route_b_id, WRONG_PASSWORD)
    await terminal.tune()
    assert not await terminal.knock()
    await message_becomes(bench, HEMS_FAILURE)
    assert diagnosis(bench)["text"] == "HEMS is failure"
    assert diagnosis(bench)["items"]["authentication"] == "failure"
    assert diagnosis(bench)["session"] is None

    await terminal.log_in(bench.route_b_id, bench.password)
    assert await terminal.knock()
    await message_becomes(bench, ACTIVE)
    assert diagnosis(bench)["items"]["authentication"] == "clear"
    assert await terminal.power() is not None


async def test_a_request_without_a_session_is_not_sent(bench: Bench, hems: list[Terminal]) -> None:
    terminal = hems[0]
    await terminal.log_in(bench.route_b_id, bench.password)
    await terminal.tune()
    terminal.write(b"".join(terminal.request(0xE7)))
    assert (await terminal.answer())[-2:] == [f"EVENT 21 {terminal.peer} 01", "OK"]
    assert diagnosis(bench)["counters"]["rx"] == 0


async def test_a_second_hems_is_refused_until_the_first_has_left(
    bench: Bench, hems: list[Terminal]
) -> None:
    first, second = hems
    await first.join(bench.route_b_id, bench.password)
    await message_becomes(bench, ACTIVE)
    home = diagnosis(bench)["session"]["peer"]

    await second.log_in(bench.route_b_id, bench.password)
    await second.tune()
    assert not await second.knock()
    # The one inside has noticed nothing.
    assert diagnosis(bench)["session"]["peer"] == home
    assert diagnosis(bench)["message"] == ACTIVE
    assert await first.power() is not None

    assert (await first.ask("SKTERM"))[-1] == "OK"
    await first.told("EVENT 27 ")
    await message_becomes(bench, HEMS_UNCONNECTED)
    assert await second.knock()
    await message_becomes(bench, ACTIVE)
    assert diagnosis(bench)["session"]["peer"] != home
    assert await second.power() is not None


async def test_a_hems_that_forgot_its_session_is_let_in_again(
    bench: Bench, hems: list[Terminal]
) -> None:
    terminal = hems[0]
    await terminal.join(bench.route_b_id, bench.password)
    assert (await terminal.ask("SKRESET"))[-1] == "OK"
    await terminal.join(bench.route_b_id, bench.password)
    assert await terminal.power() is not None
    assert diagnosis(bench)["message"] == ACTIVE


async def test_momonga_names_a_wrong_id_and_a_wrong_password() -> None:
    async with Bench(BenchOptions(hems_modules=("bp35a1", "bp35c2"))) as bench:
        stranger = Home(bench, 0, route_b_id=WRONG_ID)
        careless = Home(bench, 1, password=WRONG_PASSWORD)
        wrong_id, wrong_password = await asyncio.gather(
            stranger.open(), careless.open(), return_exceptions=True
        )
        assert isinstance(wrong_id, momonga.MomongaSkScanFailure)
        assert isinstance(wrong_password, momonga.MomongaSkJoinFailure)
        await message_becomes(bench, HEMS_FAILURE)
