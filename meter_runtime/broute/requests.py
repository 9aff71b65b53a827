"""What the home asks, as far as it is admitted, until it is answered.

The service is best effort: a home must not be able to impair the meter (terms of the service,
articles 12 and 18). So a home that asks too often is answered as often as it may, and not at all
beyond that: what is over the limit is dropped at once and counted. What is admitted waits in a
short queue, for answers leave one by one and a radio may keep one waiting for a minute. Sans-I/O:
``now`` is monotonic seconds.
"""

from collections import deque
from dataclasses import dataclass

from meter_runtime.comm.contracts import Datagram

RATE_PER_S = 100.0
"""Requests of one home that are admitted in the long run (inferred).

More than a radio module can hand on: with their answers, some 80 fit a serial line at 115 200 baud
in a second. A HEMS asks one thing at a time: every five seconds as momonga comes, at most twice a
second over the air, where meters take 0.2 to 1.3 s, and 40 times a second in a radio room without
airtime.
"""

BURST = 200
"""Requests that are admitted at once from a home that was silent (inferred): every property of the
meter and 40 days of history, one by one."""

MAX_WAITING = 32
"""Admitted requests that wait for their answers. The oldest gives way to a further one: a home
that has asked so much more no longer waits for it."""

MAX_PEERS = 4
"""Homes whose rate is remembered; one is joined at a time. The next takes over what is left to the
one longest silent, so that an address that changes each time wins nothing."""


@dataclass(slots=True)
class _Allowance:
    """A token bucket."""

    left: float
    at: float

    def spend(self, now: float) -> bool:
        self.left = min(float(BURST), self.left + max(0.0, now - self.at) * RATE_PER_S)
        self.at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


class Requests:
    """The requests of the home, oldest first.

    ``counters``: ``rx_over_limit`` dropped because the home asks too often, ``rx_overtaken`` given
    way to later ones.
    """

    def __init__(self) -> None:
        self.counters = {"rx_over_limit": 0, "rx_overtaken": 0}
        self._waiting: deque[Datagram] = deque()
        self._allowances: dict[str, _Allowance] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, datagram: Datagram, now: float) -> bool:
        """Take a request in; False where its home asks too often."""
        if not self._allowance(datagram.peer, now).spend(now):
            self.counters["rx_over_limit"] += 1
            return False
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.counters["rx_overtaken"] += 1
        self._waiting.append(datagram)
        return True

    def next(self) -> Datagram | None:
        """The request to answer now; None where none waits."""
        return self._waiting.popleft() if self._waiting else None

    def forget(self, peer: str | None = None) -> None:
        """Nobody waits any more for what this peer, or anybody, has asked."""
        kept = [each for each in self._waiting if peer is not None and each.peer != peer]
        self._waiting = deque(kept)

    def _allowance(self, peer: str, now: float) -> _Allowance:
        found = self._allowances.get(peer)
        if found is None:
            if len(self._allowances) < MAX_PEERS:
                found = _Allowance(BURST, now)
            else:
                longest_silent = min(self._allowances, key=lambda each: self._allowances[each].at)
                found = self._allowances.pop(longest_silent)
            self._allowances[peer] = found
        return found
