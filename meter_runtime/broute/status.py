"""The B-route's diagnosis: four items, one message (the utility's paper, table 2).

``startup`` – the link came up since the communication unit booted. ``authentication`` – the
outcome of the last attempt; clear while nobody tried, latched until a success or new
credentials. ``connection`` – a session lives. ``communication unit`` – the unit answers its
watchdog. Five of the sixteen combinations are in the paper; :func:`message_of` extends them to
all, and says which are not.
"""

import enum
from dataclasses import dataclass, field
from typing import Any

from meter_runtime.comm.contracts import (
    AuthFailed,
    AuthOk,
    LinkEvent,
    LinkStarted,
    LinkStartFailed,
    PeerJoining,
    PeerLeft,
    SessionExpired,
    TxReleased,
    TxRestricted,
    UnitFault,
)


class Message(enum.IntEnum):
    """The indicated message."""

    ACTIVE = 1
    HEMS_FAILURE = 2
    HEMS_UNCONNECTED = 3
    ABNORMALITY = 4

    @property
    def text(self) -> str:
        return _TEXTS[self]


_TEXTS = {
    Message.ACTIVE: "active status",
    Message.HEMS_FAILURE: "HEMS is failure",
    Message.HEMS_UNCONNECTED: "HEMS is unconnected",
    Message.ABNORMALITY: "abnormality",
}


@dataclass(frozen=True, slots=True)
class Items:
    """The four items; True is "clear" (for the communication unit: "normal")."""

    startup: bool
    authentication: bool
    connection: bool
    communication_unit: bool

    @property
    def bits(self) -> int:
        """The four as bits 0 to 3, in the order above; 1 is clear."""
        return (
            self.startup
            | self.authentication << 1
            | self.connection << 2
            | self.communication_unit << 3
        )


_DEFINED = {
    Items(startup=True, authentication=True, connection=True, communication_unit=True),
    Items(startup=True, authentication=False, connection=False, communication_unit=True),
    Items(startup=True, authentication=True, connection=False, communication_unit=True),
    Items(startup=False, authentication=True, connection=False, communication_unit=False),
    Items(startup=False, authentication=False, connection=False, communication_unit=False),
}


def message_of(items: Items) -> tuple[Message, bool]:
    """The message for any combination, and whether the paper's table defines it.

    The order of the checks beyond the table is *unverified*: the unit before the home, the
    password before the connection.
    """
    defined = items in _DEFINED
    if not items.communication_unit or not items.startup:
        return Message.ABNORMALITY, defined
    if not items.authentication:
        return Message.HEMS_FAILURE, defined
    if not items.connection:
        return Message.HEMS_UNCONNECTED, defined
    return Message.ACTIVE, defined


@dataclass(slots=True)
class Session:
    """The home that is joined: its address and the session's life, in wall-clock seconds."""

    peer: str
    since: float
    expires: float


@dataclass(slots=True)
class LinkStatus:
    """Follows the link events and answers what the diagnosis asks."""

    started: bool = False
    unit_normal: bool = True
    authenticated: bool = True
    session: Session | None = None
    restricted: bool = False
    address: str | None = None
    detail: str | None = None
    last_fault: str | None = None
    counters: dict[str, int] = field(default_factory=dict)

    def follow(self, event: LinkEvent, wall: float) -> None:
        """Take one event of the link in."""
        name = type(event).__name__
        self.counters[name] = self.counters.get(name, 0) + 1
        match event:
            case LinkStarted(address, detail):
                self.started = self.unit_normal = True
                self.restricted = False
                self.session = None
                self.address, self.detail = address, detail
            case LinkStartFailed(reason) | UnitFault(reason):
                self.started = self.unit_normal = False
                self.session = None
                self.last_fault = reason
            case AuthOk(peer, lifetime_s):
                since = self.session.since if self.session is not None else wall
                self.authenticated = True
                self.session = Session(peer, since, wall + lifetime_s)
            case AuthFailed():
                self.authenticated = False
            case PeerLeft() | SessionExpired():
                self.session = None
            case TxRestricted():
                self.restricted = True
            case TxReleased():
                self.restricted = False
            case PeerJoining():
                pass

    def credentials_changed(self) -> None:
        """A new password clears the latched failure: nobody tried with it yet."""
        self.authenticated = True
        self.session = None

    @property
    def items(self) -> Items:
        return Items(self.started, self.authenticated, self.session is not None, self.unit_normal)

    def diagnosis(self) -> tuple[int, int]:
        """The diagnosis in two numbers: the message, and the items' bits."""
        items = self.items
        return int(message_of(items)[0]), items.bits

    def report(self) -> dict[str, Any]:
        """The diagnosis part of the status document."""
        items = self.items
        message, defined = message_of(items)
        return {
            "message": int(message),
            "text": message.text,
            "items": {
                "startup": _clear(items.startup),
                "authentication": _clear(items.authentication),
                "connection": _clear(items.connection),
                "communication_unit": "normal" if items.communication_unit else "abnormality",
            },
            "undefined_combination": not defined,
        }


def _clear(good: bool) -> str:
    return "clear" if good else "failure"
