"""The collectors' store: per slot the highest sequence, and a mark that never runs ahead."""

import multiprocessing
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import date
from itertools import count, pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_runtime.aroute.messages import Mark, Reading, Readings
from meter_runtime.clock import first_slot_of, slot_start
from meter_runtime.errors import MeterError
from meter_runtime.headend import sqlite_file
from meter_runtime.headend.readings_spans import Span, single, within, without
from meter_runtime.headend.readings_store import ReadingsStore, day_number, first_slot
from meter_runtime.headend.readings_view import LATE_S, ReadingsView, State
from meter_runtime.storage.ring import Flag

DAY = date(2026, 11, 21)
FIRST = first_slot_of(DAY)
NOW = float(slot_start(FIRST + 48))
_METERS = count()


def message(
    after: int,
    upto: int,
    slots: Sequence[int] | None = None,
    *,
    sequence: int = 1,
    unit: str = "A",
    meter_id: str = "M1",
    request: str | None = None,
    scale: int = 1,
) -> Readings:
    """Slots count from the day's first; without ``slots`` each of the range has a reading."""
    told = range(after + 1, upto + 1) if slots is None else slots
    return Readings(
        meter_id=meter_id,
        unit=unit,
        sequence=sequence,
        after=FIRST + after,
        upto=FIRST + upto,
        readings=tuple(Reading(FIRST + slot, 1000 + scale * slot, None, 0) for slot in told),
        sent_at=NOW,
        request=request,
    )


class Room:
    """A store and its view."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = ReadingsStore(path)
        self.view = ReadingsView(path)

    def take(self, *messages: Readings) -> Mark | None:
        marks = self.store.take(messages, "collector-1", NOW)
        return marks[-1][1] if marks else None

    def registers(self, first: int = -1000, last: int = 1000) -> dict[int, int]:
        stored = self.view.readings(FIRST + first, FIRST + last)
        return {each.slot - FIRST: each.forward_dwh for each in stored}

    def gaps(self, hours_later: float = 0) -> list[tuple[int, int, State]]:
        found = self.view.gaps(NOW + LATE_S + hours_later * 3600)
        return [(gap.first - FIRST, gap.last - FIRST, gap.state) for gap in found]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    opened = Room(tmp_path / "readings.db")
    with closing(opened.store), opened.view:
        yield opened


@pytest.fixture(scope="module")
def shared_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """For examples that take a meter each."""
    opened = Room(tmp_path_factory.mktemp("model") / "readings.db")
    opened.store._db.execute("PRAGMA synchronous=OFF")
    with closing(opened.store), opened.view:
        yield opened


def mark(upto: int, sequence: int, *, resend: bool = False) -> Mark:
    return Mark(unit="A", upto=FIRST + upto, sequence=sequence, resend=resend)


def test_the_first_message_begins_the_chain_where_it_begins(room: Room) -> None:
    assert room.take(message(10, 12)) == mark(12, 1)
    assert room.take(message(12, 13, sequence=2)) == mark(13, 2)
    assert room.registers() == {11: 1011, 12: 1012, 13: 1013}


def test_the_same_message_again_changes_nothing_and_is_marked_again(room: Room) -> None:
    first = room.take(message(0, 3))
    assert room.take(message(0, 3)) == first
    assert room.registers() == {1: 1001, 2: 1002, 3: 1003}


def test_what_was_said_later_stands_in_whatever_order_it_comes(room: Room) -> None:
    later = message(0, 3, [1, 3], sequence=7, scale=2)
    room.take(later)
    assert room.take(message(0, 4, sequence=5)) == mark(4, 7)
    assert room.registers() == {1: 1002, 3: 1006, 4: 1004}
    assert room.take(message(0, 4, [2], sequence=8)) == mark(4, 8)
    assert room.registers() == {2: 1002}


def test_a_break_is_told_until_it_is_mended(room: Room) -> None:
    room.take(message(0, 2, sequence=1))
    assert room.take(message(5, 6, sequence=2)) == mark(2, 2, resend=True)
    assert room.take(message(6, 8, sequence=3)) == mark(2, 3, resend=True)
    assert room.gaps()[0] == (3, 5, State.MISSING)
    # The mark jumps over what had arrived beyond the break.
    assert room.take(message(2, 5, sequence=4)) == mark(8, 4)
    assert room.registers() == {slot: 1000 + slot for slot in range(1, 9)}


def test_what_lies_before_the_beginning_moves_no_mark(room: Room) -> None:
    room.take(message(10, 12))
    assert room.take(message(0, 5, sequence=2)) == mark(12, 2)
    assert room.gaps()[0] == (6, 10, State.MISSING)


def test_an_answer_to_a_request_fills_slots_and_moves_no_mark(room: Room) -> None:
    assert room.take(message(0, 2, sequence=3, request="ab")) is None
    assert room.take(message(4, 5, sequence=4)) == mark(5, 4)
    assert room.take(message(5, 9, sequence=5, request="ab")) is None
    assert room.take(message(5, 6, sequence=2)) == mark(6, 5)
    assert sorted(room.registers()) == [1, 2, 5, 6, 7, 8, 9]


def test_another_unit_is_another_chain(room: Room) -> None:
    room.take(message(0, 2))
    told = room.take(message(2, 4, [3, 4], unit="B", scale=0))
    assert told == Mark(unit="B", upto=FIRST + 4, sequence=1)
    first, second = room.view.day(FIRST, FIRST + 10)
    assert (first.unit, second.unit) == ("A", "B")
    # Of the former unit nothing more is expected.
    assert {(gap.unit, gap.first) for gap in room.view.gaps(NOW + LATE_S)} == {("B", FIRST + 5)}


def test_a_leap_of_the_clock_is_one_run_and_not_a_million_rows(room: Room) -> None:
    leap = 2_000_000
    assert room.take(message(0, leap, [1, leap])) == mark(leap, 1)
    with closing(sqlite3.connect(room.path)) as database:
        assert database.execute("SELECT count(*) FROM silence").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM reading").fetchone() == (2,)
    # The leap is taken back, and the days that it hid are told.
    assert room.take(message(1, leap, [2, 3], sequence=2)) == mark(leap, 2)
    assert room.registers(0, leap) == {1: 1001, 2: 1002, 3: 1003}
    assert room.take(message(3, 4, sequence=3)) == mark(leap, 3)
    assert room.gaps()[0] == (5, leap, State.NOTHING)


def test_a_gap_says_whether_the_meter_has_none_or_has_not_told(room: Room) -> None:
    room.take(message(0, 6, [1, 2, 5, 6]), message(9, 10, sequence=2))
    assert room.gaps() == [
        (3, 4, State.NOTHING),
        (7, 9, State.MISSING),
        (11, 48, State.MISSING),
    ]
    assert room.gaps(hours_later=-19) == [(3, 4, State.NOTHING), (7, 9, State.MISSING)]
    assert room.view.gaps(NOW, "M2") == []


def test_use_is_the_difference_of_neighbours_and_nothing_else(room: Room) -> None:
    room.take(message(-1, 47, [0, 1, 3], scale=5), message(47, 48, sequence=2))
    [day] = room.view.day(FIRST, FIRST + 200)
    assert [each.used_dwh for each in day.half_hours[:4]] == [5, None, None, None]
    assert [each.state for each in day.half_hours[:4]] == ["stored", "stored", "nothing", "stored"]
    assert len(day.half_hours) == 48
    assert len(room.view.day(FIRST, FIRST + 9)[0].half_hours) == 10


def test_reverse_and_flags_are_kept(room: Room) -> None:
    readings = tuple(Reading(FIRST + slot, 7, slot * 10, 3) for slot in (1, 2))
    room.take(msgspec.structs.replace(message(0, 2), readings=readings))
    half_hour = room.view.day(FIRST, FIRST + 2)[0].half_hours[1]
    assert (half_hour.reverse_dwh, half_hour.fed_dwh) == (10, 10)
    assert half_hour.flags == Flag.ADJUSTED | Flag.POWER_FAIL


def test_a_day_has_a_new_revision_when_a_value_comes_or_goes(room: Room) -> None:
    room.take(message(0, 50))
    today = day_number(FIRST)
    assert room.view.revisions(today + 2) == {today: 1, today + 1: 1}
    room.take(message(0, 50))
    room.take(message(48, 50, [], sequence=2))
    assert room.view.revisions(today + 2) == {today: 1, today + 1: 2}
    assert room.view.revisions(today + 1) == {today: 1}


def test_days_are_those_of_japan() -> None:
    assert first_slot(day_number(FIRST)) == FIRST
    assert day_number(FIRST - 1) == day_number(FIRST) - 1
    assert day_number(FIRST + 47) == day_number(FIRST)


def test_a_batch_is_stored_whole_or_not_at_all(room: Room) -> None:
    room.take(message(0, 1))
    with closing(sqlite3.connect(room.path)) as other:
        pages = other.execute("PRAGMA page_count").fetchone()[0]
        # As a full disk does.
        room.store._db.execute(f"PRAGMA max_page_count = {pages}")
        big = [message(n * 200, n * 200 + 200, sequence=n + 2) for n in range(5)]
        with pytest.raises(MeterError, match="full"):
            room.take(*big)
        assert room.registers() == {1: 1001}
        room.store._db.execute("PRAGMA max_page_count = 1000000")
        room.store._db.execute("PRAGMA busy_timeout = 50")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(MeterError, match="locked"):
            room.take(message(1, 2, sequence=2))
    assert room.take(message(1, 2, sequence=2)) == mark(2, 2)
    assert sqlite_file.BUSY_S >= 1


def test_events_are_kept_once(room: Room) -> None:
    event = ("M1", NOW, 4, "power", '{"kind": "power"}')
    for _ in range(2):
        assert room.store.take([event], "collector-1", NOW) == []
    assert room.view.events("M1") == ['{"kind": "power"}']


spans = st.tuples(st.integers(-30, 30), st.integers(1, 12)).map(lambda p: (p[0], p[0] + p[1]))


def slots_of(span: Span) -> set[int]:
    return set(range(span[0] + 1, span[1] + 1))


@given(spans, st.lists(spans, max_size=6), st.sets(st.integers(-40, 50)))
def test_what_is_left_of_a_run_is_what_no_hole_has(
    span: Span, holes: list[Span], slots: set[int]
) -> None:
    rest = list(without(span, holes))
    expected = slots_of(span).difference(*map(slots_of, holes))
    assert set().union(*map(slots_of, rest)) == expected
    assert all(before[1] < after[0] for before, after in pairwise(rest))
    assert set(within(sorted(slots), rest)) == slots & expected
    assert all(slots_of(single(slot)) == {slot} for slot in slots)


@st.composite
def chains(draw: st.DrawFn) -> list[Readings]:
    """Messages with sequences of their own, in any order, some of them twice."""
    number = draw(st.integers(1, 12))
    messages = []
    for sequence in range(1, number + 1):
        after, upto = draw(spans)
        told = draw(st.sets(st.integers(after + 1, upto)))
        request = "r" if draw(st.booleans()) and draw(st.booleans()) else None
        messages.append(
            message(after, upto, sorted(told), sequence=sequence, scale=sequence, request=request)
        )
    return draw(st.permutations(messages)) + draw(st.lists(st.sampled_from(messages), max_size=3))


@settings(max_examples=150, deadline=None)
@given(chains(), st.integers(1, 4))
def test_the_store_is_as_if_every_message_had_come_in_its_order(
    shared_room: Room, messages: list[Readings], size: int
) -> None:
    room, meter_id = shared_room, f"M-{next(_METERS)}"
    messages = [msgspec.structs.replace(each, meter_id=meter_id) for each in messages]
    said: dict[int, tuple[int, int | None]] = {}
    for each in sorted(messages, key=lambda told: told.sequence):
        values = {reading.slot: reading.forward_dwh for reading in each.readings}
        for slot in range(each.after + 1, each.upto + 1):
            said[slot] = (each.sequence, values.get(slot))
    last: Mark | None = None
    for at in range(0, len(messages), size):
        last = room.take(*messages[at : at + size]) or last
    everything = room.view.readings(FIRST - 100, FIRST + 100)
    stored = {each.slot: each.forward_dwh for each in everything if each.meter_id == meter_id}
    assert stored == {slot: value for slot, (_, value) in said.items() if value is not None}
    runs = room.store._db.execute(
        "SELECT after, upto, sequence FROM silence JOIN series ON series = id WHERE meter_id = ?",
        (meter_id,),
    )
    silent = {slot: sequence for *run, sequence in runs for slot in slots_of((run[0], run[1]))}
    assert silent == {slot: seq for slot, (seq, value) in said.items() if value is None}
    chained = [each for each in messages if each.request is None]
    if last is None:
        assert not chained
        return
    told_of = set().union(*(slots_of((each.after, each.upto)) for each in chained))
    upto = chained[0].after
    while upto + 1 in told_of:
        upto += 1
    assert last.upto == upto
    assert last.sequence <= max(each.sequence for each in messages)
    gaps = room.view.gaps(0.0, meter_id)
    absent = set().union(*(slots_of((gap.first - 1, gap.last)) for gap in gaps))
    assert absent.isdisjoint(stored)
    begins = min(stored, default=0)
    assert {slot for slot in silent.keys() & told_of if slot > begins} <= absent


def _open(path: Path) -> None:
    ReadingsStore(path).close()


def test_processes_that_make_the_store_at_once_all_have_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(4, context) as processes:
        for number in range(20):
            list(processes.map(_open, [tmp_path / f"{number}.db"] * 4))
