"""The operator hears what happened, in order, by name, never more than bounds allow."""

import json
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hand_clock import HandClock

from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.events import (
    HOUR_S,
    MAX_EVENTS,
    PER_HOUR,
    TABLE,
    BRouteDiagnosed,
    CommandDone,
    Events,
)
from meter_runtime.aroute.messages import Event, decode, encode
from meter_runtime.comm.contracts import AuthFailed, AuthOk, PeerLeft, SessionExpired, UnitFault
from meter_runtime.events import EventBus
from meter_runtime.functions.bands import Side
from meter_runtime.functions.switch_events import Refusal, SwitchRefused
from meter_runtime.functions.voltage import Line, VoltageOutOfBand
from meter_runtime.metrology.events import BoundariesWithdrawn, OutageEnded, StorageFailed, Untrue
from meter_runtime.storage.switch_state import Origin
from meter_runtime.supervisor import TaskFailed
from meter_runtime.units.contracts import Nameplate, SwitchPosition, UnitKind
from meter_runtime.units.keeper import UnitFitted

PEER = "fe80::1"
HAPPENINGS: list[tuple[object, str, dict[str, Any]]] = [
    (OutageEnded(1.0, 2.0), "power_outage", {"since": 1.0, "until": 2.0}),
    (
        BoundariesWithdrawn((5, 6, 9), Untrue.COARSE),
        "boundaries_withdrawn",
        {"first": 5, "last": 9, "count": 3, "reason": "coarse"},
    ),
    (
        UnitFitted("metering", UnitKind.METERING, Nameplate(UnitKind.METERING, "SIM-1", "M1")),
        "unit_fitted",
        {"slot": "metering", "model": "SIM-1", "serial": "M1"},
    ),
    (
        SwitchRefused(SwitchPosition.OPEN, Origin.COMMAND, Refusal.TOO_SOON, "wait"),
        "switch_refused",
        {"wanted": "open", "origin": "command", "refusal": "too_soon"},
    ),
    (
        VoltageOutOfBand(Line.R_N, Side.ABOVE, 108_000),
        "voltage_out_of_band",
        {"line": "r_n", "side": "above", "voltage_mv": 108_000},
    ),
    (
        CommandDone(b"\1" * 16, Code.NOT_PERMITTED),
        "command_done",
        {"command_id": "01" * 16, "code": "NOT_PERMITTED"},
    ),
]


class Room:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.bus = EventBus()
        self.events = Events(self.bus, self.clock, "M1")

    def taken(self) -> list[Event]:
        found = []
        while (event := self.events.first()) is not None:
            self.events.published(event)
            found.append(event)
        return found


@pytest.mark.parametrize(("happening", "kind", "details"), HAPPENINGS)
def test_a_happening_is_told_by_name_and_details(
    happening: object, kind: str, details: dict[str, Any]
) -> None:
    room = Room()
    room.bus.publish(happening)
    [event] = room.taken()
    assert (event.kind, event.details) == (kind, details)
    assert event.at == room.clock.wall()
    assert event.trust == "synced"
    assert decode(encode(event), Event) == event
    assert room.bus.failures == 0


def test_every_row_names_attributes_that_there_are() -> None:
    class Anything:
        """Has every name, as a number."""

        def __init__(self, names: set[str]) -> None:
            for name in names:
                setattr(self, name, 1)
            self.slots = (1, 2)
            self.nameplate = Nameplate(UnitKind.METERING, "SIM-1", "M1")
            self.command_id, self.code = b"", Code.OK

    for kind, row in TABLE.items():
        assert is_dataclass(kind)
        json.dumps(row.details(Anything({field.name for field in fields(kind)})))
    assert len({row.kind for row in TABLE.values()}) == len(TABLE)


def test_events_are_numbered_in_order() -> None:
    room = Room()
    for number in range(5):
        room.bus.publish(StorageFailed(str(number)))
    assert [event.number for event in room.taken()] == [1, 2, 3, 4, 5]


def test_an_event_waits_until_it_is_published() -> None:
    room = Room()
    room.bus.publish(StorageFailed("a"))
    first = room.events.first()
    assert first is room.events.first()
    assert len(room.events) == 1


def test_a_session_is_told_at_its_begin_and_end() -> None:
    room = Room()
    for link_event in (
        PeerLeft(PEER),
        AuthOk(PEER, 100),
        AuthOk(PEER, 100),
        PeerLeft(PEER),
        SessionExpired(PEER),
        AuthOk(PEER, 100),
        UnitFault("silent"),
        AuthOk(PEER, 100),
    ):
        room.bus.publish(link_event)
    events = room.taken()
    assert [event.kind for event in events] == [
        "broute_session_begun",
        "broute_session_ended",
        "broute_session_begun",
        "communication_unit_fault",
        "broute_session_begun",
    ]
    assert PEER not in str(events)


def test_of_the_diagnosis_an_alarms_begin_and_end_are_told() -> None:
    room = Room()
    for message, alarm in ((4, False), (3, False), (3, True), (2, True), (1, False), (0, False)):
        room.bus.publish(BRouteDiagnosed(message, alarm))
    assert [(event.kind, event.details) for event in room.taken()] == [
        ("broute_alarm", {"alarm": True, "message": 3}),
        ("broute_alarm", {"alarm": False, "message": 1}),
    ]


async def test_a_flood_of_one_kind_is_held_back_and_counted() -> None:
    room = Room()
    for _ in range(100):
        room.bus.publish(AuthFailed(PEER))
    room.bus.publish(StorageFailed("card"))
    assert [event.kind for event in room.taken()].count("storage_failed") == 1
    assert room.events.counters["held_back"] == 100 - PER_HOUR
    await room.clock.advance(HOUR_S)
    room.bus.publish(AuthFailed(PEER))
    room.bus.publish(AuthFailed(PEER))
    first, second = room.taken()
    assert first.details == {"held_back": 100 - PER_HOUR}
    assert second.details == {}


async def test_of_too_many_the_oldest_are_dropped_and_the_gap_shows() -> None:
    room = Room()
    kinds: list[object] = [happening for happening, _, _ in HAPPENINGS]
    while room.events.counters["dropped"] < 3:
        for happening in kinds:
            for _ in range(PER_HOUR):
                room.bus.publish(happening)
        await room.clock.advance(HOUR_S)
    dropped = room.events.counters["dropped"]
    events = room.taken()
    assert len(events) == MAX_EVENTS
    assert events[0].number == dropped + 1


def test_one_published_after_it_was_dropped_takes_no_other_with_it() -> None:
    room = Room()
    room.bus.publish(StorageFailed("a"))
    first = room.events.first()
    assert first is not None
    room.events.published(first)
    room.bus.publish(StorageFailed("b"))
    room.events.published(first)
    assert len(room.events) == 1


def test_what_a_crash_quotes_is_not_told() -> None:
    room = Room()
    room.bus.publish(TaskFailed("B-route", "ValueError: secret", 1.0))
    [event] = room.taken()
    assert event.details == {"name": "B-route", "restart_in_s": 1.0}


def test_whoever_publishes_is_stirred() -> None:
    room = Room()
    stirred: list[int] = []
    room.events.stirred = lambda: stirred.append(1)
    room.bus.publish(StorageFailed("a"))
    assert stirred == [1]
