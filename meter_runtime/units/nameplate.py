"""The record of a unit's nameplate in its ID EEPROM: bytes to values and back.

Where the bytes are kept is :mod:`~meter_runtime.units.eeprom`'s business. The format is this
project's own. All numbers are big-endian:

======  ====  ==========================================================
offset  size  content
======  ====  ==========================================================
0       4     magic, ``UNIT``
4       1     version, 1
5       2     length *n* of the fields, in bytes
7       *n*   fields, each of a tag byte, a length byte and its value
7+n     4     CRC-32 (zlib's) of everything before
======  ====  ==========================================================

====  =======================  =============================================
tag   field                    value
====  =======================  =============================================
01    kind                     1 communication, 2 metering, 3 optional
02    model                    UTF-8, 1 to 64 bytes
03    serial                   printable ASCII, 1 to 12
04    maker                    UTF-8, at most 64 bytes
05    hardware version         UTF-8, at most 64 bytes
06    firmware version         UTF-8, at most 64 bytes
07    driver                   UTF-8, at most 64 bytes
08    wiring                   1 1P2W, 2 1P3W, 3 3P3W
09    rated current            ampere, two bytes, not 0
0A    abilities                bit 0 two-way, bit 1 B-route
0B    B-route medium           1 920 MHz, 2 PLC
0C    A-route bearer           1 RF, 2 PLC
0D    function                 1 switching, 2 voltage
0E    certified until          year in two bytes, month, day
0F    calibration value        signed, four bytes, then its name: ASCII, 1 to 32
====  =======================  =============================================

Kind, model and serial are in every record; 0F may come several times, the others once. A tag that
is not in the table is passed over, so a version may grow. A new version keeps magic, version,
length and CRC where they are: a record is known to be whole before it is refused for its version.
"""

import enum
import zlib
from collections.abc import Iterator
from datetime import date

from meter_runtime.errors import MeterError, UsageError
from meter_runtime.units.contracts import (
    ARouteBearer,
    BRouteMedium,
    Nameplate,
    OptionalFunction,
    UnitKind,
    Wiring,
)

MAGIC = b"UNIT"
VERSION = 1
HEADER_SIZE = 7
CRC_SIZE = 4
MAX_SIZE = 512

SERIAL_MAX = 12
"""The metering unit's serial is EPC 0x8D of the meter class: twelve ASCII characters."""

TEXT_MAX = 64
NAME_MAX = 32
CAPACITY_MAX = 0xFFFF
CALIBRATION_RANGE = range(-(1 << 31), 1 << 31)


class NameplateUnreadable(MeterError):  # noqa: N818 - a finding, by the name it has among them
    """There is a record, and it is damaged or not of this version."""

    code = "U-23"


class _Tag(enum.IntEnum):
    KIND = 0x01
    MODEL = 0x02
    SERIAL = 0x03
    MAKER = 0x04
    HW_VERSION = 0x05
    FW_VERSION = 0x06
    DRIVER = 0x07
    WIRING = 0x08
    CAPACITY = 0x09
    ABILITIES = 0x0A
    BROUTE_MEDIUM = 0x0B
    AROUTE = 0x0C
    FUNCTION = 0x0D
    CERTIFIED_UNTIL = 0x0E
    CALIBRATION = 0x0F


_TEXTS = {
    _Tag.MODEL: "model",
    _Tag.SERIAL: "serial",
    _Tag.MAKER: "maker",
    _Tag.HW_VERSION: "hw_version",
    _Tag.FW_VERSION: "fw_version",
    _Tag.DRIVER: "driver",
}

_CHOICES: dict[_Tag, tuple[str, tuple[enum.Enum, ...]]] = {
    _Tag.KIND: ("kind", (UnitKind.COMMUNICATION, UnitKind.METERING, UnitKind.OPTIONAL)),
    _Tag.WIRING: (
        "wiring",
        (Wiring.ONE_PHASE_TWO_WIRE, Wiring.ONE_PHASE_THREE_WIRE, Wiring.THREE_PHASE_THREE_WIRE),
    ),
    _Tag.BROUTE_MEDIUM: ("broute_medium", (BRouteMedium.RADIO, BRouteMedium.PLC)),
    _Tag.AROUTE: ("aroute", (ARouteBearer.RF, ARouteBearer.PLC)),
    _Tag.FUNCTION: ("function", (OptionalFunction.SWITCHING, OptionalFunction.VOLTAGE)),
}
"""Field and members; the first member is coded as 1. Only ever add to the end."""

_TWO_WAY = 0x01
_BROUTE = 0x02


def encode(nameplate: Nameplate) -> bytes:
    """The record, at most :data:`MAX_SIZE` bytes.

    Raises UsageError naming the field that no record can hold.
    """
    fields = bytearray()
    for tag, value in _fields_of(nameplate):
        fields += bytes((tag, len(value))) + value
    record = MAGIC + bytes((VERSION,)) + len(fields).to_bytes(2, "big") + fields
    record += zlib.crc32(record).to_bytes(CRC_SIZE, "big")
    if len(record) > MAX_SIZE:
        raise UsageError(
            f"the nameplate takes {len(record)} bytes and its record holds {MAX_SIZE};"
            " shorten its texts or its calibration"
        )
    return bytes(record)


def record_size(header: bytes) -> int:
    """How long the record is that begins with these :data:`HEADER_SIZE` bytes or more.

    Raises NameplateUnreadable where no record begins.
    """
    if len(header) < HEADER_SIZE or not header.startswith(MAGIC):
        raise NameplateUnreadable("this is no nameplate; label the unit")
    size = HEADER_SIZE + int.from_bytes(header[5:HEADER_SIZE], "big") + CRC_SIZE
    if size > MAX_SIZE:
        raise NameplateUnreadable(
            f"the nameplate is damaged: it claims {size} bytes; label the unit again"
        )
    return size


def decode(record: bytes) -> Nameplate:
    """The nameplate of a record; what follows it is left alone.

    Raises NameplateUnreadable saying what is wrong with it.
    """
    size = record_size(record)
    checked, crc = record[: size - CRC_SIZE], record[size - CRC_SIZE : size]
    if zlib.crc32(checked).to_bytes(CRC_SIZE, "big") != crc:
        raise NameplateUnreadable("the nameplate is damaged: its CRC differs; label the unit again")
    if record[4] != VERSION:
        raise NameplateUnreadable(
            f"the nameplate is of version {record[4]} and this program reads version {VERSION};"
            " update the program, or label the unit again"
        )
    try:
        return _nameplate_of(checked[HEADER_SIZE:])
    except ValueError as wrong:
        raise NameplateUnreadable(
            f"the nameplate makes no sense: {wrong}; label the unit again"
        ) from None


def _fields_of(nameplate: Nameplate) -> Iterator[tuple[_Tag, bytes]]:
    """The fields that say something, in the order of their tags."""
    try:
        for tag in _Tag:
            if tag is _Tag.CALIBRATION:
                for name, number in sorted(nameplate.calibration.items()):
                    yield tag, _calibration(name, number)
            else:
                value = _value_of(tag, nameplate)
                if value:
                    yield tag, value
    except ValueError as wrong:
        raise UsageError(f"the nameplate's {wrong}") from None


def _value_of(tag: _Tag, nameplate: Nameplate) -> bytes:
    """What the record says of this field; nothing where the unit has no such property."""
    if tag in _TEXTS:
        return _checked_text(tag, getattr(nameplate, _TEXTS[tag])).encode()
    if tag in _CHOICES:
        field, members = _CHOICES[tag]
        chosen = getattr(nameplate, field)
        return b"" if chosen is None else bytes((members.index(chosen) + 1,))
    match tag:
        case _Tag.CAPACITY:
            if nameplate.capacity_a is None:
                return b""
            return _capacity(nameplate.capacity_a).to_bytes(2, "big")
        case _Tag.ABILITIES:
            two_way = _TWO_WAY if nameplate.two_way else 0
            return bytes((two_way | (_BROUTE if nameplate.broute else 0),))
        case _:
            day = nameplate.certified_until
            return b"" if day is None else day.year.to_bytes(2, "big") + bytes((day.month, day.day))


def _nameplate_of(fields: bytes) -> Nameplate:
    """Raises ValueError, with what a person can make of it, for fields of no sense."""
    known: dict[str, object] = {}
    calibration: dict[str, int] = {}
    seen: set[int] = set()
    for code, value in _split(fields):
        if code not in _KNOWN_TAGS:
            continue
        tag = _Tag(code)
        if tag is _Tag.CALIBRATION:
            name = value[4:].decode("ascii", "replace")
            if _calibration(name, number := int.from_bytes(value[:4], "big", signed=True)) != value:
                raise ValueError(f"calibration {value.hex()} has no name or no number")
            if name in calibration:
                raise ValueError(f"calibration {name} comes twice")
            calibration[name] = number
        elif tag in seen:
            raise ValueError(f"field {tag:#04x} comes twice")
        else:
            seen.add(tag)
            known |= _decoded(tag, value)
    missing = {_Tag.KIND, _Tag.MODEL, _Tag.SERIAL} - seen
    if missing:
        raise ValueError(f"field {min(missing):#04x} is missing")
    return Nameplate(**known, calibration=calibration)  # type: ignore[arg-type]


def _split(fields: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(fields):
        value = fields[at + 2 : at + 2 + fields[at + 1]] if at + 1 < len(fields) else None
        if value is None or len(value) < fields[at + 1]:
            raise ValueError(f"field {fields[at]:#04x} is cut off")
        yield fields[at], value
        at += 2 + len(value)


def _decoded(tag: _Tag, value: bytes) -> dict[str, object]:
    """One field as Nameplate takes it."""
    if tag in _TEXTS:
        return {_TEXTS[tag]: _checked_text(tag, value.decode())}
    if tag in _CHOICES:
        field, members = _CHOICES[tag]
        if len(value) != 1 or not 1 <= value[0] <= len(members):
            raise ValueError(f"{field} {value.hex()} is unknown")
        return {field: members[value[0] - 1]}
    match tag:
        case _Tag.CAPACITY if len(value) == 2:
            return {"capacity_a": _capacity(int.from_bytes(value, "big"))}
        case _Tag.ABILITIES if len(value) == 1:
            return {"two_way": bool(value[0] & _TWO_WAY), "broute": bool(value[0] & _BROUTE)}
        case _Tag.CERTIFIED_UNTIL if len(value) == 4:
            return {"certified_until": date(int.from_bytes(value[:2], "big"), value[2], value[3])}
    raise ValueError(f"field {tag:#04x} is {len(value)} bytes long")


def _checked_text(tag: _Tag, text: str) -> str:
    field = _TEXTS[tag]
    if tag is _Tag.SERIAL and not (text.isascii() and len(text) <= SERIAL_MAX):
        raise ValueError(f"{field} {text!r} is not 1 to {SERIAL_MAX} ASCII characters")
    if tag in {_Tag.MODEL, _Tag.SERIAL} and not text:
        raise ValueError(f"{field} is empty")
    if not text.isprintable():
        raise ValueError(f"{field} {text!r} has characters that cannot be printed")
    if len(text.encode(errors="replace")) > TEXT_MAX:
        raise ValueError(f"{field} is longer than {TEXT_MAX} bytes")
    return text


def _capacity(ampere: int) -> int:
    if not 0 < ampere <= CAPACITY_MAX:
        raise ValueError(f"rated current {ampere} A is not 1 to {CAPACITY_MAX} A")
    return ampere


def _calibration(name: str, number: int) -> bytes:
    if not (name.isascii() and name.isprintable() and 0 < len(name) <= NAME_MAX):
        raise ValueError(f"calibration {name!r} is not named by 1 to {NAME_MAX} ASCII characters")
    if number not in CALIBRATION_RANGE:
        raise ValueError(f"calibration {name} {number} is outside of 32 bits")
    return number.to_bytes(4, "big", signed=True) + name.encode()


_KNOWN_TAGS = frozenset(_Tag)
