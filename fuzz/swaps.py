"""``python -m fuzz.swaps [SEQUENCES]``: units are pulled, swapped and disturbed.

Nothing may be lost. A sequence is one meter in virtual time: a few random deeds near a half-hour
boundary, with time between them, then an end of all disturbances and a bounded time to recover. All
the way:

* while the metering unit is plugged in and undisturbed it is read each second, and every minute and
  boundary is stored with what truly flowed; what is stored while it is not is true, too;
* the switch opens by commands only, never both coils pull, and none burns;
* no part crashes, no driver is blamed for a fault, no task is left behind;
* in the end every slot's state is what is plugged in, and the B-route serves if it can.

What is done comes from the seed alone.
"""

import argparse
import asyncio
import collections
import itertools
import logging
import random
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from fuzz.swap_room import BARE, START, Room, room
from fuzz.virtual_time import in_virtual_time
from meter_runtime.bench.board.plugged import Switch
from meter_runtime.clock import HALF_HOUR_S
from meter_runtime.errors import MeterError
from meter_runtime.functions.switch_events import SwitchRefusedError
from meter_runtime.metrology.events import (
    BoundaryStored,
    ReadingFellBack,
    ReadingLeapt,
    UnitRestarted,
)
from meter_runtime.supervisor import TaskFailed
from meter_runtime.units.contracts import SwitchPosition
from meter_runtime.units.keeper import SlotState

SLOTS = ("metering", "communication", "optional")
METERING = "metering"
MWS_PER_DWH = 3600 * 100
BEFORE_BOUNDARY_S = 90.0
"""A sequence begins at most so long before a boundary."""
DEEDS = (2, 8)
RECOVERS_WITHIN_S = 80.0
"""The keeper's longest pause, and the bounds of discovery, driver and self-test."""
LATE_DWH = 28
"""What flows at most until a boundary counts as missed."""
SETTLED_S = 3.0
"""A unit that nobody disturbed before is read this long after its start."""
QUICKEST_SWAP_S = 0.05


class SwapsFailed(MeterError):  # noqa: N818 - what was found, not an accident of ours
    """Something that must not happen; the message names the sequence and its deeds."""


class Ordeal:
    """One meter, what is done to it, and what must be so."""

    def __init__(self, here: Room, rng: random.Random) -> None:
        self.done: list[str] = []
        self.minutes = 0
        """Held against the truth."""
        self.boundaries = 0
        self.failures: list[str] = []
        self._here = here
        self._rng = rng
        self._disturbances: dict[str, Callable[[], None]] = {}
        self._undisturbed_since = here.clock.monotonic() - RECOVERS_WITHIN_S
        self._healthy = True
        self._read_failures = 0
        self._truths: dict[tuple[str, int], tuple[int, int]] = {}
        """By serial and minute, in 0.1 Wh."""
        self._may_be_open = False
        self._serials = {slot: here.body.unit(slot).nameplate.serial for slot in SLOTS}
        self._watched: list[Switch] = [here.switch]
        here.clock.each_minute.append(self._on_minute)
        bus = here.meter.bus
        for event in (TaskFailed, UnitRestarted):
            bus.subscribe(event, self._told)
        for doubt in (ReadingFellBack, ReadingLeapt):
            bus.subscribe(doubt, self._doubted)
        bus.subscribe(BoundaryStored, self._on_boundary)

    async def run(self) -> None:
        """Do and undo; afterwards :attr:`failures` says what was wrong."""
        deeds: dict[str, Callable[[], Awaitable[None]]] = {
            "unplug": self._unplug,
            "plug": self._plug,
            "swap": self._swap,
            "nak": self._nak,
            "flips": self._flips,
            "stuck bus": self._stuck,
            "hanging bus": self._hang,
            "calm": self._calm,
            "command": self._command,
        }
        await self._here.lives(SETTLED_S)
        for _ in range(self._rng.randint(*DEEDS)):
            name = self._rng.choice(sorted(deeds))
            self.done.append(name)
            await deeds[name]()
            self._look()
            await self._here.lives(self._rng.choice((0.0, 0.3, 2.0, 7.0, 40.0)))
            self._look()
        await self._calm()
        self.done.append("recovers")
        await self._here.lives(RECOVERS_WITHIN_S)
        self._look()
        await self._judge_end()

    async def _unplug(self) -> None:
        slot = self._slot()
        self._disturbed(slot)
        await self._here.body.unplug(slot)

    async def _plug(self) -> None:
        slot = self._slot()
        if self._here.body.board.socket(slot).unit is not None:
            return
        await self._here.body.plug(slot)
        self._disturbed(slot)

    async def _swap(self) -> None:
        slot = self._slot()
        body = self._here.body
        self._disturbed(slot)
        await body.unplug(slot)
        await self._here.lives(self._rng.choice((QUICKEST_SWAP_S, 0.4, 1.2, 6.0)))
        await body.swap(slot)
        self._serials[slot] = body.unit(slot).nameplate.serial
        if slot == "optional":
            self._watched.append(self._here.switch)
        self._disturbed(slot)

    async def _nak(self) -> None:
        slot = self._slot()
        contact, every = self._here.body.board.socket(slot).contact, self._rng.choice((1, 3))
        transactions = itertools.count()

        def ends() -> None:
            contact.refuses = None

        self._disturb(f"nak {slot}", slot, ends)
        contact.refuses = lambda: next(transactions) % every == 0

    async def _flips(self) -> None:
        slot = self._slot()
        contact, rate = self._here.body.board.socket(slot).contact, self._rng.choice((1.0, 0.2))

        def spoils(answer: bytes) -> bytes:
            if not answer or self._rng.random() >= rate:
                return answer
            seen = bytearray(answer)
            seen[self._rng.randrange(len(seen))] ^= 1 << self._rng.randrange(8)
            return bytes(seen)

        def ends() -> None:
            contact.spoils = None

        self._disturb(f"flips {slot}", slot, ends)
        contact.spoils = spoils

    async def _stuck(self) -> None:
        bus = self._here.body.board.bus("i2c-1")

        def ends() -> None:
            bus.stuck = False

        self._disturb("stuck bus", METERING, ends)
        bus.stuck = True

    async def _hang(self) -> None:
        moves = self._here.board.copper["i2c-1"].moves
        self._disturb("hanging bus", METERING, moves.set)
        moves.clear()

    async def _calm(self) -> None:
        for name, ends in self._disturbances.items():
            ends()
            self._disturbed(METERING if "bus" in name else name.split()[1])
        self._disturbances.clear()

    async def _command(self) -> None:
        wanted = self._rng.choice((SwitchPosition.OPEN, SwitchPosition.CLOSED))
        if wanted is SwitchPosition.OPEN:
            self._may_be_open = True
        try:
            await self._here.meter.crew.switching.command(wanted)
        except SwitchRefusedError:
            return

    def _slot(self) -> str:
        slot = self._rng.choice(SLOTS)
        self.done[-1] += f" {slot}"
        return slot

    def _disturb(self, name: str, slot: str, ends: Callable[[], None]) -> None:
        self._disturbances[name] = ends
        self._disturbed(slot)

    def _disturbed(self, slot: str) -> None:
        """The slot is not, or from now on again, as it should be."""
        if slot == METERING:
            self._healthy = False
            self._undisturbed_since = self._here.clock.monotonic()

    @property
    def _well(self) -> bool:
        """The metering unit must be read now."""
        if any("bus" in name or METERING in name for name in self._disturbances):
            return False
        if self._here.body.board.socket(METERING).unit is None:
            return False
        rested_s = self._here.clock.monotonic() - self._undisturbed_since
        return self._healthy or rested_s >= RECOVERS_WITHIN_S

    @property
    def _read_since_long(self) -> bool:
        """The minute before this one was passed at its instant."""
        rested_s = self._here.clock.monotonic() - self._undisturbed_since
        return self._well and rested_s > RECOVERS_WITHIN_S + 60

    def _look(self) -> None:
        """What must be so at any time."""
        metering = self._here.meter.metering
        if self._well:
            if self._healthy and metering.read_failures != self._read_failures:
                self._fail("the undisturbed metering unit was not read")
            self._healthy = True
        self._read_failures = metering.read_failures
        for switch in self._watched:
            relay = switch.relay
            if relay is None:
                continue
            if relay.position is not SwitchPosition.CLOSED and not self._may_be_open:
                self._fail(f"the switch is {relay.position.value} and nobody said so")
            self.failures += [violation.what for violation in relay.violations]

    def _on_minute(self, minute: int) -> None:
        """The minute is about to be passed: hold the last one against the truth."""
        metering = self._here.meter.metering
        self._look()
        told = metering.minute(minute - 1)
        truth = self._truths.get((metering.unit.nameplate.serial, minute - 1))
        if told is not None and truth is not None:
            self.minutes += 1
            self._compare(f"minute {minute - 1}", told, truth)
        if told is None and self._read_since_long:
            self._fail(f"minute {minute - 1} was lost")
        # Out of its slot a unit keeps what it has counted: put back at once, it stands for it.
        house = self._here.body.household
        forward, reverse = house.supply.registers
        truth = forward // MWS_PER_DWH, reverse // MWS_PER_DWH
        self._truths[house.nameplate.serial, minute] = truth

    def _on_boundary(self, event: BoundaryStored) -> None:
        self.boundaries += 1
        serial = self._here.meter.metering.ring.serial
        truth = self._truths.get((serial, event.slot * HALF_HOUR_S // 60))
        told = event.record.forward_dwh, event.record.reverse_dwh
        if truth is None:
            self._fail(f"boundary {event.slot} was stored of a unit that never was")
        else:
            self._compare(f"boundary {event.slot}", told, truth)

    def _compare(self, what: str, told: tuple[int, int], truth: tuple[int, int]) -> None:
        more = [one - other for one, other in zip(told, truth, strict=True)]
        if min(more) < -1 or max(more) > (1 if self._read_since_long else LATE_DWH):
            self._fail(f"{what} is {told} and was {truth}")

    def _told(self, event: object) -> None:
        self._fail(str(event))

    def _doubted(self, event: object) -> None:
        # Until the keeper looks, another unit is read as if it were the one before, in vain.
        if self._well:
            self._fail(str(event))

    def _fail(self, what: str) -> None:
        self.failures.append(f"{what}, after {', '.join(self.done) or 'the start'}")

    async def _judge_end(self) -> None:
        meter, board = self._here.meter, self._here.body.board
        for slot in meter.keeper.slots.values():
            name, plugged = slot.profile.name, board.socket(slot.profile.name).unit is not None
            if not plugged:
                if slot.unit is not None or slot.state not in {
                    SlotState.ABSENT,
                    SlotState.REMOVED,
                }:
                    self._fail(f"the {name} slot is empty and {slot.state.value}: {slot.reason}")
                continue
            serial = None if slot.nameplate is None else slot.nameplate.serial
            known = {self._serials[name], BARE.serial if name == "communication" else None}
            # Without a B-route nobody uses the link: who was silent then has nobody to answer.
            unused = name == "communication" and meter.broute is None
            at_work = {SlotState.ACTIVE, SlotState.SILENT} if unused else {SlotState.ACTIVE}
            if slot.state not in at_work or serial not in known:
                said = f"{serial} {slot.state.value}: {slot.reason}"
                self._fail(f"the {name} slot holds {self._serials[name]} and is {said}")
        metering = board.socket(METERING).unit is not None
        if metering and meter.metering.power_w is None:
            self._fail("the metering unit is at work and not read")
        serves = meter.broute is not None and meter.broute.link.started
        if serves != (metering and board.socket("communication").unit is not None):
            self._fail(f"the B-route {'serves' if serves else 'does not serve'}")
        if meter.bus.failures:
            self._fail("a listener failed")


class _Tracebacks(logging.Handler):
    """Whatever was logged with a traceback: a crash that somebody caught."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.seen.append(self.format(record))


@in_virtual_time
async def sequence(folder: Path, rng: random.Random) -> tuple[str, int, int]:
    """Live one through: the deeds, and minutes and boundaries that were true.

    Raises :class:`SwapsFailed`.
    """
    crashes = _Tracebacks()
    logging.getLogger().addHandler(crashes)
    try:
        start = START + HALF_HOUR_S - round(rng.uniform(10, BEFORE_BOUNDARY_S))
        async with room(folder, start=start) as here:
            one = Ordeal(here, rng)
            await one.run()
            here.clock.each_minute.clear()
    finally:
        logging.getLogger().removeHandler(crashes)
    one.failures += crashes.seen
    left = [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    if left:
        one.failures.append(f"tasks are left behind: {', '.join(left)}")
    if one.failures:
        raise SwapsFailed(one.failures[0])
    return ", ".join(one.done), one.minutes, one.boundaries


def swaps(times: int, seed: int) -> str:
    """So many sequences; a summary. Raises :class:`SwapsFailed` for the first that goes wrong."""
    minutes = boundaries = 0
    deeds: collections.Counter[str] = collections.Counter()
    for number in range(1, times + 1):
        with tempfile.TemporaryDirectory(prefix="swaps-") as folder:
            try:
                done, *held = sequence(Path(folder), random.Random(f"swaps {seed} {number}"))
            except SwapsFailed as failure:
                raise SwapsFailed(f"sequence {number} of seed {seed}: {failure}") from None
        deeds.update(deed for deed in done.split(", "))
        minutes, boundaries = minutes + held[0], boundaries + held[1]
        if number % 100 == 0:
            print(f"{number} sequences: {minutes} minutes, {boundaries} boundaries", flush=True)
    return (
        f"{times} sequences, {deeds.total() - times} deeds: {minutes} minutes and {boundaries}"
        " boundaries true, nothing lost, no switch opened, nobody left behind"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all went well, 1 one did not, 2 wrong use."""
    parser = argparse.ArgumentParser(
        prog="dev swaps",
        description="Pull, swap and disturb the units of a meter in every order.",
        epilog="example: ./dev swaps 10000 --seed 7",
    )
    parser.add_argument("sequences", nargs="?", type=int, default=10_000, help="how many (10000)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (1)")
    parser.add_argument("--only", type=int, help="this one alone, as a failure names it")
    args = parser.parse_args(argv)
    if args.sequences < 1:
        parser.error("live through one sequence at least")
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        if args.only is not None:
            with tempfile.TemporaryDirectory(prefix="swaps-") as folder:
                rng = random.Random(f"swaps {args.seed} {args.only}")
                print(sequence(Path(folder), rng))
            return 0
        print(swaps(args.sequences, args.seed))
    except SwapsFailed as failure:
        print(f"swaps: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
