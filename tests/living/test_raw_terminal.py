"""A HEMS that speaks to its module by hand: every dialect and initial state, every way to write."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions

from .conftest import steady
from .terminal import GAP_S, Rx, Terminal

INSTANCE_LIST_WITHIN_S = 15.0
ON = b"\x30"
NO_FAULT = b"\x42"
OTHER = {"bp35a1": "bp35c2", "bp35c2": "bp35a1"}
DIALECTS = pytest.mark.parametrize("profile", ["bp35a1", "bp35c2"])


@asynccontextmanager
async def home(
    profile: str, *, echo: int = 1, wopt: int = 0, pace: str = "1ms"
) -> AsyncIterator[tuple[Bench, Terminal]]:
    """A bench whose meter speaks the other dialect, and a terminal that has not joined."""
    options = BenchOptions(
        hems_modules=(f"{profile}:echo={echo},wopt={wopt},pace={pace}",),
        meter_module=f"{OTHER[profile]}:pace={pace}",
    )
    terminal_kind = {"dual": profile == "bp35c2", "raw": wopt == 0}
    async with (
        Bench(options) as bench,
        Terminal(bench.tty, **terminal_kind).opened() as terminal,
    ):
        yield bench, terminal


@asynccontextmanager
async def joined(
    profile: str, *, echo: int = 1, wopt: int = 0, pace: str = "1ms"
) -> AsyncIterator[tuple[Bench, Terminal]]:
    async with home(profile, echo=echo, wopt=wopt, pace=pace) as (bench, terminal):
        await terminal.join(bench.route_b_id, bench.password)
        assert await terminal.get(0x80) == ON  # the meter, too, knows of the session
        yield bench, terminal


@DIALECTS
@pytest.mark.parametrize("echo", [0, 1])
@pytest.mark.parametrize("wopt", [0, 1])
async def test_every_kind_of_module_finds_the_meter_joins_and_reads_it(
    profile: str, echo: int, wopt: int
) -> None:
    async with home(profile, echo=echo, wopt=wopt) as (bench, terminal):
        assert len(await terminal.ask("SKVER")) == 2 + echo
        await terminal.log_in(bench.route_b_id, bench.password)
        found = await terminal.scan()
        assert found is not None
        assert found["Addr"] == bench.ready_document()["meters"][0]["meter_module"]["mac"]
        assert found["PairID"] == bench.route_b_id[-8:]
        assert ("Side" in found) == (profile == "bp35c2")
        await terminal.tune()
        assert await terminal.knock()
        metering = bench.meter.metering
        power, meters = await steady(lambda: metering.power_w, terminal.power)
        assert power == meters
        assert bench.status()["broute"]["message"] == 1


@DIALECTS
async def test_the_instance_list_comes_within_15_s_of_the_session(profile: str) -> None:
    async with joined(profile) as (bench, terminal):
        since = bench.clock.monotonic() - 1  # at most: the session began a moment ago
        await bench.advance(INSTANCE_LIST_WITHIN_S - 5)
        assert await terminal.announced(0xD5) == bytes.fromhex("01028801")
        assert bench.clock.monotonic() - since < INSTANCE_LIST_WITHIN_S


@DIALECTS
async def test_a_request_may_come_byte_by_byte(profile: str) -> None:
    async with joined(profile) as (bench, terminal):
        metering = bench.meter.metering

        async def power() -> int:
            header, data = terminal.request(0xE7)
            await terminal.write_apart(header + data)
            return int.from_bytes(await terminal.got(0xE7), "big", signed=True)

        value, meters = await steady(lambda: metering.power_w, power)
        assert value == meters


@DIALECTS
async def test_a_request_may_come_in_two_pieces_split_anywhere(profile: str) -> None:
    async with joined(profile, pace="0ms") as (_, terminal):
        whole = len(b"".join(terminal.request(0xD3)))
        for at in range(1, whole):
            request = b"".join(terminal.request(0x88))
            terminal.write(request[:at])
            await asyncio.sleep(GAP_S)
            terminal.write(request[at:])
            assert await terminal.got(0x88) == NO_FAULT, f"split after {at} bytes"


@DIALECTS
async def test_header_and_data_may_come_200_ms_apart(profile: str) -> None:
    async with joined(profile) as (_, terminal):
        header, data = terminal.request(0x88)
        terminal.write(header)
        await asyncio.sleep(0.2)
        terminal.write(data)
        assert await terminal.got(0x88) == NO_FAULT


@DIALECTS
@pytest.mark.parametrize("echo", [0, 1])
async def test_a_line_end_behind_the_data_is_a_blank_line_at_most(profile: str, echo: int) -> None:
    async with joined(profile, echo=echo) as (_, terminal):
        header, data = terminal.request(0x88)
        terminal.write(header + data + b"\r\n")
        seen: list[str] = []

        def answered(line: Rx | str) -> bool:
            if isinstance(line, str):
                seen.append(line)
            return isinstance(line, Rx)

        await terminal.until(answered)
        side = " 0" if profile == "bp35c2" else ""
        order = [f"EVENT 21 {terminal.peer}{side} 00", "OK"]
        if echo:
            order = [header.decode(), *order, ""]
        assert seen == order
        # And nothing of it is left to spoil the next command.
        assert (await terminal.ask("SKVER"))[-1] == "OK"


@DIALECTS
async def test_a_request_in_clear_is_not_answered(profile: str) -> None:
    async with joined(profile) as (bench, terminal):
        header, data = terminal.request(0xE7)
        terminal.write(header.replace(b" 0E1A 1", b" 0E1A 0") + data)
        assert (await terminal.answer())[-1] == "OK"
        assert await terminal.get(0x88) == NO_FAULT
        assert bench.status()["broute"]["counters"]["rx_plaintext"] == 1
