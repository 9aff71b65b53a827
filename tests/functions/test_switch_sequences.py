"""Commands, faults, swaps and power cuts in any order: the switch does what it was asked for."""

import asyncio
import random
from dataclasses import dataclass, field

import pytest
from switch_room import CLOSED, LIMIT_A, OPEN, FailingMedia, SwitchRoom

from meter_runtime.bench.board.latching_relay import LatchingRelay
from meter_runtime.functions.switch_events import SwitchAgrees, SwitchMismatch
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.switch_state import Origin, SwitchState, SwitchStateStore
from meter_runtime.units.contracts import SwitchPosition

SEQUENCES = 60
"""For each kind of unit, with and without a limiter; 10 000 were run when this was written."""
STEPS = 14
FAULTY = 0.4
PAUSES_S = (0.01, 0.06, 0.3, 1.0, 2.5, 11.0, 61.0)


@dataclass
class Watcher:
    """Holds each drive against what was asked for.

    What it finds is kept: the service takes whatever a drive raises for the unit's failure.
    """

    room: SwitchRoom
    may_open: list[asyncio.Task[SwitchPosition]] = field(default_factory=list)
    openings: int = 0
    wrong: list[str] = field(default_factory=list)

    def on_drive(self, to: SwitchPosition) -> None:
        if to is not OPEN:
            return
        self.openings += 1
        room, status = self.room, self.room.service.status
        if not status.moving or status.wanted is not OPEN:
            self.wrong.append("opens outside a command")
        if room.forbidden is not None:
            self.wrong.append("opens where it is forbidden")
        self.may_open = [task for task in self.may_open if not task.done()]
        if status.origin is Origin.COMMAND and not self.may_open:
            self.wrong.append("opens and nobody asked for it")
        if status.origin is not Origin.COMMAND and status.trips is None:
            self.wrong.append("opens by a limiter that is off")
        kept = SwitchStateStore(room.media.content()).load()
        if kept is None or not kept.wanted_open:
            self.wrong.append("opens and would not know it after a power cut")


class Sequence:
    """One course of events."""

    def __init__(self, seed: int, *, real: bool, limited: bool) -> None:
        self.rng = random.Random(seed)
        at = self.rng.choice((OPEN, CLOSED, CLOSED))
        self.room = SwitchRoom(real=real, limited=limited, at=at, min_interval_s=2.0)
        self.watcher = Watcher(self.room)
        self.room.on_drive = self.watcher.on_drive
        self.plugged = True
        self.log: list[str] = []
        self.actions = [
            self.open,
            self.open,
            self.close,
            self.move_by_hand,
            self.stick,
            self.fall_silent,
            self.swap,
            self.restart,
            self.fail_store,
            self.forbid,
            self.cancel,
            *((self.draw,) * 3 if limited else ()),
        ]

    async def play(self) -> None:
        for _ in range(STEPS):
            action = self.rng.choice(self.actions)
            pause_s = self.rng.choice(PAUSES_S)
            self.log.append(f"{action.__name__}, {pause_s} s")
            await action()
            await self.room.clock.advance(pause_s)
            self.check()
        await self.settle()
        await self.room.stop()

    async def open(self) -> None:
        self.watcher.may_open.append(self.room.ask(OPEN))

    async def close(self) -> None:
        self.room.ask(CLOSED)

    async def move_by_hand(self) -> None:
        self.room.contacts.move_by_hand(self.rng.choice((OPEN, CLOSED)))

    async def stick(self) -> None:
        self.room.contacts.stuck = self.rng.random() < FAULTY

    async def fall_silent(self) -> None:
        self.room.unit.silent = self.rng.random() < FAULTY

    async def swap(self) -> None:
        if self.plugged:
            self.room.service.removed()
            await self.room.unit.close()
            self.check_metal()
        else:
            self.room.plug_in(self.rng.choice((OPEN, CLOSED)))
            self.room.service.fit(self.room.unit)
        self.plugged = not self.plugged

    async def restart(self) -> None:
        if self.plugged:
            await self.room.restart()
            self.watcher.may_open.clear()

    async def fail_store(self) -> None:
        self.room.media.failing = self.rng.random() < FAULTY

    async def forbid(self) -> None:
        self.room.forbidden = "U-16" if self.rng.random() < FAULTY else None

    async def cancel(self) -> None:
        for task in self.watcher.may_open[-1:]:
            task.cancel()

    async def draw(self) -> None:
        self.room.current_a = self.rng.choice((0.0, None, LIMIT_A + 1))

    def check(self) -> None:
        assert not self.watcher.wrong
        assert not self.room.unit.overlapped
        self.check_metal()

    def check_metal(self) -> None:
        if isinstance(self.room.contacts, LatchingRelay):
            assert not self.room.contacts.violations

    async def settle(self) -> None:
        """Left alone, the service knows where the switch is, and has told if it is wrong there."""
        room = self.room
        room.unit.silent = False
        room.current_a = 0.0
        room.media.failing = False
        if not self.plugged:
            await self.swap()
        await room.clock.advance(40)
        status = room.service.status
        assert not status.moving
        assert status.position is room.contacts.position
        assert status.mismatch == (status.position is not status.wanted)
        told = [event for event in room.events if isinstance(event, SwitchMismatch | SwitchAgrees)]
        if status.mismatch:
            assert told[-1] == SwitchMismatch(status.wanted, status.position)
        kept = SwitchStateStore(room.media).load()
        assert (kept or SwitchState()).wanted_open == (status.wanted is OPEN)


async def play(seed: int, *, real: bool, limited: bool) -> int:
    sequence = Sequence(seed, real=real, limited=limited)
    try:
        await sequence.play()
    except AssertionError as failure:
        course = "; ".join(sequence.log)
        raise AssertionError(f"seed {seed}, {real=}, {limited=}: {failure} ({course})") from failure
    return sequence.watcher.openings


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("real", [False, True])
async def test_no_course_of_events_opens_a_switch_without_a_command(
    real: bool, limited: bool
) -> None:
    openings = 0
    for seed in range(SEQUENCES):
        openings += await play(seed, real=real, limited=limited)
    assert openings > SEQUENCES / 2, "these courses try nothing"


class PowerFailure(Exception):  # noqa: N818 - an event, not an error of the code under test
    """The power is gone."""


class CutMedia(FailingMedia):
    """The power fails at write or flush ``cut_at``, which leaves ``kept`` bytes of the write."""

    def __init__(self, content: bytes, write_unit: int, cut_at: int, kept: int) -> None:
        super().__init__(len(content), write_unit=write_unit)
        MemoryMedia.write(self, 0, content)
        self.cut_at = cut_at
        self.kept = kept

    def write(self, offset: int, data: bytes) -> None:
        if self.cut_at == 0:
            super().write(offset, data[: self.kept])
        self._count()
        super().write(offset, data)

    def flush(self) -> None:
        self._count()

    def _count(self) -> None:
        if self.cut_at == 0:
            raise PowerFailure
        self.cut_at -= 1


@pytest.mark.parametrize("write_unit", [1, 512])
@pytest.mark.parametrize("wanted", [OPEN, CLOSED])
@pytest.mark.parametrize("known", [True, False])
async def test_a_power_cut_at_any_write_leaves_the_order_before_or_the_new_one(
    write_unit: int, wanted: SwitchPosition, known: bool
) -> None:
    before = CLOSED if wanted is OPEN else OPEN
    content = MemoryMedia(SwitchStateStore.size_for(write_unit), write_unit=write_unit)
    if known:
        store = SwitchStateStore(content)
        store.load()
        store.save(SwitchState(before is OPEN, Origin.COMMAND))
    began = before if known else CLOSED
    whole = content.read(0, content.size)
    cuts = 0
    for cut_at in range(8):
        for kept in (0, 1, 7, 12, 20, 21) if write_unit == 1 else (0, 21):
            media = CutMedia(whole, write_unit, cut_at, kept)
            room = SwitchRoom(real=True, media=media, at=before)
            await room.clock.advance(1)
            task = room.ask(wanted)
            await room.clock.advance(3)
            cut = task.done() and isinstance(task.exception(), PowerFailure)
            cuts += cut
            assert cut or (await task is wanted)
            drives = len(room.unit.drives)
            assert drives == (not cut)
            media.cut_at = 1000
            room.events.clear()
            await room.restart()
            await room.clock.advance(30)
            status = room.service.status
            assert status.wanted in ({began, wanted} if cut else {wanted})
            assert room.unit.drives == [wanted] * drives, "a start moved it"
            assert room.contacts.position is (before if cut else wanted)
            assert status.mismatch == (status.wanted is not room.contacts.position)
            assert len(room.events) == status.mismatch
            await room.stop()
    assert cuts >= 4


async def test_a_power_cut_in_the_middle_of_a_move_moves_nothing_more() -> None:
    for cut_after_s in (0.001, 0.01, 0.05, 0.09, 0.2):
        room = SwitchRoom(real=True)
        await room.clock.advance(1)
        room.ask(OPEN)
        await room.clock.advance(cut_after_s)
        await room.restart()
        await room.clock.advance(30)
        status = room.service.status
        assert room.unit.drives == [OPEN]
        assert status.wanted is OPEN
        assert status.mismatch == (room.contacts.position is not OPEN)
        await room.stop()
