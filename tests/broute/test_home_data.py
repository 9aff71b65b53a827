"""What the home may be told of the running meter, and what no more once that has changed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import pytest
from hand_clock import HandClock

from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.home_data import HomeData
from meter_runtime.clock import first_slot_of
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.secret import Secret
from meter_runtime.storage.ring import Flag, Record

LINK = LinkCredentials("0" * 32, Secret("PASSWORD0001"))
DAY = date(2026, 11, 22)
FIRST = first_slot_of(DAY)


class Metering:
    """A running meter with one and the same value everywhere."""

    version = 3
    forward_mwh = 5_000
    reverse_mwh = 700
    power_w = 500
    current_r_ma = 1_000
    current_t_ma = -2_000
    faulty = False

    def record(self, slot: int) -> Record | None:
        return Record(slot, 50, 7, Flag(0))

    def minute(self, minute: int) -> tuple[int, int] | None:
        return (51, 8)


@dataclass
class Contract:
    """What may change while the home is served."""

    credentials: BRouteCredentials | None
    feed_in_as_forward: bool = False

    def data(self) -> HomeData:
        return HomeData(
            Metering(),
            HandClock(),
            lambda: None,
            lambda: self.credentials,
            feed_in_as_forward=lambda: self.feed_in_as_forward,
        )


def told(home: HomeData) -> list[object]:
    return [
        home.forward_mwh(),
        home.reverse_mwh(),
        home.power_w(),
        home.current_r_ma(),
        home.current_t_ma(),
        home.boundary(FIRST),
        home.minute(FIRST * 30),
    ]


def test_a_revoked_home_is_told_nothing() -> None:
    contract = Contract(BRouteCredentials(LINK))
    home = contract.data()
    assert None not in told(home)
    contract.credentials = None
    assert told(home) == [None] * 7


def test_full_feed_in_exchanges_the_directions_while_it_serves() -> None:
    contract = Contract(BRouteCredentials(LINK))
    home = contract.data()
    assert told(home) == [5_000, 700, 500, 1_000, -2_000, (50, 7), (51, 8)]
    contract.feed_in_as_forward = True
    assert told(home) == [700, 5_000, -500, -1_000, 2_000, (7, 50), (8, 51)]


def test_nothing_from_before_the_acceptance_day_is_told() -> None:
    home = Contract(BRouteCredentials(LINK, DAY)).data()
    assert home.boundary(FIRST - 1) is None
    assert home.boundary(FIRST) == (50, 7)
    assert home.minute(FIRST * 30 - 1) is None
    assert home.minute(FIRST * 30) == (51, 8)


def _revoke(contract: Contract) -> None:
    contract.credentials = None


def _move_in(contract: Contract) -> None:
    contract.credentials = BRouteCredentials(LINK, DAY)


def _feed_in(contract: Contract) -> None:
    contract.feed_in_as_forward = True


@pytest.mark.parametrize("change", [_revoke, _move_in, _feed_in])
def test_what_was_answered_counts_no_more_after_each_change(
    change: Callable[[Contract], None],
) -> None:
    contract = Contract(BRouteCredentials(LINK))
    home = contract.data()
    before = home.epoch
    change(contract)
    assert home.epoch != before


def test_no_two_states_of_the_contract_share_an_epoch() -> None:
    states = [
        Contract(credentials, forward)
        for credentials in (
            None,
            BRouteCredentials(LINK),
            BRouteCredentials(LINK, date.min),
            BRouteCredentials(LINK, date.max),
        )
        for forward in (False, True)
    ]
    assert len({state.data().epoch for state in states}) == len(states)
