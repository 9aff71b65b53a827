"""The load profile: register values at the boundaries of equal intervals, newest over oldest.

A *slot* is ``epoch // interval_s``; its record holds the registers at the instant the slot opens.
The ring knows nothing of clocks: which boundary deserves a record is decided before it. A unit's
history ends with the unit: another serial starts a new *unit epoch*, and what earlier epochs
stored is never served again.

On the medium: the header (:mod:`~meter_runtime.storage.twin`), then ``depth`` records of 16 bytes,
the record of a slot at ``slot % depth``, big-endian::

    slot mod 2^24 u24 | forward u40 | reverse u40 | unit epoch mod 16 u4, flags u4 | CRC-16

Energies are in 0.1 Wh. CRC-16 is CCITT's with a start value that makes the empty record invalid.
"""

import binascii
import enum
import logging
import struct
from collections.abc import Iterator
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

RECORD_SIZE = 16
MAX_ENERGY_DWH = (1 << 40) - 1
"""Largest stored register, 0.1 Wh: 109 951 162 kWh, above the eight digits of any meter."""

_MAGIC = b"MRng"
_VERSION = 1
_HEADER = struct.Struct(">IIIQ16s")
_CRC_START = 0x1D0F
_SLOT_RANGE = 1 << 24
_SLOT_REACH = 1 << 23
"""How far after the unit's first slot its records may lie (half-hours: 478 years).

Half of what 24 bits name, so that what lies before the first slot is told from what lies after.
"""
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

    def encode(self) -> bytes:
        return _HEADER.pack(
            self.interval_s, self.depth, self.epoch, self.first_slot, self.serial.encode("ascii")
        )

    @staticmethod
    def decode(payload: bytes) -> "_Header":
        interval_s, depth, epoch, first_slot, serial = _HEADER.unpack(payload)
        return _Header(
            interval_s, depth, epoch, first_slot, serial.rstrip(b"\0").decode("ascii", "replace")
        )


class Ring:
    """The records of the present unit; made by :meth:`open`."""

    def __init__(self, media: Media, twin: Twin, header: _Header) -> None:
        self._media = media
        self._twin = twin
        self._header = header
        self._start = Twin.size_for(_HEADER.size, media.write_unit)
        self._by_slot: dict[int, Record] = {}
        self._newest: int | None = None
        self.corrupt = 0
        """Records found damaged at open; they are served as absent."""
        self.replaced = False
        """True when the unit is another one than at the last open."""
        self.reformatted = False
        """True when a medium that held something had no believable header and was emptied."""

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
        stored one a new unit epoch begins at ``at_slot``. Raises :class:`MeterError` for a medium
        of another interval or depth, or written by a newer program, and leaves it untouched.
        """
        if not serial.isascii() or not 1 <= len(serial) <= 16:
            raise ValueError(f"a unit's serial has 1 to 16 ASCII characters, not {serial!r}")
        if at_slot < 0:
            raise ValueError(f"slot {at_slot} is before 1970")
        if cls.size_for(depth, media.write_unit) > media.size:
            raise ValueError(f"{media.name} is too small for {depth} records")
        twin = Twin(media, 0, _MAGIC, _VERSION, _HEADER.size)
        stored = twin.load()
        if stored is None:
            header = _Header(interval_s, depth, 1, at_slot, serial)
            ring = cls(media, twin, header)
            ring._format()
            return ring
        header = _Header.decode(stored)
        if (header.interval_s, header.depth) != (interval_s, depth):
            raise MeterError(
                f"{media.name}: holds {header.depth} values of {header.interval_s} s where"
                f" {depth} of {interval_s} s are configured; move the file away"
            )
        ring = cls(media, twin, header)
        if header.serial != serial:
            ring.replaced = True
            ring._begin(replace(header, epoch=header.epoch + 1, first_slot=at_slot, serial=serial))
        ring._recover()
        return ring

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
    def epoch(self) -> int:
        """Counts the metering units this ring has seen, from 1."""
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
        of a boundary stands), lies ``depth`` or more behind the newest, or before this unit.
        Raises :class:`MeterError` when the medium fails; the record may then be appended again.
        """
        for energy in (forward_dwh, reverse_dwh):
            if not 0 <= energy <= MAX_ENERGY_DWH:
                raise ValueError(f"a register of {energy} x 0.1 Wh is out of range")
        if not self._admits(slot):
            return False
        record = Record(slot, forward_dwh, reverse_dwh, flags)
        self._media.write(
            self._start + (slot % self.depth) * RECORD_SIZE, _encode(record, self.epoch)
        )
        self._media.flush()
        self._index(record)
        return True

    def get(self, slot: int) -> Record | None:
        """The registers at the opening of this slot, if they were stored and are intact."""
        return self._by_slot.get(slot)

    def newest(self) -> Record | None:
        return None if self._newest is None else self._by_slot[self._newest]

    def oldest(self) -> Record | None:
        return self._by_slot[min(self._by_slot)] if self._by_slot else None

    def __len__(self) -> int:
        return len(self._by_slot)

    def records(self) -> Iterator[Record]:
        """All records, oldest first."""
        for slot in sorted(self._by_slot):
            yield self._by_slot[slot]

    def _admits(self, slot: int) -> bool:
        first = self._header.first_slot
        if not self._by_slot and not first <= slot < first + _SLOT_REACH:
            # The unit was fitted while the clock was wrong; its history begins here.
            if slot < 0:
                return False
            self._begin(replace(self._header, first_slot=slot))
            return True
        if slot in self._by_slot or not first <= slot < first + _SLOT_REACH:
            return False
        return self._newest is None or slot > self._newest - self.depth

    def _index(self, record: Record) -> None:
        if self._newest is None:
            self._newest = record.slot
        elif record.slot > self._newest:
            if record.slot - self._newest >= self.depth:
                self._by_slot.clear()
            else:
                for gone in range(self._newest - self.depth + 1, record.slot - self.depth + 1):
                    self._by_slot.pop(gone, None)
            self._newest = record.slot
        self._by_slot[record.slot] = record

    def _begin(self, header: _Header) -> None:
        self._twin.save(header.encode())
        self._header = header

    def _format(self) -> None:
        records = self.depth * RECORD_SIZE
        self.reformatted = self._twin.damaged > 0 or any(self._media.read(self._start, records))
        if self.reformatted:
            log.error("%s: no believable header; the load profile begins anew", self._media.name)
            self._media.write(self._start, bytes(records))
            # Before the header: a believable one must never stand over another unit's records.
            self._media.flush()
        self._begin(self._header)

    def _recover(self) -> None:
        header = self._header
        raw = self._media.read(self._start, self.depth * RECORD_SIZE)
        found: list[Record] = []
        for index in range(self.depth):
            chunk = raw[index * RECORD_SIZE : (index + 1) * RECORD_SIZE]
            if chunk == _EMPTY:
                continue
            if binascii.crc_hqx(chunk, _CRC_START) != 0:
                self.corrupt += 1
                continue
            epoch, record = _decode(chunk, header.first_slot)
            if epoch != header.epoch % 16 or record.slot >= header.first_slot + _SLOT_REACH:
                continue
            if record.slot % self.depth != index:
                self.corrupt += 1
                continue
            found.append(record)
        if found:
            self._newest = max(record.slot for record in found)
            oldest = self._newest - self.depth + 1
            self._by_slot = {r.slot: r for r in found if r.slot >= oldest}


def _encode(record: Record, epoch: int) -> bytes:
    body = (
        (record.slot % _SLOT_RANGE).to_bytes(3, "big")
        + record.forward_dwh.to_bytes(5, "big")
        + record.reverse_dwh.to_bytes(5, "big")
        + bytes(((epoch % 16) << 4 | (record.flags & 0x0F),))
    )
    return body + binascii.crc_hqx(body, _CRC_START).to_bytes(2, "big")


def _decode(chunk: bytes, first_slot: int) -> tuple[int, Record]:
    """Unit epoch modulo 16 and the record: its slot is the first such one of the epoch."""
    stored = int.from_bytes(chunk[:3], "big")
    slot = first_slot + (stored - first_slot) % _SLOT_RANGE
    return chunk[13] >> 4, Record(
        slot,
        int.from_bytes(chunk[3:8], "big"),
        int.from_bytes(chunk[8:13], "big"),
        Flag(chunk[13] & 0x0F),
    )
