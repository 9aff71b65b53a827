"""The meter's own clock: the host's monotonic time, and a wall time that is not the host's.

The wall time is the host's only as far as somebody keeps that one, so nobody who sets the host's
clock by hand moves a meter that knows better. Sources, the best first:

=============  =====================================================================
network        the host's clock while the kernel says that it is synchronised
utility        :meth:`SystemClock.adjust`
rtc            at the start; each day while nobody better was heard, to follow drift
host           the host's clock, kept by nobody, if it is plausible: COARSE
persisted      the last time the meter stored, when the host's is earlier: COARSE
none           UNSET: energy is counted, no boundary is valid
=============  =====================================================================

Corrections are made by :mod:`~meter_runtime.discipline`, the RTC is tended here: it is set at a
full second once somebody better was heard, and then daily. Its failures are logged and stop
nothing. A host's clock that is merely slewed takes monotonic time with it: the two agree.
"""

import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from meter_runtime.clock import StepListeners, Timer, Trust
from meter_runtime.discipline import SLEW_LIMIT_S, Correction, Discipline, Kind, Source
from meter_runtime.errors import MeterError
from meter_runtime.kernel_time import KernelTime
from meter_runtime.rtc import RealTimeClock

log = logging.getLogger(__name__)

PLAUSIBLE_FROM = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""An unsynchronised host that shows an earlier time has not been set at all."""

CHECK_S = 1.0
"""How often the host's clock is looked at: two system calls."""

RTC_INTERVAL_S = 86_400.0
"""How often the RTC is set, or followed."""

HOLDOVER_S = 5 * 86_400.0
"""How long the clock stays SYNCED unconfirmed: a crystal that is off by 20 ppm needs almost six
days for the 10 s beyond which a clock is stepped. *Unverified.*"""

RTC_RESOLUTION_S = 1.0

_PROMPT_S = 0.05
"""How far from a full second the RTC may be set."""


class Host(Protocol):
    """What the clock is made of; :class:`~meter_runtime.kernel_time.KernelTime` is the real one."""

    def monotonic(self) -> float: ...

    def read(self) -> tuple[float, float]:
        """Monotonic and wall time of one instant."""
        ...

    def synchronised(self) -> bool:
        """Somebody keeps the wall clock on time."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer: ...

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when the wall clock was set; returns how to stop it."""
        ...


class SystemClock:
    """A :class:`~meter_runtime.clock.Clock` on hardware.

    Until :meth:`start` it shows the host's wall time of its making and what has passed since, and
    takes it for SYNCED: enough for tools. A meter starts it. It closes ``rtc`` when it is closed.
    """

    def __init__(self, rtc: RealTimeClock | None = None, host: Host | None = None) -> None:
        self._host: Host = host or KernelTime()
        self._rtc = rtc
        self._rtc_due = -math.inf
        self._rtc_set_at = -math.inf
        self.rtc_trouble: str | None = None
        """Why the RTC is not believed or not set; None when all is well with it."""
        self._rtc_timer: Timer | None = None
        self._steps = StepListeners()
        self._earliest = 0.0
        self._check_timer: Timer | None = None
        self._unwatch: Callable[[], None] | None = None
        now, wall = self._host.read()
        self._discipline = Discipline(now, wall)
        self._discipline.correct(now, wall, Source.NETWORK)

    @property
    def trust(self) -> Trust:
        return self._discipline.trust

    @property
    def source(self) -> Source:
        """Whose word the wall time is."""
        return self._discipline.source

    @property
    def slewing_s(self) -> float:
        """What a running slew has still to add; 0 when there is none."""
        return self._discipline.slewing_s(self.monotonic())

    @property
    def rtc(self) -> str | None:
        """The RTC's name; None without one."""
        return None if self._rtc is None else self._rtc.name

    @property
    def last_step(self) -> Correction | None:
        """The last step since the start, the first setting included."""
        return self._discipline.last_step

    def monotonic(self) -> float:
        return self._host.monotonic()

    def wall(self) -> float:
        return self._discipline.wall(self._host.monotonic())

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        return self._host.call_at(when, callback)

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._steps.add(callback)

    def start(self, persisted: float | None = None) -> None:
        """Find out what time it is and keep it, by the running loop, until :meth:`close`.

        ``persisted`` is the last wall time the meter stored, UTC seconds.
        """
        if self._unwatch is not None:
            raise RuntimeError("the clock has been started already")
        self._earliest = persisted or 0.0
        self._boot()
        self._unwatch = self._host.watch(self.check)
        self._tick()

    def close(self) -> None:
        """Leave the host's clock alone from now on; the time goes on. Harmless twice."""
        for timer in (self._check_timer, self._rtc_timer):
            if timer is not None:
                timer.cancel()
        if self._unwatch is not None:
            self._unwatch()
        if self._rtc is not None:
            self._rtc.close()
        self._check_timer = self._rtc_timer = self._unwatch = self._rtc = None

    def adjust(self, wall: float) -> Correction:
        """The utility says that it is ``wall``; ignored while the host is synchronised.

        Raises ValueError for a time that no calendar can name.
        """
        now, host_wall = self._host.read()
        if self._host.synchronised():
            self._correct(now, host_wall, Source.NETWORK)
            by_s = wall - self._discipline.wall(now)
            return Correction(Kind.IGNORED, by_s, wall, Source.UTILITY)
        correction = self._correct(now, wall, Source.UTILITY)
        self._tend_rtc()
        return correction

    def check(self) -> None:
        """Look at the host's clock and at the RTC, and follow what they say; done each second."""
        now, wall = self._host.read()
        clock = self._discipline
        if self._host.synchronised():
            self._correct(now, wall, Source.NETWORK)
        elif clock.source not in _NOT_THE_HOSTS and self._plausible(wall):
            self._correct(now, wall, Source.HOST)
        self._tend_rtc()
        if clock.trust is Trust.SYNCED and now - clock.confirmed_at >= HOLDOVER_S:
            log.warning(
                "nobody has confirmed the clock for %d days: it is taken for coarse",
                HOLDOVER_S // 86_400,
            )
            clock.doubt()

    def _boot(self) -> None:
        now, wall = self._host.read()
        self._discipline = Discipline(now, wall)
        if self._host.synchronised():
            self._correct(now, wall, Source.NETWORK)
            return
        second = self._read_rtc()
        self._rtc_due = now + RTC_INTERVAL_S
        if second is not None:
            # Anywhere within that second: the middle is wrong by half of one at most.
            self._correct(self.monotonic(), second + RTC_RESOLUTION_S / 2, Source.RTC)
        elif self._plausible(wall):
            self._correct(now, wall, Source.HOST)
        elif self._earliest:
            self._correct(now, self._earliest, Source.PERSISTED)
        else:
            log.warning("nobody knows the time: energy is counted, no half hour is stored")

    def _tick(self) -> None:
        self._check_timer = self._host.call_at(self.monotonic() + CHECK_S, self._tick)
        self.check()

    def _plausible(self, wall: float) -> bool:
        return wall >= max(PLAUSIBLE_FROM, self._earliest)

    def _correct(self, now: float, wall: float, source: Source) -> Correction:
        before = self._discipline.source
        correction = self._discipline.correct(now, wall, source)
        moved = correction.kind in (Kind.STEP, Kind.SLEW)
        if before is Source.NONE:
            log.debug("the clock is set, source %s", source.value)
        elif correction.kind is Kind.STEP:
            log.warning("the clock is stepped by %+.3f s, source %s", correction.by_s, source.value)
        elif correction.kind is Kind.SLEW:
            log.info("the clock is slewed by %+.3f s, source %s", correction.by_s, source.value)
        if source in _ABOVE_RTC and (
            before not in _ABOVE_RTC or (moved and abs(correction.by_s) >= RTC_RESOLUTION_S)
        ):
            self._rtc_due = now
        if correction.kind is Kind.STEP:
            self._steps.tell()
        return correction

    def _tend_rtc(self) -> None:
        """Once it is due: set the RTC if somebody better was heard since, else follow it."""
        now, clock = self._host.monotonic(), self._discipline
        if self._rtc is None or self._rtc_timer is not None or now < self._rtc_due:
            return
        if clock.source in _ABOVE_RTC and clock.confirmed_at > self._rtc_set_at:
            goal = clock.goal(now)
            full_second = now + math.floor(goal) + 1 - goal
            self._rtc_timer = self._host.call_at(full_second, self._set_rtc)
        else:
            self._rtc_due = now + RTC_INTERVAL_S
            self._follow_rtc()

    def _set_rtc(self) -> None:
        self._rtc_timer = None
        now = self._host.monotonic()
        goal = self._discipline.goal(now)
        if self._rtc is None or abs(goal - round(goal)) > _PROMPT_S:
            return  # the loop was busy: the next check finds another second
        self._rtc_due = now + RTC_INTERVAL_S
        try:
            self._rtc.write(goal)
        except MeterError as error:
            self._note_trouble(str(error))
        else:
            self._rtc_set_at = now
            self.rtc_trouble = None

    def _follow_rtc(self) -> None:
        second = self._read_rtc()
        if second is None:
            return
        now, clock = self._host.monotonic(), self._discipline
        goal = clock.goal(now)
        # It tells a second, not an instant: a clock within that second agrees.
        nearest = min(max(goal, second), second + RTC_RESOLUTION_S)
        if clock.trust is Trust.SYNCED and abs(nearest - goal) > SLEW_LIMIT_S:
            self._note_trouble(
                f"{self.rtc} is off by {nearest - goal:+.0f} s after a day: it is not followed;"
                " check its battery and crystal"
            )
            return
        self.rtc_trouble = None
        self._correct(now, nearest, Source.RTC)

    def _read_rtc(self) -> float | None:
        """The second the RTC is in; None without one, or when it is not to be believed."""
        if self._rtc is None:
            return None
        try:
            second = self._rtc.read()
        except MeterError as error:
            self._note_trouble(str(error))
            return None
        if second is None:
            self._note_trouble(
                f"{self.rtc} was never set or has stopped; it is set once the time is known:"
                " check its battery"
            )
        elif second + SLEW_LIMIT_S < max(PLAUSIBLE_FROM, self._earliest):
            self._note_trouble(
                f"{self.rtc} is behind the last time that was stored; it is set once the time is"
                " known: check its battery"
            )
            return None
        return second

    def _note_trouble(self, trouble: str) -> None:
        if self.rtc_trouble is None:
            log.warning("%s", trouble)
        self.rtc_trouble = trouble


_NOT_THE_HOSTS = (Source.RTC, Source.UTILITY)
"""A clock set from these has nothing to do with an unsynchronised host's."""

_ABOVE_RTC = (Source.UTILITY, Source.NETWORK)
