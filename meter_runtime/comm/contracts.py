"""What a communication unit is: a link that admits one home, and datagrams over it.

ECHONET Lite never learns which medium carries it. Joining (authentication, keys, session
life) is the link's business and surfaces only as link events.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from meter_runtime.errors import UsageError
from meter_runtime.secret import Secret
from meter_runtime.units.contracts import Nameplate

ECHONET_LITE_PORT = 3610
ALL_NODES = "FF02:0000:0000:0000:0000:0000:0000:0001"
"""Link-local all-nodes multicast, written in full as the radio modules want it."""

MAX_PAYLOAD = 1232
"""Largest UDP payload: IPv6 minimum MTU 1280 less 40 (IPv6) and 8 (UDP)."""


@dataclass(frozen=True, slots=True)
class LinkCredentials:
    """The B-route authentication ID (32 hex digits) and password (12 characters)."""

    route_b_id: str
    password: Secret

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9A-F]{32}", self.route_b_id):
            raise UsageError(
                f"a B-route ID has 32 characters 0-9 A-F, this one has {len(self.route_b_id)}"
                " characters or others among them; copy it from the utility's letter"
            )
        if not re.fullmatch(r"[0-9A-Za-z]{12}", self.password.reveal()):
            raise UsageError(
                f"a B-route password has 12 letters and digits, this one has {len(self.password)}"
                " characters or others among them; copy it from the utility's letter"
            )


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP payload on the ECHONET Lite port, as received."""

    payload: bytes
    peer: str
    received_at: float
    """Clock.monotonic() at reception."""
    rssi_dbm: float | None = None


@dataclass(frozen=True, slots=True)
class LinkStarted:
    """The link serves: HEMSs may find it and join."""

    address: str
    detail: str
    """For people: "channel 33, PAN 8888"."""


@dataclass(frozen=True, slots=True)
class LinkStartFailed:
    """The unit did not come up; the driver tries again after ``retry_in_s``."""

    reason: str
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class PeerJoining:
    """A HEMS began to authenticate."""

    peer: str


@dataclass(frozen=True, slots=True)
class AuthFailed:
    """Authentication ended without success: in the field, a wrong password."""

    peer: str


@dataclass(frozen=True, slots=True)
class AuthOk:
    """A HEMS authenticated, or re-authenticated within its session."""

    peer: str
    lifetime_s: int


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """The HEMS, or we, ended the session."""

    peer: str


@dataclass(frozen=True, slots=True)
class SessionExpired:
    """The session's life ended without re-authentication."""

    peer: str


@dataclass(frozen=True, slots=True)
class TxRestricted:
    """The legal send-time limit is reached: nothing is sent until :class:`TxReleased`."""


@dataclass(frozen=True, slots=True)
class TxReleased:
    """Sending is allowed again."""


@dataclass(frozen=True, slots=True)
class UnitFault:
    """The unit went silent, talked nonsense or was unplugged; recovery is under way."""

    reason: str


LinkEvent = (
    LinkStarted
    | LinkStartFailed
    | PeerJoining
    | AuthFailed
    | AuthOk
    | PeerLeft
    | SessionExpired
    | TxRestricted
    | TxReleased
    | UnitFault
)


class LinkPort(Protocol):
    """Admission of the home."""

    async def start(self, credentials: LinkCredentials) -> None:
        """Bring the link up, and keep bringing it up until :meth:`stop`."""
        ...

    async def stop(self) -> None:
        """End the session, answer no join, release the unit."""
        ...

    async def set_credentials(self, credentials: LinkCredentials) -> None:
        """Drop the session and admit only holders of the new credentials."""
        ...

    async def vacate(self) -> None:
        """Have the unit forget whom it admitted, at once or once it can be reached.

        For a unit that nobody is to be served by: it may live on with credentials that count no
        more. It then answers no beacon and no join. Until :meth:`start`, :meth:`stop` or success;
        returns at once, tells no events, and does nothing while the link is wanted.
        """
        ...

    def events(self) -> AsyncIterator[LinkEvent]:
        """Link events in order; one reader."""
        ...


class DatagramPort(Protocol):
    """Datagrams to and from the joined home."""

    async def send(self, payload: bytes, peer: str) -> bool:
        """Send to ``peer`` or :data:`ALL_NODES`; True once the link reports it sent."""
        ...

    async def recv(self) -> Datagram:
        """The next datagram from the joined home."""
        ...


class CommunicationUnit(LinkPort, DatagramPort, Protocol):
    """A communication unit: both ports and a nameplate."""

    @property
    def nameplate(self) -> Nameplate: ...

    @property
    def medium(self) -> str:
        """The B-route medium: "920MHz", "PLC" or "LAN"."""
        ...

    @property
    def mac(self) -> bytes | None:
        """The unit's EUI-64, once it is known."""
        ...

    @property
    def counters(self) -> dict[str, int]:
        """What the link counted since start: frames, drops, restarts."""
        ...

    async def close(self) -> None:
        """Let go of the unit for good; harmless twice."""
        ...
