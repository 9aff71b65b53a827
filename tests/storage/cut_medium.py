"""A medium whose power fails at a chosen write or flush, and one that fails on request.

What was not flushed survives in any part: nothing, everything, only the last writes, or each write
unit by chance.
"""

import random
from collections.abc import Callable, Iterator

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import MemoryMedia

SCATTERED = 6


class PowerFailure(Exception):  # noqa: N818 - an event, not an error of the code under test
    """The power is gone."""


class CutMedium(MemoryMedia):
    """Works until operation ``cut_at`` (a write or a flush, counted from 0)."""

    def __init__(self, content: bytes, write_unit: int, cut_at: int) -> None:
        super().__init__(len(content))
        super().write(0, content)
        self.write_unit = write_unit
        self._durable = content
        self._waiting: list[tuple[int, bytes]] = []
        self._left = cut_at

    def write(self, offset: int, data: bytes) -> None:
        super().write(offset, data)
        self._waiting.append((offset, data))
        self._count()

    def flush(self) -> None:
        self._count()
        self._durable = self.read(0, self.size)
        self._waiting.clear()

    def survivors(self, rng: random.Random) -> Iterator[bytes]:
        """What may be on it after the cut."""
        yield self._durable
        for first in range(len(self._waiting)):
            yield self._keep(first, lambda: True)
        for _ in range(SCATTERED):
            yield self._keep(0, lambda: rng.random() < 0.5)

    def _keep(self, first: int, kept: Callable[[], bool]) -> bytes:
        content = bytearray(self._durable)
        for offset, data in self._waiting[first:]:
            for at in range(0, len(data), self.write_unit):
                if kept():
                    piece = data[at : at + self.write_unit]
                    content[offset + at : offset + at + len(piece)] = piece
        return bytes(content)

    def _count(self) -> None:
        if self._left == 0:
            raise PowerFailure
        self._left -= 1


def after_cuts(
    content: bytes, write_unit: int, action: Callable[[CutMedium], None]
) -> Iterator[bytes]:
    """What may be on a medium when the power fails at each operation of ``action``, or after it."""
    rng = random.Random(20261122)
    cut_at = 0
    while True:
        medium = CutMedium(content, write_unit, cut_at)
        try:
            action(medium)
        except PowerFailure:
            yield from medium.survivors(rng)
            cut_at += 1
        else:
            yield from medium.survivors(rng)
            return


class FailingMedia(MemoryMedia):
    """Fails after ``working`` more writes and flushes (None: never), once only if it ``heals``."""

    def __init__(self, size: int, name: str = "test medium") -> None:
        super().__init__(size, name)
        self.working: int | None = None
        self.heals = False

    def write(self, offset: int, data: bytes) -> None:
        self._check()
        super().write(offset, data)

    def flush(self) -> None:
        self._check()

    def _check(self) -> None:
        if self.working is None:
            return
        if self.working <= 0:
            if self.heals:
                self.working = None
            raise MeterError(f"{self.name}: cannot write: no space left; free some")
        self.working -= 1
