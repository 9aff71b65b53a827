"""The service tells by itself when its diagnosis changes, also where only time has passed."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest
from hand_clock import HandClock
from home_meter import HomeMeter, settings

from meter_runtime.broute.announcer import Announcer
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.diagnosis import DiagnosisChanged, Expected, Message, Verdict
from meter_runtime.broute.echonet.node import EchonetNode
from meter_runtime.broute.service import BRouteService
from meter_runtime.broute.status import (
    REJOIN_GRACE_S,
    REWRITE_GRACE_S,
    START_GRACE_S,
    Moment,
    RewriteGrace,
)
from meter_runtime.comm.contracts import (
    AuthFailed,
    AuthOk,
    Datagram,
    LinkCredentials,
    LinkEvent,
    LinkStarted,
    PeerLeft,
    UnitFault,
)
from meter_runtime.events import EventBus
from meter_runtime.secret import Secret
from meter_runtime.units.contracts import Nameplate, UnitKind

HOME = "FE80::2"
LIFE_S = 600
CREDENTIALS = BRouteCredentials(LinkCredentials("0" * 32, Secret("ABCDEFGHIJ12")))
STARTED = LinkStarted("FE80::1", "channel 33")
Told = tuple[Message, Expected | None, bool]


class Unit:
    """A link that says what a test has it say."""

    medium = "920MHz"
    mac: bytes | None = None

    def __init__(self) -> None:
        self.nameplate = Nameplate(UnitKind.COMMUNICATION, "in hand", "1")
        self.counters: dict[str, int] = {}
        self.happens: asyncio.Queue[LinkEvent] = asyncio.Queue()
        self.arrives: asyncio.Queue[Datagram] = asyncio.Queue()

    async def start(self, credentials: LinkCredentials) -> None: ...

    async def stop(self) -> None: ...

    async def close(self) -> None: ...

    async def vacate(self) -> None: ...

    async def set_credentials(self, credentials: LinkCredentials) -> None: ...

    async def events(self) -> AsyncIterator[LinkEvent]:
        while True:
            yield await self.happens.get()

    async def send(self, payload: bytes, peer: str) -> bool:
        return True

    async def recv(self) -> Datagram:
        return await self.arrives.get()


class Room:
    """A service at work, and what it published of its diagnosis."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.unit = Unit()
        self.grace = RewriteGrace()
        self.verdicts: list[Verdict] = []
        bus = EventBus()
        bus.subscribe(DiagnosisChanged, lambda change: self.verdicts.append(change.verdict))
        node = EchonetNode(settings(), HomeMeter())
        announcer = Announcer(node, Random(1))
        self.service = BRouteService(
            self.unit, node, announcer, CREDENTIALS, self.clock, bus=bus, grace=self.grace
        )

    async def sees(self, *events: LinkEvent) -> None:
        for event in events:
            self.unit.happens.put_nowait(event)
        await self.clock.advance(0)

    async def hears(self, rssi_dbm: float) -> None:
        self.unit.arrives.put_nowait(Datagram(b"", HOME, self.clock.monotonic(), rssi_dbm))
        await self.clock.advance(0)

    def told(self) -> list[Told]:
        """What was told since the last call."""
        told = [(each.message, each.expected, each.alarm) for each in self.verdicts]
        self.verdicts.clear()
        return told


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    room = Room()
    serving = asyncio.create_task(room.service.run())
    await room.clock.advance(0)
    yield room
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_each_change_is_told_once(room: Room) -> None:
    assert room.told() == [(Message.ABNORMALITY, Expected.STARTING, False)]
    await room.sees(STARTED)
    assert room.told() == [(Message.HEMS_UNCONNECTED, Expected.REJOINING, False)]
    await room.sees(AuthFailed(HOME), AuthFailed(HOME))
    assert room.told() == [(Message.HEMS_FAILURE, None, True)]
    await room.sees(AuthOk(HOME, LIFE_S), AuthOk(HOME, LIFE_S))
    assert room.told() == [(Message.ACTIVE, None, False)]
    await room.sees(UnitFault("silent"))
    assert room.told() == [(Message.ABNORMALITY, None, True)]


async def test_a_start_that_takes_too_long_becomes_an_alarm(room: Room) -> None:
    room.told()
    await room.clock.advance(START_GRACE_S)
    assert room.told() == [(Message.ABNORMALITY, None, True)]


async def test_a_home_that_does_not_come_back_becomes_an_alarm(room: Room) -> None:
    await room.sees(STARTED)
    room.told()
    await room.clock.advance(REJOIN_GRACE_S - 1)
    assert room.told() == []
    await room.clock.advance(1)
    assert room.told() == [(Message.HEMS_UNCONNECTED, None, True)]


async def test_a_session_whose_end_nobody_told_ends_with_its_life(room: Room) -> None:
    await room.sees(STARTED, AuthOk(HOME, LIFE_S))
    room.told()
    await room.clock.advance(LIFE_S - 1)
    await room.hears(-70.0)
    await room.clock.advance(LIFE_S - 1)
    assert room.told() == []
    await room.clock.advance(1)
    assert room.told() == [(Message.HEMS_UNCONNECTED, None, True)]
    await room.hears(-72.0)
    assert room.told() == [(Message.ACTIVE, None, False)]
    signal = room.service.report()["signal"]
    assert (signal["last_dbm"], signal["mean_dbm"]) == (-72.0, -71.0)


async def test_a_session_that_begins_where_nothing_was_due_ends_with_its_life(room: Room) -> None:
    await room.sees(STARTED)
    await room.clock.advance(REJOIN_GRACE_S)
    await room.sees(AuthOk(HOME, LIFE_S))
    room.told()
    await room.clock.advance(LIFE_S)
    assert room.told() == [(Message.HEMS_UNCONNECTED, None, True)]


async def test_a_rewrite_is_excused_until_its_grace_is_over(room: Room) -> None:
    await room.sees(STARTED, AuthOk(HOME, LIFE_S))
    room.told()
    room.grace.begin(Moment.of(room.clock))
    await room.service.set_credentials(CREDENTIALS)
    await room.sees(PeerLeft(HOME), STARTED, AuthFailed(HOME))
    assert room.told() == [
        (Message.HEMS_UNCONNECTED, Expected.REWRITTEN, False),
        (Message.HEMS_FAILURE, Expected.REWRITTEN, False),
    ]
    await room.clock.advance(REWRITE_GRACE_S)
    assert room.told() == [(Message.HEMS_FAILURE, None, True)]


async def test_a_diagnosis_in_two_numbers_agrees_with_the_report(room: Room) -> None:
    await room.sees(STARTED, AuthFailed(HOME))
    assert room.service.diagnosis() == (2, 0b1001)
    assert room.service.report()["message"] == 2


async def test_nothing_is_told_any_more_once_the_credentials_are_revoked(room: Room) -> None:
    await room.sees(STARTED, AuthOk(HOME, LIFE_S))
    room.told()
    room.service.revoke()
    await room.sees(PeerLeft(HOME))
    await room.clock.advance(2 * LIFE_S)
    assert room.told() == []
    assert room.service.report()["why_not"]["code"] == "revoked"
