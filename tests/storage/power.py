"""A power supply that may fail at any moment, and the media that hang on it.

Code under test is deterministic, so one run tells all of them: the supply notes every write and
flush of its media in order, and :meth:`Supply.cuts` then stops the power at each of them. What is
on a medium after a cut is what was flushed, and anything of what was not: writes are lost, overtake
each other, and stop at any byte. That is harsher than :class:`~meter_runtime.storage.media.Media`
allows: a disk tears between sectors only.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

PIECE = 16
"""Of a longer write each such part is also lost alone, and comes through alone."""

LUCK = 1
"""Torn records that a check of 24 bits may take for good ones in one scenario.

One in a hundred scenarios would be bad luck; two in one are a check that does not work.
"""

SCATTERED = 4
"""For each cut, so many survivors of which each byte came through or not, by chance."""


@dataclass(frozen=True, slots=True)
class Write:
    medium: int
    offset: int
    data: bytes

    def __str__(self) -> str:
        return f"write {self.offset}+{len(self.data)} of medium {self.medium}"


@dataclass(frozen=True, slots=True)
class Flush:
    medium: int

    def __str__(self) -> str:
        return f"flush of medium {self.medium}"


Contents = tuple[bytes, ...]
"""What is on each medium of a supply."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The power fails during operation ``at``, or at rest when it is the number of operations.

    ``before`` and ``after`` are the survivors that lost everything unflushed, and nothing.
    """

    at: int
    operation: Write | Flush | None
    before: Contents
    after: Contents
    survivors: tuple[Contents, ...]

    def tore(self, survivor: Contents, medium: int, offset: int, n: int) -> bool:
        """These bytes are neither the old nor the new ones, but something of both."""
        end = offset + n
        whole = (self.before[medium][offset:end], self.after[medium][offset:end])
        return survivor[medium][offset:end] not in whole


class TornBelievedError(AssertionError):
    """A checksum took a mixture of two writes for a third: luck's share, if it is rare."""

    def __init__(self, mixture: bytes) -> None:
        super().__init__(f"a torn write is believed: {mixture.hex()}")
        self.mixture = mixture


class Supply:
    """Feeds its media and notes what they are asked to do."""

    def __init__(self, contents: Contents, write_unit: int) -> None:
        self._initial = contents
        self._operations: list[Write | Flush] = []
        self.media = tuple(
            PowerCutMedia(index, content, write_unit, self._operations)
            for index, content in enumerate(contents)
        )

    @property
    def now(self) -> int:
        """Operations so far. What is acknowledged now is owed after every cut from here on."""
        return len(self._operations)

    @property
    def contents(self) -> Contents:
        """What the running program sees."""
        return tuple(medium.read(0, medium.size) for medium in self.media)

    def cuts(self, rng: random.Random) -> Iterator[Cut]:
        """A cut during each operation and one after the last."""
        durable = [bytearray(content) for content in self._initial]
        pending: list[list[Write]] = [[] for _ in durable]
        for at, operation in enumerate((*self._operations, None)):
            if isinstance(operation, Write):
                pending[operation.medium].append(operation)
            before, after, survivors = _survivors(durable, pending, rng)
            yield Cut(at, operation, before, after, survivors)
            if isinstance(operation, Flush):
                for write in pending[operation.medium]:
                    _apply(durable[operation.medium], write)
                pending[operation.medium].clear()


class PowerCutMedia:
    """What the running program sees of one medium: all that it wrote, flushed or not."""

    def __init__(
        self, index: int, content: bytes, write_unit: int, operations: list[Write | Flush]
    ) -> None:
        self.name = f"medium {index}"
        self.size = len(content)
        self.write_unit = write_unit
        self._index = index
        self._bytes = bytearray(content)
        self._operations = operations

    def read(self, offset: int, n: int) -> bytes:
        assert 0 <= offset <= offset + n <= self.size
        return bytes(self._bytes[offset : offset + n])

    def write(self, offset: int, data: bytes) -> None:
        assert 0 <= offset <= offset + len(data) <= self.size
        write = Write(self._index, offset, bytes(data))
        self._operations.append(write)
        _apply(self._bytes, write)

    def flush(self) -> None:
        self._operations.append(Flush(self._index))

    def close(self) -> None:
        """Power is what counts."""


class Life(Protocol):
    """A program's run from one power-on to the next cut."""

    @property
    def supply(self) -> Supply: ...

    def after(self, cut: Cut, contents: Contents) -> Iterator["Life"]:
        """The lives that may follow this cut on these media; asserts that they are sound."""
        ...


@dataclass(slots=True)
class Tally:
    """How much was tried, and the torn writes that a checksum took for good ones."""

    cuts: int = 0
    survivors: int = 0
    believed: set[bytes] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.cuts} cuts, {self.survivors} survivors"

    def add(self, other: "Tally") -> None:
        self.cuts += other.cuts
        self.survivors += other.survivors
        self.believed |= other.believed


def explore(
    life: Life, times: int, rng: random.Random, tally: Tally, keep: tuple[float, ...] = ()
) -> Tally:
    """Cut the power in ``life``, and ``times - 1`` times more in the lives that follow.

    ``keep`` is the share of the survivors looked at after the first cut, the second and so on; all
    where it says nothing. A failed check is raised with the cuts that led to it as notes, but for
    :class:`TornBelievedError`: :data:`LUCK` of them are put down, and the survivor is left.
    """
    share = keep[0] if keep else 1.0
    for cut in life.supply.cuts(rng):
        tally.cuts += 1
        for number, contents in enumerate(cut.survivors):
            if rng.random() >= share:
                continue
            tally.survivors += 1
            try:
                for following in life.after(cut, contents):
                    if times > 1:
                        explore(following, times - 1, rng, tally, keep[1:])
            except TornBelievedError as luck:
                tally.believed.add(luck.mixture)
                believed = len(tally.believed)
                assert believed <= LUCK, f"{believed} torn writes are believed: no luck any more"
            except Exception as error:
                error.add_note(
                    f"power cut at {cut.at} ({cut.operation or 'rest'}), survivor {number} of"
                    f" {len(cut.survivors)}; until then {tally}"
                )
                raise
    return tally


def _apply(content: bytearray, write: Write) -> None:
    content[write.offset : write.offset + len(write.data)] = write.data


def _survivors(
    durable: list[bytearray], pending: list[list[Write]], rng: random.Random
) -> tuple[Contents, Contents, tuple[Contents, ...]]:
    """The distinct contents after a cut: one medium in all its ways, the others all or nothing."""
    lost = tuple(bytes(content) for content in durable)
    kept = tuple(
        bytes(_with(content, writes)) for content, writes in zip(durable, pending, strict=True)
    )
    found: dict[Contents, None] = {lost: None, kept: None}
    for index, writes in enumerate(pending):
        for remains in _remains(durable[index], writes, rng):
            for others in (lost, kept):
                found[(*others[:index], remains, *others[index + 1 :])] = None
    return lost, kept, tuple(found)


def _remains(content: bytearray, writes: list[Write], rng: random.Random) -> Iterator[bytes]:
    """``content`` with some of ``writes``: each torn at every byte, from either end."""
    for torn, write in enumerate(writes):
        for others in _companions(len(writes), torn):
            whole = [writes[index] for index in others]
            for parts in _torn(write, content if len(writes) == 1 else None):
                yield bytes(_with(content, [*whole, *parts]))
                if whole:
                    # The same in the other order: they may overlap.
                    yield bytes(_with(content, [*parts, *reversed(whole)]))
    for _ in range(SCATTERED if writes else 0):
        scattered = bytearray(content)
        for write in writes:
            for index, byte in enumerate(write.data):
                if rng.random() < 0.5:
                    scattered[write.offset + index] = byte
        yield bytes(scattered)


def _torn(write: Write, over: bytearray | None) -> Iterator[tuple[Write, ...]]:
    """Its head and its tail from every byte; of a long one also each piece, and all but it.

    Where it is known what it is written ``over``, bytes that change nothing are passed by.
    """

    def part(begin: int, end: int) -> Write:
        return Write(write.medium, write.offset + begin, write.data[begin:end])

    size = len(write.data)
    yield ()
    for n in range(1, size + 1):
        if over is not None and over[write.offset + n - 1] == write.data[n - 1]:
            continue
        yield (part(0, n),)
        yield (part(n, size),)
    for n in range(0, size, PIECE) if size > PIECE else ():
        yield (part(n, n + PIECE),)
        yield part(0, n), part(n + PIECE, size)


def _companions(count: int, torn: int) -> Iterator[tuple[int, ...]]:
    """Which of the other writes are whole: any, or for many the telling ones."""
    others = [index for index in range(count) if index != torn]
    if len(others) <= 2:
        for n in range(len(others) + 1):
            yield from itertools.combinations(others, n)
    else:
        yield ()
        yield tuple(range(torn))
        yield tuple(others)


def _with(content: bytearray, writes: list[Write]) -> bytearray:
    changed = bytearray(content)
    for write in writes:
        _apply(changed, write)
    return changed
