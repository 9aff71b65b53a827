"""What the host's kernel knows of time: its clocks, whether somebody keeps them, and their steps.

Linux only, by three system calls that Python has not (3.11): adjtimex(2) says whether NTP or the
like keeps the wall clock; timerfd_create(2) and timerfd_settime(2) wake whoever waits when the
wall clock is set (TFD_TIMER_CANCEL_ON_SET). Where the kernel or the platform has none of it, the
clock counts as kept by nobody, and its steps are found by looking.
"""

import asyncio
import ctypes
import errno
import logging
import os
import time
from collections.abc import Callable

from meter_runtime.clock import Timer

log = logging.getLogger(__name__)

_STRUCT_TIMEX_ROOM = 512
"""More than any kernel's struct timex; its zeroed first field asks to change nothing."""

_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""

_CLOCK_REALTIME = 0
_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2
_REARM_S = 365 * 86_400
"""How far ahead the timer lies whose cancellation matters: what `long` holds until 2037."""

_ATTEMPTS = 3


class KernelTime:
    """The host's clocks, for a :class:`~meter_runtime.system_clock.SystemClock`."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def monotonic(self) -> float:
        return time.monotonic()

    def read(self) -> tuple[float, float]:
        """Monotonic and wall time of one instant, in seconds.

        The process may lose the processor between two readings, so the closest of a few counts.
        """
        spread, monotonic, wall = min(_both() for _ in range(_ATTEMPTS))
        return monotonic + spread / 2, wall

    def synchronised(self) -> bool:
        """The kernel says that somebody keeps the wall clock on time."""
        try:
            state: int = self._libc.adjtimex(ctypes.create_string_buffer(_STRUCT_TIMEX_ROOM))
        except AttributeError:
            return False
        return 0 <= state < _TIME_ERROR

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back once ``monotonic()`` has reached ``when``."""
        delay = max(0.0, when - time.monotonic())
        return asyncio.get_running_loop().call_later(delay, callback)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back, by the running loop, when the wall clock was set; returns how to stop it.

        The kernel does not tell of a clock that is slewed or set to the time it shows.
        """
        try:
            descriptor = self._libc.timerfd_create(_CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError:
            return _nothing
        if descriptor < 0 or not self._arm(descriptor):
            log.info("the kernel does not tell of steps of its clock; they are looked for instead")
            if descriptor >= 0:
                os.close(descriptor)
            return _nothing
        loop = asyncio.get_running_loop()

        def readable() -> None:
            try:
                os.read(descriptor, 8)
            except OSError as error:
                if error.errno != errno.ECANCELED:
                    return
            if not self._arm(descriptor):
                loop.remove_reader(descriptor)
            callback()

        loop.add_reader(descriptor, readable)

        def stop() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)

        return stop

    def _arm(self, descriptor: int) -> bool:
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        # struct itimerspec: interval and expiry, seconds and nanoseconds each.
        expiry = (ctypes.c_long * 4)(0, 0, int(time.time()) + _REARM_S, 0)
        status: int = self._libc.timerfd_settime(descriptor, flags, expiry, None)
        return status == 0


def _both() -> tuple[float, float, float]:
    """How long the reading took, monotonic time at its start, wall time within."""
    before = time.monotonic()
    wall = time.time()
    return time.monotonic() - before, before, wall


def _nothing() -> None:
    """There is nothing to stop."""
