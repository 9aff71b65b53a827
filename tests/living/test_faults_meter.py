"""What a HEMS meets when the meter loses power, is replaced, or gets other credentials."""

import dataclasses
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from .conftest import eventually
from .fault_room import QUICK, SET_C, Home, joined_home

NO_ENERGY = bytes.fromhex("FFFFFFFE")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home() -> AsyncIterator[Home]:
    async with joined_home(dataclasses.replace(QUICK, history_days=1)) as joined:
        yield joined


async def yesterday(home: Home) -> list[bytes]:
    """The registers of E2."""
    await home.rx(await home.send(0xE5, esv=SET_C, edt=b"\x01"))
    row = (await home.get(0xE2))[0xE2][2:]
    return [row[at : at + 4] for at in range(0, len(row), 4)]


async def test_a_reboot_ends_the_session_and_keeps_the_history(home: Home) -> None:
    serial, before = await home.get(0x8D), await yesterday(home)
    await home.begin("reboot", down=0)
    assert home.bench.status()["broute"]["session"] is None
    await home.rejoin()
    await home.serves()
    assert await home.get(0x8D) == serial
    assert await yesterday(home) == before


async def test_without_power_the_meter_is_not_on_the_air(home: Home) -> None:
    home.bench.inject("reboot", down="10m")
    await eventually(lambda: not home.bench.dongle("meter").plugged)
    assert await home.terminal.scan() is None
    await home.bench.advance(601)
    await home.settled()
    await home.rejoin()
    await home.serves()


async def test_a_fault_outlives_the_meters_restart(home: Home) -> None:
    async with home.trouble("unit", code="0A"):
        await home.begin("reboot", down=0)
        await home.rejoin()
        assert await home.get(0xE1) == {0xE1: b"\x0a"}
    assert await home.get(0xE1) == {0xE1: b"\x01"}


async def test_other_credentials_end_the_session_and_admit_others(home: Home) -> None:
    password, before = home.bench.password, await yesterday(home)
    await home.begin("rewrite", password="NEWPASSWORD1")
    await home.terminal.told("EVENT 26 ")
    await eventually(lambda: home.bench.happenings[-1].kind == "link-started")
    await home.terminal.log_in(home.bench.route_b_id, password)
    await home.terminal.tune()
    assert not await home.terminal.knock()
    await home.terminal.log_in(home.bench.route_b_id, "NEWPASSWORD1")
    assert await home.terminal.knock()
    # What was before is the last customer's.
    assert set(await yesterday(home)) == {NO_ENERGY}

    home.bench.clear("rewrite")
    await home.terminal.told("EVENT 26 ")
    await eventually(lambda: home.bench.happenings[-1].kind == "link-started")
    assert home.bench.password == password
    await home.rejoin()
    assert await yesterday(home) == before


async def test_another_id_is_not_found_by_the_old_one(home: Home) -> None:
    old, new = home.bench.route_b_id, "F" * 32
    await home.begin("rewrite", id=new)
    await home.terminal.told("EVENT 26 ")
    await eventually(lambda: home.bench.happenings[-1].kind == "link-started")
    await home.terminal.log_in(old, home.bench.password)
    assert await home.terminal.scan() is None
    await home.rejoin()
    home.bench.clear("rewrite")
    await home.terminal.told("EVENT 26 ")
    await eventually(lambda: home.bench.happenings[-1].kind == "link-started")
    await home.rejoin()
    await home.serves()


async def test_the_next_customer_sees_nothing_of_the_last_ones_choices() -> None:
    options = dataclasses.replace(QUICK, history_days=1, echonet_profile="aif-1.10")
    async with joined_home(options) as home:
        own = bytes.fromhex(home.bench.route_b_id)[4:]
        assert await home.get(0xC0) == {0xC0: b"\x00\xff\xff\xf0" + own}
        await yesterday(home)
        assert await home.get(0xE5) == {0xE5: b"\x01"}

        await home.begin("rewrite", id="F" * 32)
        await home.terminal.told("EVENT 26 ")
        await eventually(lambda: home.bench.happenings[-1].kind == "link-started")
        await home.rejoin()

        assert await home.get(0xC0) == {0xC0: b"\x00\xff\xff\xf0" + b"\xff" * 12}
        assert await home.get(0xE5) == {0xE5: b"\xff"}


async def test_a_replaced_unit_hides_the_history_before_it(home: Home) -> None:
    serial = await home.get(0x8D)
    await home.begin("replaced", down=0)
    await home.rejoin()
    await home.serves()
    assert await home.get(0x8D) != serial
    assert set(await yesterday(home)) == {NO_ENERGY}
