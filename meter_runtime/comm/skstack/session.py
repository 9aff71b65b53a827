"""Who is joined and what the home says: the module's events and datagrams, turned into the link's.

The module does PANA by itself and tells of it by events; the datagrams of the exchange are shown
on port 716 as well, which is how a beginning attempt is seen. One home is joined at a time, and
only what it says under its session's key is heard.
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
    TxReleased,
    TxRestricted,
)
from meter_runtime.comm.skstack.replies import Event, EventNumber, RxUdp

PANA_PORT = 716
ATTEMPT_S = 60.0
"""An attempt that is silent for so long has ended without a word (*unverified*)."""
MAX_ATTEMPTS = 8
"""Homes seen knocking at once. Further ones are counted, not told, until one of these has been
silent for :data:`ATTEMPT_S`: addresses cost nothing, and what is told is logged and passed on."""
EXCHANGE_QUIET_S = 3.0
"""While the joined home renews its session nothing is sent, until the result or so much silence
after the last message of the exchange (*unverified*)."""


@dataclass(frozen=True, slots=True)
class Received:
    """A secured datagram from the joined home on the ECHONET Lite port."""

    payload: bytes
    peer: str
    rssi_dbm: float | None
    multicast: bool


class Session:
    """The joined home, the ones that knock, and whether sending is allowed."""

    def __init__(self, lifetime_s: int) -> None:
        self._lifetime_s = lifetime_s
        self._knocking: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self.peer: str | None = None
        self.restricted = False
        self.renewing_until = 0.0
        """Nothing is sent before this moment."""

    def reset(self) -> None:
        """The module has restarted: nobody is joined, nothing is restricted."""
        self._knocking.clear()
        self.peer = None
        self.restricted = False
        self.renewing_until = 0.0

    def receive(self, datagram: RxUdp, now: float) -> list[LinkEvent | Received]:
        """Take one datagram in; what is not for the meter is dropped and counted."""
        if datagram.destination_port == PANA_PORT:
            return [*self._exchange_heard(datagram.source, now)]
        if datagram.destination_port != ECHONET_LITE_PORT:
            self.counts["rx_other_port"] += 1
            return []
        if not datagram.secured:
            self.counts["rx_plaintext"] += 1
            return []
        self.counts["rx"] += 1
        rssi = None if datagram.lqi is None else 0.275 * datagram.lqi - 104.27
        multicast = datagram.destination.startswith("FF")
        # Secured data proves a session, even one whose EVENT 25 was lost.
        news = [] if datagram.source == self.peer else self._joined(datagram.source)
        return [*news, Received(datagram.data, datagram.source, rssi, multicast)]

    def follow(self, event: Event, own_address: str) -> list[LinkEvent]:
        """Take one event of the module in."""
        source = event.source
        match event.number:
            case EventNumber.PANA_DONE:
                self.renewing_until = 0.0
                return self._joined(source)
            case EventNumber.PANA_FAILED:
                self._knocking.pop(source, None)
                if source == self.peer:
                    self.renewing_until = 0.0
                return [AuthFailed(source)]
            case EventNumber.SEND_LIMIT_REACHED:
                return self.restrict(restricted=True)
            case EventNumber.SEND_LIMIT_RELEASED:
                return self.restrict(restricted=False)
        if self.peer is None or source not in (self.peer, own_address):
            return []
        match event.number:
            case (
                EventNumber.SESSION_CLOSED_BY_PEER
                | EventNumber.TERMINATED
                | EventNumber.TERMINATE_TIMED_OUT
            ):
                return self.end()
            case EventNumber.SESSION_EXPIRED:
                peer, self.peer = self.peer, None
                return [SessionExpired(peer)]
            case _:
                return []

    def restrict(self, *, restricted: bool) -> list[LinkEvent]:
        """The send-time limit holds, or no longer does."""
        if restricted == self.restricted:
            return []
        self.restricted = restricted
        return [TxRestricted() if restricted else TxReleased()]

    def end(self) -> list[LinkEvent]:
        """Whatever session there was is over."""
        self._knocking.clear()
        self.renewing_until = 0.0
        peer, self.peer = self.peer, None
        return [] if peer is None else [PeerLeft(peer)]

    def _exchange_heard(self, source: str, now: float) -> list[LinkEvent]:
        if source == self.peer:
            self.renewing_until = now + EXCHANGE_QUIET_S
            return []
        last = self._knocking.pop(source, None)
        if len(self._knocking) >= MAX_ATTEMPTS:
            longest_silent = next(iter(self._knocking))
            if now - self._knocking[longest_silent] <= ATTEMPT_S:
                self.counts["knocks_untold"] += 1
                return []
            del self._knocking[longest_silent]
        self._knocking[source] = now
        return [PeerJoining(source)] if last is None or now - last > ATTEMPT_S else []

    def _joined(self, source: str) -> list[LinkEvent]:
        self._knocking.pop(source, None)
        left: list[LinkEvent] = []
        if self.peer not in (None, source):
            left = self.end()
        self.peer = source
        return [*left, AuthOk(source, self._lifetime_s)]
