"""The limit of the contract changes while the switch is at work: nobody is left in the dark."""

from collections.abc import AsyncIterator

import pytest
from switch_room import CLOSED, LIMIT_A, OPEN, SwitchRoom

from meter_runtime.functions.limiter import PAUSE_S, TRIPS, Limiter, LimiterPolicy
from meter_runtime.functions.switching import SwitchStatus


@pytest.fixture
async def room() -> AsyncIterator[SwitchRoom]:
    """A switch that is limited to :data:`LIMIT_A`."""
    room = SwitchRoom(real=True, limited=True)
    await room.clock.advance(1)
    yield room
    await room.stop()


def limiter(limit_a: float) -> Limiter:
    return Limiter(LimiterPolicy(limit_a))


def status(room: SwitchRoom) -> SwitchStatus:
    return room.service.status


async def trip(room: SwitchRoom, above_a: float = LIMIT_A) -> None:
    """Too much current until the switch has opened for it."""
    room.current_a = above_a + 1
    for _ in range(20):
        await room.clock.advance(1)
        if room.contacts.position is OPEN:
            break
    assert room.contacts.position is OPEN
    room.current_a = 0.0


async def test_a_limit_that_is_set_limits_from_then_on() -> None:
    room = SwitchRoom(real=True)
    await room.clock.advance(1)
    room.current_a = 25.0
    await room.clock.advance(60)
    assert (room.contacts.position, status(room).trips) == (CLOSED, None)
    room.service.limit(limiter(20.0))
    await room.clock.advance(7)
    assert room.contacts.position is OPEN
    assert status(room).trips == 1
    await room.stop()


async def test_a_higher_limit_lets_through_what_the_lower_did_not(room: SwitchRoom) -> None:
    room.current_a = LIMIT_A + 1
    await room.clock.advance(3)
    room.service.limit(limiter(LIMIT_A + 10))
    await room.clock.advance(60)
    assert room.contacts.position is CLOSED


async def test_a_switch_that_the_limiter_opened_is_closed_when_the_limit_is_lifted(
    room: SwitchRoom,
) -> None:
    await trip(room)
    room.service.limit(None)
    await room.clock.advance(3)
    assert room.contacts.position is CLOSED
    room.current_a = LIMIT_A + 50
    await room.clock.advance(60)
    assert room.contacts.position is CLOSED
    assert status(room).trips is None


async def test_a_new_limiter_closes_what_the_one_before_had_opened(room: SwitchRoom) -> None:
    await trip(room)
    room.service.limit(limiter(LIMIT_A + 10))
    assert status(room).trips == 1
    await room.clock.advance(PAUSE_S + 3)
    assert room.contacts.position is CLOSED


async def test_after_the_last_trip_only_a_command_closes_whatever_the_limit_is_then(
    room: SwitchRoom,
) -> None:
    room.current_a = LIMIT_A + 1
    await room.clock.advance(300)
    assert status(room).locked_out
    for new in (limiter(LIMIT_A + 10), None):
        room.service.limit(new)
        await room.clock.advance(60)
        assert room.contacts.position is OPEN
    room.current_a = 0.0
    assert await room.command(CLOSED) is CLOSED
    assert room.unit.drives == [OPEN, CLOSED] * (TRIPS - 1) + [OPEN, CLOSED]


async def test_what_was_opened_by_command_stays_open_whatever_the_limit(room: SwitchRoom) -> None:
    assert await room.command(OPEN) is OPEN
    for new in (None, limiter(LIMIT_A)):
        room.service.limit(new)
        await room.clock.advance(60)
        assert room.contacts.position is OPEN


async def test_a_limit_that_changes_during_the_move_counts_after_it(room: SwitchRoom) -> None:
    room.on_drive = lambda to: room.service.limit(None) if to is OPEN else None
    room.current_a = LIMIT_A + 1
    await room.clock.advance(8)
    assert room.unit.drives[0] is OPEN
    await room.clock.advance(10)
    assert (room.contacts.position, status(room).trips) == (CLOSED, None)


async def test_the_trips_of_an_exchanged_limiter_are_neither_lost_nor_counted_twice(
    room: SwitchRoom,
) -> None:
    new = limiter(LIMIT_A)
    room.on_drive = lambda to: room.service.limit(new) if to is OPEN else None
    room.current_a = LIMIT_A + 1
    await room.clock.advance(8)
    assert status(room).trips == 1
