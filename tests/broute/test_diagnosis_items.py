"""How link events and time become the four items, and which messages are no alarm."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.broute.diagnosis import Expected, Items, Message, message_of
from meter_runtime.broute.link_record import RECENT, SIGNAL_WINDOW
from meter_runtime.broute.status import (
    REJOIN_GRACE_S,
    REWRITE_GRACE_S,
    START_GRACE_S,
    LinkStatus,
    Moment,
    RewriteGrace,
)
from meter_runtime.comm.contracts import (
    AuthFailed,
    AuthOk,
    LinkEvent,
    LinkStarted,
    LinkStartFailed,
    PeerJoining,
    PeerLeft,
    SessionExpired,
    TxReleased,
    TxRestricted,
    UnitFault,
)

HOME, OTHER = "FE80::2", "FE80::3"
LIFE_S = 1000
STARTED = LinkStarted("FE80::1", "channel 33")


class Life:
    """A link and its time."""

    def __init__(self, grace: RewriteGrace | None = None) -> None:
        self.now = 5000.0
        self.link = LinkStatus(grace)
        self.link.begin(self.at)

    @property
    def at(self) -> Moment:
        return Moment(self.now, self.now + 1_700_000_000)

    def sees(self, *events: LinkEvent) -> "Life":
        for event in events:
            self.link.follow(event, self.at)
        return self

    def after(self, seconds: float) -> "Life":
        self.now += seconds
        return self

    def hears(self, rssi_dbm: float | None = None, peer: str = HOME) -> bool:
        return self.link.heard(peer, rssi_dbm, self.at)

    @property
    def items(self) -> Items:
        return self.link.items(self.now)

    def message(self) -> Message:
        return self.link.verdict(self.now).message

    def alarm(self) -> bool:
        return self.link.verdict(self.now).alarm

    def expected(self) -> Expected | None:
        return self.link.verdict(self.now).expected

    def report(self) -> dict[str, Any]:
        return self.link.report(self.now, "920MHz")


def serving() -> Life:
    """A home is joined."""
    return Life().sees(STARTED, PeerJoining(HOME), AuthOk(HOME, LIFE_S))


# The items


def test_startup_is_clear_once_the_link_has_started_and_fails_with_the_unit() -> None:
    life = Life()
    assert not life.items.startup
    assert life.sees(STARTED).items.startup
    life.sees(UnitFault("silent"))
    assert life.items == Items(
        startup=False, authentication=True, connection=False, communication_unit=False
    )
    assert life.sees(STARTED).items.startup


def test_authentication_is_clear_while_nobody_tried_and_latched_until_a_success() -> None:
    life = Life().sees(STARTED)
    assert life.items.authentication
    life.sees(AuthFailed(HOME)).after(10 * REJOIN_GRACE_S)
    assert life.message() is Message.HEMS_FAILURE
    life.sees(UnitFault("silent"), STARTED)
    assert life.message() is Message.HEMS_FAILURE
    assert life.sees(AuthOk(HOME, LIFE_S)).message() is Message.ACTIVE


def test_a_rewrite_clears_a_latched_failure() -> None:
    life = Life().sees(STARTED, AuthFailed(HOME), AuthFailed(HOME))
    life.link.credentials_changed(life.at)
    assert life.items.authentication
    assert life.report()["failed_joins"] == 0


def test_a_connection_lives_by_traffic_or_renewal_within_the_sessions_life() -> None:
    life = serving().after(LIFE_S - 1)
    assert life.message() is Message.ACTIVE
    life.hears()
    life.after(LIFE_S - 1).sees(AuthOk(HOME, LIFE_S)).after(LIFE_S - 1)
    assert life.message() is Message.ACTIVE
    assert life.report()["session"]["peer"] == HOME
    life.after(1)
    assert life.message() is Message.HEMS_UNCONNECTED
    assert life.report()["session"] is None
    assert life.hears(), "a home that was taken for gone is news"
    assert life.message() is Message.ACTIVE
    assert not life.hears()


def test_what_another_sends_proves_no_session() -> None:
    life = serving().after(LIFE_S)
    assert not life.hears(peer=OTHER)
    assert life.message() is Message.HEMS_UNCONNECTED


@pytest.mark.parametrize("end", [PeerLeft(HOME), SessionExpired(HOME)])
def test_a_session_that_ended_is_no_connection(end: LinkEvent) -> None:
    life = serving().sees(end)
    assert life.message() is Message.HEMS_UNCONNECTED
    assert life.alarm()
    life.hears()
    assert life.message() is Message.HEMS_UNCONNECTED


def test_a_renewed_session_began_when_it_did_and_another_homes_begins_now() -> None:
    life = serving()
    began = life.report()["session"]["since"]
    life.after(100).sees(AuthOk(HOME, LIFE_S))
    assert life.report()["session"]["since"] == began
    life.sees(AuthOk(OTHER, LIFE_S))
    assert life.report()["session"]["since"] > began


def test_a_failure_beside_a_living_session_is_flagged() -> None:
    life = serving().sees(AuthFailed(OTHER))
    assert life.message() is Message.HEMS_FAILURE
    assert life.report()["undefined_combination"]
    assert life.report()["session"]["peer"] == HOME


# What is no alarm


def test_a_start_is_no_alarm_until_it_fails_or_takes_too_long() -> None:
    life = Life()
    assert (life.message(), life.expected(), life.alarm()) == (
        Message.ABNORMALITY,
        Expected.STARTING,
        False,
    )
    assert life.link.next_deadline(life.now) == life.now + START_GRACE_S
    assert life.after(START_GRACE_S).alarm()
    assert Life().sees(LinkStartFailed("no answer", 1.0)).alarm()


def test_a_home_has_time_to_join_again_after_a_start() -> None:
    life = Life().sees(STARTED)
    assert (life.expected(), life.alarm()) == (Expected.REJOINING, False)
    assert life.link.next_deadline(life.now) == life.now + REJOIN_GRACE_S
    assert life.after(REJOIN_GRACE_S).alarm()
    assert Life().sees(STARTED, AuthFailed(HOME)).alarm(), "a wrong password is wrong at once"
    assert serving().sees(PeerLeft(HOME)).alarm(), "whoever has joined again has no more time"


@pytest.mark.parametrize("trying", [False, True])
def test_a_rewrite_is_no_alarm_until_the_home_has_the_new_password(*, trying: bool) -> None:
    life = serving().after(10)
    life.link.grace.begin(life.at)
    life.link.credentials_changed(life.at)
    life.sees(STARTED)
    if trying:
        life.sees(AuthFailed(HOME))
    message = Message.HEMS_FAILURE if trying else Message.HEMS_UNCONNECTED
    assert (life.message(), life.expected()) == (message, Expected.REWRITTEN)
    report = life.report()
    assert (report["expected"], report["alarm"]) == (True, False)
    assert report["expected_because"] == "rewritten"
    life.after(REWRITE_GRACE_S - 1)
    assert not life.alarm()
    assert life.link.next_deadline(life.now) == life.now + 1
    assert life.after(1).alarm()


def test_a_grace_ends_with_the_first_success_and_not_with_a_broken_unit() -> None:
    life = Life().sees(STARTED)
    life.link.grace.begin(life.at)
    life.sees(UnitFault("silent"))
    assert life.alarm(), "that a unit is down is not expected"
    life.sees(STARTED, AuthFailed(HOME))
    assert not life.alarm()
    life.sees(AuthOk(HOME, LIFE_S), AuthFailed(HOME))
    assert life.alarm()


def test_a_grace_outlives_the_communication_unit() -> None:
    grace = RewriteGrace()
    life = Life(grace)
    grace.begin(life.at)
    assert Life(grace).sees(STARTED, AuthFailed(HOME)).expected() is Expected.REWRITTEN


# What is remembered


def test_failed_joins_count_in_a_row() -> None:
    life = Life().sees(STARTED, *[AuthFailed(HOME)] * 5)
    assert life.report()["failed_joins"] == 5
    life.sees(AuthOk(HOME, LIFE_S))
    assert life.report()["failed_joins"] == 0


def test_the_signal_is_told_over_a_bounded_window_and_never_of_a_former_home() -> None:
    life = serving()
    assert life.report()["signal"] is None
    life.hears(None)
    assert life.report()["signal"] is None
    life.hears(-120.0)
    for _ in range(SIGNAL_WINDOW - 1):
        life.hears(-80.0)
    life.hears(-70.04)
    signal = life.report()["signal"]
    assert signal.pop("at").startswith("2023-11-")
    assert signal == {
        "last_dbm": -70.0,
        "min_dbm": -80.0,
        "max_dbm": -70.0,
        "mean_dbm": -79.8,
        "datagrams": SIGNAL_WINDOW,
    }
    life.sees(PeerLeft(HOME))
    assert life.report()["signal"] is not None, "how it was received before it fell silent"
    life.link.credentials_changed(life.at)
    assert life.report()["signal"] is None


def test_what_repeats_itself_is_counted_and_the_rest_is_bounded() -> None:
    life = Life().sees(STARTED)
    for _ in range(1000):
        life.sees(PeerJoining(HOME), AuthFailed(HOME))
    assert [(each["kind"], each["times"]) for each in life.report()["recent"]] == [
        ("link_started", 1),
        ("authentication_failed", 1000),
    ]
    for _ in range(50):
        life.sees(AuthOk(HOME, LIFE_S), PeerLeft(HOME))
    kinds = [each["kind"] for each in life.report()["recent"]]
    assert kinds == ["authenticated", "session_ended"] * (RECENT // 2)
    assert HOME not in str(life.report()["recent"])


# Any course of events

EVENTS: st.SearchStrategy[LinkEvent] = st.sampled_from(
    [
        STARTED,
        LinkStartFailed("no answer", 1.0),
        PeerJoining(HOME),
        AuthFailed(HOME),
        AuthOk(HOME, LIFE_S),
        AuthOk(OTHER, LIFE_S),
        PeerLeft(HOME),
        SessionExpired(HOME),
        TxRestricted(),
        TxReleased(),
        UnitFault("silent"),
    ]
)
Step = LinkEvent | str | float
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        EVENTS,
        st.sampled_from(["rewrite", "heard"]),
        st.floats(0.0, 2 * LIFE_S).map(lambda seconds: round(seconds, 3)),
    )
)


def is_defined_by(course: list[tuple[float, Step]], now: float) -> Items:
    """The items by their definitions, read backwards from the whole course."""
    unit = next(
        (
            isinstance(step, LinkStarted)
            for _, step in reversed(course)
            if isinstance(step, LinkStarted | LinkStartFailed | UnitFault)
        ),
        None,
    )
    tried = next(
        (
            step
            for _, step in reversed(course)
            if step == "rewrite" or isinstance(step, AuthOk | AuthFailed)
        ),
        None,
    )
    connected = False
    for index, (at, step) in enumerate(course):
        if not isinstance(step, AuthOk):
            continue
        alive, proven = True, at
        for later, then in course[index + 1 :]:
            match then:
                case AuthOk(peer) if peer == step.peer:
                    proven = later
                case AuthOk() | PeerLeft() | SessionExpired() | UnitFault():
                    alive = False
                case LinkStarted() | LinkStartFailed() | "rewrite":
                    alive = False
                case "heard" if alive and step.peer == HOME:
                    proven = later
                case _:
                    pass
        connected = connected or (alive and now - proven < step.lifetime_s)
    return Items(
        startup=bool(unit),
        authentication=not isinstance(tried, AuthFailed),
        connection=connected,
        communication_unit=unit is not False,
    )


@given(STEPS)
def test_the_items_follow_their_definitions_whatever_happens(steps: list[Step]) -> None:
    life = Life()
    course: list[tuple[float, Step]] = []
    for step in steps:
        match step:
            case float():
                life.after(step)
                continue
            case "rewrite":
                life.link.grace.begin(life.at)
                life.link.credentials_changed(life.at)
            case "heard":
                life.hears(-60.0)
            case str():
                raise AssertionError(step)
            case _:
                life.sees(step)
        course.append((life.now, step))
    assert life.items == is_defined_by(course, life.now)
    report = life.report()
    assert report["message"] == int(message_of(life.items)[0])
    assert report["alarm"] == (report["message"] != 1 and not report["expected"])
    assert len(report["recent"]) <= RECENT


@given(STEPS)
def test_by_time_alone_a_verdict_only_changes_at_its_deadline(steps: list[Step]) -> None:
    life = Life()
    for step in steps:
        match step:
            case float():
                before, due = life.link.verdict(life.now), life.link.next_deadline(life.now)
                life.after(step)
                if due is None or life.now < due:
                    assert life.link.verdict(life.now) == before
            case "rewrite":
                life.link.grace.begin(life.at)
                life.link.credentials_changed(life.at)
            case "heard":
                life.hears()
            case str():
                raise AssertionError(step)
            case _:
                life.sees(step)
