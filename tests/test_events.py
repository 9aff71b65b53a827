"""The event bus: by exact type, in order, and no listener can stop the publisher."""

from dataclasses import dataclass

import pytest

from meter_runtime.events import EventBus


@dataclass(frozen=True)
class Rang:
    bell: int


@dataclass(frozen=True)
class RangTwice(Rang):
    pass


def test_listeners_hear_their_type_in_the_order_they_came() -> None:
    bus, heard = EventBus(), list[tuple[str, object]]()
    bus.subscribe(Rang, lambda event: heard.append(("first", event)))
    bus.subscribe(Rang, lambda event: heard.append(("second", event)))
    bus.publish(Rang(1))
    bus.publish("something else")
    assert heard == [("first", Rang(1)), ("second", Rang(1))]


def test_a_subtype_is_another_type() -> None:
    bus, heard = EventBus(), list[Rang]()
    bus.subscribe(Rang, heard.append)
    bus.publish(RangTwice(1))
    assert heard == []


def test_a_listener_that_raises_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    bus, heard = EventBus(), list[Rang]()

    def broken(event: Rang) -> None:
        raise RuntimeError("broken bell")

    bus.subscribe(Rang, broken)
    bus.subscribe(Rang, heard.append)
    bus.publish(Rang(1))
    assert heard == [Rang(1)]
    assert bus.failures == 1
    assert "a listener failed on Rang" in caplog.text


def test_unsubscribing_ends_it_and_may_be_repeated() -> None:
    bus, heard = EventBus(), list[Rang]()
    end = bus.subscribe(Rang, heard.append)
    end()
    end()
    bus.publish(Rang(1))
    assert heard == []


def test_a_listener_may_leave_while_being_called() -> None:
    bus, heard = EventBus(), list[str]()

    def once(event: Rang) -> None:
        end()
        heard.append("once")

    end = bus.subscribe(Rang, once)
    bus.subscribe(Rang, lambda event: heard.append("always"))
    bus.publish(Rang(1))
    bus.publish(Rang(2))
    assert heard == ["once", "always", "always"]


def test_a_listener_may_publish() -> None:
    bus, heard = EventBus(), list[str]()
    bus.subscribe(Rang, lambda event: bus.publish(f"bell {event.bell}"))
    bus.subscribe(str, heard.append)
    bus.publish(Rang(3))
    assert heard == ["bell 3"]
