"""When an expectation is met, when it is not, and when that is certain."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.bench.happenings import Happening
from meter_runtime.bench.scenario.expectations import Verdict, Watch, describe, matches
from meter_runtime.bench.scenario.model import Expectation

OPEN, PASSED, FAILED = Verdict.OPEN, Verdict.PASSED, Verdict.FAILED


def watch(**expected: Any) -> Watch:
    """A watch whose scenario begins at 0."""
    watching = Watch(Expectation(what="left", **expected))
    watching.begin(0.0)
    return watching


def at(when: float, kind: str = "left", **detail: Any) -> Happening:
    return Happening(when, when, kind, detail)


def test_once_is_enough() -> None:
    watching = watch()
    watching.see(at(1, "joined"))
    assert watching.verdict is OPEN
    watching.see(at(2.5))
    assert (watching.verdict, watching.reason) == (PASSED, "after 2.5 s")


def test_too_late_is_not_at_all() -> None:
    watching = watch(within="5s")
    assert watching.deadline == 5
    watching.tick(5)
    assert watching.verdict is OPEN
    watching.see(at(5.1))
    assert (watching.verdict, watching.reason) == (FAILED, "it did not happen")
    assert watching.deadline is None


def test_the_last_moment_counts() -> None:
    watching = watch(within="5s")
    watching.see(at(5))
    assert watching.verdict is PASSED


def test_never_is_broken_at_once_and_kept_at_the_end() -> None:
    broken, kept = watch(never=True), watch(never=True, within="5s")
    broken.see(at(1, peer="hems0"))
    assert (broken.verdict, broken.reason) == (FAILED, "happened after 1.0 s: peer=hems0")
    kept.tick(5.1)
    kept.see(at(6))
    assert kept.verdict is PASSED


def test_an_exact_count_is_known_at_the_end_or_when_there_is_too_much() -> None:
    exact, few, many = watch(count=2), watch(count=2), watch(count=2)
    for watching, times in ((exact, 2), (few, 1), (many, 3)):
        for when in range(times):
            watching.see(at(when))
    assert (exact.verdict, few.verdict, many.verdict) == (OPEN, OPEN, FAILED)
    assert (exact.content, few.content, many.content) == (True, False, True)
    for watching in (exact, few, many):
        watching.end()
    assert (exact.verdict, few.verdict, many.verdict) == (PASSED, FAILED, FAILED)
    assert few.reason == "only once"


def test_it_counts_from_what_it_refers_to() -> None:
    watching = watch(since="clear", within="5s")
    watching.see(at(1))
    assert watching.verdict is OPEN
    watching.see(at(10, "clear"))
    watching.see(at(12, "clear"))
    assert watching.deadline == 15
    watching.see(at(14))
    assert (watching.verdict, watching.reason) == (PASSED, "after 4.0 s")


def test_what_it_refers_to_does_not_count_itself() -> None:
    watching = watch(since="left", never=True)
    watching.see(at(1))
    assert watching.verdict is OPEN
    watching.see(at(2))
    assert watching.verdict is FAILED


def test_nothing_was_tried_where_the_reference_never_happened() -> None:
    watching = watch(since="storm", never=True)
    assert not watching.content
    watching.end()
    assert watching.verdict is FAILED
    assert watching.reason == "storm never happened, so nothing was tried"


@pytest.mark.parametrize(
    ("where", "matched"),
    [
        ({}, True),
        ({"text": "read E7=*"}, True),
        ({"text": "read E?=00CD"}, True),
        ({"text": "READ*"}, False),
        ({"status": 0}, True),
        ({"status": "0"}, True),
        ({"status": 1}, False),
        ({"nothing": "*"}, False),
        ({"text": "*", "status": 1}, False),
    ],
)
def test_details_are_compared_whole_or_by_pattern(where: dict[str, Any], matched: bool) -> None:
    happening = at(0, "hems-said", text="read E7=00CD", status=0)
    assert matches(happening, "hems-said", where) is matched
    assert not matches(happening, "left", where)


def test_it_reads_as_a_sentence() -> None:
    expected = Expectation(
        what="response", where={"service": "Get_SNA"}, since="storm", within="5s", at_least=2
    )
    words = "response service=Get_SNA at least 2 times within 5s since storm"
    assert describe(expected) == words
    assert describe(Expectation(what="left", never=True)) == "never left"
    assert describe(Expectation(what="left", count=1)) == "left once"


@given(
    st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["left", "clear", "joined"]))),
    st.sampled_from([{}, {"never": True}, {"count": 2}, {"at_least": 2}]),
    st.sampled_from([None, "clear"]),
    st.sampled_from([None, "5s"]),
)
def test_a_verdict_is_what_counting_afterwards_says(
    course: list[tuple[float, str]],
    bounds: dict[str, Any],
    since: str | None,
    within: str | None,
) -> None:
    course = sorted(course, key=lambda entry: entry[0])
    watching = watch(since=since, within=within, **bounds)
    for when, kind in course:
        watching.see(at(when, kind))
    watching.end()

    marks = [index for index, (_, kind) in enumerate(course) if kind == "clear"]
    if since is not None and not marks:
        assert watching.verdict is FAILED
        return
    begin, first = (0.0, 0) if since is None else (course[marks[0]][0], marks[0] + 1)
    limit = begin + 5 if within else 1e9
    seen = sum(kind == "left" and when <= limit for when, kind in course[first:])
    met = {"never": seen == 0, "count": seen == 2, "at_least": seen >= 2}
    expected = met[next(iter(bounds))] if bounds else seen >= 1
    assert watching.verdict is (PASSED if expected else FAILED)
