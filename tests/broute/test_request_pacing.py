"""How much a home may ask, and that nothing of the meter waits for its answers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from random import Random

import pytest
from hand_clock import HandClock
from home_meter import HomeMeter, settings
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.broute.announcer import Announcer, Pace
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.echonet.data import PROFILES
from meter_runtime.broute.echonet.frame import Esv, Frame, Property, encode, parse
from meter_runtime.broute.echonet.meter_class import METER_EOJ
from meter_runtime.broute.echonet.node import CONTROLLER_EOJ, EchonetNode
from meter_runtime.broute.requests import BURST, MAX_PEERS, MAX_WAITING, RATE_PER_S, Requests
from meter_runtime.broute.service import BRouteService
from meter_runtime.clock import slot_at
from meter_runtime.comm.contracts import (
    MAX_PAYLOAD,
    AuthOk,
    Datagram,
    LinkCredentials,
    LinkEvent,
    PeerLeft,
    UnitFault,
)
from meter_runtime.secret import Secret
from meter_runtime.units.contracts import Nameplate, UnitKind

HOME = "FE80:0000:0000:0000:021D:1290:1234:5678"
NEXT_HOME = "FE80:0000:0000:0000:021D:1290:0000:0001"
TURNS = 40
ROWS_OF_A_DAY = 49
"""A day's boundaries, and the one that closes it."""
CREDENTIALS = BRouteCredentials(
    LinkCredentials("0123456789ABCDEF0123456789ABCDEF", Secret("ABCDEFGHIJ12")), date(2026, 11, 1)
)


def asked(peer: str = HOME, number: int = 0) -> Datagram:
    return Datagram(number.to_bytes(4, "big"), peer, 0.0)


# The rule


def test_a_home_is_admitted_in_a_burst_and_then_at_the_rate() -> None:
    requests = Requests()
    assert sum(requests.offer(asked(), 0.0) for _ in range(BURST + 50)) == BURST
    assert requests.counters["rx_over_limit"] == 50
    assert sum(requests.offer(asked(), 1.0) for _ in range(BURST)) == RATE_PER_S


def test_a_home_that_asks_one_thing_at_a_time_is_never_over_the_limit() -> None:
    requests = Requests()
    for number in range(10_000):
        assert requests.offer(asked(), number / 40)  # as quickly as momonga without airtime
        assert requests.next() is not None
    assert requests.counters == {"rx_over_limit": 0, "rx_overtaken": 0}


def test_the_oldest_gives_way_when_too_many_wait() -> None:
    requests = Requests()
    for number in range(MAX_WAITING + 3):
        requests.offer(asked(number=number), 0.0)
    assert len(requests) == MAX_WAITING
    assert requests.next() == asked(number=3)
    assert requests.counters["rx_overtaken"] == 3


def test_one_home_uses_up_nothing_of_another() -> None:
    requests = Requests()
    for _ in range(2 * BURST):
        requests.offer(asked(HOME), 0.0)
    assert requests.offer(asked(NEXT_HOME), 0.0)


def test_an_address_that_changes_each_time_wins_nothing() -> None:
    requests = Requests()
    admitted = sum(requests.offer(asked(f"FE80::{n:X}"), 0.0) for n in range(20 * BURST))
    assert admitted <= MAX_PEERS * BURST


def test_what_a_home_asked_is_forgotten_with_it_and_nothing_else() -> None:
    requests = Requests()
    for peer in (HOME, NEXT_HOME, HOME):
        requests.offer(asked(peer), 0.0)
    requests.forget(HOME)
    assert requests.next() == asked(NEXT_HOME)
    assert requests.next() is None
    requests.offer(asked(), 0.0)
    requests.forget()
    assert len(requests) == 0


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(0, 9), st.booleans()), max_size=300))
def test_it_is_bounded_whatever_comes(story: list[tuple[float, int, bool]]) -> None:
    requests, now, admitted, answered = Requests(), 0.0, 0, 0
    for pause, home, answer in story:
        now += pause
        admitted += requests.offer(asked(f"FE80::{home}"), now)
        assert len(requests) <= MAX_WAITING
        if answer and requests.next() is not None:
            answered += 1
    assert admitted <= MAX_PEERS * (BURST + RATE_PER_S * now)
    over, overtaken = requests.counters["rx_over_limit"], requests.counters["rx_overtaken"]
    assert admitted + over == len(story)
    assert admitted == answered + overtaken + len(requests)


# What one datagram can cost


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("epc", [0xE2, 0xE4, 0xEC, 0xEE, 0xEF])
def test_a_datagram_full_of_requests_reads_no_more_history_than_a_full_answer(
    profile: str, epc: int
) -> None:
    data = HomeMeter()
    data.store_days("2026-11-20", 3)
    node = EchonetNode(settings(profile), data)
    full = Frame(1, CONTROLLER_EOJ, METER_EOJ, Esv.GET, (Property(epc),) * 255)
    answer = node.handle(encode(full))
    assert answer is not None
    assert len(answer) <= MAX_PAYLOAD
    assert data.boundary_reads <= PROFILES[profile].max_properties * ROWS_OF_A_DAY


@given(st.binary(max_size=MAX_PAYLOAD), st.sampled_from(sorted(PROFILES)))
def test_no_datagram_makes_an_answer_that_does_not_fit(payload: bytes, profile: str) -> None:
    node = EchonetNode(settings(profile), HomeMeter())
    head = b"\x10\x81\x00\x01" + CONTROLLER_EOJ + METER_EOJ
    for frame in (payload, (head + payload)[:MAX_PAYLOAD]):
        answer = node.handle(frame)
        assert answer is None or len(answer) <= MAX_PAYLOAD


# The service


class Unit:
    """A communication unit whose link a test holds in its hands."""

    medium = "920MHz"
    mac: bytes | None = None

    def __init__(self) -> None:
        self.nameplate = Nameplate(UnitKind.COMMUNICATION, "in hand", "1")
        self.counters: dict[str, int] = {}
        self.sent: list[Frame] = []
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.arrived: deque[Datagram] = deque()
        self.told: asyncio.Queue[LinkEvent] = asyncio.Queue()
        self._stirred = asyncio.Event()

    def arrive(self, *frames: bytes, peer: str = HOME) -> None:
        self.arrived.extend(Datagram(frame, peer, 0.0) for frame in frames)
        self._stirred.set()

    async def start(self, credentials: LinkCredentials) -> None: ...

    async def stop(self) -> None: ...

    async def close(self) -> None: ...

    async def vacate(self) -> None: ...

    async def set_credentials(self, credentials: LinkCredentials) -> None:
        self.arrived.clear()

    async def events(self) -> AsyncIterator[LinkEvent]:
        while True:
            yield await self.told.get()

    async def send(self, payload: bytes, peer: str) -> bool:
        await self.may_send.wait()
        self.sent.append(parse(payload))
        return True

    async def recv(self) -> Datagram:
        while not self.arrived:
            self._stirred.clear()
            await self._stirred.wait()
        return self.arrived.popleft()

    def answers(self) -> list[int]:
        """The TIDs of what was answered."""
        return [frame.tid for frame in self.sent if frame.esv == Esv.GET_RES]


class Endless(Unit):
    """A unit that has a datagram whenever it is asked, without ever letting others have a turn."""

    async def recv(self) -> Datagram:
        return Datagram(get(1), HOME, 0.0)


class Room:
    """A service over a unit in hand, joined."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.clock = HandClock()
        node = EchonetNode(settings(confirmed_announcements=True), HomeMeter())
        announcer = Announcer(node, Random(1), Pace(instance_list_delay_s=0.0, jitter_s=0.0))
        self.service = BRouteService(unit, node, announcer, CREDENTIALS, self.clock)

    def counter(self, name: str) -> int:
        return int(self.service.report()["counters"][name])


@asynccontextmanager
async def joined(unit: Unit | None = None) -> AsyncIterator[Room]:
    room = Room(unit or Unit())
    serving = asyncio.create_task(room.service.run())
    room.unit.told.put_nowait(AuthOk(HOME, 86_400))
    await turns()
    room.unit.sent.clear()
    try:
        yield room
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def turns(number: int = TURNS) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def get(tid: int, epc: int = 0xE7) -> bytes:
    return encode(Frame(tid, CONTROLLER_EOJ, METER_EOJ, Esv.GET, (Property(epc),)))


async def test_what_is_over_the_limit_is_dropped_and_counted() -> None:
    async with joined() as room:
        for first in range(0, BURST + 100, 10):
            room.unit.arrive(*(get(tid) for tid in range(first, first + 10)))
            await turns()
        assert room.unit.answers() == list(range(BURST))
        assert room.counter("rx_over_limit") == 100
        await room.clock.advance(1.0)
        room.unit.arrive(get(0x7000))
        await turns()
        assert room.unit.answers()[-1] == 0x7000


async def test_while_nothing_can_be_sent_the_latest_requests_wait() -> None:
    async with joined() as room:
        room.unit.may_send.clear()
        room.unit.arrive(get(0))
        await turns()
        room.unit.arrive(*(get(tid) for tid in range(1, MAX_WAITING + 6)))
        await turns()
        room.unit.may_send.set()
        await turns(4 * MAX_WAITING)
        assert room.unit.answers() == [0, *range(6, MAX_WAITING + 6)]
        assert room.counter("rx_overtaken") == 5


async def test_a_confirmation_is_heard_behind_a_flood_of_requests() -> None:
    async with joined() as room:
        room.service.boundary(slot_at(room.clock.wall()))
        await turns()
        [announced] = room.unit.sent
        assert announced.esv == Esv.INFC
        room.unit.may_send.clear()
        room.unit.arrive(*(get(tid) for tid in range(3 * BURST)))
        confirmed = Frame(announced.tid, CONTROLLER_EOJ, METER_EOJ, Esv.INFC_RES, (Property(0xEA),))
        room.unit.arrive(encode(confirmed))
        await turns(3 * BURST)
        room.unit.may_send.set()
        await room.clock.advance(120.0)
        assert [frame for frame in room.unit.sent if frame.esv == Esv.INFC] == [announced]
        assert room.counter("announcements_repeated") == 0


async def test_confirmations_that_nobody_waits_for_are_limited_too() -> None:
    async with joined() as room:
        stray = encode(Frame(7, CONTROLLER_EOJ, METER_EOJ, Esv.INFC_RES, (Property(0xEA),)))
        for _ in range(BURST + 20):
            room.unit.arrive(stray)
            await turns(6)
        assert room.counter("no_request") == BURST
        assert room.counter("rx_over_limit") == 20


async def test_an_announcement_leaves_in_the_middle_of_a_flood() -> None:
    async with joined() as room:
        room.service.boundary(slot_at(room.clock.wall()))
        for tid in range(20):
            room.unit.arrive(get(tid), get(tid))
        await turns(10)
        assert Esv.INFC in {frame.esv for frame in room.unit.sent}
        assert len(room.unit.answers()) < 20


@pytest.mark.parametrize("news", [PeerLeft(HOME), UnitFault("unplugged")])
async def test_what_a_home_asked_before_it_left_is_not_done(news: LinkEvent) -> None:
    async with joined() as room:
        room.unit.may_send.clear()
        room.unit.arrive(get(0), get(1), get(2))
        await turns()
        room.unit.told.put_nowait(news)
        await turns()
        room.unit.may_send.set()
        await turns()
        assert room.unit.answers() == [0]  # the one that was on its way


async def test_what_the_former_home_asked_is_not_answered_to_the_next() -> None:
    async with joined() as room:
        room.unit.may_send.clear()
        room.unit.arrive(get(0), get(1))
        await turns()
        await room.service.set_credentials(CREDENTIALS)
        room.unit.may_send.set()
        await turns()
        assert room.unit.answers() == [0]


async def test_others_get_their_turn_whatever_the_unit_has() -> None:
    async with joined(Endless()) as room:
        before = room.counter("rx_over_limit")
        await turns()
        assert room.counter("rx_over_limit") > before
