"""Two HEMSs that hold the same credentials, and one that never leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.comm.skstack.unit import DEFAULT_LIFETIME_S

from .conftest import eventually
from .terminal import Terminal

RENEW_BY_ITSELF = "S17"
PAUSE_S = 0.05


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    options = BenchOptions(
        hems_modules=("bp35a1:pace=1ms", "bp35a1:pace=1ms"), meter_module="bp35a1:pace=1ms"
    )
    async with Bench(options) as running:
        yield running


@pytest.fixture
async def hems(bench: Bench) -> AsyncIterator[tuple[Terminal, Terminal]]:
    """The first has joined, the second has found the meter."""
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(Terminal(module.tty).opened())
            for module in bench.modules
        ]
        await first.join(bench.route_b_id, bench.password)
        await second.log_in(bench.route_b_id, bench.password)
        await second.tune()
        await eventually(lambda: session(bench) is not None)
        yield first, second


def session(bench: Bench) -> dict[str, Any] | None:
    found: dict[str, Any] | None = bench.status()["broute"]["session"]
    return found


def counter(bench: Bench, name: str) -> int:
    return int(bench.status()["broute"]["counters"].get(name, 0))


async def test_the_first_is_served_on_while_the_second_knocks(
    bench: Bench, hems: tuple[Terminal, Terminal]
) -> None:
    first, second = hems
    before = session(bench)
    knocking = asyncio.create_task(second.knock())
    read = 0
    while not knocking.done():
        await first.power()
        await asyncio.sleep(PAUSE_S)
        read += 1
    assert not await knocking
    assert read > 20
    assert session(bench) == before
    assert counter(bench, "AuthOk") == 1
    assert counter(bench, "AuthFailed") == counter(bench, "PeerLeft") == 0


async def test_the_second_is_admitted_once_the_first_has_left(
    bench: Bench, hems: tuple[Terminal, Terminal]
) -> None:
    first, second = hems
    assert (await first.ask("SKTERM"))[-1] == "OK"
    await first.told("EVENT 27 ")
    await eventually(lambda: session(bench) is None)
    assert await second.knock()
    assert await second.power() is not None
    assert counter(bench, "tx_refused") == 0


async def test_a_home_that_does_not_renew_its_session_makes_room_when_its_life_ends(
    bench: Bench, hems: tuple[Terminal, Terminal]
) -> None:
    first, second = hems
    assert (await first.ask(f"SKSREG {RENEW_BY_ITSELF} 0"))[-1] == "OK"
    await bench.advance(DEFAULT_LIFETIME_S - 60)
    assert session(bench) is not None
    assert not await second.knock()
    await bench.advance(120)
    await first.told("EVENT 29 ")
    # The meter knows by itself when a life ends, and its module says so a little later.
    await eventually(lambda: counter(bench, "SessionExpired") == 1)
    assert session(bench) is None
    assert await second.knock()
    assert await second.power() is not None


async def test_a_home_that_died_keeps_its_place_until_its_session_ends(
    bench: Bench, hems: tuple[Terminal, Terminal]
) -> None:
    _, second = hems
    await bench.dongle("hems0").unplug()
    assert not await second.knock()
    await bench.advance(DEFAULT_LIFETIME_S + 60)
    # The meter knows by itself when a life ends, and its module says so a little later.
    await eventually(lambda: counter(bench, "SessionExpired") == 1)
    assert session(bench) is None
    assert await second.knock()
    assert await second.power() is not None


async def test_a_home_that_renews_its_session_keeps_its_place_for_days(
    bench: Bench, hems: tuple[Terminal, Terminal]
) -> None:
    first, second = hems
    await bench.advance(2 * DEFAULT_LIFETIME_S)
    assert counter(bench, "AuthOk") >= 3
    assert counter(bench, "SessionExpired") == 0
    assert not await second.knock()
    assert await first.power() is not None
