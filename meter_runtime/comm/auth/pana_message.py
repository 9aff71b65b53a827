"""PANA messages and their integrity (RFC 5191, sections 6 to 8).

Header, 16 bytes, big-endian: reserved 2, length 2 (header included), flags 2, type 2, session
identifier 4, sequence number 4. Then AVPs: code 2, flags 2, length 2 (of the value alone),
reserved 2, value padded with zeros to a multiple of four.
"""

import enum
import hashlib
import hmac
import struct
from dataclasses import dataclass

PANA_PORT = 716
"""UDP port of both ends on the B-route (0x02CC)."""

MAX_MESSAGE = 1280
_HEADER = struct.Struct(">HHHHII")
_AVP = struct.Struct(">HHHH")

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
    """One PANA message; AVPs in the order of the wire."""

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
    avps: list[tuple[int, bytes]] = []
    at = _HEADER.size
    while at < length:
        if length - at < _AVP.size:
            raise MalformedPana("bytes after the last AVP")
        code, _, size, _ = _AVP.unpack_from(data, at)
        start = at + _AVP.size
        at = start + size + -size % 4
        if at > length:
            raise MalformedPana(f"AVP {code} runs over the end")
        avps.append((code, data[start : start + size]))
    return Message(Flag(flags), kind, session_id, sequence, tuple(avps))


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
    zeroed = (*message.avps, (int(Avp.AUTH), bytes(AUTH_BYTES)))
    blank = Message(message.flags, message.type, message.session_id, message.sequence, zeroed)
    tag = hmac.digest(key, encode(blank), hashlib.sha256)[:AUTH_BYTES]
    avps = (*message.avps, (int(Avp.AUTH), tag))
    return Message(message.flags, message.type, message.session_id, message.sequence, avps)


def verify(message: Message, key: bytes) -> bool:
    """Whether the message carries an AUTH AVP made with this key."""
    given = message.get(Avp.AUTH)
    if given is None or len(given) != AUTH_BYTES:
        return False
    zeroed = tuple(
        (code, bytes(AUTH_BYTES) if code == Avp.AUTH else value) for code, value in message.avps
    )
    blank = Message(message.flags, message.type, message.session_id, message.sequence, zeroed)
    tag = hmac.digest(key, encode(blank), hashlib.sha256)[:AUTH_BYTES]
    return hmac.compare_digest(tag, given)
