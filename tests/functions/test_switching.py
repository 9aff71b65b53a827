"""A switch opens by command only, goes where it is told or says so, and stays as it is."""

import asyncio
import zlib
from collections.abc import AsyncIterator

import pytest
from switch_room import CLOSED, LIMIT_A, OPEN, FailingMedia, SwitchRoom

from meter_runtime.functions.calls import OptionalUnitAnswers, OptionalUnitSilent
from meter_runtime.functions.switch_events import (
    Refusal,
    SwitchAgrees,
    SwitchMismatch,
    SwitchMoved,
    SwitchRefused,
    SwitchRefusedError,
)
from meter_runtime.functions.switching import SwitchingService
from meter_runtime.storage.switch_state import Origin, SwitchState, SwitchStateStore
from meter_runtime.units.contracts import SwitchPosition


@pytest.fixture(params=["contract", "relay"])
async def room(request: pytest.FixtureRequest) -> AsyncIterator[SwitchRoom]:
    room = SwitchRoom(real=request.param == "relay")
    await room.clock.advance(1)
    yield room
    await room.stop()


async def refusal_of(room: SwitchRoom, wanted: SwitchPosition) -> Refusal:
    with pytest.raises(SwitchRefusedError) as refused:
        await room.command(wanted)
    told = room.told(SwitchRefused)[-1]
    assert isinstance(told, SwitchRefused)
    assert told.refusal is refused.value.refusal
    return refused.value.refusal


async def test_a_command_opens_and_another_one_closes(room: SwitchRoom) -> None:
    assert await room.command(OPEN) is OPEN
    await room.clock.advance(60)
    assert await room.command(CLOSED) is CLOSED
    assert room.events == [
        SwitchMoved(OPEN, Origin.COMMAND),
        SwitchMoved(CLOSED, Origin.COMMAND),
    ]
    assert room.unit.drives == [OPEN, CLOSED]


async def test_a_command_to_where_it_is_moves_nothing(room: SwitchRoom) -> None:
    assert await room.command(CLOSED) is CLOSED
    assert room.unit.drives == []
    assert room.service.status.origin is Origin.COMMAND


async def test_a_command_during_a_move_is_refused(room: SwitchRoom) -> None:
    first = room.ask(OPEN)
    await room.clock.advance(0.05)
    assert room.service.status.moving
    assert await refusal_of(room, CLOSED) is Refusal.MOVING
    assert await first is OPEN


async def test_a_minute_passes_between_commanded_moves(room: SwitchRoom) -> None:
    await room.command(OPEN, 1)
    await room.clock.advance(50)
    assert await refusal_of(room, CLOSED) is Refusal.TOO_SOON
    assert room.unit.drives == [OPEN]
    await room.clock.advance(10)
    assert await room.command(CLOSED) is CLOSED


async def test_what_the_units_forbid_is_opening_only(room: SwitchRoom) -> None:
    await room.command(OPEN)
    await room.clock.advance(60)
    room.forbidden = "U-16: capacity 60 A, metering unit 30 A"
    assert await room.command(CLOSED) is CLOSED
    await room.clock.advance(60)
    assert await refusal_of(room, OPEN) is Refusal.NOT_PERMITTED
    assert room.unit.drives == [OPEN, CLOSED]


async def test_without_a_unit_nothing_is_switched(room: SwitchRoom) -> None:
    room.service.removed()
    assert await refusal_of(room, CLOSED) is Refusal.NO_UNIT
    assert await refusal_of(room, OPEN) is Refusal.NO_UNIT


async def test_a_switch_whose_feedback_is_silent_closes_and_does_not_open(room: SwitchRoom) -> None:
    room.unit.silent = True
    assert await refusal_of(room, OPEN) is Refusal.SILENT
    assert await room.command(CLOSED) is SwitchPosition.UNKNOWN
    assert room.unit.drives == [CLOSED, CLOSED]


async def test_a_switch_that_is_stuck_is_tried_twice_and_then_stays_reported(
    room: SwitchRoom,
) -> None:
    room.contacts.stuck = True
    began = room.clock.at
    task = room.ask(OPEN)
    await room.clock.advance(10)
    assert await task is CLOSED
    assert room.unit.drives == [OPEN, OPEN]
    await room.clock.advance(100)
    assert room.events == [SwitchMismatch(OPEN, CLOSED)]
    assert room.service.status.mismatch
    assert room.clock.at - began > 100


async def test_a_second_attempt_may_succeed(room: SwitchRoom) -> None:
    room.contacts.stuck = True
    task = room.ask(OPEN)
    await room.clock.advance(1.5)
    room.contacts.stuck = False
    await room.clock.advance(5)
    assert await task is OPEN
    assert room.events == [
        SwitchMismatch(OPEN, CLOSED),
        SwitchAgrees(OPEN),
        SwitchMoved(OPEN, Origin.COMMAND),
    ]


async def test_a_second_attempt_is_not_made_once_opening_is_forbidden(room: SwitchRoom) -> None:
    room.contacts.stuck = True
    task = room.ask(OPEN)
    await room.clock.advance(1.5)
    room.forbidden = "U-15"
    await room.clock.advance(5)
    assert await task is CLOSED
    assert room.unit.drives == [OPEN]


async def test_a_switch_moved_by_hand_is_reported_and_left_alone(room: SwitchRoom) -> None:
    for by_hand in (OPEN, CLOSED):
        room.contacts.move_by_hand(by_hand)
        await room.clock.advance(2)
    assert room.events == [SwitchMismatch(CLOSED, OPEN), SwitchAgrees(CLOSED)]
    assert room.unit.drives == []


async def test_a_silent_unit_is_told_once_and_its_position_is_unknown(room: SwitchRoom) -> None:
    room.unit.silent = True
    await room.clock.advance(5)
    assert room.service.status.position is SwitchPosition.UNKNOWN
    room.unit.silent = False
    await room.clock.advance(2)
    silent, answers = room.events
    assert isinstance(silent, OptionalUnitSilent)
    assert isinstance(answers, OptionalUnitAnswers)
    assert room.service.status.position is CLOSED


async def test_removal_during_a_move_ends_it_and_the_next_unit_is_not_driven(
    room: SwitchRoom,
) -> None:
    room.contacts.stuck = True
    task = room.ask(OPEN)
    await room.clock.advance(1)
    await room.swap(CLOSED)
    await room.clock.advance(10)
    assert await task is SwitchPosition.UNKNOWN
    assert room.unit.drives == []
    assert SwitchMismatch(OPEN, CLOSED) in room.events


async def test_what_was_commanded_survives_the_power(room: SwitchRoom) -> None:
    await room.command(OPEN)
    before = room.service.status
    await room.restart()
    await room.clock.advance(3)
    after = room.service.status
    assert (after.wanted, after.origin, after.since) == (OPEN, Origin.COMMAND, before.since)
    assert after.position is OPEN
    assert not after.mismatch
    assert room.unit.drives == [OPEN]


@pytest.mark.parametrize("stored", [None, OPEN, CLOSED])
@pytest.mark.parametrize("found", [OPEN, CLOSED])
async def test_a_start_moves_nothing(stored: SwitchPosition | None, found: SwitchPosition) -> None:
    media = FailingMedia(SwitchStateStore.size_for(512), write_unit=512)
    if stored is not None:
        store = SwitchStateStore(media)
        store.load()
        store.save(SwitchState(stored is OPEN, Origin.COMMAND))
    room = SwitchRoom(real=True, media=media, at=found)
    await room.clock.advance(30)
    assert room.unit.drives == []
    wanted = stored or CLOSED
    assert room.events == ([] if wanted is found else [SwitchMismatch(wanted, found)])
    await room.stop()


async def test_a_damaged_store_means_closed() -> None:
    media = FailingMedia(SwitchStateStore.size_for(512), write_unit=512)
    store = SwitchStateStore(media)
    store.load()
    store.save(SwitchState(True, Origin.COMMAND))
    media.write(0, b"\xa5" * media.size)
    room = SwitchRoom(media=media)
    await room.clock.advance(3)
    assert room.service.status.wanted is CLOSED
    assert room.service.status.origin is Origin.NOBODY
    assert room.events == []
    await room.stop()


async def test_a_store_that_cannot_be_written_refuses_to_open_and_closes(room: SwitchRoom) -> None:
    room.media.failing = True
    assert await refusal_of(room, OPEN) is Refusal.NOT_STORED
    assert room.unit.drives == []
    assert room.service.status.wanted is CLOSED
    room.contacts.move_by_hand(OPEN)
    assert await room.command(CLOSED) is CLOSED
    stored = [room.service.status.stored]
    room.media.failing = False
    await room.clock.advance(12)
    stored.append(room.service.status.stored)
    assert stored == [False, True]
    assert SwitchStateStore(room.media).load() == SwitchState(
        False, Origin.COMMAND, 0, room.service.status.since
    )


async def test_a_store_that_is_read_late_still_tells_what_was_wanted(room: SwitchRoom) -> None:
    await room.command(OPEN)
    room.media.failing = True
    await room.restart()
    await room.clock.advance(3)
    room.media.failing = False
    await room.clock.advance(12)
    assert room.events[-2:] == [SwitchMismatch(CLOSED, OPEN), SwitchAgrees(OPEN)]
    assert room.unit.drives == [OPEN]


async def test_a_newer_programs_store_is_not_overwritten(room: SwitchRoom) -> None:
    await room.command(OPEN)
    for copy in (0, 512):
        content = bytearray(room.media.read(copy, 32))
        content[2] = 99
        body = bytes(content[: 8 + content[3]])
        content[8 + content[3] : 12 + content[3]] = _crc(body)
        room.media.write(copy, bytes(content))
    before = room.media.read(0, room.media.size)
    await room.restart()
    await room.clock.advance(70)
    await room.command(CLOSED)
    await room.clock.advance(30)
    assert room.contacts.position is CLOSED
    assert await refusal_of(room, OPEN) is Refusal.TOO_SOON
    await room.clock.advance(60)
    assert await refusal_of(room, OPEN) is Refusal.NOT_STORED
    assert room.media.read(0, room.media.size) == before


def _crc(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "big")


async def test_a_hung_driver_is_cut_off(room: SwitchRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("meter_runtime.functions.switching.DRIVE_BOUND_S", 0.01)
    monkeypatch.setattr(room.unit, "open_contacts", never)
    task = room.ask(OPEN)
    for _ in range(2):
        await asyncio.sleep(0.03)
        await room.clock.advance(3)
    assert await task is CLOSED
    assert not room.service.status.moving


async def test_a_mismatch_is_told_again_when_the_position_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = SwitchRoom()
    found = SwitchPosition.BETWEEN

    async def position() -> SwitchPosition:
        return found

    monkeypatch.setattr(room.unit, "position", position)
    await room.clock.advance(5)
    found = OPEN
    await room.clock.advance(5)
    assert room.events == [
        SwitchMismatch(CLOSED, SwitchPosition.BETWEEN),
        SwitchMismatch(CLOSED, OPEN),
    ]
    await room.stop()


async def test_the_same_mismatch_of_another_unit_is_told_again(room: SwitchRoom) -> None:
    room.contacts.move_by_hand(OPEN)
    await room.clock.advance(2)
    await room.swap(OPEN)
    await room.clock.advance(2)
    assert room.events == [SwitchMismatch(CLOSED, OPEN)] * 2


@pytest.mark.parametrize("meanwhile", ["command", "swap"])
async def test_a_look_from_before_a_change_is_not_believed(
    room: SwitchRoom, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    gate = asyncio.Event()
    told = CLOSED if meanwhile == "command" else OPEN

    async def late() -> SwitchPosition:
        monkeypatch.undo()
        await gate.wait()
        return told

    with room.service.held():
        await room.clock.advance(1)
        monkeypatch.setattr(room.unit, "position", late)
        look = asyncio.ensure_future(room.service.poll())
        await room.clock.advance(0)
        if meanwhile == "command":
            await room.command(OPEN)
        else:
            await room.swap(CLOSED)
        gate.set()
        await look
    assert room.told(SwitchMismatch) == []
    assert room.service.status.position is not told


async def test_only_open_and_closed_can_be_commanded(room: SwitchRoom) -> None:
    with pytest.raises(ValueError, match="not between"):
        await room.service.command(SwitchPosition.BETWEEN)


async def test_while_the_clock_is_moved_by_hand_the_switch_rests(room: SwitchRoom) -> None:
    with room.service.held():
        await room.clock.advance(2)
        room.contacts.move_by_hand(OPEN)
        await room.clock.advance(100)
        assert room.events == []
        await room.service.poll()
        assert room.events == [SwitchMismatch(CLOSED, OPEN)]


@pytest.fixture
async def limited() -> AsyncIterator[SwitchRoom]:
    room = SwitchRoom(real=True, limited=True)
    await room.clock.advance(1)
    yield room
    await room.stop()


async def test_the_limiter_opens_and_closes_again_until_it_is_spent(limited: SwitchRoom) -> None:
    limited.current_a = LIMIT_A + 1
    await limited.clock.advance(300)
    assert limited.unit.drives == [OPEN, CLOSED] * 7 + [OPEN]
    assert limited.told(SwitchRefused) == []
    status = limited.service.status
    assert (status.trips, status.locked_out, status.origin) == (8, True, Origin.LIMIT)
    limited.current_a = 0
    assert await limited.command(CLOSED) is CLOSED
    assert limited.service.status.trips == 0


async def test_after_a_restart_the_limiter_closes_what_it_had_opened(limited: SwitchRoom) -> None:
    limited.current_a = LIMIT_A + 1
    await limited.clock.advance(7)
    assert limited.contacts.position is OPEN
    limited.current_a = 0
    await limited.restart()
    await limited.clock.advance(12)
    assert limited.contacts.position is CLOSED
    assert limited.service.status.trips == 1


async def test_a_spent_limiter_stays_open_through_a_restart(limited: SwitchRoom) -> None:
    limited.current_a = LIMIT_A + 1
    await limited.clock.advance(300)
    await limited.restart()
    await limited.clock.advance(300)
    assert limited.contacts.position is OPEN
    assert limited.service.status.locked_out


async def test_the_limiter_never_closes_what_a_command_opened(limited: SwitchRoom) -> None:
    limited.current_a = LIMIT_A + 1
    await limited.clock.advance(7)
    assert await limited.command(OPEN, 1) is OPEN
    await limited.clock.advance(300)
    assert limited.contacts.position is OPEN
    assert limited.service.status.origin is Origin.COMMAND


async def test_the_limiter_leaves_alone_what_should_be_open_by_command(
    limited: SwitchRoom,
) -> None:
    limited.contacts.stuck = True
    assert await limited.command(OPEN) is CLOSED
    limited.contacts.stuck = False
    limited.current_a = LIMIT_A + 1
    await limited.clock.advance(100)
    assert limited.unit.drives == [OPEN, OPEN]


async def test_the_limiter_keeps_quiet_where_opening_is_forbidden(limited: SwitchRoom) -> None:
    limited.forbidden = "U-17"
    limited.current_a = LIMIT_A + 1
    await limited.clock.advance(100)
    assert limited.contacts.position is CLOSED
    assert limited.events == []


async def test_nothing_is_limited_unless_it_is_configured(room: SwitchRoom) -> None:
    room.current_a = 1e6
    await room.clock.advance(100)
    assert room.unit.drives == []


def test_the_status_is_there_before_anything_is_fitted() -> None:
    async def look() -> None:
        room = SwitchRoom()
        service = SwitchingService(None, room.clock, room.bus, SwitchStateStore(room.media))
        assert not service.status.fitted
        await service.poll()
        await room.stop()

    asyncio.run(look())
