"""However often the meter is made to refuse, it answers seldom, and never not at all for long."""

from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.aroute.refusals import BURST, REFILL_S, RefusalBudget


@given(st.lists(st.floats(0, 60), max_size=60), st.floats(0, 1e9))
def test_answers_stay_within_the_budget(pauses: list[float], start: float) -> None:
    budget = RefusalBudget()
    now = start
    answered = 0
    for pause in pauses:
        now += pause
        answered += budget.spend(now)
    assert answered <= BURST + (now - start) / REFILL_S + 1e-6


def test_a_pause_earns_an_answer_and_no_more_than_a_burst() -> None:
    budget = RefusalBudget()
    assert [budget.spend(0.0) for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert [budget.spend(REFILL_S) for _ in range(2)] == [True, False]
    assert sum(budget.spend(1e6) for _ in range(2 * BURST)) == BURST


def test_time_that_stands_still_or_goes_back_earns_nothing() -> None:
    budget = RefusalBudget()
    assert all(budget.spend(100.0) for _ in range(BURST))
    assert not budget.spend(100.0)
    assert not budget.spend(50.0)
