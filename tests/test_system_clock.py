"""The meter's own clock: where it takes the time from, and what moves it."""

import heapq
import itertools
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from meter_runtime.bench.board.bus import VirtualI2C
from meter_runtime.bench.board.ds3231 import DEFAULT_ADDRESS, Ds3231Chip
from meter_runtime.clock import Trust
from meter_runtime.discipline import Kind, Source
from meter_runtime.rtc import Ds3231
from meter_runtime.system_clock import HOLDOVER_S, PLAUSIBLE_FROM, RTC_INTERVAL_S, SystemClock

TRUTH = datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC).timestamp() + 0.25
BOOT = 30.0
UNSET_HOST = 40.0
DAY_S = 86_400.0


class _Entry:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class HandHost:
    """A host whose time passes, and is set, when the test says so."""

    def __init__(self, *, off_by: float = 0.0, kept: bool = False) -> None:
        self.now = BOOT
        self.off_by = off_by
        self.kept = kept
        self.tells = True
        self.watcher: Callable[[], None] | None = None
        self._timers: list[tuple[float, int, _Entry]] = []
        self._order = itertools.count()

    @property
    def truth(self) -> float:
        """What every good clock shows."""
        return TRUTH + self.now - BOOT

    def monotonic(self) -> float:
        return self.now

    def read(self) -> tuple[float, float]:
        return self.now, self.truth + self.off_by

    def synchronised(self) -> bool:
        return self.kept

    def call_at(self, when: float, callback: Callable[[], None]) -> _Entry:
        entry = _Entry(callback)
        heapq.heappush(self._timers, (when, next(self._order), entry))
        return entry

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.watcher = callback

        def stop() -> None:
            self.watcher = None

        return stop

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, entry = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            if entry.callback is not None:
                entry.callback()
        self.now = end

    def stall(self, seconds: float) -> None:
        """The loop is busy: time passes and no timer fires."""
        self.now += seconds

    def leap(self, seconds: float) -> None:
        """Long time passes; what was due meanwhile is done at its end."""
        self.stall(seconds - 5)
        self.advance(5)

    def set_off_by(self, off_by: float, *, kept: bool) -> None:
        """Somebody sets the host's clock."""
        self.off_by, self.kept = off_by, kept
        if self.tells and self.watcher is not None:
            self.watcher()

    @property
    def pending(self) -> int:
        return sum(entry.callback is not None for _, _, entry in self._timers)


class Lab:
    """A host, a DS3231 on its bus unless ``rtc`` is false, and the clock made of both."""

    def __init__(
        self,
        *,
        off_by: float = 0.0,
        kept: bool = False,
        rtc: bool = True,
        rtc_off_by: float | None = None,
    ) -> None:
        self.host = HandHost(off_by=off_by, kept=kept)
        self.chip = Ds3231Chip(lambda: self.host.now)
        self.bus = VirtualI2C("bus", {DEFAULT_ADDRESS: self.chip})
        self.rtc = Ds3231(self.bus)
        if rtc_off_by is not None:
            self.rtc.write(TRUTH + rtc_off_by)
        self.bus.transactions.clear()
        self.clock = SystemClock(self.rtc if rtc else None, self.host)
        self.steps = 0
        self.clock.on_step(self._stepped)

    def _stepped(self) -> None:
        self.steps += 1

    @property
    def error(self) -> float:
        return self.clock.wall() - self.host.truth

    @property
    def rtc_error(self) -> float:
        second = self.rtc.read()
        assert second is not None
        return second - self.host.truth

    def rtc_settings(self) -> int:
        """How often the time registers were written lately."""
        return sum(len(each.written) == 8 and not each.failed for each in self.bus.transactions)


def test_before_it_is_started_it_shows_the_hosts_time_and_believes_it() -> None:
    clock = SystemClock()
    assert clock.trust is Trust.SYNCED
    assert abs(clock.wall() - time.time()) < 1
    assert abs(clock.monotonic() - time.monotonic()) < 1
    clock.close()


YEARS = 56 * 365 * DAY_S


@pytest.mark.parametrize(
    ("kept", "host", "rtc", "persisted", "source", "error"),
    [
        # the host is synchronised: nothing else matters
        (True, 0.0, None, None, Source.NETWORK, 0.0),
        (True, 0.0, -3600.0, 3600.0, Source.NETWORK, 0.0),
        # the RTC, with half a second's doubt
        (False, 100.0, 0.0, None, Source.RTC, 0.25),
        (False, -YEARS, 0.0, -60.0, Source.RTC, 0.25),
        # an RTC behind what was stored is not believed, but for a slew
        (False, -YEARS, 0.0, 5.0, Source.RTC, 0.25),
        (False, 100.0, -3600.0, -60.0, Source.HOST, 100.0),
        (False, -YEARS, -3600.0, -60.0, Source.PERSISTED, -60.0),
        # the host's clock, kept by nobody
        (False, 100.0, None, None, Source.HOST, 100.0),
        (False, -600.0, None, -900.0, Source.HOST, -600.0),
        # time stored by the meter is later than the host's
        (False, -600.0, None, -60.0, Source.PERSISTED, -60.0),
        (False, -YEARS, None, -60.0, Source.PERSISTED, -60.0),
        # nobody knows
        (False, -YEARS, None, None, Source.NONE, -YEARS),
        (False, -YEARS, -20 * 365 * DAY_S, None, Source.NONE, -YEARS),
    ],
)
def test_at_boot_the_best_source_is_believed(
    *,
    kept: bool,
    host: float,
    rtc: float | None,
    persisted: float | None,
    source: Source,
    error: float,
) -> None:
    lab = Lab(off_by=host, kept=kept, rtc_off_by=rtc)
    lab.clock.start(None if persisted is None else TRUTH + persisted)
    assert lab.clock.source is source
    assert lab.clock.trust is source.trust
    assert lab.error == pytest.approx(error, abs=0.001)
    assert lab.clock.slewing_s == 0


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("by_s", [-1800.0, 45.0, 3 * DAY_S])
def test_a_large_step_of_a_kept_host_is_a_step_at_once(by_s: float, tells: bool) -> None:
    lab = Lab(kept=True)
    lab.clock.start()
    lab.host.tells = tells
    before = lab.steps
    lab.host.set_off_by(by_s, kept=True)
    if not tells:
        lab.host.advance(1.0)
    assert lab.error == pytest.approx(by_s, abs=0.001)
    assert lab.steps == before + 1
    assert lab.clock.last_step is not None
    assert lab.clock.last_step.by_s == pytest.approx(by_s, abs=0.001)


@pytest.mark.parametrize("by_s", [-10.0, -1.0, 0.5, 9.9])
def test_a_small_step_of_a_kept_host_is_slewed_and_nobody_is_told(by_s: float) -> None:
    lab = Lab(kept=True)
    lab.clock.start()
    before = lab.steps
    lab.host.set_off_by(by_s, kept=True)
    assert lab.error == pytest.approx(0, abs=1e-6)
    assert lab.clock.slewing_s == pytest.approx(by_s, abs=1e-6)
    lab.host.advance(1000)
    assert lab.error == pytest.approx(max(-0.5, min(0.5, by_s)), abs=0.001)
    lab.host.advance(20_000)
    assert lab.error == pytest.approx(by_s, abs=0.001)
    assert lab.steps == before


def test_a_date_set_by_hand_does_not_move_a_clock_that_knows_better() -> None:
    lab = Lab(kept=True)
    lab.clock.start()
    before = lab.steps
    lab.host.set_off_by(-7200.0, kept=False)
    lab.host.advance(60)
    assert lab.error == pytest.approx(0, abs=1e-6)
    lab.host.set_off_by(0.0, kept=True)
    lab.host.advance(60)
    assert (lab.steps, lab.clock.trust) == (before, Trust.SYNCED)


def test_a_coarse_clock_follows_a_date_set_by_hand_but_not_into_the_past() -> None:
    lab = Lab(off_by=100.0)
    lab.clock.start(persisted=TRUTH + 50)
    assert lab.clock.source is Source.HOST
    lab.host.set_off_by(-7200.0, kept=False)
    assert lab.error == pytest.approx(100.0, abs=1e-6)
    lab.host.set_off_by(7200.0, kept=False)
    assert lab.error == pytest.approx(7200.0, abs=1e-6)
    assert (lab.clock.trust, lab.steps) == (Trust.COARSE, 2)


def test_a_clock_that_was_never_set_takes_the_first_plausible_time() -> None:
    lab = Lab(off_by=UNSET_HOST - TRUTH, rtc=False)
    lab.clock.start()
    assert lab.clock.trust is Trust.UNSET
    assert lab.clock.last_step is None
    lab.host.set_off_by(PLAUSIBLE_FROM - TRUTH - 1000, kept=False)
    trusts = [lab.clock.trust]
    lab.host.set_off_by(4.0, kept=False)
    trusts.append(lab.clock.trust)
    lab.host.set_off_by(0.0, kept=True)
    trusts.append(lab.clock.trust)
    assert trusts == [Trust.UNSET, Trust.COARSE, Trust.SYNCED]
    assert lab.steps == 1
    assert lab.clock.slewing_s == pytest.approx(-4.0, abs=1e-6)


@pytest.mark.parametrize(("by_s", "kind"), [(-8.0, Kind.SLEW), (1800.0, Kind.STEP)])
def test_the_utility_sets_a_clock_that_no_network_keeps(by_s: float, kind: Kind) -> None:
    lab = Lab(off_by=300.0, rtc_off_by=0.0)
    lab.clock.start()
    before = lab.steps
    now = lab.clock.wall()
    done = lab.clock.adjust(now + by_s)
    assert (done.kind, done.source) == (kind, Source.UTILITY)
    assert done.by_s == pytest.approx(by_s, abs=1e-6)
    assert lab.steps == before + (kind is Kind.STEP)
    lab.host.advance(3600 * 8)
    assert lab.clock.source is Source.UTILITY
    assert lab.error == pytest.approx(0.25 + by_s, abs=0.001)


def test_the_utility_does_not_move_a_clock_that_the_network_keeps() -> None:
    lab = Lab(kept=True)
    lab.clock.start()
    done = lab.clock.adjust(TRUTH + 100)
    assert (done.kind, done.by_s) == (Kind.IGNORED, 100.0)
    assert lab.error == 0
    with pytest.raises(ValueError, match="no wall time"):
        Lab().clock.adjust(float("nan"))


def test_the_rtc_is_set_at_a_full_second_once_the_network_is_heard_and_then_daily() -> None:
    lab = Lab(off_by=-900.0, rtc_off_by=None)
    lab.clock.start()
    lab.host.advance(30)
    assert lab.rtc_settings() == 0
    troubles = [lab.clock.rtc_trouble]
    lab.host.set_off_by(0.0, kept=True)
    lab.host.advance(1.0)
    assert lab.rtc_settings() == 1
    troubles.append(lab.clock.rtc_trouble)
    assert ["never set" in (trouble or "") for trouble in troubles] == [True, False]
    lab.host.advance(0.5 - lab.host.truth % 1)
    assert lab.rtc_error == pytest.approx(-0.5, abs=0.001)
    for day in range(2, 4):
        lab.host.leap(RTC_INTERVAL_S + 2)
        assert lab.rtc_settings() == day
    lab.host.advance(0.5 - lab.host.truth % 1)
    assert lab.rtc_error == pytest.approx(-0.5, abs=0.001)


def test_the_rtc_is_set_by_the_network_even_where_both_agree() -> None:
    lab = Lab(rtc_off_by=0.0)
    lab.clock.start()
    lab.host.kept = True
    lab.host.advance(3)
    assert lab.rtc_settings() == 1


def test_the_rtc_is_set_again_when_the_network_moves_the_clock() -> None:
    lab = Lab(kept=True)
    lab.clock.start()
    lab.host.advance(3)
    lab.host.set_off_by(0.4, kept=True)
    lab.host.advance(3)
    assert lab.rtc_settings() == 1
    lab.host.set_off_by(3.0, kept=True)
    lab.host.advance(3)
    assert lab.rtc_settings() == 2
    lab.host.advance(0.5 - lab.host.truth % 1)
    assert lab.rtc_error == pytest.approx(3.0 - 0.5, abs=0.001)


def test_the_rtc_carries_on_what_the_utility_said() -> None:
    lab = Lab(off_by=300.0)
    lab.clock.start()
    lab.clock.adjust(lab.host.truth)
    lab.host.advance(3)
    sources = [lab.clock.source]
    lab.host.leap(RTC_INTERVAL_S)
    sources.append(lab.clock.source)
    assert sources == [Source.UTILITY, Source.RTC]
    assert lab.rtc_settings() == 1
    assert lab.error == pytest.approx(0, abs=0.001)


def test_the_rtc_is_set_again_when_its_time_was_found_wrong() -> None:
    lab = Lab(rtc_off_by=8.0)
    lab.clock.start()
    lab.host.advance(10)
    assert lab.rtc_settings() == 0
    lab.host.kept = True
    lab.host.advance(3)
    assert lab.clock.slewing_s < -7
    assert lab.rtc_settings() == 1
    lab.host.advance(0.5 - lab.host.truth % 1)
    assert lab.rtc_error == pytest.approx(-0.5, abs=0.001)
    lab.host.advance(3600)
    assert lab.rtc_settings() == 1


def test_a_busy_loop_does_not_set_the_rtc_late() -> None:
    lab = Lab(kept=True)
    lab.clock.start()
    lab.host.stall(1.4)
    lab.host.advance(0.0)
    assert lab.rtc_settings() == 0
    lab.host.advance(3)
    assert lab.rtc_settings() == 1
    lab.host.advance(0.5 - lab.host.truth % 1)
    assert lab.rtc_error == pytest.approx(-0.5, abs=0.001)


def test_without_anybody_better_the_rtc_is_followed_each_day() -> None:
    """The host's crystal, and with it monotonic time, is 20 ppm off; the RTC's is right."""
    lab = Lab(off_by=-YEARS, rtc_off_by=0.0)
    lab.clock.start()
    lab.chip.drift_ppm = 20
    for day in range(1, 9):
        lab.host.leap(DAY_S)
        right = day * DAY_S * 20e-6
        assert lab.error == pytest.approx(right, abs=20e-6 * DAY_S + 1.25)
    assert (lab.clock.trust, lab.clock.source) == (Trust.SYNCED, Source.RTC)
    assert lab.steps == 1
    assert lab.rtc_settings() == 0


def test_an_rtc_that_agrees_to_the_second_moves_nothing() -> None:
    lab = Lab(off_by=-YEARS, rtc_off_by=0.0)
    lab.clock.start()
    for _ in range(5):
        lab.host.leap(DAY_S)
    assert lab.error == pytest.approx(0.25, abs=1e-6)
    assert lab.clock.slewing_s == 0


def test_an_rtc_that_went_wrong_does_not_step_a_clock_that_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lab = Lab(off_by=-YEARS, rtc_off_by=0.0)
    lab.clock.start()
    lab.rtc.write(TRUTH + 40 * DAY_S)
    for _ in range(3):
        lab.host.leap(DAY_S)
    assert lab.error == pytest.approx(0.25, abs=1e-6)
    assert lab.clock.rtc_trouble is not None
    assert "not followed" in lab.clock.rtc_trouble
    assert caplog.text.count("not followed") == 1


def test_a_clock_nobody_confirms_is_coarse_after_a_while_and_then_synced_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lab = Lab(kept=True, rtc=False)
    lab.clock.start()
    lab.host.advance(3600)
    lab.host.kept = False
    lab.host.leap(HOLDOVER_S - 10)
    trusts = [lab.clock.trust]
    lab.host.advance(20)
    trusts.append(lab.clock.trust)
    lab.host.kept = True
    lab.host.advance(1)
    trusts.append(lab.clock.trust)
    assert trusts == [Trust.SYNCED, Trust.COARSE, Trust.SYNCED]
    assert lab.error == pytest.approx(0, abs=1e-6)
    assert caplog.text.count("taken for coarse") == 1


def test_a_coarse_clock_that_the_utility_set_does_not_follow_the_host() -> None:
    lab = Lab(off_by=300.0, rtc=False)
    lab.clock.start()
    lab.clock.adjust(lab.host.truth)
    lab.host.leap(HOLDOVER_S + 5)
    assert lab.clock.trust is Trust.COARSE
    lab.host.advance(60)
    assert lab.error == pytest.approx(0, abs=0.001)


def test_an_rtc_that_does_not_answer_stops_nothing_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lab = Lab(off_by=100.0)
    lab.bus.chips.clear()
    with caplog.at_level(logging.WARNING, "meter_runtime.system_clock"):
        lab.clock.start()
        lab.host.leap(1.5 * DAY_S)
        lab.host.set_off_by(0.0, kept=True)
        for _ in range(3):
            lab.host.leap(DAY_S)
    assert caplog.text.count("0x68") == 1
    assert lab.clock.trust is Trust.SYNCED
    lab.bus.chips[DEFAULT_ADDRESS] = lab.chip
    lab.host.leap(DAY_S)
    assert lab.clock.rtc_trouble is None
    assert abs(lab.rtc_error) < 1


def test_an_rtc_that_comes_back_is_followed_where_nobody_better_is() -> None:
    lab = Lab(off_by=-YEARS, rtc_off_by=0.0)
    lab.bus.nak(DEFAULT_ADDRESS)
    lab.clock.start()
    assert lab.clock.trust is Trust.UNSET
    lab.host.leap(DAY_S + 5)
    assert lab.clock.source is Source.RTC
    assert abs(lab.error) < 1


def test_it_never_goes_back_while_nobody_steps_it() -> None:
    lab = Lab(kept=True)
    lab.clock.start()
    before = lab.steps
    shown = lab.clock.wall()
    for n in range(2000):
        lab.host.set_off_by(((n * 7919) % 1000 - 500) / 100, kept=True)
        lab.host.advance(0.3)
        assert lab.clock.wall() >= shown
        shown = lab.clock.wall()
    assert lab.steps == before


def test_a_listener_that_fails_stops_neither_the_clock_nor_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lab = Lab(kept=True)
    told: list[str] = []

    def fail() -> None:
        raise ValueError("broken")

    lab.clock.on_step(fail)
    no_more = lab.clock.on_step(lambda: told.append("gone"))
    lab.clock.on_step(lambda: told.append("there"))
    no_more()
    no_more()
    lab.clock.start()
    assert told == ["there"]
    assert "broken" in caplog.text


def test_closing_leaves_a_clock_that_runs_and_nothing_else() -> None:
    lab = Lab(kept=True)
    lab.clock.start()
    with pytest.raises(RuntimeError, match="started already"):
        lab.clock.start()
    lab.clock.close()
    lab.clock.close()
    assert (lab.host.pending, lab.host.watcher) == (0, None)
    lab.host.set_off_by(100.0, kept=True)
    lab.host.advance(5)
    assert lab.error == pytest.approx(0, abs=1e-6)
    with pytest.raises(Exception, match="closed already"):
        lab.rtc.read()


async def test_it_runs_on_this_host() -> None:
    clock = SystemClock()
    clock.start()
    try:
        assert abs(clock.wall() - time.time()) < 1
        assert clock.source in {Source.NETWORK, Source.HOST}
        assert clock.trust is clock.source.trust
        clock.check()
        assert clock.slewing_s == 0
    finally:
        clock.close()
