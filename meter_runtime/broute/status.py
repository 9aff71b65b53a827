"""How the four items of the diagnosis come about, and which messages are to be expected.

``startup`` – the link came up since the communication unit booted. ``authentication`` – the
outcome of the last attempt; clear while nobody tried, latched until a success or new credentials.
``connection`` – a session lives, and within its life the home was heard or authenticated again.
``communication unit`` – the unit answers its watchdog. A home with a wrong ID never finds the
meter, and shows as one that is not there.

The items are about this start of the meter and about the unit that is fitted: nothing of them is
stored, because after a restart everybody has to join again, and that tells anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from meter_runtime.broute.causes import probable
from meter_runtime.broute.diagnosis import Expected, Items, Message, Verdict, message_of
from meter_runtime.broute.link_record import Recent, Signal
from meter_runtime.clock import Clock, jst
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

START_GRACE_S = 120.0
"""A link that neither started nor failed is starting for so long (inferred: two long scans)."""
REJOIN_GRACE_S = 1800.0
"""How long after a start of the link the home may take to join again (inferred)."""
REWRITE_GRACE_S = 7 * 86_400.0
"""How long after a rewrite the home may take to enter the new password (inferred: the letter goes
by post, and somebody has to type it in)."""

_KINDS: Mapping[type[LinkEvent], str] = {
    LinkStarted: "link_started",
    LinkStartFailed: "link_start_failed",
    AuthFailed: "authentication_failed",
    AuthOk: "authenticated",
    PeerLeft: "session_ended",
    SessionExpired: "session_expired",
    TxRestricted: "sending_restricted",
    TxReleased: "sending_released",
    UnitFault: "unit_fault",
}
"""What is remembered as recent; a beginning attempt only counts, its outcome follows."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both readings of the clock."""

    now: float
    wall: float

    @classmethod
    def of(cls, clock: Clock) -> "Moment":
        return cls(clock.monotonic(), clock.wall())

    def after(self, seconds: float) -> "Moment":
        return Moment(self.now + seconds, self.wall + seconds)


class RewriteGrace:
    """The home has not entered the password yet that the utility has set.

    It ends with the first home that authenticates, or after :data:`REWRITE_GRACE_S`. It outlives a
    communication unit that is replaced. It does not outlive a restart of the meter, which does not
    know when the password was set: rather an alarm too early than one that a restart puts off.
    """

    def __init__(self) -> None:
        self.until: Moment | None = None

    def begin(self, at: Moment) -> None:
        """The password was set."""
        self.until = at.after(REWRITE_GRACE_S)

    def end(self) -> None:
        """It was entered, or nobody is served any more."""
        self.until = None


@dataclass(frozen=True, slots=True)
class Session:
    """The home that is joined, since when, and until when it was heard without renewing it.

    ``since`` and ``expires`` are wall-clock seconds, ``proven_until`` is monotonic.
    """

    peer: str
    since: float
    expires: float
    lifetime_s: float
    proven_until: float


class LinkStatus:
    """Follows the link and answers what the diagnosis asks."""

    def __init__(self, grace: RewriteGrace | None = None) -> None:
        self.grace = grace or RewriteGrace()
        self.started = False
        self.unit_normal = True
        self.authenticated = True
        self.restricted = False
        self.failed_joins = 0
        """In a row."""
        self.address: str | None = None
        self.detail: str | None = None
        self.last_fault: str | None = None
        self.counters: dict[str, int] = {}
        self.session: Session | None = None
        self._starting_until: Moment | None = None
        self._rejoining_until: Moment | None = None
        self._signal = Signal()
        self._recent = Recent()

    def begin(self, at: Moment) -> None:
        """The link is being brought up."""
        self.started = False
        self.unit_normal = True
        self.session = None
        self._starting_until = at.after(START_GRACE_S)

    def follow(self, event: LinkEvent, at: Moment) -> None:
        """Take one event of the link in."""
        name = type(event).__name__
        self.counters[name] = self.counters.get(name, 0) + 1
        kind = _KINDS.get(type(event))
        if kind is not None:
            self._recent.add(kind, at.wall)
        match event:
            case LinkStarted(address, detail):
                self.started = self.unit_normal = True
                self.restricted = False
                self.session = None
                self.address, self.detail = address, detail
                self._starting_until = None
                self._rejoining_until = at.after(REJOIN_GRACE_S)
            case LinkStartFailed(reason) | UnitFault(reason):
                self.started = self.unit_normal = False
                self.session = None
                self.last_fault = reason
                self._starting_until = None
            case AuthOk(peer, lifetime_s):
                self._authenticated(peer, lifetime_s, at)
            case AuthFailed():
                self.authenticated = False
                self.failed_joins += 1
            case PeerLeft() | SessionExpired():
                self.session = None
            case TxRestricted():
                self.restricted = True
            case TxReleased():
                self.restricted = False
            case PeerJoining():
                pass

    def heard(self, peer: str, rssi_dbm: float | None, at: Moment) -> bool:
        """A datagram came from the home: its session lives; whether that is news."""
        if rssi_dbm is not None:
            self._signal.heard(rssi_dbm, at.wall)
        session = self.session
        if session is None or session.peer != peer:
            return False
        self.session = replace(session, proven_until=at.now + session.lifetime_s)
        return at.now >= session.proven_until

    def credentials_changed(self, at: Moment) -> None:
        """A new password clears the latched failure: nobody tried with it yet."""
        self.authenticated = True
        self.failed_joins = 0
        self.session = None
        self._signal.forget()
        self._recent.add("credentials_changed", at.wall)

    def items(self, now: float) -> Items:
        """The four items at ``now``, monotonic seconds."""
        return Items(
            self.started, self.authenticated, self._live(now) is not None, self.unit_normal
        )

    def verdict(self, now: float) -> Verdict:
        """What they come to."""
        items = self.items(now)
        message, _ = message_of(items)
        expected = self._expected(message, now)
        wrong = message is not Message.ACTIVE
        return Verdict(message, items, expected, alarm=wrong and expected is None)

    def next_deadline(self, now: float) -> float | None:
        """When the verdict may change by time alone; None while only events can change it."""
        due = [until.now for until in self._graces().values() if until is not None]
        if self.session is not None:
            due.append(self.session.proven_until)
        return min((moment for moment in due if moment > now), default=None)

    def report(self, now: float, medium: str) -> dict[str, Any]:
        """The diagnosis part of the status document, but for counters."""
        verdict = self.verdict(now)
        message, items = verdict.message, self.items(now)
        until = None if verdict.expected is None else self._graces()[verdict.expected]
        session = self._live(now)
        return {
            "message": int(message),
            "text": message.text,
            "text_ja": message.text_ja,
            "items": items.report(),
            "undefined_combination": not message_of(items)[1],
            "alarm": verdict.alarm,
            "expected": verdict.expected is not None,
            "expected_because": None if verdict.expected is None else verdict.expected.value,
            "expected_until": None if until is None else _stamp(until.wall),
            "causes": [
                {"code": cause.value, "text": cause.text, "text_ja": cause.text_ja}
                for cause in probable(message, medium, verdict.expected)
            ],
            "medium": medium,
            "link": self.detail,
            "session": None
            if session is None
            else {
                "peer": session.peer,
                "since": _stamp(session.since),
                "expires": _stamp(session.expires),
            },
            "failed_joins": self.failed_joins,
            "signal": self._signal.report(),
            "recent": self._recent.report(),
        }

    def _authenticated(self, peer: str, lifetime_s: int, at: Moment) -> None:
        before = self.session
        renewed = before is not None and before.peer == peer
        since = before.since if before is not None and renewed else at.wall
        expires = at.after(lifetime_s)
        self.session = Session(peer, since, expires.wall, lifetime_s, expires.now)
        self.authenticated = True
        self.failed_joins = 0
        self._rejoining_until = None
        self.grace.end()

    def _live(self, now: float) -> Session | None:
        session = self.session
        return session if session is not None and now < session.proven_until else None

    def _graces(self) -> Mapping[Expected, Moment | None]:
        return {
            Expected.STARTING: self._starting_until,
            Expected.REWRITTEN: self.grace.until,
            Expected.REJOINING: self._rejoining_until,
        }

    def _expected(self, message: Message, now: float) -> Expected | None:
        graces = self._graces()
        for reason in _EXCUSES.get(message, ()):
            until = graces[reason]
            if until is not None and now < until.now:
                return reason
        return None


_EXCUSES: Mapping[Message, tuple[Expected, ...]] = {
    Message.ABNORMALITY: (Expected.STARTING,),
    Message.HEMS_FAILURE: (Expected.REWRITTEN,),
    Message.HEMS_UNCONNECTED: (Expected.REWRITTEN, Expected.REJOINING),
}
"""What excuses a message; the first that holds is told."""


def _stamp(wall: float) -> str:
    return jst(wall).isoformat(timespec="seconds")
