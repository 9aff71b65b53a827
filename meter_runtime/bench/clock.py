"""The bench meter's clock: it runs by itself, and it can be moved.

Between moves both readings follow the event loop's time, so that HEMSs on real serial ports meet a
meter at their own pace. :meth:`BenchClock.advance` takes the meter through hours and days: time
then stands still at each instant at which something is due, while that happens, and jumps to the
next one. :meth:`BenchClock.step` and :meth:`BenchClock.set_wall` move the wall clock alone, as a
bad clock or a correction does.
"""

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable
from typing import Any

from meter_runtime.clock import StepListeners, Trust
from meter_runtime.discipline import AGREEMENT_S, SLEW_LIMIT_S, SLEW_RATE, Correction, Kind, Source
from meter_runtime.errors import MeterError, UsageError

MAX_ADVANCE_S = 45 * 86_400
MAX_RATE_PPM = 100_000.0
MINUTE_S = 60

SETTLE_TURNS = 8
"""Turns the loop gets at each stop: a task that waits for an event or a deadline needs four."""

MAX_STOPS_AT_ONE_INSTANT = 1000
"""A timer that is due again each time it fires would hold :meth:`BenchClock.advance` for ever."""

TOGETHER_S = 1e-6
"""A timer so little before a minute is meant for it: rounding must not pass a minute unvisited."""

_COMPACT_ABOVE = 64


class BenchTimer:
    """One pending callback of a :class:`BenchClock`."""

    __slots__ = ("_clock", "callback", "when")

    def __init__(self, clock: "BenchClock", when: float, callback: Callable[[], None]) -> None:
        self._clock = clock
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._clock._note_cancelled()


class BenchClock:
    """A movable :class:`~meter_runtime.clock.Clock`; made and used within one running loop.

    ``start`` is the wall time it begins with, in UTC seconds; ``rate_ppm`` how much faster than
    monotonic time the wall clock runs.
    """

    def __init__(self, start: float, *, rate_ppm: float = 0.0, trust: Trust = Trust.SYNCED) -> None:
        self.trust = trust
        self._loop = asyncio.get_running_loop()
        self._frozen = False
        self._monotonic = self._loop.time()
        self._loop_base = self._monotonic
        self._wall = _checked_wall(start)
        self._wall_base = self._monotonic
        self._rate = 0.0
        self._slew = 0.0
        self._slew_end: BenchTimer | None = None
        self._timers: list[tuple[float, int, BenchTimer]] = []
        self._serial = 0
        self._cancelled = 0  # about: it says when tidying is worth it
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._advancing = asyncio.Lock()
        self._steps = StepListeners()
        self.rate_ppm = rate_ppm

    def monotonic(self) -> float:
        if self._frozen:
            return self._monotonic
        return self._monotonic + (self._loop.time() - self._loop_base)

    def wall(self) -> float:
        return self._wall + (self.monotonic() - self._wall_base) * self._speed

    @property
    def rate_ppm(self) -> float:
        """Drift of the wall clock, parts per million; positive runs fast."""
        return self._rate * 1e6

    @rate_ppm.setter
    def rate_ppm(self, ppm: float) -> None:
        if not abs(ppm) <= MAX_RATE_PPM:
            raise UsageError(f"a rate of {ppm} ppm; give -{MAX_RATE_PPM:.0f} to {MAX_RATE_PPM:.0f}")
        self._set_wall(self.wall())
        self._rate = ppm / 1e6

    def set_wall(self, wall: float) -> None:
        """Set the wall clock, UTC seconds; monotonic time goes on undisturbed."""
        wall = _checked_wall(wall)
        self._end_slew()
        self._set_wall(wall)
        self._steps.tell()

    def adjust(self, wall: float) -> Correction:
        """The utility says that it is ``wall``: as a meter's clock, slewed up to 10 s, else set.

        Raises UsageError for a time that no calendar can name.
        """
        by_s = _checked_wall(wall) - self.wall()
        unset, self.trust = self.trust is Trust.UNSET, Trust.SYNCED
        if unset or abs(by_s) > SLEW_LIMIT_S:
            kind = Kind.STEP
            self.set_wall(wall)
        elif abs(by_s - self._slewing_s) > AGREEMENT_S:
            kind = Kind.SLEW
            self._begin_slew(by_s)
        else:
            kind = Kind.AGREED
        return Correction(kind, by_s, wall, Source.UTILITY)

    def step(self, seconds: float) -> None:
        """Move the wall clock by this much, forward or back."""
        self.set_wall(self.wall() + seconds)

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after each :meth:`set_wall` and :meth:`step`, for which no time passes."""
        return self._steps.add(callback)

    def call_at(self, when: float, callback: Callable[[], None]) -> BenchTimer:
        timer = BenchTimer(self, when, callback)
        self._serial += 1
        heapq.heappush(self._timers, (when, self._serial, timer))
        if when < self._alarm_at:
            self._arm()
        return timer

    async def advance(self, seconds: float, visit: Callable[[], Awaitable[Any]]) -> None:
        """Move both clocks by ``seconds`` of monotonic time, at most 45 days.

        Timers fire in their order, each at its instant. ``visit`` is awaited at each minute of
        the wall clock, before the timers due at that instant, and at the end. A second call waits
        for the first. When ``visit`` fails or the call is cancelled, time stays where it came to.
        """
        if not 0 <= seconds <= MAX_ADVANCE_S:
            raise UsageError(
                f"cannot advance by {seconds} s; give 0 to {MAX_ADVANCE_S} s (45 days), repeatedly"
                " if need be"
            )
        async with self._advancing:
            self._freeze()
            try:
                await self._travel(self._monotonic + seconds, visit)
            finally:
                self._thaw()

    async def _travel(self, target: float, visit: Callable[[], Awaitable[Any]]) -> None:
        stops_here = 0
        arrived = False
        while True:
            before = self._monotonic
            minute = MINUTE_S * (math.floor(self._wall_now() / MINUTE_S) + 1)
            minute_at = before + (minute - self._wall_now()) / self._speed
            due = self._next_due()
            if minute_at - TOGETHER_S < due < minute_at:
                due = minute_at
            stop = max(before, min(target, minute_at, due))
            self._monotonic = stop
            stops_here = stops_here + 1 if stop == before else 0
            if stops_here > MAX_STOPS_AT_ONE_INSTANT:
                raise MeterError("advance: a timer fires again and again without time passing")
            at_minute = stop == minute_at
            if at_minute:
                # Exactly the minute: a boundary must not be missed by a rounding.
                self._set_wall(minute)
            if at_minute or (stop == target and not arrived):
                arrived = stop == target
                await visit()
                await _settle()
            if self._fire():
                await _settle()
            if arrived and self._next_due() > target:
                return

    def _wall_now(self) -> float:
        return self._wall + (self._monotonic - self._wall_base) * self._speed

    @property
    def _speed(self) -> float:
        """Seconds of the wall clock to a monotonic one."""
        return 1 + self._rate + self._slew

    @property
    def _slewing_s(self) -> float:
        """What a running slew has still to add."""
        end = self._slew_end
        return 0.0 if end is None else (end.when - self.monotonic()) * self._slew

    def _begin_slew(self, by_s: float) -> None:
        self._end_slew()
        self._slew = math.copysign(SLEW_RATE, by_s)
        self._slew_end = self.call_at(self.monotonic() + abs(by_s) / SLEW_RATE, self._end_slew)

    def _end_slew(self) -> None:
        if self._slew_end is not None:
            self._slew_end.cancel()
        self._set_wall(self.wall())
        self._slew, self._slew_end = 0.0, None

    def _set_wall(self, wall: float) -> None:
        self._wall_base = self.monotonic()
        self._wall = wall

    def _freeze(self) -> None:
        self._monotonic = self.monotonic()
        self._frozen = True
        self._disarm()

    def _thaw(self) -> None:
        self._loop_base = self._loop.time()
        self._frozen = False
        self._arm()

    def _next_due(self) -> float:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
            self._cancelled -= 1
        return self._timers[0][0] if self._timers else math.inf

    def _fire(self) -> bool:
        """Call back what is due now, but not what that makes due; True when anything was."""
        now = self.monotonic()
        due: list[BenchTimer] = []
        while self._next_due() <= now:
            due.append(heapq.heappop(self._timers)[2])
        fired = False
        for timer in due:
            callback, timer.callback = timer.callback, None
            if callback is None:
                continue
            fired = True
            try:
                callback()
            except Exception as error:
                self._loop.call_exception_handler(
                    {"message": "a callback of the bench clock failed", "exception": error}
                )
        return fired

    def _on_alarm(self) -> None:
        self._alarm = None
        self._alarm_at = math.inf
        self._fire()
        self._arm()

    def _arm(self) -> None:
        """Let the loop wake us for the first timer; while time stands still, nothing does."""
        self._disarm()
        due = self._next_due()
        if self._frozen or due == math.inf:
            return
        self._alarm_at = due
        self._alarm = self._loop.call_later(max(0.0, due - self.monotonic()), self._on_alarm)

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None
        self._alarm_at = math.inf

    def _note_cancelled(self) -> None:
        self._cancelled += 1
        if self._cancelled > _COMPACT_ABOVE and 2 * self._cancelled > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0


async def _settle() -> None:
    for _ in range(SETTLE_TURNS):
        await asyncio.sleep(0)


def _checked_wall(wall: float) -> float:
    """A wall time that a calendar can name: 1970 to 9999."""
    if not 0 <= wall < 253_402_200_000:
        raise UsageError(f"cannot set the clock to {wall}; give a time from 1970 to 9999")
    return wall
