"""What crosses the power line between two modems, as values.

The bench's line carries no octets of G.9903: both of its ends are ours. What matters to a meter and
a HEMS is kept: who asks, the four messages of EAP-PSK, and that data has the network's key.
"""

from dataclasses import dataclass, field

from meter_runtime.comm.auth import eax


@dataclass(frozen=True, slots=True)
class BeaconRequest:
    """Who coordinates here?"""


@dataclass(frozen=True, slots=True)
class Beacon:
    """I do, and this is my PAN."""

    pan_id: int


@dataclass(frozen=True, slots=True)
class Joining:
    """LBP: let me join."""


@dataclass(frozen=True, slots=True)
class Eap:
    """LBP with an EAP-PSK message in it."""

    packet: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Accepted:
    """LBP: EAP-Success, the short address, and the network's key under the session's."""

    success: bytes
    short: int
    sealed_gmk: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Declined:
    """LBP: you may not join."""


@dataclass(frozen=True, slots=True)
class Kicked:
    """LBP: you do not belong here any more."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """LBP: I go."""


@dataclass(frozen=True, slots=True)
class Packet:
    """An IPv6 packet under the network's key."""

    data: bytes = field(repr=False)
    key: bytes = field(repr=False)


Body = BeaconRequest | Beacon | Joining | Eap | Accepted | Declined | Kicked | Leaving | Packet


@dataclass(frozen=True, slots=True)
class LineFrame:
    """One frame; ``destination`` is an EUI-64, None for everybody."""

    source: bytes
    destination: bytes | None
    body: Body
    handle: int | None = None
    """The sender's own mark."""


_NONCE = bytes(16)
_HEADER = b"GMK"


def seal_gmk(tek: bytes, gmk: bytes) -> bytes:
    """The network's key for one who has just proved himself; each TEK seals one."""
    ciphertext, tag = eax.encrypt(tek, _NONCE, _HEADER, gmk)
    return tag + ciphertext


def open_gmk(tek: bytes, sealed: bytes) -> bytes:
    """The network's key; raises :class:`eax.TagMismatch`."""
    return eax.decrypt(tek, _NONCE, _HEADER, sealed[eax.TAG_BYTES :], sealed[: eax.TAG_BYTES])
