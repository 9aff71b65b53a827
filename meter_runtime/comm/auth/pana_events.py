"""What a PANA session reports to its owner, and the identities it authenticates."""

import hashlib
from dataclasses import dataclass
from typing import Protocol

from meter_runtime.comm.auth.eap_psk import KEY_BYTES
from meter_runtime.secret import Secret


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Both ends proved the password; the session lives for ``lifetime_s`` from now."""

    lifetime_s: int
    again: bool
    """True for a re-authentication within the session."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The conversation ended without success: in the field, a wrong password."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The other end fell silent before the conversation was over."""


@dataclass(frozen=True, slots=True)
class Terminated:
    """The session was ended, by the peer or by us; ``answered`` is False when our request to
    end it was never acknowledged."""

    by_peer: bool
    answered: bool = True


@dataclass(frozen=True, slots=True)
class Expired:
    """The session's life ran out."""


SessionEvent = Authenticated | Rejected | NoAnswer | Terminated | Expired

REAUTHENTICATE_AT = 0.8
"""Part of the lifetime after which the client re-authenticates, as real modules do."""


class Identified(Protocol):
    """Whatever carries an authentication ID."""

    @property
    def route_b_id(self) -> str: ...


def psk_of(password: Secret) -> bytes:
    """The EAP-PSK key of a B-route password: the last 16 bytes of SHA-256 over its upper-case text.

    *Unverified*: recalled from public client code, not read in TTC JJ-300.10. Radio modules do
    this inside; only host-side PANA, the virtual modules and PLC need it.
    """
    digest = hashlib.sha256(password.reveal().upper().encode("ascii")).digest()
    return digest[-KEY_BYTES:]


def server_id(credentials: Identified) -> bytes:
    """ID_S: ``SM`` and the authentication ID, 34 bytes (seen in captures)."""
    return b"SM" + credentials.route_b_id.encode("ascii")


def peer_id(credentials: Identified) -> bytes:
    """ID_P: ``HEMS`` and the authentication ID, 36 bytes. *Unverified*: recalled; the PLC
    profile's field length agrees."""
    return b"HEMS" + credentials.route_b_id.encode("ascii")
