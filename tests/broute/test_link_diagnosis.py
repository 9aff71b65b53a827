"""The diagnosis in two numbers says the same as in words."""

import itertools

import pytest

from meter_runtime.aroute.results import Item
from meter_runtime.broute.status import Items, LinkStatus, message_of
from meter_runtime.comm.contracts import AuthFailed, AuthOk, LinkStarted


@pytest.mark.parametrize("clear", list(itertools.product((False, True), repeat=4)))
def test_each_item_has_its_bit_of_the_signed_result(clear: tuple[bool, ...]) -> None:
    items = Items(*clear)
    bits = Item(items.bits)
    assert (Item.STARTUP in bits) is items.startup
    assert (Item.AUTHENTICATION in bits) is items.authentication
    assert (Item.CONNECTION in bits) is items.connection
    assert (Item.COMMUNICATION_UNIT in bits) is items.communication_unit


def test_the_numbers_follow_the_link() -> None:
    link = LinkStatus()
    link.follow(LinkStarted("FE80::1", "channel 33"), 0.0)
    assert link.diagnosis() == (3, Item.STARTUP | Item.AUTHENTICATION | Item.COMMUNICATION_UNIT)
    link.follow(AuthFailed("FE80::2"), 1.0)
    assert link.diagnosis() == (2, Item.STARTUP | Item.COMMUNICATION_UNIT)
    link.follow(AuthOk("FE80::2", 60), 2.0)
    assert link.diagnosis() == (1, 15)
    assert link.diagnosis()[0] == message_of(link.items)[0]
