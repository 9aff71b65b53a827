"""The utility ends up with what the load profile has, whatever line, meter and head-end do."""

import copy
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uplink_world import FIRST, METER, World

from meter_runtime.aroute.history_requests import MAX_REQUESTS
from meter_runtime.aroute.messages import MAX_READINGS, Mark
from meter_runtime.aroute.uplink import (
    PACE_S,
    RESEND_LIMIT_S,
    RESEND_S,
    Kind,
    ReadingsLost,
)
from meter_runtime.aroute.uplink_memory import BOOT_SLOTS, MAX_SEQUENCE, SPARE_SLOTS
from meter_runtime.errors import MeterError
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.uplink_state import UplinkStateStore

HALF_HOUR_S = 1800.0


def online(**kind: float) -> World:
    """A meter whose one boundary the head-end has."""
    world = World(**kind)  # type: ignore[arg-type]
    world.connect()
    world.boundaries(1)
    world.run(100)
    assert world.uplink.queued == 0
    world.messages.clear()
    return world


def spans(world: World) -> list[tuple[int, int]]:
    return [(out.readings.after, out.readings.upto) for _, out in world.messages]


def test_a_boundary_is_sent_within_the_jitter_and_then_no_more() -> None:
    world = online()
    stored_at = world.now
    world.boundaries(1)
    world.run(3 * RESEND_LIMIT_S)
    [(at, outgoing)] = world.messages
    assert 0 <= at - stored_at <= world.jitter_s
    assert outgoing.kind is Kind.CHAIN
    assert outgoing.readings.meter_id == METER
    assert spans(world) == [(FIRST, FIRST + 1)]
    assert world.uplink.acknowledged_boundary == FIRST + 1
    assert world.uplink.next_deadline() is None


def test_meters_do_not_speak_at_once() -> None:
    delays = set()
    for seed in range(20):
        world = online(seed=seed)
        stored_at = world.now
        world.boundaries(1)
        world.run(60)
        delays.add(round(world.messages[0][0] - stored_at))
    assert len(delays) > 8


def test_a_backlog_goes_in_full_messages_at_a_pace() -> None:
    world = online()
    world.disconnect()
    world.boundaries(550)
    assert world.uplink.queued == 550
    world.connect()
    world.run(60)
    assert [len(out.readings.readings) for _, out in world.messages] == [
        MAX_READINGS,
        MAX_READINGS,
        550 - 2 * MAX_READINGS,
    ]
    times = [at for at, _ in world.messages]
    assert all(later - earlier >= PACE_S for earlier, later in itertools.pairwise(times))
    world.check()


def test_what_nobody_acknowledges_is_sent_ever_more_rarely() -> None:
    world = online()
    world.loss = 1.0
    world.boundaries(1)
    world.run(7200)
    times = [at for at, _ in world.messages]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits[0] == pytest.approx(RESEND_S)
    assert waits[-1] == pytest.approx(RESEND_LIMIT_S)
    assert len({out.readings.sequence for _, out in world.messages}) == len(times)


def test_a_new_boundary_does_not_wait_for_an_answer_to_the_last() -> None:
    world = online()
    world.loss = 1.0
    world.boundaries(1)
    world.run(7200)
    stored_at = world.now
    world.messages.clear()
    world.boundaries(1)
    world.run(60)
    assert world.messages[0][0] - stored_at <= world.jitter_s
    assert spans(world)[0] == (FIRST, FIRST + 2)


def test_a_message_the_broker_refuses_is_tried_again_without_hurry() -> None:
    world = online()
    world.refusals = 1.0
    world.boundaries(1)
    world.run(60)
    assert not world.messages
    world.heal()
    world.check()


def test_a_mark_for_another_unit_is_not_ours() -> None:
    world = online()
    world.loss = 1.0
    world.boundaries(1)
    world.run(30)
    sequence = world.messages[-1][1].readings.sequence
    world.uplink.mark(Mark(unit="B", upto=FIRST + 1, sequence=sequence), world.now)
    assert world.uplink.queued == 1
    assert world.uplink.counters["foreign_marks"] == 1


def test_a_mark_beyond_what_was_told_acknowledges_no_more_than_that() -> None:
    world = online()
    world.loss = 1.0
    world.boundaries(1)
    world.run(30)
    sequence = world.messages[-1][1].readings.sequence
    world.uplink.mark(Mark(unit="A", upto=FIRST + 500, sequence=sequence), world.now)
    assert world.uplink.acknowledged == FIRST + 1
    world.uplink.mark(Mark(unit="A", upto=FIRST + 500, sequence=0, resend=True), world.now)
    assert world.uplink.acknowledged == FIRST + 1


def test_a_correction_is_acknowledged_by_its_own_message_only() -> None:
    world = online()
    world.boundaries(5)
    world.run(60)
    former = world.messages[-1][1].readings.sequence
    world.loss = 1.0
    world.withdraw([FIRST + 2, FIRST + 3])
    world.uplink.mark(Mark(unit="A", upto=FIRST + 5, sequence=former), world.now)
    world.run(30)
    world.uplink.mark(Mark(unit="A", upto=FIRST + 5, sequence=former), world.now)
    assert spans(world)[-1] == (FIRST + 1, FIRST + 3)
    assert world.uplink.acknowledged == FIRST + 1
    world.heal()
    world.check()


def test_a_true_value_takes_the_place_of_a_withdrawn_one() -> None:
    world = online()
    world.boundaries(5)
    world.run(60)
    world.withdraw([FIRST + 2])
    world.boundary(FIRST + 2)
    world.heal()
    world.check()


def test_what_a_clock_far_ahead_stored_is_taken_back() -> None:
    world = online()
    ahead = FIRST + 9_300
    world.boundary(ahead)
    world.run(60)
    world.withdraw([ahead])
    for slot in range(FIRST + 1, FIRST + 5):
        world.boundary(slot)
        world.run(60)
    world.heal()
    world.check()
    assert world.uplink.acknowledged_boundary == FIRST + 4


def test_what_a_clock_far_ahead_hid_is_told_after_all() -> None:
    world = online()
    world.disconnect()
    world.boundaries(20)
    ahead = FIRST + 9_300
    world.boundary(ahead)
    world.connect()
    world.run(60)
    assert world.losses
    world.withdraw([ahead])
    world.heal()
    world.check()


def test_a_clock_far_ahead_is_remembered_through_a_restart() -> None:
    world = online()
    ahead = FIRST + 5000
    world.boundary(ahead)
    world.run(60)
    world.loss = 1.0
    world.withdraw([ahead])
    world.run(5)
    world.boundary(FIRST + 1)
    world.boot()
    world.heal()
    world.check()


def test_the_head_end_gets_again_what_it_lost() -> None:
    world = online()
    world.boundaries(10)
    world.run(60)
    backup = copy.deepcopy(world.head_end.units)
    world.boundaries(200)
    world.run(60)
    world.head_end.units = backup
    world.boundaries(1)
    world.heal()
    world.check()


def test_a_mark_that_asks_rewinds_at_once() -> None:
    world = online()
    world.boundaries(10)
    world.run(60)
    world.messages.clear()
    world.uplink.mark(Mark(unit="A", upto=FIRST + 3, sequence=0, resend=True), world.now)
    world.run(2 * PACE_S)
    assert spans(world) == [(FIRST + 3, FIRST + 10)]


def test_what_the_ring_let_go_is_told_as_lost() -> None:
    world = online(depth=600)
    world.disconnect()
    world.boundaries(700)
    world.heal()
    assert world.losses == [ReadingsLost("A", FIRST + 1, FIRST + 100)]
    # The head-end asked for the gap, and was told that there is nothing.
    assert world.head_end.units["A"].upto == FIRST + 700
    world.check()


def test_a_head_end_that_is_never_content_is_not_hurried() -> None:
    world = online()
    world.loss = 1.0
    world.boundaries(1)
    answered = 0
    for _ in range(2000):
        world.run(3)
        sequence = world.messages[-1][1].readings.sequence if world.messages else 0
        if sequence > answered:
            answered = sequence
            mark = Mark(unit="A", upto=FIRST - 5, sequence=sequence, resend=True)
            world.uplink.mark(mark, world.now)
    assert len(world.messages) < 40


def test_a_restart_tells_the_last_two_days_again() -> None:
    world = online()
    world.boundaries(300)
    world.run(60)
    world.messages.clear()
    world.boot()
    world.run(60)
    newest = FIRST + 300
    assert spans(world) == [(newest - BOOT_SLOTS, newest)]
    assert world.uplink.queued == 0


def test_sequences_never_repeat() -> None:
    world = online()
    seen: list[int] = []
    for _ in range(5):
        world.boundaries(1)
        world.run(60)
        world.boot()
    seen = [out.readings.sequence for _, out in world.messages]
    assert seen == sorted(set(seen))


def test_a_meter_that_forgot_how_far_it_was_goes_on_above_what_the_head_end_has() -> None:
    world = online()
    world.boundaries(20)
    world.run(60)
    world.head_end.units["A"].highest += 2**40
    for slot, (_, value) in world.head_end.units["A"].rows.items():
        world.head_end.units["A"].rows[slot] = (2**40, value)
    world.media = MemoryMedia(UplinkStateStore.size_for(1))
    world.withdraw([FIRST + 3])
    world.boot()
    world.heal()
    world.check()


def test_a_sequence_beyond_reason_changes_nothing() -> None:
    world = online()
    world.uplink.mark(Mark(unit="A", upto=FIRST, sequence=MAX_SEQUENCE, resend=True), world.now)
    world.boundaries(1)
    world.heal()
    world.check()


def test_another_unit_is_told_from_its_start() -> None:
    world = online()
    world.disconnect()
    world.boundaries(3)
    world.profile.begin("B", FIRST + 4)
    world.uplink.unit_changed(world.now)
    world.boundaries(2)
    world.heal()
    assert world.losses == [ReadingsLost("A", FIRST + 1, FIRST + 3)]
    assert world.messages[-1][1].readings.unit == "B"
    world.check()


def test_a_former_unit_that_comes_back_is_told_on() -> None:
    world = online()
    for serial, first in (("B", FIRST + 10), ("A", FIRST + 20)):
        world.profile.begin(serial, first)
        world.uplink.unit_changed(world.now)
        world.boundaries(2)
        world.run(60)
    world.heal()
    world.check()


def test_nothing_is_told_before_the_direction_is_known() -> None:
    world = online()
    world.profile.two_way = None
    world.boundaries(1)
    world.run(60)
    assert not world.messages
    world.profile.two_way = False
    world.run(60)
    assert world.messages[-1][1].readings.readings[-1].reverse_dwh is None


def test_a_history_is_sent_beside_the_chain() -> None:
    world = online()
    world.boundaries(400)
    world.run(60)
    world.messages.clear()
    assert world.uplink.request_history(FIRST - 50, FIRST + 350, b"\xab\xcd")
    world.run(60)
    assert [out.kind for _, out in world.messages] == [Kind.HISTORY, Kind.HISTORY]
    slots = [r.slot for _, out in world.messages for r in out.readings.readings]
    assert slots == list(range(FIRST, FIRST + 351))
    assert {out.readings.request for _, out in world.messages} == {"abcd"}
    assert world.uplink.queued == 0


def test_a_history_that_the_broker_refuses_is_sent_later() -> None:
    world = online()
    world.refusals = 1.0
    world.uplink.request_history(FIRST, FIRST, b"\xab")
    world.run(60)
    assert not world.messages
    world.refusals = 0.0
    world.run(60)
    assert len(world.head_end.histories) == 1


def test_what_is_not_kept_is_left_out_of_a_history() -> None:
    world = online()
    world.uplink.request_history(FIRST - 100, FIRST - 50, b"old")
    world.uplink.request_history(FIRST + 100, FIRST + 150, b"new")
    world.run(60)
    assert not world.messages
    assert world.uplink.next_deadline() is None


def test_only_so_many_histories_wait() -> None:
    world = World()
    asked = [
        world.uplink.request_history(FIRST, FIRST, bytes((n,))) for n in range(MAX_REQUESTS + 1)
    ]
    assert asked == [True] * MAX_REQUESTS + [False]


def test_the_state_is_written_once_in_three_days() -> None:
    class Counting(MemoryMedia):
        flushes = 0

        def flush(self) -> None:
            self.flushes += 1

    world = World()
    world.media = media = Counting(UplinkStateStore.size_for(1))
    world.boot()
    world.connect()
    days = 30
    for _ in range(days * 48):
        world.boundaries(1)
        world.run(HALF_HOUR_S)
    assert world.uplink.queued == 0
    assert media.flushes <= days * 48 / SPARE_SLOTS + 4


def test_a_state_that_cannot_be_written_stops_nothing() -> None:
    class Full(MemoryMedia):
        def write(self, offset: int, data: bytes) -> None:
            raise MeterError("card: cannot write: no space left; free some")

    world = World()
    world.media = Full(UplinkStateStore.size_for(1))
    world.boot()
    world.connect()
    world.boundaries(300)
    world.heal()
    world.check()
    assert world.uplink.counters["unsaved"] > 0
    world.boot()
    world.heal()
    world.check()


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("boundaries"), st.integers(1, 300)),
        st.tuples(st.just("gap"), st.integers(2, 120)),
        st.tuples(st.just("withdraw"), st.integers(1, 60)),
        st.tuples(st.just("withdraw one"), st.integers(0, 200)),
        st.tuples(st.just("refill"), st.integers(0, 30)),
        st.tuples(st.just("ahead"), st.integers(200, 3000)),
        st.tuples(st.just("run"), st.sampled_from([0.3, 2, 20, 100, 1500])),
        st.tuples(st.just("line"), st.sampled_from([0, 20, 50, 95])),
        st.tuples(st.just("slow"), st.sampled_from([0.5, 5.0, 100.0])),
        st.tuples(st.just("refuse"), st.sampled_from([0, 30])),
        st.tuples(st.just("boot"), st.integers(0, 1)),
        st.tuples(st.just("connect"), st.just(0)),
        st.tuples(st.just("disconnect"), st.just(0)),
        st.tuples(st.just("unit"), st.sampled_from([0, 1])),
        st.tuples(st.just("backup"), st.just(0)),
        st.tuples(st.just("restore"), st.just(0)),
        st.tuples(st.just("forget"), st.just(0)),
        st.tuples(st.just("history"), st.integers(0, 500)),
    ),
    max_size=30,
)


@settings(max_examples=400, deadline=None)
@given(OPERATIONS, st.integers(0, 2**32), st.sampled_from([150, 600]))
def test_whatever_happens_the_utility_ends_up_with_what_the_meter_has(
    operations: list[tuple[str, float]], seed: int, depth: int
) -> None:
    world = World(seed, depth)
    world.connect()
    backup = copy.deepcopy(world.head_end.units)
    corrected = False
    gone: list[int] = []
    for name, number in operations:
        world.run(0)  # whatever must not be forgotten is written down at once
        profile, n = world.profile, int(number)
        newest = profile.newest if profile.newest is not None else profile.first_slot - 1
        slots = sorted(profile.records)
        if name in {"withdraw", "withdraw one", "ahead"}:
            # A head-end that goes back behind a correction has what was wrong again.
            corrected, backup = True, {}
        match name:
            case "boundaries":
                world.boundaries(n)
            case "gap":
                world.boundary(newest + n)
            case "withdraw":
                gone = slots[-n:]
                world.withdraw(gone)
            case "withdraw one" if slots:
                gone = [slots[-1 - n % len(slots)]]
                world.withdraw(gone)
            case "refill":
                for slot in gone[n:]:
                    if slot >= profile.reach and slot not in profile.records:
                        world.boundary(slot)
            case "ahead":
                world.boundary(newest + n)
                world.run(2)
                world.withdraw([newest + n])
            case "run":
                world.run(number)
            case "line":
                world.loss, world.duplication = number / 100, number / 200
            case "slow":
                world.delay_s = number
            case "refuse":
                world.refusals = number / 100
            case "boot":
                if n:
                    world.run(1.5)
                world.boot()
            case "connect":
                world.connect()
            case "disconnect":
                world.disconnect()
            case "unit":
                profile.begin("AB"[n], max(newest, profile.first_slot) + 3)
                gone = []
                if seed % 2:
                    world.uplink.unit_changed(world.now)
            case "backup" if not corrected:
                backup = copy.deepcopy(world.head_end.units)
            case "restore":
                # A head-end that does not know the unit at all begins with what comes.
                world.head_end.units |= copy.deepcopy(backup)
            case "forget" if not world.uplink.queued:
                # What was still owed is forgotten with the state.
                world.forget()
            case "history":
                world.uplink.request_history(newest - n, newest + 3, b"h")
    world.boundaries(1)
    world.heal()
    world.check()
