"""Files of format 1 become files of the present one, once, before they are opened.

The frozen reader of format 1 is here and nowhere else; whatever is not believably of format 1 is
left to the present stores. A new file is made whole beside the old one and
takes its name: after a power cut there is the old file or the new one, and the next start goes on.

Format 1, big-endian, as files of 512-byte sectors. Header and registers, two copies of::

    magic 4 | version u16 = 1 | payload length u16 | sequence u64 | payload | CRC-32

    ring      "MRng" | interval_s u32 | depth u32 | epoch u32 | first slot u64 | serial 16
    registers "MReg" | four registers u64 (mWh) | wall time u64 (ms) | serial 16

A ring's record, 16 bytes::

    slot mod 2^24 u24 | forward u40 | reverse u40 | unit epoch mod 16 u4, flags u4 | CRC-16

A journal, 64 entries of one sector each, zeros or::

    "Jo" | version u8 = 1 | state u8 | sequence u64 | key 16 | length u16 | payload | CRC-32
"""

import binascii
import logging
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meter_runtime.clock import HALF_HOUR_S
from meter_runtime.errors import MeterError
from meter_runtime.storage.journal import JOURNAL_DEPTH, Journal
from meter_runtime.storage.media import (
    FILE_WRITE_UNIT,
    MemoryMedia,
    failure,
    file_size,
    lock,
    open_file,
    write_whole,
)
from meter_runtime.storage.registers import Checkpoint, RegisterStore, unit_mark
from meter_runtime.storage.ring import LOAD_PROFILE_DEPTH, RECORD_SIZE, Flag, Record, Ring

log = logging.getLogger(__name__)

_FRAME = struct.Struct(">4sHHQ")
_SECTOR = 512
_RECORDS = 2 * _SECTOR
_RING = struct.Struct(">IIIQ16s")
_REGISTERS = struct.Struct(">QQQQQ16s")
_CRC_START = 0x1D0F
_SLOT_RANGE = 1 << 24
_JOURNAL_SIZE = JOURNAL_DEPTH * _SECTOR
_ENTRY_HEAD = b"Jo\x01"
_MAX_SIZE = _RECORDS + LOAD_PROFILE_DEPTH * RECORD_SIZE


def migrate_ring(path: Path) -> bool:
    """Bring a load profile of format 1 to the present format; True when that was done.

    The present unit's records go on, those hidden behind a newer one included; earlier units'
    stay behind. Raises :class:`MeterError`, the file untouched, when it holds other than 2016
    half-hours, when another meter uses it, and when it cannot be read or replaced.
    """
    return _migrate(path, _new_ring)


def migrate_registers(path: Path) -> bool:
    """Bring a register checkpoint of format 1 to the present format; True when that was done.

    Raises :class:`MeterError` as :func:`migrate_ring` does.
    """
    return _migrate(path, _new_registers)


def migrate_journal(path: Path) -> bool:
    """Replace a journal of format 1 by an empty one of the present; True when that was done.

    No release of format 1 obeyed commands, so none can be pending in it; an entry that is there
    all the same is left behind. Raises :class:`MeterError` as :func:`migrate_ring` does.
    """
    return _migrate(path, _new_journal)


def _migrate(path: Path, convert: Callable[[bytes, Path], MemoryMedia | None]) -> bool:
    try:
        fd = open_file(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise failure(path, "open", error) from error
    try:
        lock(path, fd)
        image = convert(os.pread(fd, _MAX_SIZE, 0), path)
        if image is None:
            return False
        write_whole(path, image.read(0, image.size))
    except OSError as error:
        raise failure(path, "bring it to the present format", error) from error
    finally:
        os.close(fd)
    log.warning("%s: brought from format 1 to the present one", path)
    return True


def _new_ring(raw: bytes, path: Path) -> MemoryMedia | None:
    header = _newest_copy(raw, b"MRng", _RING)
    if header is None:
        return None
    interval_s, depth, epoch, first_slot, serial = header
    if (interval_s, depth) != (HALF_HOUR_S, LOAD_PROFILE_DEPTH):
        raise MeterError(f"{path}: holds {depth} values of {interval_s} s; move it away")
    if len(raw) < _MAX_SIZE:
        raise MeterError(f"{path}: the file was cut short; restore it or move it away")
    image = _image(Ring.size_for(depth, FILE_WRITE_UNIT))
    ring = Ring.open(image, interval_s, depth, _text(serial), first_slot)
    # Ascending, so that none is refused as older than what a ring keeps behind its newest.
    ring.extend(_records(raw, epoch, first_slot))
    return image


def _records(raw: bytes, epoch: int, first_slot: int) -> list[Record]:
    """The unit's believable records, oldest first: slots are the first such ones of the epoch."""
    found = []
    for place in range(LOAD_PROFILE_DEPTH):
        at = _RECORDS + place * RECORD_SIZE
        chunk = raw[at : at + RECORD_SIZE]
        slot = first_slot + (int.from_bytes(chunk[:3], "big") - first_slot) % _SLOT_RANGE
        # The CRC's start value makes an empty place fail, too.
        intact = binascii.crc_hqx(chunk, _CRC_START) == 0 and slot % LOAD_PROFILE_DEPTH == place
        if intact and chunk[13] >> 4 == epoch % 16:
            forward, reverse = (int.from_bytes(chunk[n : n + 5], "big") for n in (3, 8))
            found.append(Record(slot, forward, reverse, Flag(chunk[13] & 0x0F)))
    return sorted(found, key=lambda record: record.slot)


def _new_registers(raw: bytes, path: Path) -> MemoryMedia | None:
    kept = _newest_copy(raw, b"MReg", _REGISTERS)
    if kept is None:
        return None
    forward, reverse, unit_forward, unit_reverse, wall_ms, serial = kept
    wall = wall_ms / 1000 if wall_ms else None
    mark = unit_mark(_text(serial))
    image = _image(RegisterStore.size_for(FILE_WRITE_UNIT))
    try:
        RegisterStore(image).save(
            Checkpoint(forward, reverse, unit_forward, unit_reverse, mark, wall)
        )
    except ValueError as error:
        raise MeterError(f"{path}: {error}; move it away") from error
    return image


def _new_journal(raw: bytes, path: Path) -> MemoryMedia | None:
    if len(raw) != _JOURNAL_SIZE:
        return None
    sectors = (raw[at : at + _SECTOR] for at in range(0, _JOURNAL_SIZE, _SECTOR))
    entries = [sector for sector in sectors if any(sector)]
    if not all(entry.startswith(_ENTRY_HEAD) for entry in entries):
        return None
    if entries:
        log.warning("%s: %d entries of format 1 are left behind", path, len(entries))
    return _image(Journal.size_for(JOURNAL_DEPTH, FILE_WRITE_UNIT))


def _newest_copy(raw: bytes, magic: bytes, payload: struct.Struct) -> tuple[Any, ...] | None:
    best: tuple[int, tuple[Any, ...]] | None = None
    end = _FRAME.size + payload.size
    for copy in (raw[:_SECTOR], raw[_SECTOR:_RECORDS]):
        if len(copy) < _SECTOR:
            continue
        *head, sequence = _FRAME.unpack_from(copy)
        intact = int.from_bytes(copy[end : end + 4], "big") == zlib.crc32(copy[:end])
        if head == [magic, 1, payload.size] and intact and (best is None or sequence > best[0]):
            best = sequence, payload.unpack_from(copy, _FRAME.size)
    return None if best is None else best[1]


def _image(size: int) -> MemoryMedia:
    return MemoryMedia(file_size(size), write_unit=FILE_WRITE_UNIT)


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode("ascii")
