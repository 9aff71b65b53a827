"""The life of a register store, and what it owes after a power cut."""

import struct
import zlib
from collections.abc import Iterator

from power import Contents, Cut, Supply

from meter_runtime.storage.registers import Checkpoint, RegisterStore, unit_mark

_SEQUENCE_AT = 4
_LENGTH_AT = 3
_HEAD_SIZE = 8


def checkpoint(n: int) -> Checkpoint:
    """One that differs from its neighbours in each field and has something in each byte."""
    return Checkpoint(
        n * 1_000_000_007_777,
        n * 2_000_000_011_111,
        n * 3_000_000_017_171,
        n * 4_000_000_019_191,
        unit_mark(f"A{n % 3}"),
        None if n % 5 == 0 else 1.7e9 + n,
    )


class RegisterLife:
    """One run over a register store: what is there is loaded, then ``count`` more are saved.

    ``tried`` was being saved when the power failed. A later save that is torn in its turn may
    complete it, and it is newer than what is owed.
    """

    def __init__(
        self,
        contents: Contents,
        write_unit: int,
        first: int = 1,
        count: int = 4,
        tried: tuple[Checkpoint | None, ...] = (),
    ) -> None:
        self.supply = Supply(contents, write_unit)
        self._write_unit = write_unit
        self._following = first + count
        self._tried = tried
        store = RegisterStore(self.supply.media[0])
        self._saved = [(0, store.load())]
        for n in range(first, self._following):
            store.save(checkpoint(n))
            self._saved.append((self.supply.now, checkpoint(n)))
            assert RegisterStore(self.supply.media[0]).load() == checkpoint(n)

    @classmethod
    def new(cls, write_unit: int) -> "RegisterLife":
        return cls((bytes(RegisterStore.size_for(write_unit)),), write_unit)

    @classmethod
    def worn(cls, write_unit: int) -> "RegisterLife":
        """After so many saves that the sequence number is about to wrap."""
        life = cls.new(write_unit)
        return cls((_renumbered(life.supply.contents[0], (1 << 32) - 3),), write_unit, 5)

    def after(self, cut: Cut, contents: Contents) -> Iterator["RegisterLife"]:
        if cut.operation is None:
            assert cut.before == cut.after, "acknowledged, yet not flushed"
        store = RegisterStore(Supply(contents, self._write_unit).media[0])
        found = store.load()
        last = max(index for index, (done, _) in enumerate(self._saved) if done <= cut.at)
        saving = tuple(checkpoint for _, checkpoint in self._saved[last + 1 : last + 2])
        # Its place is taken by the first save that is acknowledged.
        tried = self._tried if last == 0 else ()
        assert found == self._saved[last][1] or found in (*tried, *saving), "not the last one"
        assert store.damaged <= 1, "both copies are damaged"
        yield RegisterLife(contents, self._write_unit, self._following, 2, (*tried, *saving))


def _renumbered(content: bytes, newest: int) -> bytes:
    """Both copies with the sequence numbers that the last of very many saves gives them."""
    half = len(content) // 2
    numbers = [int.from_bytes(_number(content, copy * half), "big") for copy in range(2)]
    changed = bytearray(content)
    for copy, number in enumerate(numbers):
        begin = copy * half
        end = begin + _HEAD_SIZE + content[begin + _LENGTH_AT]
        assert zlib.crc32(content[begin:end]) == struct.unpack_from(">I", content, end)[0]
        moved = (newest - (max(numbers) - number)) % (1 << 32)
        struct.pack_into(">I", changed, begin + _SEQUENCE_AT, moved)
        struct.pack_into(">I", changed, end, zlib.crc32(changed[begin:end]))
    return bytes(changed)


def _number(content: bytes, begin: int) -> bytes:
    return content[begin + _SEQUENCE_AT : begin + _HEAD_SIZE]
