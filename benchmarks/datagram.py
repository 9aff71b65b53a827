"""What an answer costs beside the cheapest thing a datagram server can do: send it back.

Two asyncio UDP servers on the loopback interface, asked in turns by a program of its own, one
datagram at a time: one echoes, the other hands the datagram to the meter's node and sends the
answer. Counted is the processor time of the serving thread, kernel included. All run on one core:
waking another one costs several times what an echo does, and on some machines only now and then.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from benchmarks.echonet import get
from benchmarks.home_meter import home_meter
from benchmarks.row import Row
from meter_runtime.errors import MeterError

WARM_UP = 200
DATAGRAMS = 5_000
REPEATS = 5
WITHIN_S = 60.0
"""Bound of one round; a datagram that is lost on the way ends it."""

_ROOT = Path(__file__).parents[1]

Answer = Callable[[bytes], bytes | None]


def measure(datagrams: int = DATAGRAMS, repeats: int = REPEATS) -> list[Row]:
    """CPU per datagram of both servers, and the one as a multiple of the other."""
    with _one_core():
        return asyncio.run(_measure(datagrams, repeats))


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process, and those it starts, on the first core it may use."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


async def _measure(datagrams: int, repeats: int) -> list[Row]:
    request = get(0xE7)
    echoed, answered = [], []
    async with home_meter(history_days=1) as meter:
        assert meter.broute is not None
        for _ in range(repeats):
            echoed.append(await _round(lambda payload: payload, request, datagrams))
            await meter.metering.poll()
            answered.append(await _round(meter.broute.node.handle, request, datagrams))
    echo_us, answer_us = statistics.median(echoed), statistics.median(answered)
    return [
        Row("UDP echo", echo_us, "µs CPU/datagram"),
        Row("UDP answer to E7", answer_us, "µs CPU/datagram"),
        Row("answer : echo", answer_us / echo_us, "x"),
    ]


class _Server(asyncio.DatagramProtocol):
    """Answers datagrams and adds up what that costs, from the end of the warm-up on."""

    def __init__(self, answer: Answer, datagrams: int) -> None:
        self.spent_s: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._last = WARM_UP + datagrams
        self._served = 0
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._answer(data)
        assert answer is not None
        self._transport.sendto(answer, addr)
        self._served += 1
        if self._served == WARM_UP:
            self._began = time.thread_time()
        elif self._served == self._last:
            self.spent_s.set_result(time.thread_time() - self._began)


async def _round(answer: Answer, request: bytes, datagrams: int) -> float:
    """Microseconds of processor time per datagram."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: _Server(answer, datagrams), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    asker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.asker"),
        *(str(port), str(WARM_UP + datagrams), request.hex()),
        cwd=_ROOT,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            status = await asker.wait()
    except TimeoutError:
        raise MeterError(f"{datagrams} datagrams took more than {WITHIN_S:g} s") from None
    finally:
        if asker.returncode is None:
            asker.kill()
            await asker.wait()
        transport.close()
    if status != 0:
        raise MeterError("the asking program failed; what it says stands above")
    return server.spent_s.result() / datagrams * 1e6
