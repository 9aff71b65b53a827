"""A bench for programs without an event loop: the laboratory on a thread of its own.

The thread owns the loop, the meter and the room; the methods here hand work over to it and wait
for the result, each with a bound. They may be called from any other thread. Called from a
coroutine they hold up the caller's loop for as long as they take: milliseconds, except
:meth:`BackgroundBench.advance`.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from meter_runtime.bench.frames import CrossedFrame
from meter_runtime.bench.happenings import KINDS, Happening
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.errors import MeterError, UsageError, nearest

T = TypeVar("T")

START_WITHIN_S = 180.0
"""Forty days of history and a link on the real air."""
END_WITHIN_S = 30.0
DO_WITHIN_S = 10.0
ADVANCE_WITHIN_S = 120.0
"""Real seconds for moving the clock, by however much."""


class BenchSilent(MeterError):  # noqa: N818 - what a bench is, not an accident of ours
    """What was asked for did not come in time."""


class BackgroundBench:
    """A :class:`Bench` with a synchronous face; a context manager.

    >>> with BackgroundBench(BenchOptions(history_days=1)) as bench:
    ...     print(bench.tty, bench.route_b_id, bench.password)
    """

    def __init__(self, options: BenchOptions | None = None) -> None:
        self.options = options or BenchOptions()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._life: asyncio.Task[None] | None = None
        self._ready: concurrent.futures.Future[Bench] = concurrent.futures.Future()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name="meter bench", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Return when the meter serves; raises what the bench raises, MeterError or UsageError."""
        self._thread.start()
        try:
            self._ready.result(START_WITHIN_S)
        except TimeoutError:
            self.close()
            raise MeterError(f"the bench did not start within {START_WITHIN_S:g} s") from None

    def close(self) -> None:
        """End the bench and wait until nothing of it is left; harmless the second time."""
        loop, life = self._loop, self._life
        if loop is not None and life is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(life.cancel)
        if self._thread.ident is not None:
            self._thread.join(END_WITHIN_S)
        if self._thread.is_alive():
            raise MeterError(f"the bench did not end within {END_WITHIN_S:g} s")
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    @property
    def tty(self) -> str:
        """The serial device of the first HEMS module."""
        return self._bench.tty

    @property
    def ttys(self) -> tuple[str, ...]:
        """The serial devices of all HEMS modules, in the order of the options."""
        return tuple(module.tty for module in self._bench.modules)

    @property
    def route_b_id(self) -> str:
        return self._bench.route_b_id

    @property
    def password(self) -> str:
        """In clear: it is a throw-away of this bench, and its user must type it into a HEMS."""
        return self._bench.password

    @property
    def frames(self) -> list[CrossedFrame]:
        """The datagrams that crossed the air, oldest first; the last thousand."""
        return self.do(lambda bench: list(bench.frames))

    @property
    def happenings(self) -> list[Happening]:
        """What happened, oldest first; the last two thousand."""
        return self.do(lambda bench: list(bench.happenings))

    def status(self) -> dict[str, Any]:
        """The meter's status document."""
        return self.do(Bench.status)

    def wait_for(self, kind: str, within_s: float = DO_WITHIN_S, *, times: int = 1) -> Happening:
        """Wait until this has happened ``times`` times since the bench began; gives that one.

        ``kind`` is one of :data:`~meter_runtime.bench.happenings.KINDS`. MeterError when it does
        not happen within so many real seconds.
        """
        if kind not in KINDS:
            raise UsageError(f'nothing called "{kind}" happens; {nearest(kind, KINDS)}')

        async def wait(bench: Bench) -> Happening:
            stirred = asyncio.Event()
            unsubscribe = bench.subscribe(lambda _: stirred.set())
            try:
                while True:
                    told = [one for one in bench.happenings if one.kind == kind]
                    if len(told) >= times:
                        return told[times - 1]
                    stirred.clear()
                    await stirred.wait()
            finally:
                unsubscribe()

        try:
            return self.do_async(wait, within_s)
        except BenchSilent:
            raise BenchSilent(f'"{kind}" did not happen within {within_s:g} s') from None

    def advance(self, seconds: float) -> None:
        """Let the meter and the room live through this time at once."""
        self.do_async(lambda bench: bench.advance(seconds), ADVANCE_WITHIN_S)

    def inject(
        self,
        name: str,
        *,
        for_s: float | None = None,
        count: int | None = None,
        **parameters: Any,
    ) -> None:
        """Begin a fault, until :meth:`clear`, for some seconds, or for so many effects."""
        self.do(lambda bench: bench.inject(name, for_s=for_s, count=count, **parameters))

    def clear(self, name: str | None = None) -> None:
        """End a fault, or all of them."""
        self.do(lambda bench: bench.clear(name))

    def do(self, work: Callable[[Bench], T], within_s: float = DO_WITHIN_S) -> T:
        """Call ``work`` with the bench, on the bench's thread, and give what it returns."""

        async def call(bench: Bench) -> T:
            return work(bench)

        return self.do_async(call, within_s)

    def do_async(self, work: Callable[[Bench], Awaitable[T]], within_s: float = DO_WITHIN_S) -> T:
        """Await ``work`` with the bench, on the bench's loop, and give its result.

        MeterError when that takes longer than ``within_s`` real seconds.
        """
        bench, loop = self._bench, self._loop

        async def run() -> T:
            return await work(bench)

        if loop is None or loop.is_closed():
            raise MeterError("the bench has ended")
        running = asyncio.run_coroutine_threadsafe(run(), loop)
        try:
            return running.result(within_s)
        except concurrent.futures.CancelledError:
            raise MeterError("the bench has ended") from None
        except TimeoutError:
            if running.done():
                raise  # the work's own
            running.cancel()
            raise BenchSilent(f"the bench did not answer within {within_s:g} s") from None

    @property
    def _bench(self) -> Bench:
        if not self._ready.done():
            raise MeterError("the bench has not been started; use it in a with statement")
        return self._ready.result()

    def _live(self) -> None:
        try:
            asyncio.run(self._serve())
        except asyncio.CancelledError:
            pass  # told to end
        except BaseException as failure:
            if self._ready.done():
                self._failure = failure
            else:
                self._ready.set_exception(failure)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._life = asyncio.current_task()
        async with Bench(self.options) as bench:
            self._ready.set_result(bench)
            await asyncio.Event().wait()
