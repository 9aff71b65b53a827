"""PANA messages and their integrity (RFC 5191, sections 6 to 8).

Header, 16 bytes, big-endian: reserved 2, length 2 (header included), flags 2, type 2, session
identifier 4, sequence number 4. Then AVPs: code 2, flags 2, length 2 (of the value alone),
reserved 2, a vendor's number 4 where flag V says so, value padded to a multiple of four.
"""

import enum
import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

PANA_PORT = 716
"""UDP port of both ends on the B-route (0x02CC)."""

MAX_MESSAGE = 1280
_HEADER = struct.Struct(">HHHHII")
_AVP = struct.Struct(">HHHH")
_VENDOR_FLAG = 0x8000
_VENDOR_BYTES = 4

PRF_HMAC_SHA2_256 = 5
AUTH_HMAC_SHA2_256_128 = 12
AUTH_BYTES = 16


class Flag(enum.IntFlag):
    """Header flags; a message with :attr:`REQUEST` awaits an answer of the same type."""

    REQUEST = 0x8000
    START = 0x4000
    COMPLETE = 0x2000
    REAUTHENTICATION = 0x1000
    PING = 0x0800
    IP_RECONFIGURATION = 0x0400


class Type(enum.IntEnum):
    """Message types; request and answer share one."""

    CLIENT_INITIATION = 1
    AUTHENTICATION = 2
    TERMINATION = 3
    NOTIFICATION = 4


class Avp(enum.IntEnum):
    """Attribute codes."""

    AUTH = 1
    EAP_PAYLOAD = 2
    INTEGRITY_ALGORITHM = 3
    KEY_ID = 4
    NONCE = 5
    PRF_ALGORITHM = 6
    RESULT_CODE = 7
    SESSION_LIFETIME = 8
    TERMINATION_CAUSE = 9


class ResultCode(enum.IntEnum):
    """Value of the Result-Code AVP."""

    SUCCESS = 0
    AUTHENTICATION_REJECTED = 1
    AUTHORIZATION_REJECTED = 2


class MalformedPana(ValueError):  # noqa: N818 - a packet, not an accident of ours
    """Not a PANA message: too short, a wrong length, or an AVP that runs over the end."""


@dataclass(frozen=True, slots=True)
class Message:
    """One PANA message; AVPs in the order of the wire, those of vendors left out."""

    flags: Flag
    type: int
    session_id: int
    sequence: int
    avps: tuple[tuple[int, bytes], ...] = ()

    @property
    def is_request(self) -> bool:
        return bool(self.flags & Flag.REQUEST)

    def get(self, code: Avp) -> bytes | None:
        """The first AVP of this code."""
        return next((value for found, value in self.avps if found == code), None)

    def number(self, code: Avp) -> int | None:
        """The first AVP of this code as an unsigned 32-bit number."""
        value = self.get(code)
        return int.from_bytes(value, "big") if value is not None and len(value) == 4 else None

    @property
    def nonce(self) -> bytes | None:
        """The nonce, None where it is absent or not of 8 to 256 bytes (section 8.5)."""
        value = self.get(Avp.NONCE)
        return value if value is not None and 8 <= len(value) <= 256 else None


def u32(value: int) -> bytes:
    """An AVP value of type Unsigned32."""
    return value.to_bytes(4, "big")


def encode(message: Message) -> bytes:
    """The message's bytes."""
    body = b"".join(
        _AVP.pack(code, 0, len(value), 0) + value + bytes(-len(value) % 4)
        for code, value in message.avps
    )
    return (
        _HEADER.pack(
            0,
            _HEADER.size + len(body),
            message.flags,
            message.type,
            message.session_id,
            message.sequence,
        )
        + body
    )


def parse(data: bytes) -> Message:
    """Take a message apart; raises :class:`MalformedPana`."""
    if not _HEADER.size <= len(data) <= MAX_MESSAGE:
        raise MalformedPana(f"a PANA message has {_HEADER.size} to {MAX_MESSAGE} bytes")
    _, length, flags, kind, session_id, sequence = _HEADER.unpack_from(data)
    if length != len(data):
        raise MalformedPana(f"PANA length {length} in a datagram of {len(data)} bytes")
    avps = tuple((code, data[start:end]) for code, start, end in _avps_of(data))
    return Message(Flag(flags), kind, session_id, sequence, avps)


def _avps_of(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Code, start and end of the value of each AVP of a message, but for those of vendors."""
    at = _HEADER.size
    while at < len(data):
        if len(data) - at < _AVP.size:
            raise MalformedPana("bytes after the last AVP")
        code, flags, size, _ = _AVP.unpack_from(data, at)
        is_vendors = bool(flags & _VENDOR_FLAG)
        start = at + _AVP.size + is_vendors * _VENDOR_BYTES
        at = start + size + -size % 4
        if at > len(data):
            raise MalformedPana(f"AVP {code} runs over the end")
        if not is_vendors:
            yield code, start, start + size


def auth_key(
    msk: bytes,
    *,
    i_par: bytes,
    i_pan: bytes,
    pac_nonce: bytes,
    paa_nonce: bytes,
    key_id: bytes,
) -> bytes:
    """PANA_AUTH_KEY: prf+ of the MSK, first 32 bytes (RFC 5191, section 5.3; prf+ of RFC 5996).

    ``i_par`` and ``i_pan`` are the first request and answer (flag S) as they were on the wire.
    """
    seed = b"IETF PANA" + i_par + i_pan + pac_nonce + paa_nonce + key_id
    return hmac.digest(msk, seed + b"\x01", hashlib.sha256)


def sign(message: Message, key: bytes) -> Message:
    """The message with an AUTH AVP at its end, over the message with AUTH zeroed."""
    blank = replace(message, avps=(*message.avps, (int(Avp.AUTH), bytes(AUTH_BYTES))))
    return replace(message, avps=(*message.avps, (int(Avp.AUTH), _tag(encode(blank), key))))


def verify(data: bytes, key: bytes) -> bool:
    """Whether these bytes, which :func:`parse` takes, carry an AUTH AVP made with this key.

    Judged on the wire's bytes, so that what we do not know in them is covered as well.
    """
    for code, start, end in _avps_of(data):
        if code == Avp.AUTH and end - start == AUTH_BYTES:
            tag = _tag(data[:start] + bytes(AUTH_BYTES) + data[end:], key)
            return hmac.compare_digest(tag, data[start:end])
    return False


def _tag(blank: bytes, key: bytes) -> bytes:
    return hmac.digest(key, blank, hashlib.sha256)[:AUTH_BYTES]
