"""What the laboratory says of itself: the right word at the right time."""

import pytest
from visitor import visit

from meter_runtime.bench.frames import CrossedFrame
from meter_runtime.bench.happenings import HAPPENINGS_KEPT, KINDS, Chronicle, Happening
from meter_runtime.bench.laboratory import Bench
from meter_runtime.comm.contracts import AuthOk, LinkStarted, PeerLeft, SessionExpired
from meter_runtime.events import EventBus
from meter_runtime.system_clock import SystemClock

PEER = "FE80:0000:0000:0000:021D:1290:1234:5678"
BEGIN_ANEW = bytes.fromhex("0000001000000001") + bytes(8)
"""A PANA client initiation."""
GET_E7 = bytes.fromhex("1081000105FF010288016201E700")
REFUSAL = bytes.fromhex("1081000102880105FF015201E700")


@pytest.fixture
def chronicle() -> Chronicle:
    return Chronicle(SystemClock(), lambda address: "hems0" if address == PEER else address)


@pytest.fixture
def bus(chronicle: Chronicle) -> EventBus:
    bus = EventBus()
    chronicle.follow(bus)
    return bus


def kinds(chronicle: Chronicle) -> list[str]:
    return [happening.kind for happening in chronicle.kept]


def datagram(payload: bytes, source: str = "hems0", port: int = 3610) -> CrossedFrame:
    there = "meter" if source == "hems0" else "hems0"
    return CrossedFrame(0.0, source, there, port, payload, secured=True, received=True)


def test_a_session_is_joined_renewed_lost_and_joined_again(
    chronicle: Chronicle, bus: EventBus
) -> None:
    bus.publish(AuthOk(PEER, 60))
    bus.publish(AuthOk(PEER, 60))
    bus.publish(SessionExpired(PEER))
    bus.publish(AuthOk(PEER, 60))
    bus.publish(PeerLeft(PEER))
    assert kinds(chronicle) == ["joined", "reauthenticated", "expired", "rejoined", "left"]
    assert chronicle.kept[0].detail == {"peer": "hems0", "lifetime_s": 60}


def test_a_home_that_began_anew_rejoined_although_its_session_still_lived(
    chronicle: Chronicle, bus: EventBus
) -> None:
    bus.publish(AuthOk(PEER, 60))
    chronicle.crossed(datagram(BEGIN_ANEW, port=716))
    bus.publish(AuthOk(PEER, 60))
    bus.publish(AuthOk(PEER, 60))
    assert kinds(chronicle) == ["joined", "rejoined", "reauthenticated"]


def test_a_meter_that_restarted_has_no_session_to_renew(
    chronicle: Chronicle, bus: EventBus
) -> None:
    bus.publish(AuthOk(PEER, 60))
    bus.publish(LinkStarted(PEER, "channel 33"))
    bus.publish(AuthOk(PEER, 60))
    assert kinds(chronicle) == ["joined", "link-started", "rejoined"]


def test_requests_answers_and_announcements_are_told_apart(chronicle: Chronicle) -> None:
    chronicle.crossed(datagram(GET_E7))
    chronicle.crossed(datagram(REFUSAL, "meter"))
    chronicle.crossed(datagram(REFUSAL.replace(b"\x52", b"\x73"), "meter"))
    chronicle.crossed(datagram(b"nonsense"))
    assert kinds(chronicle) == ["request", "response", "announced"]
    assert [h.detail["service"] for h in chronicle.kept] == ["Get", "Get_SNA", "INF"]
    assert {h.detail["codes"] for h in chronicle.kept} == {"E7"}


def test_only_the_last_are_kept(chronicle: Chronicle) -> None:
    for number in range(HAPPENINGS_KEPT + 5):
        chronicle.note("hems-said", text=number)
    assert len(chronicle.kept) == HAPPENINGS_KEPT
    assert chronicle.kept[0].text == "text=5"


def test_a_listener_that_fails_hurts_nobody(
    chronicle: Chronicle, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Happening] = []

    def fails(_happening: Happening) -> None:
        raise RuntimeError("as it must")

    chronicle.subscribe(fails)
    stop = chronicle.subscribe(heard.append)
    chronicle.note("left")
    stop()
    chronicle.note("left")
    assert [happening.kind for happening in heard] == ["left"]
    assert "a listener failed on left" in caplog.text


def test_a_kind_that_nobody_could_expect_is_a_defect(chronicle: Chronicle) -> None:
    with pytest.raises(ValueError, match="no kind of happening"):
        chronicle.note("lunch")


async def test_a_bench_tells_a_visit_from_the_first_to_the_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with Bench() as bench:
        assert await visit(bench, "--reads", "1") == 0
        said = capsys.readouterr().out.splitlines()
        assert (said[0], said[-1]) == ("joined", "left")
        assert await visit(bench, "--reads", "1") == 0
        assert await visit(bench, "--joins", "1", password="WRONGWRONG00") == 3
        told = [(h.kind, h.detail.get("module", h.detail.get("peer"))) for h in bench.happenings]
    first = told.index(("tty-opened", "hems0"))
    visits = [kind for kind, who in told[first:] if who == "hems0"]
    once = ["tty-opened", "module-reset", "joining", "joined", "left", "tty-closed"]
    again = ["rejoined" if kind == "joined" else kind for kind in once]
    wrong = ["tty-opened", "module-reset", "joining", "auth-failed", "tty-closed"]
    assert sorted(visits) == sorted(once + again + wrong)
    assert visits.index("joined") < visits.index("left") < visits.index("rejoined")
    assert {kind for kind, _ in told} <= KINDS.keys()
