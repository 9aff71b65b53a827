"""Power cuts, from the outside: a meter writes, QEMU is killed, and the chip is looked at.

What a meter said was stored must be there with its values, what it had not begun must not, and the
one write that was under way may be either. The chip is read by the same code as in the meter.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hwtest.guest import powered
from hwtest.outcome import SEPARATOR, Outcome
from hwtest.power_cut_plan import (
    CHECKPOINTED,
    FIRST_SLOT,
    OPENED,
    PREFILLED,
    STORED,
    checkpoint,
    open_registers,
    open_ring,
    record,
)
from meter_runtime.storage.fram import FRAM_SIZE, FramMedia
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.ring import LOAD_PROFILE_DEPTH

CUTS = 6
START_BOUND_S = 90.0
"""From power on to the first write."""
WRITING_S = (0.05, 2.0)
"""How long it may write before the cut: anything in between."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a meter has said: the slot of the newest record, and of the newest checkpoint."""

    stored: int
    checkpointed: int

    def after(self, line: str) -> "Promise":
        """What is promised once it has said this too."""
        match line.split(SEPARATOR):
            case [said, slot] if said == STORED and slot.isdecimal():
                return Promise(int(slot), self.checkpointed)
            case [said, slot] if said == CHECKPOINTED and slot.isdecimal():
                return Promise(self.stored, int(slot))
            case _:
                return self


@dataclass(frozen=True, slots=True)
class Found:
    """What was on the chip: the promise that it keeps, and how many records were damaged."""

    kept: Promise
    damaged: int


PROMISED = Promise(FIRST_SLOT + PREFILLED - 1, FIRST_SLOT + PREFILLED - 1)
"""What :func:`prepared` keeps."""


def prepared() -> bytes:
    """A chip with a ring that is almost full."""
    media = _media(bytes(FRAM_SIZE))
    slots = range(FIRST_SLOT, FIRST_SLOT + PREFILLED)
    open_ring(media).extend([record(slot) for slot in slots])
    registers = open_registers(media)
    registers.load()
    registers.save(checkpoint(PROMISED.checkpointed))
    return media.read(0, FRAM_SIZE)


def look(content: bytes, promised: Promise) -> Found:
    """Hold what is on the chip against the promise; AssertionError says what is wrong."""
    media = _media(content)
    ring = open_ring(media)
    assert not ring.header_lost, "the load profile's header is gone"
    assert not ring.replaced, "the load profile belongs to another unit"
    newest = ring.newest()
    assert newest is not None, "the load profile is empty"
    under_way = promised.stored + 1
    begun = promised.checkpointed == promised.stored
    assert newest.slot in ({promised.stored, under_way} if begun else {promised.stored}), (
        f"slot {newest.slot} is the newest where {promised.stored} was stored last"
    )
    expected = {
        slot: record(slot)
        for slot in range(max(FIRST_SLOT, newest.slot - LOAD_PROFILE_DEPTH + 1), newest.slot + 1)
    }
    present = {each.slot: each for each in ring.records()}
    torn = {under_way - LOAD_PROFILE_DEPTH} if begun and ring.corrupt else set()
    missing = expected.keys() - present.keys() - torn
    assert not missing, f"stored, and gone: slots {sorted(missing)}"
    invented = [slot for slot, each in present.items() if expected.get(slot) != each]
    assert not invented, f"never stored: slots {sorted(invented)}"
    assert ring.corrupt <= len(torn), f"{ring.corrupt} damaged records"
    return Found(Promise(newest.slot, _checkpointed(media, promised)), ring.corrupt)


def _checkpointed(media: MemoryMedia, promised: Promise) -> int:
    registers = open_registers(media)
    found = registers.load()
    possible = {promised.checkpointed, promised.stored}
    kept = [slot for slot in possible if checkpoint(slot) == found]
    assert kept, f"the checkpoint is none of slots {sorted(possible)}: {found}"
    assert registers.damaged <= (promised.checkpointed != promised.stored), "a copy is damaged"
    return kept[0]


def _media(content: bytes) -> MemoryMedia:
    media = MemoryMedia(len(content), "the chip", FramMedia.write_unit)
    media.write(0, content)
    return media


async def cut_again_and_again(
    command: Sequence[str], chip: Path, logs: Path, *, cuts: int, seed: int
) -> Outcome:
    """Start, let it write, cut, look; each time from what the last one left.

    ``command`` starts a machine whose FRAM is kept in the file ``chip``, :func:`prepared`.
    """
    check = "what was stored outlives power cuts"
    rng = random.Random(seed)
    promised = first = PROMISED
    unfinished = damaged = 0
    try:
        for _ in range(cuts):
            promised = await _until_the_cut(command, logs, promised, rng.uniform(*WRITING_S))
            found = look(chip.read_bytes(), promised)
            unfinished += found.kept != promised
            damaged += found.damaged
            promised = found.kept
    except (AssertionError, TimeoutError) as failure:
        return Outcome(check, passed=False, text=f"seed {seed}: {failure}; the chip: {chip}")
    boundaries = promised.stored - first.stored
    return Outcome(
        check,
        passed=True,
        text=f"{cuts} cuts in {boundaries} boundaries: all that was acknowledged is there and"
        f" nothing else, but for {unfinished} writes that were done and not yet acknowledged;"
        f" {damaged} records torn; seed {seed}",
    )


async def _until_the_cut(
    command: Sequence[str], logs: Path, promised: Promise, writing_s: float
) -> Promise:
    opened = False
    try:
        async with asyncio.timeout(START_BOUND_S), powered(command, logs / "cut.qemu") as guest:
            async for line in guest.lines():
                if line.startswith(OPENED):
                    opened = True
                    asyncio.get_running_loop().call_later(writing_s, guest.cut_power)
                promised = promised.after(line)
    except TimeoutError:
        raise TimeoutError(f"no writing after {START_BOUND_S:.0f} s; see {logs}/cut.*") from None
    assert opened, f"the guest ended before it wrote; see {logs}/cut.*"
    return promised
