"""The load profile: register values at the boundaries of equal intervals, newest over oldest.

A *slot* is ``epoch // interval_s``; its record holds the registers at the instant the slot opens.
The ring knows nothing of clocks: which boundary deserves a record is decided before it. A unit's
history ends with the unit: another serial starts a new *unit epoch*, and what earlier epochs
stored is never served again.

On the medium: the header (:mod:`~meter_runtime.storage.twin`), then ``depth`` records of 16 bytes,
the record of a slot at place ``slot % depth``, big-endian::

    generation u16 | forward u40 | reverse u40 | unit epoch mod 16 u4, flags u4 | check u24

The generation is ``slot // depth``: a record says which slot it is of, whatever the header says.
Energies are in 0.1 Wh. The check is the low 24 bits of CRC-32 over the 13 bytes before it, started
with the record's place, so that a record in another's place is none. Zeros are an empty place.
"""

import enum
import logging
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from meter_runtime.clock import SLOTS_PER_DAY
from meter_runtime.errors import MeterError
from meter_runtime.storage.media import Media
from meter_runtime.storage.twin import Twin

log = logging.getLogger(__name__)

LOAD_PROFILE_DEPTH = 42 * SLOTS_PER_DAY
"""Half-hours kept: today and forty days back need 41 x 48 + 1 = 1969 boundaries.

42 days are 2016 records of 16 bytes. With both header copies that is 32 384 bytes: it fits an
FRAM of 32 KiB and leaves 384 for the registers.
"""

FINE_DEPTHS: Mapping[int, int] = {60: 1440, 300: 12_960}
"""Values kept of the finer intervals (s): a day of minutes, 45 days of five minutes."""

RECORD_SIZE = 16
MAX_ENERGY_DWH = (1 << 40) - 1
"""Largest stored register, 0.1 Wh: 109 951 162 kWh, above the eight digits of any meter."""

_MAGIC = b"LP"
_VERSION = 2
_HEADER = struct.Struct(">IIIQ16s16s")
GENERATIONS = 1 << 16
_LASTING_S = 100 * 31_557_600
"""How long after 1970 a ring's generations must be able to count: a hundred years."""
_EPOCHS = 16
_CHECKS = (1 << 24) - 1
_FRAME = struct.Struct(">13s3s")
_BODY = struct.Struct(">H5s5sB")
_EMPTY = bytes(RECORD_SIZE)


class Flag(enum.IntFlag):
    """What happened in the interval that a record closes."""

    NONE = 0
    ADJUSTED = 1
    """The clock was stepped."""
    POWER_FAIL = 2
    """The meter was not running for a part of it."""
    COARSE = 4
    """The boundary was taken by a clock known only roughly."""


_FLAGS = tuple(Flag(value) for value in range(16))


@dataclass(frozen=True, slots=True)
class Record:
    """Registers at the opening of ``slot``, in 0.1 Wh."""

    slot: int
    forward_dwh: int
    reverse_dwh: int
    flags: Flag = Flag.NONE


@dataclass(frozen=True, slots=True)
class _Header:
    interval_s: int
    depth: int
    epoch: int
    first_slot: int
    serial: str
    previous: str

    def encode(self) -> bytes:
        return _HEADER.pack(
            self.interval_s,
            self.depth,
            self.epoch,
            self.first_slot,
            self.serial.encode("ascii"),
            self.previous.encode("ascii"),
        )

    @staticmethod
    def decode(payload: bytes) -> "_Header":
        interval_s, depth, epoch, first_slot, serial, previous = _HEADER.unpack(payload)
        return _Header(interval_s, depth, epoch, first_slot, _text(serial), _text(previous))


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode("ascii", "replace")


class Ring:
    """The records of the present unit; made by :meth:`open`."""

    def __init__(self, media: Media, twin: Twin, header: _Header) -> None:
        self._media = media
        self._twin = twin
        self._header = header
        self._start = Twin.size_for(_HEADER.size, media.write_unit)
        self._held: dict[int, Record] = {}
        """This unit's records by place, those hidden behind the newest included."""
        self._unsure: set[int] = set()
        """Places whose last write was vain: the medium may have it all the same."""
        self._newest: int | None = None
        self.corrupt = 0
        """Records found damaged at open; they are served as absent."""
        self.replaced = False
        """True when the unit is another one than at the last open."""
        self.header_lost = False
        """True when the medium held something, yet no believable header: nothing says whose the
        records are, so they stay where they are and are not served."""

    @staticmethod
    def size_for(depth: int, write_unit: int) -> int:
        """Bytes that a ring of this depth takes on a medium with this write unit."""
        return Twin.size_for(_HEADER.size, write_unit) + depth * RECORD_SIZE

    @classmethod
    def open(
        cls, media: Media, interval_s: int, depth: int, serial: str, at_slot: int = 0
    ) -> "Ring":
        """The ring on ``media``, recovered, or made when the medium is new.

        ``serial`` (1 to 16 ASCII characters) is the metering unit's. When it differs from the
        stored one a new unit epoch begins at ``at_slot``. A record's generation has 16 bits, and
        they must last until 2070, so that ``depth * interval_s`` is 48 154 s or more.
        Raises :class:`MeterError` for a medium of another interval or depth, or written by a newer
        program, and leaves it untouched.
        """
        if depth * interval_s * GENERATIONS < _LASTING_S:
            raise ValueError(
                f"{depth} values of {interval_s} s cannot be counted for a hundred years from 1970:"
                f" make the ring {-(-_LASTING_S // (GENERATIONS * interval_s))} deep"
            )
        if not (serial.isascii() and serial.isprintable() and 1 <= len(serial) <= 16):
            raise ValueError(f"a unit's serial has 1 to 16 ASCII characters, not {serial!r}")
        if not 0 <= at_slot < depth * GENERATIONS:
            raise ValueError(f"slot {at_slot} is before 1970 or beyond what the ring counts")
        if cls.size_for(depth, media.write_unit) > media.size:
            raise ValueError(f"{media.name} is too small for {depth} records")
        twin = Twin(media, 0, _MAGIC, _VERSION, _HEADER.size)
        stored = twin.load()
        unit = _Header(interval_s, depth, 0, at_slot, serial, "")
        header = unit if stored is None else _Header.decode(stored)
        if (header.interval_s, header.depth) != (interval_s, depth):
            raise MeterError(
                f"{media.name}: holds {header.depth} values of {header.interval_s} s where"
                f" {depth} of {interval_s} s are configured; move it away"
            )
        ring = cls(media, twin, header)
        found = ring._scan()
        if stored is None:
            ring.header_lost = bool(found) or ring.corrupt > 0 or twin.damaged == 2
            if ring.header_lost:
                log.error("%s: no believable header; its history is not served", media.name)
            ring._begin_unit(replace(unit, epoch=max(found, default=0)), found)
        elif header.serial != serial:
            ring.replaced = True
            ring._begin_unit(replace(unit, epoch=header.epoch, previous=header.serial), found)
        else:
            ring._hold(found.get(header.epoch % _EPOCHS, {}))
        return ring

    @staticmethod
    def serial_on(media: Media) -> str | None:
        """The metering unit whose history is on ``media``; None without a believable header.

        Raises :class:`MeterError` when a newer program wrote it; the medium stays untouched.
        """
        stored = Twin(media, 0, _MAGIC, _VERSION, _HEADER.size).load()
        return None if stored is None else _Header.decode(stored).serial

    @property
    def interval_s(self) -> int:
        return self._header.interval_s

    @property
    def depth(self) -> int:
        return self._header.depth

    @property
    def serial(self) -> str:
        """The present metering unit's serial."""
        return self._header.serial

    @property
    def previous_serial(self) -> str | None:
        """The metering unit before the present one; None for the first, or when not known."""
        return self._header.previous or None

    @property
    def epoch(self) -> int:
        """Rises with each metering unit, from 1."""
        return self._header.epoch

    @property
    def first_slot(self) -> int:
        """Where the present unit's history begins; nothing earlier is stored or served."""
        return self._header.first_slot

    def append(
        self, slot: int, forward_dwh: int, reverse_dwh: int, flags: Flag = Flag.NONE
    ) -> bool:
        """Store the registers at a boundary; durable on return.

        False, with the medium untouched, when the slot has a record already (the first snapshot
        of a boundary stands), lies ``depth`` or more behind the newest, before this unit, or
        beyond what the ring counts. Raises :class:`MeterError` when the medium fails; the record
        may then be appended again.
        """
        return bool(self.extend((Record(slot, forward_dwh, reverse_dwh, flags),)))

    def extend(self, records: Sequence[Record]) -> list[Record]:
        """Store several boundaries with one flush; durable on return.

        Each one by the rules of :meth:`append`, in the order given; those stored are returned.
        Raises :class:`ValueError` for an energy out of range, before anything is written.
        """
        for record in records:
            for energy in (record.forward_dwh, record.reverse_dwh):
                if not 0 <= energy <= MAX_ENERGY_DWH:
                    raise ValueError(f"a register of {energy} x 0.1 Wh is out of range")
        newest = self._newest
        fresh: dict[int, Record] = {}
        stored: list[Record] = []
        for record in records:
            place = record.slot % self.depth
            there = fresh.get(place) or self._held.get(place)
            if self._admits(record.slot, newest, there):
                fresh[place] = record
                newest = record.slot if newest is None else max(newest, record.slot)
                stored.append(record)
        if stored:
            self._write({place: self._encode(record) for place, record in fresh.items()})
            self._held.update(fresh)
            self._newest = newest
        return stored

    def withdraw(self, slots: Collection[int]) -> list[Record]:
        """Erase the records of these slots, durably: what was withdrawn, oldest first.

        They are absent from now on and may be appended again. When the newest go, those that they
        had hidden by being ``depth`` ahead are served again, unless their places were taken.
        Raises :class:`MeterError` when the medium fails; then all are still served, though power
        loss may erase some, and the call may be repeated.
        """
        wanted = frozenset(slots)
        gone = {place: record for place, record in self._held.items() if record.slot in wanted}
        left = {place: record for place, record in self._held.items() if place not in gone}
        # A vain write may have left such a slot on the medium, over what memory still holds.
        touched = gone.keys() | (self._unsure & {slot % self.depth for slot in wanted})
        if touched:
            self._write({p: self._encode(left[p]) if p in left else _EMPTY for p in touched})
            self._hold(left)
        return sorted(gone.values(), key=_slot_of)

    def get(self, slot: int) -> Record | None:
        """The registers at the opening of this slot, if they were stored and are intact."""
        record = self._held.get(slot % self._header.depth)
        return record if record is not None and record.slot == slot and self._shows(slot) else None

    def newest(self) -> Record | None:
        return None if self._newest is None else self.get(self._newest)

    def oldest(self) -> Record | None:
        return next(self.records(), None)

    def __len__(self) -> int:
        return sum(self._shows(record.slot) for record in self._held.values())

    def records(self) -> Iterator[Record]:
        """All records, oldest first."""
        shown = [record for record in self._held.values() if self._shows(record.slot)]
        yield from sorted(shown, key=_slot_of)

    def _shows(self, slot: int) -> bool:
        return self._newest is not None and slot > self._newest - self._header.depth

    def _admits(self, slot: int, newest: int | None, there: Record | None) -> bool:
        if not 0 <= slot < self.depth * GENERATIONS:
            return False
        if newest is None and slot < self.first_slot:
            # The unit was fitted while the clock was wrong; its history begins here.
            self._begin(replace(self._header, first_slot=slot))
        if slot < self.first_slot or (newest is not None and slot <= newest - self.depth):
            return False
        return there is None or there.slot != slot

    def _begin_unit(self, header: _Header, found: Mapping[int, Mapping[int, Record]]) -> None:
        """Begin the first unit epoch after the header's that no record of another unit bears."""
        first = header.epoch + 1
        every = range(first, first + _EPOCHS)
        epoch = next((epoch for epoch in every if epoch % _EPOCHS not in found), first)
        revived = found.get(epoch % _EPOCHS, {})
        if revived:
            self._write(dict.fromkeys(revived, _EMPTY))
        self._begin(replace(header, epoch=epoch))

    def _begin(self, header: _Header) -> None:
        self._twin.save(header.encode())
        self._header = header

    def _hold(self, held: dict[int, Record]) -> None:
        self._held = held
        self._newest = max((record.slot for record in held.values()), default=None)

    def _write(self, content: Mapping[int, bytes]) -> None:
        """Make these places durable, neighbours in one piece."""
        pieces: list[tuple[int, bytearray]] = []
        for place in sorted(content):
            if not pieces or place * RECORD_SIZE != pieces[-1][0] + len(pieces[-1][1]):
                pieces.append((place * RECORD_SIZE, bytearray()))
            pieces[-1][1].extend(content[place])
        self._unsure |= content.keys()
        for offset, piece in pieces:
            self._media.write(self._start + offset, bytes(piece))
        self._media.flush()
        self._unsure -= content.keys()

    def _scan(self) -> dict[int, dict[int, Record]]:
        """The believable records of the medium: unit epoch mod 16 → place → record."""
        depth = self.depth
        found: dict[int, dict[int, Record]] = {}
        raw = self._media.read(self._start, depth * RECORD_SIZE)
        for place, (body, check) in enumerate(_FRAME.iter_unpack(raw)):
            if zlib.crc32(body, place) & _CHECKS == int.from_bytes(check, "big"):
                generation, forward, reverse, marks = _BODY.unpack(body)
                record = Record(
                    generation * depth + place,
                    int.from_bytes(forward, "big"),
                    int.from_bytes(reverse, "big"),
                    _FLAGS[marks & 0x0F],
                )
                found.setdefault(marks >> 4, {})[place] = record
            elif any(body) or any(check):
                self.corrupt += 1
        return found

    def _encode(self, record: Record) -> bytes:
        generation, place = divmod(record.slot, self.depth)
        body = _BODY.pack(
            generation,
            record.forward_dwh.to_bytes(5, "big"),
            record.reverse_dwh.to_bytes(5, "big"),
            (self.epoch % _EPOCHS) << 4 | (record.flags & 0x0F),
        )
        return body + (zlib.crc32(body, place) & _CHECKS).to_bytes(3, "big")


def _slot_of(record: Record) -> int:
    return record.slot
