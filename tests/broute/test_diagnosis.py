"""All sixteen combinations of the four items, by name, and what is said of them."""

import itertools

import pytest

from meter_runtime.aroute.results import Item
from meter_runtime.broute.causes import Cause, probable
from meter_runtime.broute.diagnosis import (
    Expected,
    Items,
    Message,
    NotServed,
    OutOfService,
    message_of,
)

OK, NG = True, False
COMBINATIONS: dict[str, tuple[Items, Message, bool]] = {
    "all is well": (Items(OK, OK, OK, OK), Message.ACTIVE, True),
    "unit abnormal, all else well": (Items(OK, OK, OK, NG), Message.ABNORMALITY, False),
    "nobody is connected": (Items(OK, OK, NG, OK), Message.HEMS_UNCONNECTED, True),
    "nobody is connected, unit abnormal": (Items(OK, OK, NG, NG), Message.ABNORMALITY, False),
    "refused, while a session lives": (Items(OK, NG, OK, OK), Message.HEMS_FAILURE, False),
    "refused, a session, unit abnormal": (Items(OK, NG, OK, NG), Message.ABNORMALITY, False),
    "refused": (Items(OK, NG, NG, OK), Message.HEMS_FAILURE, True),
    "refused, unit abnormal": (Items(OK, NG, NG, NG), Message.ABNORMALITY, False),
    "not started, all else well": (Items(NG, OK, OK, OK), Message.ABNORMALITY, False),
    "not started, unit abnormal, a session": (Items(NG, OK, OK, NG), Message.ABNORMALITY, False),
    "not started yet": (Items(NG, OK, NG, OK), Message.ABNORMALITY, False),
    "unit down": (Items(NG, OK, NG, NG), Message.ABNORMALITY, True),
    "not started, refused, a session": (Items(NG, NG, OK, OK), Message.ABNORMALITY, False),
    "only a session": (Items(NG, NG, OK, NG), Message.ABNORMALITY, False),
    "not started again, refused before": (Items(NG, NG, NG, OK), Message.ABNORMALITY, False),
    "unit down, refused before": (Items(NG, NG, NG, NG), Message.ABNORMALITY, True),
}


def test_every_combination_is_here_once_and_five_are_the_papers() -> None:
    assert {items for items, _, _ in COMBINATIONS.values()} == {
        Items(*each) for each in itertools.product((OK, NG), repeat=4)
    }
    assert sum(defined for _, _, defined in COMBINATIONS.values()) == 5


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_combination_has_its_message(name: str) -> None:
    items, message, defined = COMBINATIONS[name]
    assert message_of(items) == (message, defined)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_each_item_has_its_bit_of_the_signed_result(name: str) -> None:
    items = COMBINATIONS[name][0]
    bits = Item(items.bits)
    assert (Item.STARTUP in bits) is items.startup
    assert (Item.AUTHENTICATION in bits) is items.authentication
    assert (Item.CONNECTION in bits) is items.connection
    assert (Item.COMMUNICATION_UNIT in bits) is items.communication_unit


def test_the_items_are_told_in_the_papers_words() -> None:
    assert Items(OK, NG, NG, OK).report() == {
        "startup": "clear",
        "authentication": "failure",
        "connection": "failure",
        "communication_unit": "normal",
    }
    assert Items(NG, OK, NG, NG).report()["communication_unit"] == "abnormality"


def test_the_messages_are_the_papers() -> None:
    assert {int(message): message.text for message in Message if message} == {
        1: "active status",
        2: "HEMS is failure",
        3: "HEMS is unconnected",
        4: "abnormality",
    }


@pytest.mark.parametrize(
    ("message", "medium", "causes"),
    [
        (Message.ACTIVE, "920MHz", ()),
        (Message.HEMS_FAILURE, "920MHz", (Cause.WRONG_PASSWORD,)),
        (Message.HEMS_FAILURE, "PLC", (Cause.WRONG_PASSWORD,)),
        (
            Message.HEMS_UNCONNECTED,
            "920MHz",
            (Cause.HEMS_OFF, Cause.DISTANCE, Cause.INTERFERENCE, Cause.WRONG_ID),
        ),
        (
            Message.HEMS_UNCONNECTED,
            "PLC",
            (Cause.HEMS_OFF, Cause.SIGNAL_REDUCED, Cause.NOISE, Cause.WRONG_ID),
        ),
        (Message.HEMS_UNCONNECTED, "LAN", (Cause.HEMS_OFF, Cause.NETWORK, Cause.WRONG_ID)),
        (Message.ABNORMALITY, "920MHz", (Cause.UNIT_DOWN,)),
        (Message.NOT_IN_SERVICE, "920MHz", ()),
    ],
)
def test_a_message_has_its_causes_by_medium(
    message: Message, medium: str, causes: tuple[Cause, ...]
) -> None:
    assert probable(message, medium) == causes


def test_after_a_rewrite_the_former_credentials_come_first() -> None:
    for message in (Message.HEMS_FAILURE, Message.HEMS_UNCONNECTED):
        first, *rest = probable(message, "920MHz", Expected.REWRITTEN)
        assert first is Cause.FORMER_CREDENTIALS
        assert tuple(rest) == probable(message, "920MHz")


def test_a_link_that_is_starting_has_no_cause() -> None:
    assert probable(Message.ABNORMALITY, "920MHz", Expected.STARTING) == ()


def test_everything_has_words_in_both_languages() -> None:
    for named in (*Message, *Cause, *NotServed):
        assert named.text.isascii()
        assert named.text_ja
        assert not named.text_ja.isascii()


@pytest.mark.parametrize("why", NotServed)
def test_out_of_service_it_is_said_why_under_the_same_keys(why: NotServed) -> None:
    report = OutOfService(why, ("U-11",)).report()
    assert not report["in_service"]
    assert report["why_not"]["code"] == why.value
    assert report["why_not"]["findings"] == ["U-11"]
    assert (report["message"], report["session"], report["counters"]) == (0, None, {})


def test_it_is_an_alarm_where_somebody_is_to_be_served_and_cannot_be() -> None:
    alarms = {why for why in NotServed if OutOfService(why).verdict.alarm}
    assert alarms == {NotServed.COMBINATION, NotServed.CREDENTIALS_LOST}
