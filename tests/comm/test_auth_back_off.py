"""Pauses after failed attempts: when they begin, how long they get, and what ends them."""

from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.comm.auth.back_off import (
    FAILURES,
    FIRST_S,
    LAST_S,
    MAX_PEERS,
    JoinBackOff,
)

HOME, STRANGER = "FE80::1", "FE80::2"


def after(failures: int, now: float = 0.0) -> JoinBackOff:
    back_off = JoinBackOff()
    for _ in range(failures):
        back_off.failed(HOME, now)
    return back_off


def test_a_few_failures_cost_nothing() -> None:
    back_off = after(FAILURES - 1)
    assert back_off.admits(HOME, 0.0)
    assert back_off.failures(HOME) == FAILURES - 1
    assert back_off.unheard == 0


def test_the_fifth_failure_in_a_row_begins_a_pause() -> None:
    back_off = after(5)
    assert not back_off.admits(HOME, FIRST_S - 0.1)
    assert back_off.unheard == 1
    assert back_off.admits(HOME, FIRST_S)


def test_each_further_failure_doubles_the_pause_up_to_a_quarter_of_an_hour() -> None:
    pauses = [after(failures).pause_s(HOME, 0.0) for failures in range(5, 12)]
    assert pauses == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0, 900.0]
    assert after(10_000).pause_s(HOME, 0.0) == LAST_S


def test_a_success_ends_the_row() -> None:
    back_off = after(FAILURES)
    back_off.succeeded(HOME)
    assert back_off.admits(HOME, 0.0)
    back_off.failed(HOME, 0.0)
    assert back_off.admits(HOME, 0.0)


def test_another_password_ends_every_pause() -> None:
    back_off = after(FAILURES)
    back_off.reset()
    assert back_off.admits(HOME, 0.0)


def test_a_stranger_keeps_no_home_out() -> None:
    back_off = after(100)
    assert back_off.admits(STRANGER, 0.0)


def test_few_peers_are_remembered_and_the_one_that_failed_last_is() -> None:
    back_off = JoinBackOff()
    for _ in range(FAILURES):
        for peer in range(MAX_PEERS):
            back_off.failed(f"FE80::{peer}", 0.0)
    back_off.failed("FE80::FFFF", 1.0)
    assert back_off.failures("FE80::0") == 0
    assert back_off.failures("FE80::1") == FAILURES
    assert back_off.failures("FE80::FFFF") == 1


@given(st.lists(st.tuples(st.floats(0.0, 2_000.0), st.sampled_from("fs")), max_size=80))
def test_nobody_is_locked_out_for_good(story: list[tuple[float, str]]) -> None:
    back_off, now = JoinBackOff(), 0.0
    for pause, what in story:
        now += pause
        if what == "f":
            back_off.failed(HOME, now)
        else:
            back_off.succeeded(HOME)
    assert back_off.admits(HOME, now + LAST_S)
