"""How two modules prove to each other that they hold the same password.

The seam for authentic PANA: :class:`Supplicant` (the PaC, a HEMS) and :class:`Authenticator`
(the PAA, a meter) take one UDP-716 payload and give one back, and know neither time nor radio.
The rounds are PANA's: initiation, offer, nonces, both proofs, result. The messages are this
laboratory's own, a kind, a session ID and fields of fixed length; proofs are HMAC-SHA-256 under
the pre-shared key, so that a wrong password fails in the exchange itself.

Source of the rounds: RFC 5191 as decoded captures of real meters show it.
"""

import enum
import hashlib
import hmac
import random
import struct
from dataclasses import dataclass, field

NONCE_SIZE = 16
PROOF_SIZE = 16
_HEAD = struct.Struct(">BI")


def psk_from_password(password: str) -> bytes:
    """The pre-shared key of a B-route password. *Unverified*: the last 16 octets of SHA-256."""
    return hashlib.sha256(password.upper().encode()).digest()[-16:]


def key_name(key: bytes) -> bytes:
    """What a frame carries in place of encryption under ``key``."""
    return hashlib.sha256(b"name of a key" + key).digest()[:8]


@dataclass(frozen=True, slots=True)
class Credentials:
    """The authentication ID and the pre-shared key."""

    route_b_id: str
    psk: bytes = field(repr=False)


class Kind(enum.IntEnum):
    """The messages, in the order of a join."""

    INITIATE = 1
    OFFER = 2
    ACCEPT = 3
    CHALLENGE = 4
    PROOF_OF_CLIENT = 5
    PROOF_OF_AGENT = 6
    CONFIRM = 7
    RESULT = 8
    DONE = 9
    REAUTHENTICATE = 10
    """Begins a join within a session; carries its ID."""
    REFUSE = 11
    TERMINATE = 12
    TERMINATED = 13


@dataclass(frozen=True, slots=True)
class Message:
    """One UDP-716 payload: kind (1 octet), session ID (4), body."""

    kind: Kind
    session_id: int
    body: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        return _HEAD.pack(self.kind, self.session_id) + self.body


def decode(payload: bytes) -> Message | None:
    """The message of a payload; None for anything else."""
    if len(payload) < _HEAD.size:
        return None
    kind, session_id = _HEAD.unpack_from(payload)
    if kind not in Kind.__members__.values():
        return None
    return Message(Kind(kind), session_id, payload[_HEAD.size :])


@dataclass(frozen=True, slots=True)
class Admitted:
    """Both ends proved the password; the session's key and life."""

    session_id: int
    lifetime_s: int
    key_id: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """The join ended without success."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one message leads to: an answer, and an outcome that holds once it was sent."""

    answer: Message | None = None
    outcome: Admitted | Rejected | None = None


class Supplicant:
    """The joining end."""

    def __init__(self, credentials: Credentials, rng: random.Random, session_id: int = 0) -> None:
        self._credentials = credentials
        self._rng = rng
        self._session_id = session_id
        self._nonces = b""
        self._expected = Kind.OFFER

    def begin(self) -> Message:
        """The first message; within a session it asks for re-authentication."""
        kind = Kind.REAUTHENTICATE if self._session_id else Kind.INITIATE
        return Message(kind, self._session_id)

    def receive(self, message: Message) -> Step:
        """Go on; what does not belong here and now is ignored."""
        if message.kind is Kind.REFUSE:
            return Step(None, Rejected())
        if message.kind is not self._expected:
            return Step()
        match message.kind:
            case Kind.OFFER:
                self._session_id = message.session_id
                self._expected = Kind.CHALLENGE
                return Step(self._message(Kind.ACCEPT))
            case Kind.CHALLENGE if len(message.body) == NONCE_SIZE:
                nonce = self._rng.randbytes(NONCE_SIZE)
                self._nonces = message.body + nonce
                proof = _proof(self._credentials, b"client", self._nonces)
                self._expected = Kind.PROOF_OF_AGENT
                return Step(self._message(Kind.PROOF_OF_CLIENT, nonce + proof))
            case Kind.PROOF_OF_AGENT:
                proof = _proof(self._credentials, b"agent", self._nonces)
                if not hmac.compare_digest(message.body, proof):
                    return Step(self._message(Kind.REFUSE), Rejected())
                self._expected = Kind.RESULT
                return Step(self._message(Kind.CONFIRM))
            case Kind.RESULT if len(message.body) == 4:
                lifetime_s = int.from_bytes(message.body, "big")
                key_id = _session_key(self._credentials, self._nonces)
                return Step(
                    self._message(Kind.DONE), Admitted(self._session_id, lifetime_s, key_id)
                )
            case _:
                return Step()

    def _message(self, kind: Kind, body: bytes = b"") -> Message:
        return Message(kind, self._session_id, body)


class Authenticator:
    """The admitting end, for one join."""

    def __init__(self, credentials: Credentials, rng: random.Random, lifetime_s: int) -> None:
        self._credentials = credentials
        self._rng = rng
        self._lifetime_s = lifetime_s
        self._session_id = rng.randrange(1, 1 << 32)
        self._nonces = b""
        self._expected = Kind.INITIATE

    def receive(self, message: Message) -> Step:
        """Go on; what does not belong here and now is ignored."""
        kind = Kind.INITIATE if message.kind is Kind.REAUTHENTICATE else message.kind
        if kind is Kind.REFUSE:
            return Step(None, Rejected())
        if kind is not self._expected:
            return Step()
        match kind:
            case Kind.INITIATE:
                self._expected = Kind.ACCEPT
                return Step(self._message(Kind.OFFER))
            case Kind.ACCEPT:
                self._nonces = self._rng.randbytes(NONCE_SIZE)
                self._expected = Kind.PROOF_OF_CLIENT
                return Step(self._message(Kind.CHALLENGE, self._nonces))
            case Kind.PROOF_OF_CLIENT if len(message.body) == NONCE_SIZE + PROOF_SIZE:
                self._nonces += message.body[:NONCE_SIZE]
                proof = _proof(self._credentials, b"client", self._nonces)
                if not hmac.compare_digest(message.body[NONCE_SIZE:], proof):
                    return Step(self._message(Kind.REFUSE), Rejected())
                self._expected = Kind.CONFIRM
                return Step(
                    self._message(
                        Kind.PROOF_OF_AGENT, _proof(self._credentials, b"agent", self._nonces)
                    )
                )
            case Kind.CONFIRM:
                self._expected = Kind.DONE
                return Step(self._message(Kind.RESULT, self._lifetime_s.to_bytes(4, "big")))
            case Kind.DONE:
                key_id = _session_key(self._credentials, self._nonces)
                return Step(None, Admitted(self._session_id, self._lifetime_s, key_id))
            case _:
                return Step()

    def _message(self, kind: Kind, body: bytes = b"") -> Message:
        return Message(kind, self._session_id, body)


def _proof(credentials: Credentials, role: bytes, nonces: bytes) -> bytes:
    text = role + credentials.route_b_id.encode() + nonces
    return hmac.digest(credentials.psk, text, "sha256")[:PROOF_SIZE]


def _session_key(credentials: Credentials, nonces: bytes) -> bytes:
    return key_name(hmac.digest(credentials.psk, b"session" + nonces, "sha256"))
