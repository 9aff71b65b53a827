"""Buses off the loop: one transfer at a time, bounded, and honest about a bus that hangs."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.bench.board.bus import VirtualI2C
from meter_runtime.bench.board.mb85rc256v import Mb85rc256v
from meter_runtime.errors import MeterError
from meter_runtime.units.buses import WAITING_MAX, AsyncI2C, ImmediateBus, WorkerBus
from meter_runtime.units.contracts import UnitFailure

PATIENCE_S = 5.0
"""How long a test waits for a thread before it calls it lost."""


class GatedBus:
    """Answers with what was asked; a transfer from address 0x66 waits at the gate."""

    name = "i2c-7"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.left = threading.Event()
        self.threads: set[int] = set()
        self.seen: list[int] = []
        self.most_at_once = 0
        self.closed = threading.Event()
        self._at_once = 0

    def write(self, address: int, data: bytes) -> None:
        self._cross(address)

    def read(self, address: int, n: int) -> bytes:
        self._cross(address)
        return bytes((address,)) * n

    def transfer(self, address: int, data: bytes, n: int) -> bytes:
        self._cross(address)
        return (data * n)[:n]

    def close(self) -> None:
        self.closed.set()

    def _cross(self, address: int) -> None:
        self.threads.add(threading.get_ident())
        self.seen.append(address)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if address == 0x66:
                self.entered.set()
                assert self.gate.wait(PATIENCE_S)
            if address == 0x77:
                raise MeterError(f"{self.name} address 0x77: Remote I/O error; check the chip")
            if address == 0x78:
                raise ValueError("a mistake of the program")
        finally:
            self._at_once -= 1
            self.left.set()


@asynccontextmanager
async def worker(bound_s: float = PATIENCE_S) -> AsyncIterator[tuple[WorkerBus, GatedBus]]:
    gated = GatedBus()
    bus = WorkerBus(gated, bound_s=bound_s)
    try:
        yield bus, gated
    finally:
        gated.gate.set()
        bus.close()
        assert await asyncio.to_thread(gated.closed.wait, PATIENCE_S)


async def entered(gated: GatedBus) -> None:
    assert await asyncio.to_thread(gated.entered.wait, PATIENCE_S)


async def test_a_bus_of_memory_answers_at_once() -> None:
    virtual = VirtualI2C("i2c-9", {0x50: Mb85rc256v()})
    bus: AsyncI2C = ImmediateBus(virtual)
    assert bus.name == "i2c-9"
    await bus.write(0x50, b"\x00\x10ab")
    assert await bus.transfer(0x50, b"\x00\x10", 2) == b"ab"
    assert await bus.read(0x50, 1) == b"\x00"


async def test_a_failure_of_a_bus_of_memory_is_the_units() -> None:
    virtual = VirtualI2C("i2c-9", {})
    bus = ImmediateBus(virtual)
    with pytest.raises(UnitFailure, match="i2c-9 address 0x20: Remote I/O error"):
        await bus.read(0x20, 1)
    virtual.stuck = True
    with pytest.raises(UnitFailure, match="the bus is stuck"):
        await bus.write(0x20, b"x")
    assert (bus.statistics.transfers, bus.statistics.failures) == (2, 2)
    bus.close()
    with pytest.raises(UnitFailure, match="closed already"):
        await bus.read(0x20, 1)


async def test_transfers_run_on_one_thread_that_is_not_the_loops() -> None:
    async with worker() as (bus, gated):
        assert await bus.read(0x20, 2) == b"\x20\x20"
        assert await bus.transfer(0x21, b"ab", 3) == b"aba"
        await bus.write(0x22, b"x")
        assert len(gated.threads) == 1
        assert threading.get_ident() not in gated.threads
        assert bus.statistics.transfers == 3
        assert bus.statistics.worst_s > 0


async def test_one_transfer_at_a_time_in_the_order_of_their_call() -> None:
    async with worker() as (bus, gated):
        answers = await asyncio.gather(*(bus.read(address, 1) for address in range(0x20, 0x30)))
        assert answers == [bytes((address,)) for address in range(0x20, 0x30)]
        assert gated.seen == list(range(0x20, 0x30))
        assert gated.most_at_once == 1


async def test_a_failing_transfer_is_told_to_its_caller_and_to_nobody_else() -> None:
    async with worker() as (bus, _):
        bad, good = await asyncio.gather(
            bus.read(0x77, 1), bus.read(0x20, 1), return_exceptions=True
        )
        assert isinstance(bad, UnitFailure)
        assert str(bad) == "i2c-7 address 0x77: Remote I/O error; check the chip"
        assert good == b"\x20"
        assert (bus.statistics.transfers, bus.statistics.failures) == (2, 1)


async def test_a_mistake_of_the_program_is_not_a_failure_of_the_unit() -> None:
    async with worker() as (bus, _):
        with pytest.raises(ValueError, match="a mistake"):
            await bus.read(0x78, 1)


async def test_a_transfer_that_hangs_makes_the_bus_stuck_until_its_thread_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with worker(bound_s=0.05) as (bus, gated):
        behind = asyncio.create_task(_failure(bus, 0x21))
        hung = await _failure(bus, 0x66)
        assert hung.startswith("i2c-7 address 0x66: the bus has been stuck for 0.")
        assert "pull-ups" in hung
        assert bus.stuck
        # Neither who waited behind it nor who comes now costs another bound.
        async with asyncio.timeout(PATIENCE_S):
            await behind
        loop = asyncio.get_running_loop()
        before = loop.time()
        assert "i2c-7 address 0x20: the bus has been stuck" in await _failure(bus, 0x20)
        assert loop.time() - before < 0.05
        assert "stuck" in caplog.text
        gated.gate.set()
        assert await _answer_at_last(bus, 0x23) == b"\x23"
        assert "moves again" in caplog.text
        assert 0x20 not in gated.seen
        assert bus.statistics.worst_s >= 0.05


async def test_who_waits_behind_a_hung_transfer_does_not_wait_out_its_own_bound() -> None:
    async with worker(bound_s=0.1) as (bus, gated):
        hung = asyncio.create_task(_failure(bus, 0x66))
        await asyncio.to_thread(gated.left.wait, 0.05)
        behind = asyncio.create_task(_failure(bus, 0x20))
        await hung
        for _ in range(3):
            await asyncio.sleep(0)
        assert behind.done()
        assert "stuck" in await behind


async def test_who_waits_behind_a_hung_transfer_whose_caller_left_finds_it_out() -> None:
    async with worker(bound_s=0.05) as (bus, gated):
        hung = asyncio.create_task(bus.read(0x66, 1))
        await entered(gated)
        hung.cancel()
        assert "stuck" in await _failure(bus, 0x20)
        assert bus.stuck
        with suppress(asyncio.CancelledError):
            await hung


async def test_a_caller_that_leaves_takes_its_waiting_transfer_along() -> None:
    async with worker() as (bus, gated):
        first = asyncio.create_task(bus.read(0x66, 1))
        await entered(gated)
        second = asyncio.create_task(bus.read(0x21, 1))
        third = asyncio.create_task(bus.read(0x22, 1))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait((second,))
        gated.gate.set()
        assert await third == b"\x22"
        assert await first == b"\x66"
        assert gated.seen == [0x66, 0x22]


async def test_a_caller_that_leaves_as_its_turn_comes_takes_its_transfer_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with worker() as (bus, gated):
        loop = asyncio.get_running_loop()
        tell, told = loop.call_soon_threadsafe, threading.Event()

        def telling(*told_to: Any, **how: Any) -> asyncio.Handle:
            handle = tell(*told_to, **how)
            told.set()
            return handle

        first = asyncio.create_task(bus.read(0x66, 1))
        await entered(gated)
        second = asyncio.create_task(bus.read(0x21, 1))
        await asyncio.sleep(0)
        monkeypatch.setattr(loop, "call_soon_threadsafe", telling)
        gated.gate.set()
        # The loop stands still, so the end of the first one and the leaving meet in one turn.
        assert told.wait(PATIENCE_S)
        second.cancel()
        assert await first == b"\x66"
        assert await bus.read(0x22, 1) == b"\x22"
        assert gated.seen == [0x66, 0x22]


async def test_a_bus_that_is_merely_busy_is_not_called_stuck() -> None:
    async with worker(bound_s=0.2) as (bus, gated):
        first = asyncio.create_task(bus.read(0x66, 1))
        await entered(gated)
        second = asyncio.create_task(_failure(bus, 0x66))
        # The second one gets its turn, but late: its own bound ends first.
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.15, _let_one_pass, gated)
        assert await first == b"\x66"
        assert await second == "i2c-7 address 0x66: the bus was busy for 0.2 s"
        assert not bus.stuck


def _let_one_pass(gated: GatedBus) -> None:
    gate = gated.gate
    gated.gate = threading.Event()
    gate.set()


async def test_the_queue_is_bounded() -> None:
    async with worker() as (bus, gated):
        first = asyncio.create_task(bus.read(0x66, 1))
        await entered(gated)
        waiting = [asyncio.create_task(bus.read(0x20, 1)) for _ in range(WAITING_MAX)]
        await asyncio.sleep(0)
        assert f"{WAITING_MAX} transfers wait" in await _failure(bus, 0x21)
        for left in waiting:
            left.cancel()
        await asyncio.wait(waiting)
        last = asyncio.create_task(bus.read(0x22, 1))
        await asyncio.sleep(0)
        gated.gate.set()
        assert await first == b"\x66"
        assert await last == b"\x22"


async def test_closing_fails_who_waits_and_lets_the_running_transfer_end() -> None:
    async with worker() as (bus, gated):
        first = asyncio.create_task(bus.read(0x66, 1))
        await entered(gated)
        second = asyncio.create_task(_failure(bus, 0x20))
        await asyncio.sleep(0)
        gated.gate.set()
        bus.close()
        assert "closed already" in await second
        assert await first == b"\x66"
        bus.close()
        assert "closed already" in await _failure(bus, 0x20)


async def test_closing_does_not_wait_for_a_stuck_bus() -> None:
    async with worker(bound_s=0.05) as (bus, gated):
        await _failure(bus, 0x66)
        before = asyncio.get_running_loop().time()
        bus.close()
        assert asyncio.get_running_loop().time() - before < 0.5
        assert not gated.closed.is_set()


def test_a_loop_that_is_gone_does_not_trouble_the_thread() -> None:
    gated = GatedBus()

    async def leave() -> WorkerBus:
        bus = WorkerBus(gated)
        task = asyncio.create_task(bus.read(0x66, 1))
        await entered(gated)
        task.cancel()
        return bus

    bus = asyncio.run(leave())
    gated.gate.set()
    assert gated.left.wait(PATIENCE_S)
    bus.close()
    assert gated.closed.wait(PATIENCE_S)


@given(
    st.lists(st.tuples(st.sampled_from((0x20, 0x21, 0x77)), st.booleans()), max_size=WAITING_MAX)
)
def test_whatever_is_asked_each_caller_gets_its_own_answer(
    asked: list[tuple[int, bool]],
) -> None:
    async def run() -> None:
        async with worker() as (bus, gated):
            tasks = [asyncio.create_task(bus.read(address, 1)) for address, _ in asked]
            await asyncio.sleep(0)
            for task, (_, leaves) in zip(tasks, asked, strict=True):
                if leaves:
                    task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            for answer, (address, leaves) in zip(answers, asked, strict=True):
                if leaves:
                    assert isinstance(answer, asyncio.CancelledError)
                elif address == 0x77:
                    assert isinstance(answer, UnitFailure)
                else:
                    assert answer == bytes((address,))
            assert gated.most_at_once <= 1
            assert not bus.stuck

    asyncio.run(run())


async def _answer_at_last(bus: WorkerBus, address: int) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await bus.read(address, 1)
            except UnitFailure:
                await asyncio.sleep(0)


async def _failure(bus: WorkerBus, address: int) -> str:
    with pytest.raises(UnitFailure) as failure:
        await bus.read(address, 1)
    return str(failure.value)
