"""What a module authenticates with, and one PANA session as the module keeps it.

The messages and the keys are ``comm.auth``'s; who may join, and when, is ``session``'s. Frames
carry the name of a key in place of encryption under it.
"""

import hashlib
from dataclasses import dataclass, field

from meter_runtime.comm.auth.paa import PaaSession
from meter_runtime.comm.auth.pac import PacSession
from meter_runtime.comm.auth.pana_events import SessionEvent


def key_name(key: bytes) -> bytes:
    """What a frame carries in place of encryption under ``key``."""
    return hashlib.sha256(b"name of a key" + key).digest()[:8]


@dataclass(frozen=True, slots=True)
class Credentials:
    """The authentication ID and the pre-shared key."""

    route_b_id: str
    psk: bytes = field(repr=False)


@dataclass(slots=True, eq=False)
class Association:
    """One PANA session with one peer, from its first message to its last repeated answer."""

    peer: str
    machine: PacSession | PaaSession = field(repr=False)
    heard_at: float
    """When the peer last said something that belongs to this session."""
    answered: bool = False
    """The peer has said anything in it at all."""
    give_up_at: float | None = None
    """The authentication under way, the first or another, has failed then."""

    @property
    def key_id(self) -> bytes | None:
        """The name of the key that both ends agreed on last."""
        key = self.machine.key
        return None if key is None else key_name(key)

    def receive(self, payload: bytes, now: float) -> None:
        """Take a datagram of this session."""
        self.heard_at, self.answered = now, True
        self.machine.receive(payload, now)


@dataclass(frozen=True, slots=True)
class PanaMessage:
    """A UDP-716 payload for the core to send, and what holds once it has been."""

    association: Association
    payload: bytes = field(repr=False)
    events: tuple[SessionEvent, ...] = ()

    @property
    def peer(self) -> str:
        return self.association.peer
