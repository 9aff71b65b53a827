"""Sending: address resolution before a first contact, one datagram at a time, the legal limit.

:class:`Sender` decides what goes on air next and what becomes of it; it builds no frame and
prints nothing. :class:`SendTime` keeps the send-time account of ARIB STD-T108: 360 s in a sliding
hour.
"""

import enum
from collections import deque
from dataclasses import dataclass

from meter_runtime.bench.air.frames import EchoRequest, UdpDatagram
from meter_runtime.bench.module.join import PanaMessage
from meter_runtime.bench.module.state import NeighborCache
from meter_runtime.comm.skstack.replies import SendOutcome

SOLICITATIONS = 3
"""How often a neighbour is asked for, spread over the patience (RFC 4861, section 10)."""

SEND_LIMIT_S = 360.0
WINDOW_S = 3600.0
_BUCKET_S = 60.0

MAX_QUEUED = 24
"""One command and the PANA messages that may wait behind it."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One packet to send: where to, what, under which key, and for whom."""

    address: str
    body: UdpDatagram | EchoRequest
    key_id: bytes | None = None
    pana: PanaMessage | None = None
    """The session's message that this is; None for what the host asked for."""

    @property
    def multicast(self) -> bool:
        return self.address.startswith("FF")


class Need(enum.Enum):
    """What the sender wants on air."""

    SOLICITATION = enum.auto()
    ANOTHER_SOLICITATION = enum.auto()
    """A repeat, which the host is not told of."""
    PACKET = enum.auto()


@dataclass(frozen=True, slots=True)
class Launch:
    """Put this on air now."""

    item: Outgoing
    need: Need


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a packet, in the terms of EVENT 21."""

    item: Outgoing
    outcome: SendOutcome


class Sender:
    """The queue in front of the radio."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._queue: deque[Outgoing] = deque()
        self._current: Outgoing | None = None
        self._solicit_at: float | None = None
        """When the neighbour is asked for again, or given up; None while none is awaited."""
        self._solicited = 0

    @property
    def deadline(self) -> float | None:
        """When a neighbour solicitation counts as unanswered."""
        return self._solicit_at

    @property
    def busy(self) -> bool:
        return self._current is not None

    def submit(self, item: Outgoing) -> bool:
        """Queue a packet; False where the queue is full."""
        if len(self._queue) >= MAX_QUEUED:
            return False
        self._queue.append(item)
        return True

    def step(self, neighbors: NeighborCache, now: float) -> Launch | Report | None:
        """Begin the next packet when nothing is under way."""
        if self._current is not None or not self._queue:
            return None
        item = self._current = self._queue.popleft()
        if item.multicast or item.address in neighbors:
            return Launch(item, Need.PACKET)
        if neighbors.mac_of(item.address) is None:
            self._current = None
            return Report(item, SendOutcome.FAILED)
        self._solicited = 0
        return self._solicit(item, now)

    def resolved(self, address: str) -> Launch | None:
        """A neighbour advertised itself: send it what waited."""
        item = self._current
        if self._solicit_at is None or item is None or item.address != address:
            return None
        self._solicit_at = None
        return Launch(item, Need.PACKET)

    def tick(self, now: float) -> Launch | Report | None:
        """Ask again for a neighbour that did not answer, or give it up."""
        if self._solicit_at is None or now < self._solicit_at or self._current is None:
            return None
        if self._solicited < SOLICITATIONS:
            return self._solicit(self._current, now)
        return self._finish(SendOutcome.FAILED)

    def sent(self, *, received: bool) -> Report | None:
        """The current packet left the air."""
        if self._current is None or self._solicit_at is not None:
            return None
        return self._finish(SendOutcome.DONE if received else SendOutcome.FAILED)

    def _solicit(self, item: Outgoing, now: float) -> Launch:
        self._solicited += 1
        self._solicit_at = now + self._patience_s / SOLICITATIONS
        need = Need.SOLICITATION if self._solicited == 1 else Need.ANOTHER_SOLICITATION
        return Launch(item, need)

    def _finish(self, outcome: SendOutcome) -> Report | None:
        item, self._current = self._current, None
        self._solicit_at = None
        return None if item is None else Report(item, outcome)


class SendTime:
    """Seconds sent within the sliding hour, in steps of a minute."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[float, float]] = deque()
        self._sum_s = 0.0
        self.total_ms = 0
        """Register SFD."""
        self.limited = False
        """Register SFB."""

    @property
    def deadline(self) -> float | None:
        """When the limit may be over."""
        return self._buckets[0][0] + WINDOW_S + _BUCKET_S if self.limited else None

    def clear_total(self) -> None:
        """SFD set to 0; the legal account goes on."""
        self.total_ms = 0

    def add(self, seconds: float, now: float) -> bool:
        """Account for a frame; True when it reaches the limit."""
        self._expire(now)
        self.total_ms += round(seconds * 1000)
        start = now // _BUCKET_S * _BUCKET_S
        if self._buckets and self._buckets[-1][0] == start:
            seconds += self._buckets.pop()[1]
        self._buckets.append((start, seconds))
        self._sum_s = sum(sent for _, sent in self._buckets)
        reached = not self.limited and self._sum_s >= SEND_LIMIT_S
        self.limited = self.limited or reached
        return reached

    def tick(self, now: float) -> bool:
        """True when sending is allowed again."""
        self._expire(now)
        if not self.limited or self._sum_s >= SEND_LIMIT_S:
            return False
        self.limited = False
        return True

    def _expire(self, now: float) -> None:
        while self._buckets and self._buckets[0][0] + WINDOW_S + _BUCKET_S <= now:
            self._buckets.popleft()
        self._sum_s = sum(sent for _, sent in self._buckets)
