"""When the meter speaks unasked, to whom, and when it gives up."""

from random import Random

import pytest
from home_meter import HomeMeter, settings, slot_of
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.broute.announcer import Announcement, Announcer, Pace
from meter_runtime.broute.echonet.frame import Esv, Frame, parse
from meter_runtime.broute.echonet.node import EchonetNode
from meter_runtime.comm.contracts import ALL_NODES

PEER = "FE80:0000:0000:0000:021D:1290:1234:5678"
OTHER = "FE80:0000:0000:0000:021D:1290:0000:0001"
SLOT = slot_of("2026-11-22 14:00")
AT_ONCE = Pace(instance_list_delay_s=0.0, jitter_s=0.0, retry_s=10.0)


def announcer(pace: Pace = AT_ONCE, seed: int = 1, **changes: object) -> Announcer:
    return Announcer(EchonetNode(settings(**changes), HomeMeter()), Random(seed), pace)  # type: ignore[arg-type]


def joined(pace: Pace = AT_ONCE, seed: int = 1, **changes: object) -> Announcer:
    """An announcer whose home has joined and heard the instance list."""
    joining = announcer(pace, seed, **changes)
    joining.authenticated(PEER, 0.0)
    deadline = joining.next_deadline()
    assert deadline is not None
    assert joining.due(deadline) is not None
    joining.sent(True, deadline)
    return joining


def frame_of(announcement: Announcement | None) -> Frame:
    assert announcement is not None
    return parse(announcement.payload)


def epcs_of(announcement: Announcement | None) -> list[int]:
    return [epc for epc, _ in frame_of(announcement).properties]


def happened(meter: Announcer) -> dict[str, int]:
    return {name: count for name, count in meter.counters.items() if count}


def test_nothing_is_said_before_a_home_joins() -> None:
    silent = announcer()
    assert silent.next_deadline() is None
    assert silent.due(1e9) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_instance_list_follows_every_authentication_within_three_seconds(seed: int) -> None:
    meter = announcer(Pace(), seed)
    for now in (100.0, 70_000.0):
        meter.authenticated(PEER, now)
        deadline = meter.next_deadline()
        assert deadline is not None
        assert now <= deadline <= now + 3.0
        assert meter.due(deadline - 0.001) is None
        announcement = meter.due(deadline)
        assert announcement is not None
        assert announcement.peer == ALL_NODES
        assert epcs_of(announcement) == [0xD5]
        meter.sent(True, deadline)
        assert meter.next_deadline() is None


def test_a_failed_instance_list_is_repeated_until_controllers_have_asked_for_it() -> None:
    meter = announcer()
    meter.authenticated(PEER, 0.0)
    first = meter.due(0.0)
    meter.sent(False, 1.0)
    assert meter.next_deadline() == 11.0
    assert meter.due(11.0) == first
    meter.sent(False, 12.0)
    assert meter.next_deadline() is None
    assert happened(meter) == {"announcements_repeated": 1, "announcements_given_up": 1}


@pytest.mark.parametrize("seed", range(20))
def test_a_stored_boundary_is_announced_to_the_home_within_the_jitter(seed: int) -> None:
    meter = joined(pace=Pace(jitter_s=5.0), seed=seed)
    meter.boundary(SLOT, 1000.0, 0.2)
    deadline = meter.next_deadline()
    assert deadline is not None
    assert 1000.0 <= deadline <= 1005.0
    announcement = meter.due(deadline)
    assert announcement is not None
    assert announcement.peer == PEER
    assert epcs_of(announcement) == [0xEA, 0xEB]
    meter.sent(True, deadline + 1)
    assert meter.next_deadline() is None
    assert happened(meter) == {"announced": 1}


def test_one_announcement_is_in_flight_at_a_time() -> None:
    meter = joined()
    meter.boundary(SLOT, 100.0, 0.0)
    assert meter.due(100.0) is not None
    assert meter.next_deadline() is None
    assert meter.due(200.0) is None
    meter.sent(True, 200.0)
    assert meter.due(200.0) is None


def test_a_failed_announcement_is_repeated_until_five_minutes_after_the_boundary() -> None:
    meter = joined()
    meter.boundary(SLOT, 1000.0, 20.0)
    sent_at = []
    while (deadline := meter.next_deadline()) is not None:
        assert meter.due(deadline) is not None
        sent_at.append(deadline)
        meter.sent(False, deadline)
    assert sent_at == [1000.0 + 10 * i for i in range(29)]
    assert happened(meter) == {"announcements_repeated": 28, "announcements_given_up": 1}


def test_repeats_are_the_same_datagram() -> None:
    meter = joined()
    meter.boundary(SLOT, 0.0, 0.0)
    first = meter.due(0.0)
    meter.sent(False, 0.0)
    assert meter.due(10.0) == first


def test_a_boundary_stored_too_late_is_not_announced() -> None:
    meter = joined()
    meter.boundary(SLOT, 1000.0, 300.0)
    assert meter.next_deadline() is None
    assert happened(meter) == {"announcements_given_up": 1}


def test_a_boundary_stored_late_is_not_jittered_out_of_its_time() -> None:
    meter = joined(pace=Pace(jitter_s=200.0))
    meter.boundary(SLOT, 1000.0, 299.0)
    deadline = meter.next_deadline()
    assert deadline is not None
    assert deadline <= 1001.0


def test_a_newer_boundary_supersedes_an_older_one() -> None:
    meter = joined()
    meter.boundary(SLOT, 0.0, 0.0)
    meter.boundary(SLOT + 1, 1.0, 0.0)
    announcement = meter.due(2.0)
    assert frame_of(announcement).properties[0].edt[:7] == bytes.fromhex("07EA0B160E1E00")
    meter.sent(True, 2.0)
    assert happened(meter) == {"announced": 1, "announcements_superseded": 1}


def test_a_newer_boundary_ends_the_repeats_of_one_in_flight() -> None:
    meter = joined()
    meter.boundary(SLOT, 0.0, 0.0)
    meter.due(0.0)
    meter.boundary(SLOT + 1, 1.0, 0.0)
    meter.sent(False, 2.0)
    assert happened(meter) == {"announcements_superseded": 1}
    assert frame_of(meter.due(2.0)).properties[0].edt[:7] == bytes.fromhex("07EA0B160E1E00")


@pytest.mark.parametrize("slot", [SLOT, SLOT - 1])
def test_a_boundary_that_is_not_newer_changes_nothing(slot: int) -> None:
    meter = joined()
    meter.boundary(SLOT, 0.0, 0.0)
    meter.boundary(slot, 1.0, 0.0)
    assert frame_of(meter.due(1.0)).properties[0].edt[:7] == bytes.fromhex("07EA0B160E0000")
    assert happened(meter) == {}


def test_the_instance_list_goes_before_the_half_hour_value() -> None:
    meter = announcer(Pace(instance_list_delay_s=3.0, jitter_s=0.0))
    meter.authenticated(PEER, 0.0)
    meter.boundary(SLOT, 0.0, 0.0)
    said = []
    while (deadline := meter.next_deadline()) is not None:
        said.append(epcs_of(meter.due(max(deadline, 0.0))))
        meter.sent(True, deadline)
    assert said == [[0xD5], [0xEA, 0xEB]]


def test_a_home_that_comes_back_in_time_hears_the_value() -> None:
    meter = joined()
    meter.peer_gone(999.0)
    meter.boundary(SLOT, 1000.0, 0.0)
    assert meter.next_deadline() is None
    assert meter.due(1100.0) is None
    meter.authenticated(OTHER, 1200.0)
    assert epcs_of(meter.due(1200.0)) == [0xD5]
    meter.sent(True, 1200.0)
    announcement = meter.due(1200.0)
    assert epcs_of(announcement) == [0xEA, 0xEB]
    assert announcement is not None
    assert announcement.peer == OTHER


def test_a_home_that_comes_back_too_late_does_not() -> None:
    meter = announcer()
    meter.boundary(SLOT, 1000.0, 0.0)
    meter.authenticated(PEER, 1301.0)
    assert epcs_of(meter.due(1301.0)) == [0xD5]
    meter.sent(True, 1301.0)
    assert meter.due(1301.0) is None
    assert meter.next_deadline() is None
    assert happened(meter) == {"announcements_given_up": 1}


def test_a_home_that_left_is_told_nothing_more() -> None:
    meter = announcer()
    meter.authenticated(PEER, 0.0)
    meter.peer_gone(0.0)
    assert meter.next_deadline() is None
    assert meter.due(10.0) is None


def test_a_new_session_words_a_pending_announcement_anew() -> None:
    node = EchonetNode(settings(), HomeMeter())
    meter = Announcer(node, Random(1), AT_ONCE)
    for _ in range(7):
        node.announcement_instance_list()
    meter.authenticated(PEER, 0.0)
    meter.due(0.0)
    meter.sent(True, 0.0)
    meter.boundary(SLOT, 1.0, 0.0)
    assert frame_of(meter.due(1.0)).tid == 8
    meter.sent(False, 1.0)
    node.reset_session()
    meter.authenticated(PEER, 2.0)
    assert frame_of(meter.due(2.0)).tid == 0
    meter.sent(True, 2.0)
    assert frame_of(meter.due(11.0)).tid == 1


CONFIRMED = Pace(0.0, 0.0, retry_s=10.0, confirm_s=20.0, confirm_repeats=2)


def test_an_answered_infc_is_not_repeated() -> None:
    meter = joined(pace=CONFIRMED, confirmed_announcements=True)
    meter.boundary(SLOT, 0.0, 0.0)
    frame = frame_of(meter.due(0.0))
    assert frame.esv == Esv.INFC
    meter.sent(True, 0.0)
    assert meter.next_deadline() == 20.0
    meter.infc_answered(frame.tid + 1)
    assert meter.next_deadline() == 20.0
    meter.infc_answered(frame.tid)
    assert meter.next_deadline() is None
    assert happened(meter) == {"announced": 1}


def test_an_infc_may_be_answered_before_the_link_reports_it_sent() -> None:
    meter = joined(pace=CONFIRMED, confirmed_announcements=True)
    meter.boundary(SLOT, 0.0, 0.0)
    meter.infc_answered(frame_of(meter.due(0.0)).tid)
    meter.sent(True, 0.5)
    assert meter.next_deadline() is None
    assert happened(meter) == {"announced": 1}


def test_an_infc_nobody_answers_is_repeated_within_bounds() -> None:
    meter = joined(pace=CONFIRMED, confirmed_announcements=True)
    meter.boundary(SLOT, 0.0, 0.0)
    sent_at = []
    payloads = set()
    while (deadline := meter.next_deadline()) is not None:
        announcement = meter.due(deadline)
        if announcement is not None:
            sent_at.append(deadline)
            payloads.add(announcement.payload)
            meter.sent(True, deadline)
    assert sent_at == [0.0, 20.0, 40.0]
    assert len(payloads) == 1
    assert happened(meter) == {
        "announced": 1,
        "announcements_repeated": 2,
        "announcements_unconfirmed": 1,
    }


def test_the_next_boundary_ends_the_wait_for_an_answer() -> None:
    meter = joined(pace=CONFIRMED, confirmed_announcements=True)
    meter.boundary(SLOT, 0.0, 0.0)
    meter.due(0.0)
    meter.sent(True, 0.0)
    meter.boundary(SLOT + 1, 1.0, 0.0)
    assert happened(meter) == {"announced": 1, "announcements_unconfirmed": 1}


def test_a_report_without_an_announcement_is_ignored() -> None:
    meter = joined()
    meter.sent(False, 0.0)
    assert meter.next_deadline() is None


def test_the_same_seed_gives_the_same_schedule() -> None:
    def schedule(seed: int) -> float | None:
        meter = announcer(Pace(), seed)
        meter.authenticated(PEER, 0.0)
        return meter.next_deadline()

    assert schedule(7) == schedule(7)
    assert schedule(7) != schedule(8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"instance_list_delay_s": 15.0},
        {"instance_list_delay_s": -1.0},
        {"jitter_s": 300.0},
        {"retry_s": 0.0},
        {"confirm_s": 0.0},
        {"confirm_repeats": -1},
    ],
)
def test_a_pace_outside_the_specification_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Pace(**wrong)  # type: ignore[arg-type]


steps = st.lists(
    st.tuples(
        st.sampled_from(["join", "leave", "boundary", "due", "ok", "fail", "answer"]),
        st.floats(0.0, 200.0),
    ),
    max_size=60,
)


@given(steps, st.booleans())
def test_whatever_happens_half_hour_values_keep_to_their_home_and_their_time(
    story: list[tuple[str, float]], confirmed: bool
) -> None:
    meter = announcer(Pace(), confirmed_announcements=confirmed)
    now, slot, boundaries, said, peer = 0.0, SLOT, 0, 0, None
    expires = 0.0
    in_flight = False
    for what, wait in story:
        now += wait
        match what:
            case "join":
                peer = PEER
                meter.authenticated(PEER, now)
            case "leave":
                peer = None
                meter.peer_gone(now)
            case "boundary":
                slot, boundaries, expires = slot + 1, boundaries + 1, now + 300.0
                meter.boundary(slot, now, 0.0)
            case "ok" | "fail":
                meter.sent(what == "ok", now)
                in_flight = False
            case "answer":
                meter.infc_answered(int(wait))
            case _:
                announcement = meter.due(now)
                if announcement is None:
                    continue
                assert not in_flight
                assert peer is not None
                in_flight = True
                if epcs_of(announcement) == [0xEA, 0xEB]:
                    assert announcement.peer == peer
                    assert now <= expires
                    said += 1
        deadline = meter.next_deadline()
        assert deadline is None or (peer is not None and not in_flight)
    ended = sum(meter.counters[name] for name in ("announced", "announcements_superseded"))
    assert ended <= boundaries
    assert meter.counters["announced"] <= said


def test_a_status_that_changed_is_told_to_all() -> None:
    data = HomeMeter()
    node = EchonetNode(settings(), data)
    meter = Announcer(node, Random(1), AT_ONCE)
    meter.authenticated(PEER, 0.0)
    assert meter.due(0.0) is not None
    meter.sent(True, 0.0)
    assert node.changed_statuses() == ()

    data.faulty = True
    changed = node.changed_statuses()
    assert changed == (0x88,)
    assert node.changed_statuses() == ()
    meter.statuses_changed(changed, 1.0)

    announcement = meter.due(1.0)
    assert announcement is not None
    assert announcement.peer == ALL_NODES
    frame = frame_of(announcement)
    assert frame.esv == Esv.INF
    assert frame.deoj == bytes.fromhex("0EF001")
    assert [(epc, edt) for epc, edt in frame.properties] == [(0x88, b"\x41")]
    meter.sent(True, 1.0)
    assert meter.next_deadline() is None


def test_statuses_that_changed_one_after_the_other_are_told_together() -> None:
    meter = joined()
    meter.statuses_changed((0x88,), 1.0)
    meter.statuses_changed((0x81, 0x88), 1.5)
    assert epcs_of(meter.due(2.0)) == [0x88, 0x81]


def test_a_status_nobody_could_be_told_for_a_minute_is_given_up() -> None:
    meter = joined()
    meter.statuses_changed((0x88,), 0.0)
    now = 0.0
    while meter.due(now) is not None:
        meter.sent(False, now)
        now = meter.next_deadline() or now + 1000
    assert now >= 60
    assert happened(meter)["announcements_given_up"] == 1


def test_the_home_that_sets_the_place_hears_of_it() -> None:
    node = EchonetNode(settings(), HomeMeter())
    node.handle(bytes.fromhex("1081000105FF010288016101810109"))
    assert node.changed_statuses() == (0x81,)
