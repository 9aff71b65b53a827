"""Who is joined and what the home says: the modem's indications, turned into the link's events.

The modem does LBP and EAP-PSK by itself. It tells that somebody asks to join and that somebody has
joined, and of nothing in between: a request that is not completed in time has failed. One home is
joined at a time, and only what it says is heard.
"""

from collections import Counter
from dataclasses import dataclass

from meter_runtime.comm.contracts import (
    ECHONET_LITE_PORT,
    AuthFailed,
    AuthOk,
    LinkEvent,
    PeerJoining,
    PeerLeft,
    SessionExpired,
)
from meter_runtime.comm.g3plc import ipv6
from meter_runtime.comm.g3plc.messages import REJECTED

JOIN_TIMEOUT_S = 30
"""A join request without completion has failed after this long (*unverified*: a join on a quiet
line takes a few seconds)."""
REPEAT_S = 3.0
"""A request so soon after the last one is that one repeated, as over a bad line (*unverified*)."""
MAX_ATTEMPTS = 8
"""Devices that may be joining at once; more are refused."""
SENDS_TO_LOSE = 3
"""So many datagrams in a row that the home did not acknowledge, and it is out of reach
(*unverified*: the modem has repeated each before). There is no other sign of it on a power line."""


@dataclass(frozen=True, slots=True)
class Station:
    """One device of the PAN."""

    extended: bytes
    short: int
    address: str


@dataclass(frozen=True, slots=True)
class Received:
    """A datagram of the joined home on the ECHONET Lite port."""

    payload: bytes
    peer: str


@dataclass(slots=True)
class _Attempt:
    station: Station
    asked_at: float
    repeated_at: float
    failed: bool = False
    """It took too long; should it be completed after all, it counts."""


class Session:
    """The joined home, and the devices that knock."""

    def __init__(self, lifetime_s: int, join_timeout_s: float) -> None:
        self._lifetime_s = lifetime_s
        self._join_timeout_s = join_timeout_s
        self._attempts: dict[bytes, _Attempt] = {}
        self._home: Station | None = None
        self._reached = False
        self._unacknowledged = 0
        self.counts: Counter[str] = Counter()
        self.pan_id = 0

    def reset(self, pan_id: int) -> None:
        """The modem coordinates this PAN from now on, and nobody is in it."""
        self._attempts.clear()
        self._home = None
        self._reached = False
        self.pan_id = pan_id

    @property
    def peer(self) -> str | None:
        """The address of the joined home while it can be reached."""
        return self._home.address if self._home is not None and self._reached else None

    @property
    def home(self) -> Station | None:
        """The joined home, whether it can be reached or not."""
        return self._home

    @property
    def deadline(self) -> float | None:
        """When :meth:`expire` may have something to tell."""
        return min(map(self._over_at, self._attempts.values()), default=None)

    @property
    def joining(self) -> bool:
        """A device may be in the middle of joining, or be told by the modem to have joined yet."""
        return bool(self._attempts)

    def requested(self, extended: bytes, now: float) -> tuple[int, list[LinkEvent]]:
        """A device asks to join: the short address it gets, or that it is refused."""
        events: list[LinkEvent] = []
        before = self._attempts.get(extended)
        if before is not None:
            if not before.failed and now - before.repeated_at < REPEAT_S:
                before.repeated_at = now
                return before.station.short, events
            if not before.failed:
                events.append(AuthFailed(before.station.address))
        elif not self._has_room():
            self.counts["joins_refused"] += 1
            return REJECTED, events
        station = before.station if before is not None else self._station(extended)
        self._attempts[extended] = _Attempt(station, now, now)
        return station.short, [*events, PeerJoining(station.address)]

    def completed(self, extended: bytes, short: int) -> tuple[Station | None, list[LinkEvent]]:
        """A device has joined: whom to kick for that, and what is to be told."""
        attempt = self._attempts.pop(extended, None)
        home = self._home
        if (
            attempt is None
            and home is not None
            and (home.extended, home.short) == (extended, short)
        ):
            return None, []
        if attempt is None or attempt.station.short != short:
            # It was begun under credentials that count no more, or by nobody we know of.
            self.counts["joins_unasked"] += 1
            return Station(extended, short, ipv6.link_local(self.pan_id, short)), []
        former, events = self._home, list[LinkEvent]()
        if former is not None and former.extended != extended:
            events += self.end()
        else:
            former = None
        self._home, self._reached, self._unacknowledged = attempt.station, True, 0
        return former, [*events, AuthOk(attempt.station.address, self._lifetime_s)]

    def left(self, short: int) -> list[LinkEvent]:
        """A device left by itself."""
        return self.end() if self._home is not None and self._home.short == short else []

    def receive(self, packet: bytes) -> list[LinkEvent | Received]:
        """Take one packet in; what is not for the meter, or not the home's, is counted."""
        try:
            datagram = ipv6.parse(packet)
        except ipv6.MalformedPacket:
            self.counts["rx_malformed"] += 1
            return []
        if datagram.destination_port != ECHONET_LITE_PORT:
            self.counts["rx_other_port"] += 1
            return []
        own = ipv6.link_local(self.pan_id, 0)
        if not datagram.destination.startswith("FF") and datagram.destination != own:
            self.counts["rx_other_address"] += 1
            return []
        home = self._home
        if home is None or datagram.source != home.address:
            self.counts["rx_stranger"] += 1
            return []
        self.counts["rx"] += 1
        self._unacknowledged = 0
        # Only who has the network's key is heard at all: the home is back.
        news = [] if self._reached else [AuthOk(home.address, self._lifetime_s)]
        self._reached = True
        return [*news, Received(datagram.payload, home.address)]

    def acknowledged(self, *, ok: bool) -> list[LinkEvent]:
        """A datagram to the home was acknowledged, or finally not."""
        if ok or self._home is None or not self._reached:
            self._unacknowledged = 0
            return []
        self._unacknowledged += 1
        if self._unacknowledged < SENDS_TO_LOSE:
            return []
        self._unacknowledged, self._reached = 0, False
        self.counts["homes_lost"] += 1
        return [SessionExpired(self._home.address)]

    def expire(self, now: float) -> list[LinkEvent]:
        """The joins that took too long have failed."""
        events: list[LinkEvent] = []
        for extended, attempt in tuple(self._attempts.items()):
            if now < self._over_at(attempt):
                continue
            if attempt.failed:
                del self._attempts[extended]
            else:
                attempt.failed = True
                events.append(AuthFailed(attempt.station.address))
        return events

    def end(self) -> list[LinkEvent]:
        """Whatever session there was is over."""
        home, reached = self._home, self._reached
        self._home, self._reached, self._unacknowledged = None, False, 0
        return [PeerLeft(home.address)] if home is not None and reached else []

    def forget_attempts(self) -> None:
        """Those who are joining do so with keys that count no more."""
        self._attempts.clear()

    def _over_at(self, attempt: _Attempt) -> float:
        # The modem has the same patience, and has given it up by the second time.
        return attempt.asked_at + self._join_timeout_s * (1 + attempt.failed)

    def _has_room(self) -> bool:
        """Room for one more attempt; those that failed make it."""
        if len(self._attempts) >= MAX_ATTEMPTS:
            self._attempts = {key: each for key, each in self._attempts.items() if not each.failed}
        return len(self._attempts) < MAX_ATTEMPTS

    def _station(self, extended: bytes) -> Station:
        if self._home is not None and self._home.extended == extended:
            return self._home
        taken = {attempt.station.short for attempt in self._attempts.values()}
        if self._home is not None:
            taken.add(self._home.short)
        short = next(number for number in range(1, REJECTED) if number not in taken)
        return Station(extended, short, ipv6.link_local(self.pan_id, short))
