"""The voltage log: what each half-hour's voltages were, newest over oldest.

The header (:mod:`~meter_runtime.storage.twin`, payload: depth u32), then ``depth`` records of 32
bytes, the record of half-hour ``slot`` (``epoch // 1800``) at place ``slot % depth``, big-endian::

    slot u32 | 3 x readings u16 | 3 x (mean u16, least u16, most u16) | CRC-32

for the lines R-N, T-N, R-T, in 0.01 V; a line without readings has no data. The CRC is over all
before it. A record says which half-hour it is of, so that the header's loss costs nothing, a record
in another's place is none, and one that a wrong clock left is harmless: nobody asks for its
half-hour. Zeros are an empty place.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from meter_runtime.clock import SLOTS_PER_DAY
from meter_runtime.errors import MeterError
from meter_runtime.storage.media import Media
from meter_runtime.storage.twin import Twin

VOLTAGE_LOG_DEPTH = 42 * SLOTS_PER_DAY
"""As far back as the load profile: 64 512 bytes of records."""

RECORD_SIZE = 32
MAX_CV = (1 << 16) - 1
"""Largest stored voltage: 655.35 V."""
MAX_READINGS = (1 << 16) - 1
LINES = 3

_MAGIC = b"VL"
_VERSION = 1
_HEADER = struct.Struct(">I")
_BODY = struct.Struct(">I3H9H")
_CRC = struct.Struct(">I")
_SLOTS = 1 << 32


@dataclass(frozen=True, slots=True)
class LineVoltage:
    """One line in one half-hour, in 0.01 V (0 to ``MAX_CV``), from so many readings (1 or more)."""

    mean_cv: int
    least_cv: int
    most_cv: int
    readings: int


@dataclass(frozen=True, slots=True)
class VoltageRecord:
    """The voltages of half-hour ``slot``; None where a line has no data."""

    slot: int
    r_n: LineVoltage | None
    t_n: LineVoltage | None
    r_t: LineVoltage | None

    @property
    def lines(self) -> tuple[LineVoltage | None, LineVoltage | None, LineVoltage | None]:
        return self.r_n, self.t_n, self.r_t

    @property
    def readings(self) -> int:
        """Of all lines together."""
        return sum(line.readings for line in self.lines if line is not None)


class VoltageLog:
    """The records of one medium; made by :meth:`open`."""

    def __init__(self, media: Media, depth: int) -> None:
        self._media = media
        self._start = Twin.size_for(_HEADER.size, media.write_unit)
        self.depth = depth

    @staticmethod
    def size_for(depth: int, write_unit: int) -> int:
        """Bytes that a log of this depth takes on a medium with this write unit."""
        return Twin.size_for(_HEADER.size, write_unit) + depth * RECORD_SIZE

    @classmethod
    def open(cls, media: Media, depth: int = VOLTAGE_LOG_DEPTH) -> "VoltageLog":
        """The log on ``media``, made when the medium is new.

        Raises :class:`MeterError` for a medium of another depth, or written by a newer program,
        and leaves it untouched.
        """
        if cls.size_for(depth, media.write_unit) > media.size:
            raise ValueError(f"{media.name} is too small for {depth} records")
        twin = Twin(media, 0, _MAGIC, _VERSION, _HEADER.size)
        header = twin.load()
        if header is None:
            twin.save(_HEADER.pack(depth))
        elif header != _HEADER.pack(depth):
            raise MeterError(
                f"{media.name}: holds {_HEADER.unpack(header)[0]} half-hours of voltage where"
                f" {depth} are configured; move it away"
            )
        return cls(media, depth)

    def store(self, record: VoltageRecord) -> bool:
        """Store a half-hour; durable on return.

        False, with the medium untouched, where the same half-hour is stored already from more
        readings. Raises :class:`MeterError` when the medium fails; it may then be stored again.
        """
        if not 0 <= record.slot < _SLOTS:
            raise ValueError(f"slot {record.slot} is before 1970 or beyond what the log counts")
        there = self.get(record.slot)
        if there is not None and there.readings > record.readings:
            return False
        place = record.slot % self.depth
        self._media.write(self._start + place * RECORD_SIZE, encode(record))
        self._media.flush()
        return True

    def get(self, slot: int) -> VoltageRecord | None:
        """This half-hour, if it was stored and is intact. MeterError when the medium fails."""
        raw = self._media.read(self._start + slot % self.depth * RECORD_SIZE, RECORD_SIZE)
        record = decode(raw)
        return record if record is not None and record.slot == slot else None

    def records(self, first: int, last: int) -> list[VoltageRecord]:
        """Half-hours ``first`` to ``last`` (inclusive), oldest first, as far as they are stored.

        MeterError when the medium fails.
        """
        raw = self._media.read(self._start, self.depth * RECORD_SIZE)
        found = []
        for place in range(self.depth):
            record = decode(raw[place * RECORD_SIZE : (place + 1) * RECORD_SIZE])
            if (
                record is not None
                and record.slot % self.depth == place
                and first <= record.slot <= last
            ):
                found.append(record)
        return sorted(found, key=lambda record: record.slot)


def encode(record: VoltageRecord) -> bytes:
    """The record's 32 bytes; ValueError for what they cannot hold."""
    readings = [0 if line is None else line.readings for line in record.lines]
    figures: list[int] = []
    for line in record.lines:
        figures += (0, 0, 0) if line is None else (line.mean_cv, line.least_cv, line.most_cv)
    try:
        body = _BODY.pack(record.slot, *readings, *figures)
    except struct.error:
        raise ValueError(f"out of range: {record}") from None
    return body + _CRC.pack(zlib.crc32(body))


def decode(raw: bytes) -> VoltageRecord | None:
    """The record in 32 bytes; None where they are none."""
    body = raw[: _BODY.size]
    if len(raw) != RECORD_SIZE or _CRC.unpack_from(raw, _BODY.size)[0] != zlib.crc32(body):
        return None
    slot, *figures = _BODY.unpack(body)
    lines = [_line(figures, line) for line in range(LINES)]
    return VoltageRecord(slot, *lines)


def _line(figures: Sequence[int], line: int) -> LineVoltage | None:
    readings = figures[line]
    mean, least, most = figures[LINES + 3 * line : LINES + 3 * line + 3]
    return LineVoltage(mean, least, most, readings) if readings else None
