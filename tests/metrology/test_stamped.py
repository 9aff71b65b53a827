"""Boundaries from a unit's own log: what fits is used, what does not is left out."""

from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.metrology.stamped import SNAPSHOT_WITHIN_S, State, logged
from meter_runtime.units.contracts import UnitSnapshot

SLOT = 994_000
T0 = SLOT * 1800.0
BEFORE = State((5_000, 700), (1_000, 100))
AFTER = State((9_000, 1_700), (5_000, 1_100))
"""The meter's registers are 4000 and 600 ahead of the unit's."""


def entry(slot: int, forward: int, reverse: int = 500, off_s: float = 0.0) -> UnitSnapshot:
    return UnitSnapshot(T0 + slot * 1800 + off_s, forward, reverse)


def test_an_entry_is_counted_as_the_meter_counts() -> None:
    found = logged([entry(1, 2_000), entry(2, 3_000, 600)], BEFORE, AFTER, two_way=True)
    assert found == {SLOT + 1: (6_000, 1_100), SLOT + 2: (7_000, 1_200)}


def test_on_a_one_way_unit_reverse_is_zero() -> None:
    before, after = State((5_000, 0), (1_000, 0)), State((9_000, 0), (5_000, 0))
    found = logged([entry(1, 2_000, 77)], before, after, two_way=False)
    assert found == {SLOT + 1: (6_000, 0)}


def test_what_lies_outside_the_readings_on_either_side_is_left_out() -> None:
    outside = [
        entry(1, 999),
        entry(2, 5_001),
        entry(3, 2_000, 99),
        entry(4, 2_000, 1_101),
    ]
    assert logged(outside, BEFORE, AFTER, two_way=True) == {}


def test_what_is_too_far_from_any_boundary_is_left_out() -> None:
    within, beyond = SNAPSHOT_WITHIN_S, SNAPSHOT_WITHIN_S + 0.001
    entries = [
        entry(1, 2_000, off_s=-within),
        entry(2, 2_001, off_s=within),
        entry(3, 2_002, off_s=-beyond),
        entry(4, 2_003, off_s=beyond),
    ]
    assert [*logged(entries, BEFORE, AFTER, two_way=True)] == [SLOT + 1, SLOT + 2]


def test_of_two_entries_for_a_boundary_the_nearer_stands() -> None:
    entries = [entry(1, 2_000, off_s=-1.5), entry(1, 2_001, off_s=0.5), entry(1, 2_002, off_s=1.0)]
    assert logged(entries, BEFORE, AFTER, two_way=True) == {SLOT + 1: (6_001, 1_100)}


def test_a_log_across_a_restart_of_the_unit_is_not_used() -> None:
    moved = State((9_000, 1_700), (4_999, 1_100))
    assert logged([entry(1, 2_000)], BEFORE, moved, two_way=True) == {}


def test_before_the_first_reading_there_is_no_log() -> None:
    new = State((0, 0), None)
    assert logged([entry(1, 2_000)], new, State((0, 0), (0, 0)), two_way=True) == {}


entries = st.lists(
    st.builds(
        entry,
        st.integers(0, 5),
        st.integers(0, 6_000),
        st.integers(0, 1_200),
        st.floats(-3, 3),
    ),
    max_size=12,
)


@given(entries)
def test_whatever_a_unit_claims_registers_lie_between_the_readings_and_never_decrease(
    claimed: list[UnitSnapshot],
) -> None:
    found = logged(claimed, BEFORE, AFTER, two_way=True)
    course = [BEFORE.registers, *(found[slot] for slot in sorted(found)), AFTER.registers]
    assert [forward for forward, _ in course] == sorted(forward for forward, _ in course)
    assert [reverse for _, reverse in course] == sorted(reverse for _, reverse in course)
    told = {(s.forward_mwh + 4_000, s.reverse_mwh + 600) for s in claimed}
    assert set(found.values()) <= told
