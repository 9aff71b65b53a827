"""I²C off the loop: one transfer at a time, each with a bound.

A kernel transfer blocks, on a stuck bus for a second and more. :class:`WorkerBus` runs it on a
thread of the bus; :class:`ImmediateBus` is for buses that answer at once because they are made of
memory. Failing transfers raise :class:`~meter_runtime.units.contracts.UnitFailure`.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from meter_runtime.errors import MeterError
from meter_runtime.i2c import I2CBus
from meter_runtime.units.contracts import UnitFailure

log = logging.getLogger(__name__)

TRANSFER_BOUND_S = 1.0
"""From the call of a transfer to its end, the wait for its turn included."""

WAITING_MAX = 32
"""Transfers that may wait for their turn: more than all chips of a meter, each asked once."""

CLOSE_BOUND_S = 1.0
"""How long :meth:`WorkerBus.close` waits for the transfer that is under way."""


class AsyncI2C(Protocol):
    """One bus as drivers use it; see :class:`~meter_runtime.i2c.I2CBus` for the transactions.

    Each method raises UnitFailure, which names bus, address and reason.
    """

    @property
    def name(self) -> str: ...

    async def write(self, address: int, data: bytes) -> None: ...

    async def read(self, address: int, n: int) -> bytes: ...

    async def transfer(self, address: int, data: bytes, n: int) -> bytes: ...


@dataclass(slots=True)
class BusStatistics:
    """What was asked of a bus since it was opened."""

    transfers: int = 0
    """Those that came to an end on the bus, well or not."""
    failures: int = 0
    """Those that their caller saw fail."""
    worst_s: float = 0.0
    """The longest one's time on the bus."""


class ImmediateBus:
    """A bus whose transfers take no time, on the loop itself."""

    def __init__(self, bus: I2CBus) -> None:
        self.name = bus.name
        self.statistics = BusStatistics()
        self._bus = bus

    async def write(self, address: int, data: bytes) -> None:
        self._run(_writing(self._bus, address, data))

    async def read(self, address: int, n: int) -> bytes:
        return self._run(lambda: self._bus.read(address, n))

    async def transfer(self, address: int, data: bytes, n: int) -> bytes:
        return self._run(lambda: self._bus.transfer(address, data, n))

    def close(self) -> None:
        self._bus.close()

    def _run(self, call: Callable[[], bytes]) -> bytes:
        self.statistics.transfers += 1
        try:
            return call()
        except MeterError as error:
            self.statistics.failures += 1
            raise UnitFailure(str(error)) from error


@dataclass(slots=True, eq=False)
class _Job:
    """One transfer: how it is done, and who waits for it."""

    call: Callable[[], bytes]
    answer: "asyncio.Future[bytes]"
    began: float = field(default=0.0)


class WorkerBus:
    """A blocking bus behind a thread of its own; used from one event loop.

    A transfer that does not end within ``bound_s`` of real time is given up: its caller gets
    UnitFailure, and the bus counts as *stuck*. Whoever waits behind it and whoever comes then
    fails at once, until the thread comes back from the kernel. What a given-up transfer still does
    on the bus cannot be undone; what it answers is dropped. A transfer that still waits for its
    turn when its caller gives up never happens.
    """

    def __init__(self, bus: I2CBus, *, bound_s: float = TRANSFER_BOUND_S) -> None:
        self.name = bus.name
        self.statistics = BusStatistics()
        self._bus = bus
        self._bound_s = bound_s
        self._on_bus: _Job | None = None
        self._waiting: deque[_Job] = deque()
        self._stuck_since: float | None = None
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"bus {bus.name}", daemon=True)
        self._thread.start()

    @property
    def stuck(self) -> bool:
        return self._stuck_since is not None

    async def write(self, address: int, data: bytes) -> None:
        await self._run(address, _writing(self._bus, address, data))

    async def read(self, address: int, n: int) -> bytes:
        return await self._run(address, lambda: self._bus.read(address, n))

    async def transfer(self, address: int, data: bytes, n: int) -> bytes:
        return await self._run(address, lambda: self._bus.transfer(address, data, n))

    def close(self) -> None:
        """Fail whoever waits, let the transfer under way end, release the bus.

        Blocks for :data:`CLOSE_BOUND_S` at most; a thread that hangs in the kernel is left behind
        and releases the bus when it comes back. Does nothing the second time.
        """
        if self._closed:
            return
        self._closed = True
        self._fail_waiting()
        self._jobs.put(None)
        if not self.stuck:
            self._thread.join(CLOSE_BOUND_S)

    async def _run(self, address: int, call: Callable[[], bytes]) -> bytes:
        where = f"{self.name} address {address:#04x}"
        try:
            return await self._answer_of(call)
        except MeterError as error:
            self.statistics.failures += 1
            raise UnitFailure(str(error)) from error
        except _Refused as refused:
            self.statistics.failures += 1
            raise UnitFailure(f"{where}: {refused}") from None

    async def _answer_of(self, call: Callable[[], bytes]) -> bytes:
        if self._closed or self.stuck:
            raise _Refused(self._unusable())
        if len(self._waiting) >= WAITING_MAX:
            raise _Refused(f"{WAITING_MAX} transfers wait for the bus already")
        job = _Job(call, asyncio.get_running_loop().create_future())
        if self._on_bus is None:
            self._begin(job)
        else:
            self._waiting.append(job)
        try:
            async with asyncio.timeout(self._bound_s):
                return await job.answer
        except TimeoutError:
            if self._hangs():
                self._get_stuck()
                raise _Refused(self._unusable()) from None
            raise _Refused(f"the bus was busy for {self._bound_s:g} s") from None
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(job)

    def _begin(self, job: _Job) -> None:
        self._on_bus = job
        job.began = time.monotonic()
        self._jobs.put(job)

    def _hangs(self) -> bool:
        """The transfer under way has had its time."""
        job = self._on_bus
        # The loop may be early by its clock's resolution.
        return job is not None and time.monotonic() - job.began >= 0.9 * self._bound_s

    def _get_stuck(self) -> None:
        if self._stuck_since is None and self._on_bus is not None:
            self._stuck_since = self._on_bus.began
            log.error("%s: %s", self.name, self._unusable())
            self._fail_waiting()

    def _fail_waiting(self) -> None:
        for job in self._waiting:
            if not job.answer.done():
                job.answer.set_exception(_Refused(self._unusable()))
        self._waiting.clear()

    def _unusable(self) -> str:
        if self._closed:
            return "the bus was closed already; open it again"
        since = time.monotonic() - (self._stuck_since or time.monotonic())
        return (
            f"the bus has been stuck for {since:.1f} s: check SDA, SCL and their pull-ups,"
            " or cycle its power"
        )

    def _work(self) -> None:
        """The thread: what it is handed, one after the other."""
        while (job := self._jobs.get()) is not None:
            answer, error = b"", None
            try:
                answer = job.call()
            except Exception as raised:
                error = raised
            took = time.monotonic() - job.began
            # A loop that is closed meanwhile has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                job.answer.get_loop().call_soon_threadsafe(self._end, job, took, answer, error)
        with contextlib.suppress(MeterError):
            self._bus.close()

    def _end(self, ended: _Job, took: float, answer: bytes, error: Exception | None) -> None:
        """On the loop again: tell who waited, and begin the next one."""
        self._on_bus = None
        self.statistics.transfers += 1
        self.statistics.worst_s = max(self.statistics.worst_s, took)
        if self._stuck_since is not None:
            self._stuck_since = None
            log.warning("%s: moves again after %.1f s", self.name, took)
        if not ended.answer.done():
            if error is None:
                ended.answer.set_result(answer)
            else:
                ended.answer.set_exception(error)
        while self._waiting and self._on_bus is None:
            job = self._waiting.popleft()
            if not job.answer.done():
                self._begin(job)


class _Refused(Exception):  # noqa: N818 - why the bus does not take or finish a transfer
    """Becomes a UnitFailure that says where."""


def _writing(bus: I2CBus, address: int, data: bytes) -> Callable[[], bytes]:
    """A write as a transfer that answers nothing."""

    def write() -> bytes:
        bus.write(address, data)
        return b""

    return write
