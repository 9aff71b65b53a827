"""What a HEMS meets while its module, or the line to it, is faulty."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from .conftest import eventually
from .fault_room import QUICK, Home, joined_home

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home() -> AsyncIterator[Home]:
    async with joined_home(QUICK) as joined:
        yield joined


async def test_an_ok_is_lost(home: Home) -> None:
    async with home.trouble("no-ok", count=1):
        # The end of the answer is that of the next command.
        home.terminal.write(b"SKVER\r\n")
        answer = await home.terminal.ask("SKAPPVER")
        assert answer == ["EVER 1.2.10", "EAPPVER rev26e", "OK"]


async def test_an_ok_comes_late(home: Home) -> None:
    async with home.trouble("late-ok", seconds="200ms"):
        home.terminal.write(b"SKVER\r\n")
        await home.terminal.told("EVER ")
        since = home.terminal.now()
        assert await home.terminal.answer() == ["OK"]
        assert home.terminal.now() - since > 0.15


async def test_a_command_cannot_be_carried_out(home: Home) -> None:
    async with home.trouble("fail-er10", command="skver"):
        assert await home.terminal.ask("SKVER") == ["FAIL ER10"]
        assert (await home.terminal.ask("SKINFO"))[-1] == "OK"


async def test_a_command_that_is_being_written_when_a_fault_ends_is_not_lost(home: Home) -> None:
    async with home.trouble("fail-er10", command="SKJOIN"):
        home.terminal.write(b"SKINFO\r\nSKV")
        assert (await home.terminal.answer())[-1] == "OK"
        home.bench.clear("fail-er10")
        home.terminal.write(b"ER\r\n")
        assert await home.terminal.answer() == ["EVER 1.2.10", "OK"]


async def test_lines_dribble_in(home: Home) -> None:
    async with home.trouble("dribble", gap="2ms"):
        since = home.terminal.now()
        assert await home.terminal.ask("SKVER") == ["EVER 1.2.10", "OK"]
        assert home.terminal.now() - since > 0.002 * len("EVER 1.2.10 OK")


async def test_half_a_line_and_its_end_are_swallowed(home: Home) -> None:
    async with home.trouble("truncate-line", line="EVER"):
        assert await home.terminal.ask("SKINFO")
        home.terminal.write(b"SKVER\r\n")
        assert await home.terminal.told("EVER") == "EVER 1OK"


async def test_noise_stands_before_the_lines(home: Home) -> None:
    async with home.trouble("garbage", octets=9):
        noise, *answer = await home.terminal.ask("SKVER")
        assert len(noise) == 9
        assert answer == ["EVER 1.2.10", "OK"]
    async with home.trouble("garbage", octets=9, glued=1, count=1):
        spoilt, ok = await home.terminal.ask("SKVER")
        assert spoilt[9:] == "EVER 1.2.10"
        assert ok == "OK"


async def test_the_module_begins_to_echo(home: Home) -> None:
    async with home.trouble("echo-change"):
        assert await home.terminal.ask("SKVER") == ["SKVER", "EVER 1.2.10", "OK"]
    assert await home.terminal.ask("SKVER") == ["EVER 1.2.10", "OK"]


async def test_a_module_that_hangs_takes_and_says_nothing(home: Home) -> None:
    async with home.trouble("hang"):
        home.terminal.write(b"SKVER\r\n")
        await home.effects("hang", 1)
        home.bench.clear("hang")
        assert await home.terminal.ask("SKAPPVER") == ["EAPPVER rev26e", "OK"]


async def test_a_module_that_restarts_forgets_session_and_settings(home: Home) -> None:
    assert await home.terminal.ask("SKSREG SFE 1") == ["OK"]
    await home.begin("reset")
    assert await home.terminal.ask("SKSREG SFE") == ["ESREG 0", "OK"]
    assert await home.terminal.ask("SKREJOIN") == ["FAIL ER10"]
    await home.rejoin()
    await home.serves()


async def test_a_dongle_that_is_pulled_out_comes_back_at_the_same_device(home: Home) -> None:
    device = Path(home.terminal.device)
    await home.begin("unplug")
    assert not device.exists()
    home.terminal.close()
    home.bench.clear("unplug")
    await home.settled()
    assert device.exists()
    home.terminal.open()
    await home.rejoin()
    await home.serves()


async def test_what_is_sent_is_not_acknowledged(home: Home) -> None:
    async with home.trouble("tx-fail"):
        await home.send(0xE7)
        assert await home.outcome() == "01"


async def test_the_meters_answer_does_not_get_through(home: Home) -> None:
    async with home.trouble("tx-fail", module="meter", count=1):
        lost = await home.send(0xE7)
        assert await home.outcome() == "00"
        await eventually(lambda: not home.bench.faults())
        told = await home.send(0xE7)
        assert [frame.payload[2:4] for frame in await home.rx_up_to(told)] == [
            told.to_bytes(2, "big")
        ]
        assert lost != told


async def test_at_the_send_limit_nothing_is_sent_until_it_is_released(home: Home) -> None:
    async with home.trouble("send-limit"):
        await home.terminal.told("EVENT 32 ")
        assert await home.terminal.ask("SKSREG SFB") == ["ESREG 1", "OK"]
        await home.send(0xE7)
        assert await home.outcome() == "01"
        home.bench.clear("send-limit")
        await home.terminal.told("EVENT 33 ")


async def test_the_send_limit_releases_itself_when_the_hour_is_over(home: Home) -> None:
    async with home.trouble("send-limit"):
        await home.terminal.told("EVENT 32 ")
        await home.bench.advance(3700)
        await home.terminal.told("EVENT 33 ")
        await home.serves()
