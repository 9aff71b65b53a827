"""A terminal at a bench's meter: the button, the rewriting on site, and what the home notices."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import date
from pathlib import Path

import pytest
from new_system_room import HARA, MORI, RelayInMemory

from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.presence import WINDOW_S
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.cli import main
from meter_runtime.errors import MeterError
from meter_runtime.headend.authority import Role
from meter_runtime.headend.handheld import Answer, Order, Terminal
from meter_runtime.headend.handheld_link import connect
from meter_runtime.headend.new_system import NewSystem
from meter_runtime.headend.register_contracts import ContractRecord, SupplyPoint
from meter_runtime.headend.register_requests import State

PATIENCE_S = 20.0


@asynccontextmanager
async def a_bench(**options: object) -> AsyncIterator[Bench]:
    async with Bench(BenchOptions(local="127.0.0.1:0", **options)) as bench:  # type: ignore[arg-type]
        yield bench


@contextmanager
def new_system(bench: Bench) -> Iterator[NewSystem]:
    meter_id = bench.meter.config.meter.id
    with NewSystem.open(bench.utility.lab, relay=RelayInMemory()) as system:
        if not system.staff.people():
            system.staff.add(0, "Abe", frozenset({Role.ADMINISTRATOR}), None)
            system.staff.add(0, HARA, frozenset({Role.REGISTRAR}), "Abe")
            system.staff.add(0, MORI, frozenset({Role.BROUTE}), "Abe")
            register = system.register
            register.add_supply_point(0, HARA, SupplyPoint("SP-1", "1-2-3 Nakanoshima"))
            register.add_contract(
                0,
                HARA,
                ContractRecord("C-1", "Sato Hana", "SP-1", accepted_on=date(2026, 11, 1)),
            )
            register.add_meter(0, HARA, meter_id, "SP-1", bench.route_b_id)
        yield system


async def address(bench: Bench) -> tuple[str, int]:
    port = bench.meter.local_port
    assert port is not None
    async with asyncio.timeout(PATIENCE_S):
        while port.address is None:  # noqa: ASYNC110 - a socket's doing
            await asyncio.sleep(0.02)
    return port.address


async def delivered(bench: Bench, terminal: Terminal, order: Order) -> Answer:
    async with connect(await address(bench), terminal.tls, order.meter) as link:
        sent = terminal.sign(time.time(), order, "Tanaka")
        said = await link.command(sent)
    return terminal.take(time.time(), order, "Tanaka", sent, said)


async def test_a_password_is_rewritten_on_site_and_the_letter_has_it(tmp_path: Path) -> None:
    async with a_bench() as bench:
        former = bench.password
        with new_system(bench) as system:
            meter_id = bench.meter.config.meter.id
            request = await system.issuing.issue(
                "broute.rewrite_password", meter_id, by=MORI, on_site=True
            )
            with Terminal.of_lab(bench.utility.lab, "terminal-1") as terminal:
                (order,) = terminal.load(time.time(), [request.envelope])
                assert bench.status()["local_port"]["open"] is False
                await bench.press_button()
                answer = await delivered(bench, terminal, order)
                assert (answer.result.code, answer.verified) == (Code.OK, True)
                terminal.export(time.time(), order, tmp_path / "o.result")
            message = (tmp_path / "o.result").read_bytes()
            assert system.issuing.take(message).state is State.DONE
            letter = tmp_path / "letter.txt"
            system.letters.post(time.time(), MORI, request.id, letter)
        assert bench.password != former
        assert bench.password in letter.read_text().replace(" ", "")


async def test_the_port_closes_by_the_meters_clock_and_opens_with_the_button(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with a_bench() as bench:
        tls = bench.utility.lab.tls("terminals/terminal-1")
        with Terminal.of_lab(bench.utility.lab, "terminal-1"):
            pass
        press = ["handheld", "press", "--control", str(bench.control_path)]
        assert await asyncio.to_thread(main, press) == 0
        where = await address(bench)
        async with connect(where, tls, bench.meter.config.meter.id) as link:
            told = await link.status()
        text = json.dumps(told)
        assert told["broute"]["message"] == 3
        for private in (bench.route_b_id, bench.password, "forward", "power_w", "fe80"):
            assert private not in text
        await bench.advance(WINDOW_S)
        await asyncio.sleep(0.1)
        assert bench.status()["local_port"]["open"] is False
        with pytest.raises(MeterError, match="hold the meter's button"):
            async with connect(where, tls):
                pass


async def test_a_restart_closes_the_port() -> None:
    async with a_bench() as bench:
        await bench.press_button()
        await address(bench)
        await bench.reboot()
        assert bench.status()["local_port"]["open"] is False
        await bench.press_button()
        await address(bench)


async def test_a_bench_may_have_somebody_always_there() -> None:
    async with a_bench(presence=True) as bench:
        tls = bench.utility.lab.tls("terminals/terminal-1")
        async with connect(await address(bench), tls) as link:
            assert (await link.status())["meter_id"] == bench.meter.config.meter.id


async def test_a_meter_without_a_local_port_listens_nowhere() -> None:
    async with Bench(BenchOptions()) as bench:
        assert bench.meter.local_port is None
        assert bench.status()["local_port"] is None
