"""Keeps the parts of a meter running: a part that crashes is reported and started again.

One part's fault stays that part's. A crash is logged, published as :class:`TaskFailed` and
answered with a restart after a growing pause; a part that then stays up for a healthy spell
starts again with the shortest pause. All waits run on the meter's clock.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from meter_runtime.clock import Clock, sleep_until, wait_for_event
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """A part crashed and is started again after ``restart_in_s``."""

    name: str
    reason: str
    restart_in_s: float


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a crashed part rests: ``first_s``, doubled each time up to ``limit_s``.

    A part that ran for ``healthy_s`` is forgiven its earlier crashes.
    """

    first_s: float = 0.5
    limit_s: float = 60.0
    healthy_s: float = 120.0

    def pause_s(self, crashes: int) -> float:
        """The rest after the ``crashes``-th crash in a row, counted from 1."""
        doublings = min(crashes - 1, 63)
        return min(self.limit_s, self.first_s * 2.0**doublings)


class Supervisor:
    """Runs named parts until it is stopped or an essential part has done its work.

    A part is called anew for each start. Its clean return is final: the meter goes on
    without it, unless it is ``essential``, in which case the whole ends.
    """

    def __init__(
        self,
        clock: Clock,
        bus: EventBus,
        *,
        backoff: Backoff | None = None,
        grace_s: float = 5.0,
    ) -> None:
        self._clock = clock
        self._bus = bus
        self._backoff = backoff or Backoff()
        self._grace_s = grace_s
        self._waiting: list[tuple[str, Callable[[], Awaitable[None]], bool]] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running = False
        self._ending = asyncio.Event()
        self._idle = asyncio.Event()

    def add(
        self, name: str, part: Callable[[], Awaitable[None]], *, essential: bool = False
    ) -> None:
        """Supervise a part from now on, or from :meth:`run` on; names are unique."""
        if name in self._tasks or any(name == waiting for waiting, _, _ in self._waiting):
            raise ValueError(f"a part called {name!r} is already supervised")
        if self._running:
            self._start(name, part, essential)
        else:
            self._waiting.append((name, part, essential))

    async def drop(self, name: str) -> bool:
        """End one part for good; True once it has stopped, False when it outlasts the grace time.

        Its name is free again then. A part that nobody knows has stopped already.
        """
        self._waiting = [part for part in self._waiting if part[0] != name]
        task = self._tasks.get(name)
        if task is None:
            return True
        gone = asyncio.Event()
        task.add_done_callback(lambda _: gone.set())
        task.cancel()
        stopped = await wait_for_event(self._clock, gone, self._clock.monotonic() + self._grace_s)
        if not stopped:
            log.error("%s does not stop within %g s", name, self._grace_s)
        return stopped

    def stop(self) -> None:
        """End :meth:`run`; may be called from a signal handler of the loop, and repeatedly."""
        self._ending.set()

    async def run(self) -> tuple[str, ...]:
        """Run until stopped; returns the parts that did not stop within the grace time.

        Stopping cancels every part and waits for at most ``grace_s``. Cancelling this call
        stops the parts the same way.
        """
        self._running = True
        for name, part, essential in self._waiting:
            self._start(name, part, essential)
        self._waiting.clear()
        try:
            await self._ending.wait()
        finally:
            self._running = False
            stubborn = await self._cancel_all()
        return stubborn

    def _start(self, name: str, part: Callable[[], Awaitable[None]], essential: bool) -> None:
        task = asyncio.get_running_loop().create_task(self._keep(name, part), name=name)
        self._tasks[name] = task
        self._idle.clear()

        def ended(task: asyncio.Task[None]) -> None:
            del self._tasks[name]
            if not self._tasks:
                self._idle.set()
            if essential and not task.cancelled():
                self._ending.set()

        task.add_done_callback(ended)

    async def _keep(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run one part, again and again, until it returns or is cancelled by us."""
        crashes = 0
        while True:
            started = self._clock.monotonic()
            try:
                await part()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                reason = "something it awaited was cancelled"
                log.warning("%s ended: %s", name, reason)
            except MeterError as failure:
                reason = str(failure)
                log.warning("%s failed: %s", name, reason)
            except Exception as failure:  # one part's fault stays that part's
                reason = f"{type(failure).__name__}: {failure}"
                log.exception("%s crashed", name)
            else:
                log.info("%s has ended", name)
                return
            now = self._clock.monotonic()
            crashes = 1 if now - started >= self._backoff.healthy_s else crashes + 1
            pause = self._backoff.pause_s(crashes)
            self._bus.publish(TaskFailed(name, reason, pause))
            await sleep_until(self._clock, now + pause)

    async def _cancel_all(self) -> tuple[str, ...]:
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            deadline = self._clock.monotonic() + self._grace_s
            await wait_for_event(self._clock, self._idle, deadline)
        stubborn = tuple(self._tasks)
        if stubborn:
            log.error("did not stop within %g s: %s", self._grace_s, ", ".join(stubborn))
        return stubborn
