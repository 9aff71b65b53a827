"""What time it is, how far it is trusted, and how to wait for it.

A core never asks for the time: it takes ``now`` and returns deadlines. A shell asks a
:class:`Clock`, which has two readings. ``monotonic()`` orders waits and never jumps;
``wall()`` names instants (UTC epoch seconds) and may be stepped. Everything that waits goes
through :meth:`Clock.call_at`, so that the bench can move a whole meter through a day in a
second without patching anything.

Japan has one time zone without daylight saving: JST = UTC+9. Half-hour boundaries fall on
multiples of 1800 s of the UTC epoch in JST as well, so a *slot* is ``epoch // 1800`` and the
boundary it names is the instant at which it starts.
"""

import asyncio
import enum
import logging
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Protocol

log = logging.getLogger(__name__)

JST = timezone(timedelta(hours=9), "JST")
HALF_HOUR_S = 1800
SLOTS_PER_DAY = 48


class Trust(enum.Enum):
    """How far the wall clock may be believed, in rising order."""

    UNSET = "unset"
    """Never set since boot: no boundary is valid."""
    COARSE = "coarse"
    """From persisted time or a host that nobody keeps on time: close, not exact."""
    SYNCED = "synced"
    """Set from NTP, the utility or a battery-backed clock (RTC)."""


class Timer(Protocol):
    """A pending callback."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Monotonic time, wall time and the one way to wait for either."""

    @property
    def trust(self) -> Trust: ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def wall(self) -> float:
        """UTC seconds since 1970-01-01; may be stepped."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back once ``monotonic()`` has reached ``when``."""
        ...

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back whenever the wall clock was stepped; returns how to stop it."""
        ...


class StepListeners:
    """Whoever wants to know that the wall clock was stepped."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def add(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back at each :meth:`tell`; returns how to stop it."""
        self._callbacks.append(callback)

        def remove() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return remove

    def tell(self) -> None:
        """Call everyone back, in their order; one that fails is logged and stops nobody."""
        for callback in tuple(self._callbacks):
            try:
                callback()
            except Exception:
                log.exception("a listener failed on a step of the clock")


class Hold:
    """Lets whoever acts by itself rest while somebody moves the clock by hand.

    It is held in a ``with``; holds may overlap, and the last one that lets go ends the rest.
    """

    def __init__(self) -> None:
        self._hands = 0
        self._free = asyncio.Event()
        self._free.set()

    @property
    def on(self) -> bool:
        """Somebody holds."""
        return self._hands > 0

    def __enter__(self) -> None:
        self._hands += 1
        self._free.clear()

    def __exit__(self, *_: object) -> None:
        self._hands -= 1
        if not self._hands:
            self._free.set()

    async def ended(self) -> None:
        """Wait until nobody holds."""
        await self._free.wait()


async def sleep_until(clock: Clock, when: float) -> None:
    """Wait until ``clock.monotonic()`` reaches ``when``."""
    if clock.monotonic() >= when:
        await asyncio.sleep(0)
        return
    await wait_for_event(clock, asyncio.Event(), when)


async def wait_for_event(clock: Clock, event: asyncio.Event, deadline: float | None) -> bool:
    """Wait for ``event`` until ``deadline``; True when the event came first."""
    if deadline is None:
        await event.wait()
        return True
    if event.is_set():
        return True
    due = asyncio.get_running_loop().create_future()

    def ring() -> None:
        if not due.done():
            due.set_result(None)

    timer = clock.call_at(deadline, ring)
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((waiter, due), return_when=asyncio.FIRST_COMPLETED)
        return event.is_set()
    finally:
        timer.cancel()
        waiter.cancel()
        due.cancel()


def slot_at(epoch: float) -> int:
    """The half-hour slot that contains this instant."""
    return int(epoch // HALF_HOUR_S)


def slot_start(slot: int) -> int:
    """UTC epoch seconds of the boundary that opens this slot."""
    return slot * HALF_HOUR_S


def jst(epoch: float) -> datetime:
    """The instant as an aware JST datetime."""
    return datetime.fromtimestamp(epoch, JST)


def jst_day(epoch: float) -> date:
    """The JST calendar day that contains this instant."""
    return jst(epoch).date()


def first_slot_of(day: date) -> int:
    """The slot that opens at 00:00 JST of this day."""
    return slot_at(datetime(day.year, day.month, day.day, tzinfo=JST).timestamp())
