"""Too much current for too long opens, a pause closes, and the last trip stays."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_runtime.functions.limiter import Advice, Limiter, LimiterPolicy, limited_current_a

POLICY = LimiterPolicy(30.0, hold_s=5, pause_s=10, trips=3, quiet_s=60)


def feed(limiter: Limiter, currents: Sequence[float | None], begin: int = 0) -> list[Advice | None]:
    """One current a second; every advice is followed."""
    told: list[Advice | None] = []
    for now, current in enumerate(currents, begin):
        advice = limiter.feed(now, current)
        told.append(advice)
        if advice is Advice.OPEN:
            limiter.opened(now)
        elif advice is Advice.CLOSE:
            limiter.closed(now)
    return told


def test_the_limit_itself_is_allowed() -> None:
    assert feed(Limiter(POLICY), [30.0] * 100) == [None] * 100


def test_it_opens_once_the_current_was_too_much_throughout() -> None:
    told = feed(Limiter(POLICY), [31.0] * 4 + [30.0] + [31.0] * 6)
    assert told == [None] * 10 + [Advice.OPEN]


def test_it_closes_after_the_pause() -> None:
    told = feed(Limiter(POLICY), [31.0] * 6 + [0.0] * 10)
    assert told[5] is Advice.OPEN
    assert told[6:] == [None] * 9 + [Advice.CLOSE]


def test_an_unknown_current_is_never_too_much() -> None:
    assert feed(Limiter(POLICY), [31.0, 31.0, None, 31.0] * 10) == [None] * 40


def test_the_last_trip_stays_until_it_is_reset() -> None:
    limiter = Limiter(POLICY)
    told = feed(limiter, [31.0] * 200)
    assert told.count(Advice.OPEN) == 3
    assert told.count(Advice.CLOSE) == 2
    spent = limiter.spent
    limiter.reset(200)
    assert (spent, limiter.spent, limiter.trips) == (True, False, 0)


def test_trips_are_forgotten_after_a_quiet_spell_and_not_before() -> None:
    limiter = Limiter(POLICY)
    feed(limiter, [31.0] * 6 + [0.0] * 10)
    trips = []
    for quiet in (59, 1):
        feed(limiter, [0.0] * quiet, 16 if quiet == 59 else 75)
        trips.append(limiter.trips)
    assert trips == [1, 0]


def test_a_moment_of_too_much_current_ends_a_quiet_spell() -> None:
    limiter = Limiter(POLICY)
    feed(limiter, [31.0] * 6 + [0.0] * 10 + [0.0] * 50 + [31.0] + [0.0] * 50)
    assert limiter.trips == 1


def test_a_current_that_nobody_knows_is_no_quiet_spell() -> None:
    limiter = Limiter(POLICY)
    feed(limiter, [31.0] * 6 + [0.0] * 10 + [None] * 100 + [0.0] * 30)
    assert limiter.trips == 1


@pytest.mark.parametrize(("advice", "every"), [(Advice.OPEN, 5), (Advice.CLOSE, 10)])
def test_an_advice_that_is_not_followed_is_repeated_at_its_pace(advice: Advice, every: int) -> None:
    limiter = Limiter(POLICY)
    limiter.resume(0, 1, is_open=advice is Advice.CLOSE)
    told = [now for now in range(41) if limiter.feed(now, 31.0) is advice]
    assert told == list(range(every, 41, every))


def test_a_restart_goes_on_where_it_was() -> None:
    closing, spent, closed = (Limiter(POLICY) for _ in range(3))
    closing.resume(100, 2, is_open=True)
    spent.resume(100, 3, is_open=True)
    closed.resume(100, 2, is_open=False)
    assert [closing.feed(110, 0.0), spent.feed(1e6, 0.0)] == [Advice.CLOSE, None]
    assert closed.feed(110, 31.0) is None
    assert (closed.trips, spent.spent) == (2, True)


@pytest.mark.parametrize(
    ("r_ma", "t_ma", "ampere"),
    [(10_000, -20_000, 30.0), (None, 5_000, 5.0), (7_000, None, 7.0), (None, None, None)],
)
def test_both_lines_count(r_ma: int | None, t_ma: int | None, ampere: float | None) -> None:
    assert limited_current_a(r_ma, t_ma) == ampere


@dataclass
class Naive:
    """The rule, worked out anew from the whole past each second."""

    policy: LimiterPolicy
    currents: list[float | None] = field(default_factory=list)
    moves: list[tuple[int, Advice]] = field(default_factory=list)

    def feed(self, current: float | None) -> Advice | None:
        now = len(self.currents)
        self.currents.append(current)
        advice = self._advice(now)
        if advice is not None:
            self.moves.append((now, advice))
        return advice

    def _advice(self, now: int) -> Advice | None:
        policy = self.policy
        if self.moves and self.moves[-1][1] is Advice.OPEN:
            waits = self._trips(now) < policy.trips
            return Advice.CLOSE if waits and now - self.moves[-1][0] >= policy.pause_s else None
        hold = int(policy.hold_s)
        closed_at = self.moves[-1][0] if self.moves else -1
        past = self.currents[max(0, now - hold) : now + 1]
        if now - hold <= closed_at or len(past) <= hold:
            return None
        return Advice.OPEN if all(self._over(current) for current in past) else None

    def _trips(self, now: int) -> int:
        """Openings with no quiet spell after them."""
        trips = 0
        for at in range(now + 1):
            if (at, Advice.OPEN) in self.moves:
                trips += 1
            quiet_since = self._noisy_before(at)
            current = self.currents[at]
            calm = current is not None and not self._over(current) and not self._is_open(at)
            if calm and at - quiet_since >= self.policy.quiet_s:
                trips = 0
        return trips

    def _noisy_before(self, at: int) -> int:
        """When there was last too much current, or an unknown one, or a closing."""
        for then in range(at, -1, -1):
            if (then, Advice.CLOSE) in self.moves:
                return then
            noisy = self.currents[then] is None or self._over(self.currents[then])
            if noisy and not self._is_open(then):
                return then
        return 0

    def _is_open(self, at: int) -> bool:
        """At the beginning of this second."""
        before = [advice for when, advice in self.moves if when < at]
        return bool(before) and before[-1] is Advice.OPEN

    def _over(self, current: float | None) -> bool:
        return current is not None and current > self.policy.limit_a


CURRENTS = st.lists(
    st.tuples(st.sampled_from([0.0, 30.0, 30.5, 31.0, 31.0, None]), st.integers(1, 9)),
    max_size=12,
)


@settings(deadline=None)
@given(CURRENTS, st.integers(0, 4), st.integers(1, 8), st.integers(1, 4), st.integers(5, 20))
def test_it_does_what_the_rule_says(
    course: list[tuple[float | None, int]], hold: int, pause: int, trips: int, quiet: int
) -> None:
    policy = LimiterPolicy(30.0, hold_s=hold, pause_s=pause, trips=trips, quiet_s=quiet)
    naive, limiter = Naive(policy), Limiter(policy)
    currents = [current for current, seconds in course for _ in range(seconds)]
    assert feed(limiter, currents) == [naive.feed(current) for current in currents]
