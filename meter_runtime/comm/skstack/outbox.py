"""Datagrams on their way to the module: few, in order, one in flight, and not for ever."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

MAX_WAITING = 16
"""Waiting datagrams; a meter answers one home, which has at most a handful of questions open."""
MAX_WAIT_S = 60.0
"""Longer than the longest renewal of a session seen in the field (42 s)."""


@dataclass(frozen=True, slots=True)
class SendDone:
    """What became of a datagram; each gets exactly one."""

    send_id: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Parcel:
    """One datagram to send."""

    id: int
    payload: bytes
    destination: str
    expires: float


class Outbox:
    """A bounded queue whose entries expire, and the one datagram that the module has.

    Every datagram that was submitted is told of once through ``report``; ``counts`` says why.
    """

    def __init__(self, report: Callable[[SendDone], None]) -> None:
        self._report = report
        self._waiting: deque[Parcel] = deque()
        self._in_flight: Parcel | None = None
        self._last_id = 0
        self.counts: Counter[str] = Counter()

    def submit(self, payload: bytes, destination: str, now: float, refusal: str | None) -> int:
        """Queue a datagram, or fail it at once for the reason given; its number."""
        self._last_id += 1
        parcel = Parcel(self._last_id, payload, destination, now + MAX_WAIT_S)
        if refusal is None and len(self._waiting) >= MAX_WAITING:
            refusal = "tx_dropped"
        if refusal is None:
            self._waiting.append(parcel)
        else:
            self._finish(parcel, ok=False, counter=refusal)
        return parcel.id

    def next(self) -> Parcel | None:
        """Put the first in flight."""
        if not self._waiting:
            return None
        self._in_flight = self._waiting.popleft()
        return self._in_flight

    def landed(self, *, ok: bool) -> None:
        """The module told what became of the one in flight."""
        parcel, self._in_flight = self._in_flight, None
        if parcel is not None:
            self._finish(parcel, ok=ok, counter="tx" if ok else "tx_failed")

    def fail_waiting(self, counter: str) -> None:
        """Nothing that waits can be sent any more."""
        while self._waiting:
            self._finish(self._waiting.popleft(), ok=False, counter=counter)

    def expire(self, now: float) -> None:
        """Fail those that waited too long."""
        while self._waiting and self._waiting[0].expires <= now:
            self._finish(self._waiting.popleft(), ok=False, counter="tx_expired")

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def next_expiry(self) -> float | None:
        """When the first will have waited too long."""
        return self._waiting[0].expires if self._waiting else None

    def _finish(self, parcel: Parcel, *, ok: bool, counter: str) -> None:
        self.counts[counter] += 1
        self._report(SendDone(parcel.id, ok))
