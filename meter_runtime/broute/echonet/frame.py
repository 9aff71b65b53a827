"""The ECHONET Lite frame: bytes to values and back, exactly.

Owns the layout and nothing of its meaning: which objects exist and what they answer is the
node's business. ECHONET Lite specification 1.14, part 2, chapter 3 (format 1)::

    10 81 | TID 2 | SEOJ 3 | DEOJ 3 | ESV 1 | OPC 1 | { EPC 1, PDC 1, EDT PDC } x OPC

All numbers are big-endian. The SetGet services carry a second list behind the first, with an
OPC of its own.
"""

import enum
import struct
from dataclasses import dataclass
from typing import NamedTuple

EHD = 0x1081
"""EHD1 10 (ECHONET Lite) and EHD2 81 (format 1)."""

HEAD_SIZE = 12

_HEAD = struct.Struct(">HH3s3sBB")


class Esv(enum.IntEnum):
    """Service codes: the upper nibble 6 asks, 7 grants, 5 refuses."""

    SET_I_SNA = 0x50
    SET_C_SNA = 0x51
    GET_SNA = 0x52
    INF_SNA = 0x53
    SET_GET_SNA = 0x5E
    SET_I = 0x60
    SET_C = 0x61
    GET = 0x62
    INF_REQ = 0x63
    SET_GET = 0x6E
    SET_RES = 0x71
    GET_RES = 0x72
    INF = 0x73
    INFC = 0x74
    INFC_RES = 0x7A
    SET_GET_RES = 0x7E


INFC_RES_ESV = Esv.INFC_RES
"""The one answer a meter waits for: the home has heard an INFC."""

_TWO_LISTS = frozenset({Esv.SET_GET, Esv.SET_GET_RES, Esv.SET_GET_SNA})


class MalformedFrame(ValueError):  # noqa: N818 - it names the frame, not the reader's failure
    """The bytes are no ECHONET Lite frame of format 1; the message says where they go wrong."""


class Property(NamedTuple):
    """One property of a frame: its code and its data, empty where the frame carries none."""

    epc: int
    edt: bytes = b""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    ``seoj`` and ``deoj`` are three bytes each; ``esv`` is any byte, known to :class:`Esv` or
    not. ``properties_get`` is the second list of a SetGet service and ``None`` on every other.
    """

    tid: int
    seoj: bytes
    deoj: bytes
    esv: int
    properties: tuple[Property, ...]
    properties_get: tuple[Property, ...] | None = None


def parse(payload: bytes) -> Frame:
    """Read one frame; raises :class:`MalformedFrame`.

    Bytes behind a complete frame make it malformed too: a length that does not add up says that
    the lengths inside cannot be relied on.
    """
    if len(payload) < HEAD_SIZE:
        raise MalformedFrame(f"{len(payload)} bytes are shorter than a header")
    ehd, tid, seoj, deoj, esv, count = _HEAD.unpack_from(payload)
    if ehd != EHD:
        raise MalformedFrame(f"header {ehd:04X} is not {EHD:04X}")
    properties, end = _parse_list(payload, HEAD_SIZE, count)
    properties_get = None
    if esv in _TWO_LISTS:
        if end >= len(payload):
            raise MalformedFrame("the second list of a SetGet is missing")
        properties_get, end = _parse_list(payload, end + 1, payload[end])
    if end != len(payload):
        raise MalformedFrame(f"{len(payload) - end} bytes follow a complete frame")
    return Frame(tid, seoj, deoj, esv, properties, properties_get)


def _parse_list(payload: bytes, at: int, count: int) -> tuple[tuple[Property, ...], int]:
    properties = []
    size = len(payload)
    for _ in range(count):
        if at + 2 > size:
            raise MalformedFrame(f"{count} properties announced, the frame ends after fewer")
        start = at + 2
        end = start + payload[at + 1]
        if end > size:
            raise MalformedFrame(f"property {payload[at]:02X} ends behind the frame")
        properties.append(Property(payload[at], payload[start:end]))
        at = end
    return tuple(properties), at


def encode(frame: Frame) -> bytes:
    """Write one frame; raises ``ValueError`` for values the layout cannot hold."""
    if len(frame.seoj) != 3 or len(frame.deoj) != 3:
        raise ValueError("an ECHONET object code has three bytes")
    if (frame.properties_get is not None) != (frame.esv in _TWO_LISTS):
        raise ValueError("SetGet carries two property lists, every other service one")
    try:
        head = _HEAD.pack(EHD, frame.tid, frame.seoj, frame.deoj, frame.esv, len(frame.properties))
    except struct.error as reason:
        raise ValueError(f"TID, ESV or OPC does not fit its field: {reason}") from None
    payload = bytearray(head)
    _append_list(payload, frame.properties)
    if frame.properties_get is not None:
        payload.append(len(frame.properties_get))
        _append_list(payload, frame.properties_get)
    return bytes(payload)


def _append_list(payload: bytearray, properties: tuple[Property, ...]) -> None:
    for epc, edt in properties:
        payload.append(epc)
        payload.append(len(edt))
        payload += edt
