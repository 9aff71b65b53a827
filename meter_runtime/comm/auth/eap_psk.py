"""EAP-PSK (RFC 4764), server and peer, sans-I/O.

Four messages prove to both ends that the other holds the pre-shared key and give both the same
MSK and EMSK. Packets are EAP (RFC 3748): code, identifier, length (2), type 47, then flags with
the message number in its two top bits, RAND_S (16) and the rest:

====  =========  =====================================
 T    direction  after RAND_S
====  =========  =====================================
 0    server →   ID_S
 1    → server   RAND_P (16), MAC_P (16), ID_P
 2    server →   MAC_S (16), PCHANNEL
 3    → server   PCHANNEL
====  =========  =====================================

PCHANNEL is nonce (4), tag (16) and the encrypted result byte (R in the top two bits), EAX under
TEK with the packet's first 22 bytes as header. Retransmission belongs to the carrier (PANA): a
repeated request is answered by the same bytes again.
"""

import enum
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

# EAP-PSK's key derivation is defined on single AES blocks; ECB here encrypts exactly one.
from cryptography.hazmat.primitives.ciphers.modes import ECB

from meter_runtime.comm.auth import eax

KEY_BYTES = 16
TYPE_PSK = 47
MAX_ID_BYTES = 966
"""RFC 4764, section 5.1: an identity is 1 to 966 octets."""

_HEADER = struct.Struct(">BBHBB16s")
"""EAP header, type, flags and RAND_S: the 22 bytes that the protected channel authenticates."""


class Code(enum.IntEnum):
    """EAP codes (RFC 3748, section 4)."""

    REQUEST = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


class Result(enum.IntEnum):
    """The protected result indication R (RFC 4764, section 5.3)."""

    CONT = 1
    DONE_SUCCESS = 2
    DONE_FAILURE = 3


class State(enum.Enum):
    """Where a conversation stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class MalformedEap(ValueError):  # noqa: N818 - a packet, not an accident of ours
    """Not an EAP-PSK packet: too short, a wrong length, or another method."""


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """What a finished conversation leaves: keys for EAP-PSK itself and for those above it."""

    tek: bytes = field(repr=False)
    msk: bytes = field(repr=False)
    emsk: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Packet:
    """One EAP-PSK packet, taken apart."""

    code: int
    identifier: int
    message: int
    rand_s: bytes
    body: bytes
    header: bytes


def success(identifier: int) -> bytes:
    """EAP-Success."""
    return struct.pack(">BBH", Code.SUCCESS, identifier, 4)


def failure(identifier: int) -> bytes:
    """EAP-Failure."""
    return struct.pack(">BBH", Code.FAILURE, identifier, 4)


def encode(code: Code, identifier: int, message: int, rand_s: bytes, body: bytes) -> bytes:
    """An EAP-PSK packet."""
    length = _HEADER.size + len(body)
    return _HEADER.pack(code, identifier, length, TYPE_PSK, message << 6, rand_s) + body


def parse(data: bytes) -> Packet:
    """Take an EAP-PSK request or response apart; raises :class:`MalformedEap`."""
    if len(data) < _HEADER.size:
        raise MalformedEap(f"an EAP-PSK packet has at least {_HEADER.size} bytes, not {len(data)}")
    code, identifier, length, kind, flags, rand_s = _HEADER.unpack_from(data)
    if length < _HEADER.size or length > len(data):
        raise MalformedEap(f"EAP length {length} in a packet of {len(data)} bytes")
    if code not in (Code.REQUEST, Code.RESPONSE) or kind != TYPE_PSK:
        raise MalformedEap(f"EAP code {code}, type {kind} is no EAP-PSK message")
    return Packet(
        code, identifier, flags >> 6, rand_s, data[_HEADER.size : length], data[: _HEADER.size]
    )


def derive_static_keys(psk: bytes) -> tuple[bytes, bytes]:
    """AK and KDK of a 16-byte pre-shared key (RFC 4764, section 3.1)."""
    base = _aes(psk, bytes(16))
    return _aes(psk, _xor_counter(base, 1)), _aes(psk, _xor_counter(base, 2))


def derive_session_keys(kdk: bytes, rand_p: bytes) -> SessionKeys:
    """TEK, MSK and EMSK (RFC 4764, section 3.2)."""
    base = _aes(kdk, rand_p)
    blocks = [_aes(kdk, _xor_counter(base, counter)) for counter in range(1, 10)]
    return SessionKeys(blocks[0], b"".join(blocks[1:5]), b"".join(blocks[5:9]))


class EapPskServer:
    """The authenticator's end: :meth:`start`, then :meth:`receive` until it is decided."""

    def __init__(
        self,
        psk: bytes,
        server_id: bytes,
        random_bytes: Callable[[int], bytes],
        identifier: int,
        *,
        expected_peer: bytes | None = None,
    ) -> None:
        self._ak, self._kdk = derive_static_keys(psk)
        self._expected_peer = expected_peer
        self._id_s = server_id
        self._rand_s = random_bytes(16)
        self._identifier = identifier & 0xFF
        self._expected = 1
        self._keys_in_making: SessionKeys | None = None
        self.state = State.RUNNING
        self.keys: SessionKeys | None = None
        self.peer_id: bytes | None = None

    def start(self) -> bytes:
        """The first request."""
        return self._request(0, self._id_s)

    def receive(self, data: bytes) -> bytes | None:
        """Take a response; gives the next request, EAP-Success or EAP-Failure.

        None for a packet that is not the awaited one (RFC 3748, section 4.1: silently discarded).
        """
        try:
            packet = parse(data)
        except MalformedEap:
            return None
        if (
            self.state is not State.RUNNING
            or packet.code != Code.RESPONSE
            or packet.identifier != self._identifier
            or packet.message != self._expected
            or packet.rand_s != self._rand_s
        ):
            return None
        if packet.message == 1:
            return self._check_peer(packet)
        return self._finish(packet)

    def fail(self) -> bytes:
        """Give the conversation up; the EAP-Failure that says so."""
        self.state = State.FAILED
        return failure(self._identifier)

    def _check_peer(self, packet: Packet) -> bytes:
        rand_p, mac_p, id_p = packet.body[:16], packet.body[16:32], packet.body[32:]
        proof = eax.cmac(self._ak, id_p + self._id_s + self._rand_s + rand_p)
        if not 1 <= len(id_p) <= MAX_ID_BYTES or not hmac.compare_digest(proof, mac_p):
            return self.fail()
        if self._expected_peer not in (None, id_p):
            return self.fail()
        self.peer_id = id_p
        keys = derive_session_keys(self._kdk, rand_p)
        self._keys_in_making = keys
        self._expected = 3
        self._identifier = (self._identifier + 1) & 0xFF
        mac_s = eax.cmac(self._ak, self._id_s + rand_p)
        length = _HEADER.size + len(mac_s) + _PCHANNEL_BYTES
        header = _HEADER.pack(
            Code.REQUEST, self._identifier, length, TYPE_PSK, 2 << 6, self._rand_s
        )
        return header + mac_s + _seal(keys.tek, 0, header, Result.DONE_SUCCESS)

    def _finish(self, packet: Packet) -> bytes:
        keys = self._keys_in_making
        if keys is None or (
            _unseal(keys.tek, 1, packet.header, packet.body) is not Result.DONE_SUCCESS
        ):
            return self.fail()
        self.state, self.keys = State.SUCCEEDED, keys
        return success(self._identifier)

    def _request(self, message: int, body: bytes) -> bytes:
        return encode(Code.REQUEST, self._identifier, message, self._rand_s, body)


class EapPskPeer:
    """The joining end: :meth:`receive` each request until it is decided."""

    def __init__(self, psk: bytes, peer_id: bytes, random_bytes: Callable[[int], bytes]) -> None:
        self._ak, self._kdk = derive_static_keys(psk)
        self._id_p = peer_id
        self._random = random_bytes
        self._rand_p = b""
        self._rand_s = b""
        self._keys_in_making: SessionKeys | None = None
        self._answered: tuple[bytes, bytes] | None = None
        self.state = State.RUNNING
        self.keys: SessionKeys | None = None
        self.server_id: bytes | None = None

    @property
    def pending_keys(self) -> SessionKeys | None:
        """The keys, once the server has proved itself and before EAP-Success confirms them."""
        return self._keys_in_making

    def receive(self, data: bytes) -> bytes | None:
        """Take a request, EAP-Success or EAP-Failure; gives the response, if one is due."""
        if self._answered is not None and data == self._answered[0]:
            return self._answered[1]
        if len(data) >= 4 and data[0] in (Code.SUCCESS, Code.FAILURE):
            self._decided(Code(data[0]))
            return None
        try:
            packet = parse(data)
        except MalformedEap:
            return None
        if packet.code != Code.REQUEST or self.state is not State.RUNNING:
            return None
        answer = None
        if packet.message == 0 and self._keys_in_making is None:
            answer = self._prove(packet)
        elif packet.message == 2 and packet.rand_s == self._rand_s and self.server_id is not None:
            answer = self._check_server(packet)
        if answer is not None:
            self._answered = (data, answer)
        return answer

    def _prove(self, packet: Packet) -> bytes | None:
        if not 1 <= len(packet.body) <= MAX_ID_BYTES:
            return None
        self.server_id, self._rand_s = packet.body, packet.rand_s
        self._rand_p = self._random(16)
        proof = eax.cmac(self._ak, self._id_p + self.server_id + self._rand_s + self._rand_p)
        body = self._rand_p + proof + self._id_p
        return encode(Code.RESPONSE, packet.identifier, 1, self._rand_s, body)

    def _check_server(self, packet: Packet) -> bytes | None:
        mac_s, channel = packet.body[:16], packet.body[16:]
        proof = eax.cmac(self._ak, (self.server_id or b"") + self._rand_p)
        if not hmac.compare_digest(proof, mac_s):
            self.state = State.FAILED
            return None
        keys = derive_session_keys(self._kdk, self._rand_p)
        agreed = _unseal(keys.tek, 0, packet.header, channel) is Result.DONE_SUCCESS
        if not agreed:
            self.state = State.FAILED
        self._keys_in_making = keys if agreed else None
        header = _HEADER.pack(
            Code.RESPONSE,
            packet.identifier,
            _HEADER.size + _PCHANNEL_BYTES,
            TYPE_PSK,
            3 << 6,
            self._rand_s,
        )
        result = Result.DONE_SUCCESS if agreed else Result.DONE_FAILURE
        return header + _seal(keys.tek, 1, header, result)

    def _decided(self, code: Code) -> None:
        if self.state is not State.RUNNING:
            return
        if code is Code.SUCCESS and self._keys_in_making is not None:
            self.state, self.keys = State.SUCCEEDED, self._keys_in_making
        elif code is Code.FAILURE:
            self.state = State.FAILED


_PCHANNEL_BYTES = 4 + eax.TAG_BYTES + 1


def _seal(tek: bytes, nonce: int, header: bytes, result: Result) -> bytes:
    ciphertext, tag = eax.encrypt(tek, nonce.to_bytes(16, "big"), header, bytes((result << 6,)))
    return nonce.to_bytes(4, "big") + tag + ciphertext


def _unseal(tek: bytes, nonce: int, header: bytes, channel: bytes) -> Result | None:
    """The peer's result, None where the channel is not what this key and nonce make."""
    if len(channel) < _PCHANNEL_BYTES or channel[:4] != nonce.to_bytes(4, "big"):
        return None
    try:
        plain = eax.decrypt(tek, nonce.to_bytes(16, "big"), header, channel[20:], channel[4:20])
    except eax.TagMismatch:
        return None
    try:
        return Result(plain[0] >> 6)
    except ValueError:
        return None


def _aes(key: bytes, block: bytes) -> bytes:
    cipher = Cipher(AES(key), ECB()).encryptor()  # noqa: S305 - one block, as the RFC defines it
    return cipher.update(block) + cipher.finalize()


def _xor_counter(block: bytes, counter: int) -> bytes:
    return block[:15] + bytes((block[15] ^ counter,))
