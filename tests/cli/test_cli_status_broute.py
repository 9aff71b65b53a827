"""What a person reads of the B-route."""

from typing import Any

from meter_runtime.broute.diagnosis import NotServed, OutOfService
from meter_runtime.broute.status import LinkStatus, Moment
from meter_runtime.cli.status_broute import rows
from meter_runtime.comm.contracts import AuthFailed, AuthOk, LinkStarted, PeerLeft, UnitFault

HOME = "FE80::2"
AT = Moment(1000.0, 1_795_316_400.0)  # 2026-11-22 12:00 JST


def link() -> LinkStatus:
    status = LinkStatus()
    status.begin(AT)
    status.follow(LinkStarted("FE80::1", "channel 33"), AT)
    return status


def shown(status: LinkStatus, at: Moment = AT) -> list[str]:
    report: dict[str, Any] = status.report(at.now, "920MHz")
    return list(rows({"in_service": True, **report, "counters": {"rx_dropped": 1234, "tx": 0}}))


def test_of_a_home_that_is_served_little_is_said() -> None:
    status = link()
    status.follow(AuthOk(HOME, 3600), AT)
    status.heard(HOME, -61.25, AT)
    assert shown(status) == [
        "message 1: active status",
        "startup clear  authentication clear  connection clear  communication unit normal",
        "920MHz  HEMS FE80::2  since 2026-11-22T12:00:00+09:00  until 2026-11-22T13:00:00+09:00",
        "signal -61.2 dBm at 2026-11-22T12:00:00+09:00; the last 1: -61.2 to -61.2, mean -61.2",
        "rx dropped 1,234",
    ]


def test_of_an_alarm_it_is_said_what_to_look_for_and_what_happened_of_late() -> None:
    status = link()
    for _ in range(3):
        status.follow(AuthFailed(HOME), AT)
    assert shown(status) == [
        "message 2: HEMS is failure  ALARM",
        "startup clear  authentication failure  connection failure  communication unit normal",
        "920MHz  no HEMS joined",
        "look for: the password entered in the HEMS is wrong",
        "failed joins in a row 3",
        "2026-11-22T12:00:00+09:00  link started",
        "2026-11-22T12:00:00+09:00  authentication failed  3 times",
        "rx dropped 1,234",
    ]


def test_what_is_expected_is_said_with_its_end() -> None:
    assert shown(link())[0] == (
        "message 3: HEMS is unconnected  expected: rejoining  until 2026-11-22T12:30:00+09:00"
    )


def test_of_many_happenings_the_last_are_shown() -> None:
    status = link()
    for _ in range(20):
        status.follow(AuthOk(HOME, 3600), AT)
        status.follow(PeerLeft(HOME), AT)
    status.follow(UnitFault("silent"), AT)
    recent = [line for line in shown(status) if line.startswith("2026")]
    assert [line.split("  ")[1] for line in recent] == [
        "authenticated",
        "session ended",
        "authenticated",
        "session ended",
        "unit fault",
    ]


def test_who_is_not_served_reads_why() -> None:
    report = OutOfService(NotServed.COMBINATION, ("U-11", "U-16")).report()
    assert list(rows(report)) == [
        "not in service: the combination of units forbids it  U-11  U-16  ALARM"
    ]
    assert list(rows(OutOfService(NotServed.REVOKED).report())) == [
        "not in service: the service was ended"
    ]
    assert list(rows({"in_service": False})) == ["not in service"]
