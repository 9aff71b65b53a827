"""What the meter says unasked, and when.

Owns the schedule of three announcements: the instance list after every authentication, the
half-hour values after every stored boundary (meter-controller interface specification: within
five minutes of :00 and :30), and statuses that changed. The node words them; the service sends
them. Sans-I/O: ``now`` is monotonic seconds, waits are returned as deadlines.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from meter_runtime.broute.echonet.node import EchonetNode
from meter_runtime.comm.contracts import ALL_NODES

HALF_HOUR_LIFE_S = 300.0
"""A half-hour value may be announced so long after its boundary."""

INSTANCE_LIST_LIFE_S = 15.0
"""After so long a controller that missed the instance list has asked for it."""

STATUS_LIFE_S = 60.0
"""A changed status is told so long; afterwards whoever wants it reads it (*unverified*)."""

_COUNTERS = (
    "announced",
    "announcements_repeated",
    "announcements_given_up",
    "announcements_superseded",
    "announcements_unconfirmed",
)


@dataclass(frozen=True, slots=True)
class Pace:
    """How the announcements are spread in time.

    The instance list goes out up to ``instance_list_delay_s`` after the authentication, the
    half-hour values up to ``jitter_s`` after the boundary was stored, so that a neighbourhood of
    meters does not speak at once. A failed sending is repeated after ``retry_s``. An INFC nobody
    answers within ``confirm_s`` is repeated ``confirm_repeats`` times (*unverified* numbers).
    """

    instance_list_delay_s: float = 3.0
    jitter_s: float = 5.0
    retry_s: float = 10.0
    confirm_s: float = 20.0
    confirm_repeats: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.instance_list_delay_s < INSTANCE_LIST_LIFE_S:
            raise ValueError(f"the instance list is due within {INSTANCE_LIST_LIFE_S:g} s")
        if not 0 <= self.jitter_s < HALF_HOUR_LIFE_S:
            raise ValueError(f"half-hour values are due within {HALF_HOUR_LIFE_S:g} s")
        if self.retry_s <= 0 or self.confirm_s <= 0 or self.confirm_repeats < 0:
            raise ValueError("a retry takes time, and repeats are counted from 0")


@dataclass(frozen=True, slots=True)
class Announcement:
    """One datagram to send now."""

    payload: bytes
    peer: str


@dataclass(slots=True, eq=False)
class _Pending:
    """One announcement on its way, worded at its first sending, so that repeats are the same."""

    word: Callable[[], bytes]
    due: float
    expires: float
    slot: int | None = None
    confirmed: bool = False
    """It is an INFC: the home's answer ends it, not the sending."""
    payload: bytes | None = None
    tries: int = 0
    heard: int = 0
    """Sendings the link reported sent."""

    def tid(self) -> int | None:
        return None if self.payload is None else int.from_bytes(self.payload[2:4], "big")


class Announcer:
    """Decides when which announcement goes to whom; one is in flight at a time.

    ``counters``: half-hour values ``announced``, ``announcements_repeated`` after a failure or for
    want of an answer, ``given_up`` (never sent while their five minutes lasted, be it that nobody
    was joined), ``superseded`` by a newer boundary, and INFCs left ``unconfirmed``.
    """

    def __init__(self, node: EchonetNode, rng: Random, pace: Pace | None = None) -> None:
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self._node = node
        self._rng = rng
        self._pace = Pace() if pace is None else pace
        self._peer: str | None = None
        self._instance_list: _Pending | None = None
        self._half_hour: _Pending | None = None
        self._status: _Pending | None = None
        self._status_epcs: tuple[int, ...] = ()
        self._in_flight: _Pending | None = None

    def exchange_node(self, node: EchonetNode) -> None:
        """Word through another node from now on, what is pending too."""
        self._node = node
        if self._instance_list is not None:
            self._instance_list.word = node.announcement_instance_list
        if self._half_hour is not None and self._half_hour.slot is not None:
            self._half_hour.word = partial(node.announcement_half_hour, self._half_hour.slot)
        self._reword_half_hour()

    def authenticated(self, peer: str, now: float) -> None:
        """A home authenticated, or did so again: it is told the instance list, before all else.

        The running TID restarts with the session, so what is pending will be worded anew.
        """
        self._peer = peer
        self._instance_list = _Pending(
            self._node.announcement_instance_list,
            due=now + self._rng.uniform(0.0, self._pace.instance_list_delay_s),
            expires=now + INSTANCE_LIST_LIFE_S,
        )
        self._reword_half_hour()

    def peer_gone(self, now: float) -> None:
        """Nobody is joined. A half-hour value waits for a home to come back in time."""
        self._drop_ended(now)
        self._peer = None
        self._instance_list = self._status = None
        self._reword_half_hour()

    def statuses_changed(self, epcs: tuple[int, ...], now: float) -> None:
        """These announced properties have new values; together with those still to be told."""
        waiting = self._status is not None and self._status is not self._in_flight
        known = self._status_epcs if waiting else ()
        self._status_epcs = (*known, *(epc for epc in epcs if epc not in known))
        self._status = _Pending(
            partial(self._node.announcement_statuses, self._status_epcs),
            due=now,
            expires=now + STATUS_LIFE_S,
        )

    def boundary(self, slot: int, now: float, age_s: float) -> None:
        """The register at the boundary opening ``slot`` was stored, ``age_s`` after the boundary.

        It takes the place of an older one still pending; a slot that is not newer is ignored.
        """
        self._drop_ended(now)
        older = self._half_hour
        if older is not None:
            if older.slot is not None and slot <= older.slot:
                return
            if older.heard:
                self.counters["announcements_unconfirmed"] += 1
            elif older is not self._in_flight:
                self.counters["announcements_superseded"] += 1
        left = HALF_HOUR_LIFE_S - max(0.0, age_s)
        if left <= 0:
            self._half_hour = None
            self.counters["announcements_given_up"] += 1
            return
        self._half_hour = _Pending(
            partial(self._node.announcement_half_hour, slot),
            due=now + self._rng.uniform(0.0, min(self._pace.jitter_s, left)),
            expires=now + left,
            slot=slot,
            confirmed=self._node.settings.confirmed_announcements,
        )

    def next_deadline(self) -> float | None:
        """When to ask :meth:`due` again; ``None`` while one is in flight or none is pending."""
        pending = self._next()
        return None if pending is None or self._in_flight is not None else pending.due

    def due(self, now: float) -> Announcement | None:
        """What to send now. Its outcome is reported by :meth:`sent` before the next."""
        if self._in_flight is not None:
            return None
        self._drop_ended(now)
        pending = self._next()
        if pending is None or self._peer is None or now < pending.due:
            return None
        if pending.payload is None:
            pending.payload = pending.word()
        if pending.tries:
            self.counters["announcements_repeated"] += 1
        pending.tries += 1
        self._in_flight = pending
        peer = self._peer if pending is self._half_hour else ALL_NODES
        return Announcement(pending.payload, peer)

    def sent(self, ok: bool, now: float) -> None:
        """The link's report on the announcement in flight."""
        pending, self._in_flight = self._in_flight, None
        if pending is None:
            return
        if ok:
            self._note_heard(pending)
            pending.due = now + self._pace.confirm_s
            if not pending.confirmed:
                self._drop(pending)
        elif pending in (self._instance_list, self._status, self._half_hour):
            pending.due = now + self._pace.retry_s
            if pending.due > pending.expires:
                self._end(pending)
        elif pending.slot is not None and not pending.heard:
            self.counters["announcements_superseded"] += 1

    def infc_answered(self, tid: int) -> bool:
        """An INFC_Res arrived; False for one that answers nothing pending, which is ignored."""
        pending = self._half_hour
        if pending is None or not pending.confirmed or pending.tid() != tid:
            return False
        self._note_heard(pending)
        self._drop(pending)
        return True

    def _next(self) -> _Pending | None:
        if self._instance_list is not None:
            return self._instance_list
        return None if self._peer is None else self._status or self._half_hour

    def _reword_half_hour(self) -> None:
        if self._half_hour is not None:
            self._half_hour.payload = None

    def _note_heard(self, pending: _Pending) -> None:
        if pending.slot is not None and not pending.heard:
            self.counters["announced"] += 1
        pending.heard += 1

    def _drop_ended(self, now: float) -> None:
        """Drop what has outlived its time, or has been repeated often enough."""
        for pending in (self._instance_list, self._status, self._half_hour):
            if pending is None or pending is self._in_flight:
                continue
            repeated_enough = pending.heard > self._pace.confirm_repeats and now >= pending.due
            if now > pending.expires or repeated_enough:
                self._end(pending)

    def _end(self, pending: _Pending) -> None:
        outcome = "announcements_unconfirmed" if pending.heard else "announcements_given_up"
        self.counters[outcome] += 1
        self._drop(pending)

    def _drop(self, pending: _Pending) -> None:
        if pending is self._instance_list:
            self._instance_list = None
        elif pending is self._status:
            self._status = None
        elif pending is self._half_hour:
            self._half_hour = None
