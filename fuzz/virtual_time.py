"""An event loop whose time is virtual: whenever nothing is left to do, it is later.

Every wait on the loop, that of a bound in real time included, ends at its instant and costs
nothing. For what waits for nothing outside the process: a loop without a timer would wait for
ever, and says so.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec, TypeVar

from meter_runtime.clock import StepListeners, Trust
from meter_runtime.discipline import Correction, Kind, Source

P = ParamSpec("P")
T = TypeVar("T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its time begins at 1000 s."""

    def __init__(self) -> None:
        self._at = 1000.0
        super().__init__(_Hurrying(self._pass))

    def time(self) -> float:
        return self._at

    def _pass(self, seconds: float) -> None:
        self._at += seconds


class LoopClock:
    """A :class:`~meter_runtime.clock.Clock` on the running loop's time.

    ``start`` is the wall time it begins with, in UTC seconds. ``each_minute`` are called at each
    minute of the wall clock with its number, before anybody who waits for it.
    """

    trust = Trust.SYNCED

    def __init__(self, start: float) -> None:
        self.each_minute: list[Callable[[int], None]] = []
        self._loop = asyncio.get_running_loop()
        self._ahead = start - self._loop.time()
        self._steps = StepListeners()
        self._next_minute()

    def monotonic(self) -> float:
        return self._loop.time()

    def wall(self) -> float:
        # To the microsecond: a second must be one, however the sum was rounded.
        return round(self._loop.time() + self._ahead, 6)

    def adjust(self, wall: float) -> Correction:
        """At once, however much it is."""
        by_s = wall - self.wall()
        self._ahead += by_s
        self._steps.tell()
        return Correction(Kind.STEP, by_s, wall, Source.UTILITY)

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_at(when, callback)

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._steps.add(callback)

    def _next_minute(self) -> None:
        minute = int(self.wall() // 60) + 1
        self._loop.call_at(minute * 60 - self._ahead - 1e-3, self._tell, minute)

    def _tell(self, minute: int) -> None:
        for listener in self.each_minute:
            listener(minute)
        self._loop.call_later(1, self._next_minute)


def in_virtual_time(call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """The coroutine function as one that lives a loop of its own through."""

    @functools.wraps(call)
    def lived(*args: P.args, **kwargs: P.kwargs) -> T:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(call(*args, **kwargs))

    return lived


class _Hurrying(selectors.BaseSelector):
    """A selector that lets time pass instead of waiting."""

    def __init__(self, let_pass: Callable[[float], None]) -> None:
        self._selector = selectors.DefaultSelector()
        self._let_pass = let_pass

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._selector.unregister(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._selector.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("nobody waits for a time: this would last for ever")
        self._let_pass(timeout)
        return ready

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._selector.get_map()

    def close(self) -> None:
        self._selector.close()
