"""The USI frame: a command and its octets between two flags, with a length and a CRC.

On the wire ``7E | esc(H0 H1 P0 … Pn-1 CRC16) | 7E``, where 7E is escaped as 7D 5E and 7D as 7D 5D.
``n`` counts P0 to Pn-1, P0 being the command, and has eleven bits: H0 has bits 9 to 2, the upper
two of H1 bits 1 and 0, the highest of P0 bit 10. The lower six bits of H1 are the protocol.
"""

from collections import Counter
from collections.abc import Iterator

PROTOCOL_ADP = 0x25
"""The ADP and LBP services of G3-PLC."""

MAX_PAYLOAD = 0x7FF
"""Octets of command and body: what eleven bits can count."""

_FLAG, _ESCAPE = 0x7E, 0x7D
_ESCAPED = {0x5E: _FLAG, 0x5D: _ESCAPE}
_HEADER, _CRC = 2, 2
_MAX_FRAME = _HEADER + MAX_PAYLOAD + _CRC


def _table() -> tuple[int, ...]:
    def entry(value: int) -> int:
        for _ in range(8):
            value = (value << 1) ^ (0x1021 if value & 0x8000 else 0)
        return value & 0xFFFF

    return tuple(entry(high << 8) for high in range(256))


_TABLE = _table()


def crc16(data: bytes) -> int:
    """The frame's CRC: polynomial 1021, start 0, octets fed in at the low end, none appended."""
    crc = 0
    for byte in data:
        crc = _TABLE[crc >> 8] ^ ((crc << 8) & 0xFFFF) ^ byte
    return crc


def frame(payload: bytes) -> bytes:
    """A frame of the ADP protocol; ``payload`` is a command below 80 and its body.

    Raises ValueError for one that a frame cannot hold.
    """
    size = len(payload)
    if not 1 <= size <= MAX_PAYLOAD or payload[0] > 0x7F:
        raise ValueError(f"{size} octets are no payload of a USI frame")
    inner = bytes(
        (size >> 2 & 0xFF, (size << 6 & 0xC0) | PROTOCOL_ADP, (size & 0x400) >> 3 | payload[0])
    )
    inner += payload[1:]
    inner += crc16(inner).to_bytes(_CRC, "big")
    escaped = inner.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
    return b"\x7e" + escaped + b"\x7e"


class FrameReader:
    """Finds frames in a stream of octets, in whatever pieces it comes.

    A flag ends what came before it and begins what follows, so that noise costs no more than the
    frame it hit. :attr:`counts` has ``damaged`` (length, escape or CRC wrong), ``overlong`` and
    ``foreign`` (another protocol's).
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._inner = bytearray()
        self._escaping = False
        self._spoilt: str | None = None

    def reset(self) -> None:
        """Forget a frame that was begun."""
        self._inner.clear()
        self._escaping = False
        self._spoilt = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that these octets complete: a command below 80 and its body."""
        for byte in data:
            if byte == _FLAG:
                payload = self._ended()
                if payload is not None:
                    yield payload
            elif self._spoilt is None:
                self._take(byte)

    def _take(self, byte: int) -> None:
        if self._escaping:
            self._escaping = False
            if byte not in _ESCAPED:
                self._spoilt = "damaged"
                return
            byte = _ESCAPED[byte]
        elif byte == _ESCAPE:
            self._escaping = True
            return
        if len(self._inner) >= _MAX_FRAME:
            self._spoilt = "overlong"
            return
        self._inner.append(byte)

    def _ended(self) -> bytes | None:
        inner, spoilt = bytes(self._inner), self._spoilt
        if self._escaping:
            spoilt = "damaged"
        self.reset()
        if not inner and spoilt is None:
            return None
        if spoilt is None:
            spoilt = _fault_of(inner)
        if spoilt is not None:
            self.counts[spoilt] += 1
            return None
        return bytes((inner[_HEADER] & 0x7F,)) + inner[_HEADER + 1 : -_CRC]


def _fault_of(inner: bytes) -> str | None:
    """What is wrong with a frame's octets."""
    if len(inner) < _HEADER + 1 + _CRC:
        return "damaged"
    size = inner[0] << 2 | inner[1] >> 6 | (inner[_HEADER] & 0x80) << 3
    if size != len(inner) - _HEADER - _CRC:
        return "damaged"
    if crc16(inner[:-_CRC]) != int.from_bytes(inner[-_CRC:], "big"):
        return "damaged"
    return None if inner[1] & 0x3F == PROTOCOL_ADP else "foreign"
