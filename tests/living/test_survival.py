"""momonga lives through a hard life, or fails as its documentation says, and joins again.

Every test ends with momonga reading the meter, so the meter was ready for it each time; the
session that is left in the end is ended by momonga itself.
"""

from collections.abc import Iterator

import momonga
import pytest

from meter_runtime.bench.background import BackgroundBench

DAY_S = 86_400
"""The life of a session."""


@pytest.fixture
def hems(meter_bench: BackgroundBench) -> Iterator[momonga.Momonga]:
    """momonga, joined, and less patient than it comes."""
    hems = momonga.Momonga(
        meter_bench.route_b_id, meter_bench.password, meter_bench.tty, scan_retries=1
    )
    hems.internal_xmit_interval = 0
    hems.recv_timeout = 0.5
    hems.xmit_timeout = 1
    hems.open()
    yield hems
    hems.close()
    assert meter_bench.status()["broute"]["session"] is None


def joins(bench: BackgroundBench) -> int:
    return sum(one.kind in ("joined", "rejoined") for one in bench.happenings)


def test_a_renewed_session_goes_on(meter_bench: BackgroundBench, hems: momonga.Momonga) -> None:
    session = hems.session_manager
    for renewal in (1, 2):
        meter_bench.advance(0.85 * DAY_S)
        meter_bench.wait_for("reauthenticated", times=renewal)
        assert hems.get_instantaneous_power() is not None
    assert hems.session_manager is session
    assert joins(meter_bench) == 1


def test_an_expired_session_waits_to_transmit_and_is_reopened_by_hand(
    meter_bench: BackgroundBench, hems: momonga.Momonga
) -> None:
    meter_bench.inject("expire")
    meter_bench.wait_for("expired")
    with pytest.raises(momonga.MomongaXmitTimeout):
        hems.get_instantaneous_power()
    hems.reopen()
    assert hems.get_instantaneous_power() is not None


def test_a_session_that_could_not_be_renewed_is_reopened_by_itself(
    meter_bench: BackgroundBench, hems: momonga.Momonga
) -> None:
    hems.reopen_delays = [0]
    meter_bench.inject("reauth-blocked", seconds=2 * DAY_S)
    meter_bench.advance(DAY_S + 60)
    meter_bench.wait_for("expired")
    meter_bench.clear()
    assert hems.get_instantaneous_power() is not None
    assert joins(meter_bench) == 2


def test_a_used_up_send_time_is_waited_for_within_the_session(
    meter_bench: BackgroundBench, hems: momonga.Momonga
) -> None:
    session = hems.session_manager
    meter_bench.inject("send-limit")
    with pytest.raises(momonga.MomongaXmitTimeout):
        hems.get_instantaneous_power()
    meter_bench.clear("send-limit")
    hems.xmit_timeout = 10
    assert hems.get_instantaneous_power() is not None
    assert hems.session_manager is session
    assert joins(meter_bench) == 1


def test_a_pulled_dongle_is_an_error_until_it_is_back(
    meter_bench: BackgroundBench, hems: momonga.Momonga
) -> None:
    meter_bench.inject("unplug")
    with pytest.raises((momonga.MomongaNeedToReopen, momonga.MomongaIOError)):
        hems.get_instantaneous_power()
    with pytest.raises(momonga.MomongaIOError):
        hems.reopen()
    meter_bench.clear("unplug")
    hems.reopen()
    assert hems.get_instantaneous_power() is not None


def test_a_session_the_meter_ended_needs_to_be_reopened(
    meter_bench: BackgroundBench, hems: momonga.Momonga
) -> None:
    meter_bench.inject("terminate")
    meter_bench.wait_for("left")
    with pytest.raises(momonga.MomongaNeedToReopen):
        hems.get_instantaneous_power()
    hems.reopen()
    assert hems.get_instantaneous_power() is not None


def test_a_meter_that_lost_its_power_is_joined_again(
    meter_bench: BackgroundBench, hems: momonga.Momonga
) -> None:
    hems.xmit_retries = 2
    meter_bench.inject("reboot")
    meter_bench.wait_for("link-started", times=2)
    with pytest.raises(momonga.MomongaNeedToReopen):
        hems.get_instantaneous_power()
    hems.reopen()
    assert hems.get_instantaneous_power() is not None


def test_a_silent_meter_is_asked_again(meter_bench: BackgroundBench, hems: momonga.Momonga) -> None:
    meter_bench.inject("silent", count=2)
    assert hems.get_instantaneous_power() is not None
    assert joins(meter_bench) == 1
