"""Pauses for whoever fails to authenticate again and again.

For an end that authenticates on this side: whoever gets :class:`JoinBackOff` asks it before an
attempt is begun, and tells it how each ended. A radio module that does PANA inside leaves its host
no such place: the host is told of an attempt once it has failed, and could only take the whole
network down, the home that is joined with it. There failures are counted and told, no more.

During its pause a peer meets silence, as a second home does: PANA can refuse only in clear, and
what is sent in clear could be forged to keep a home out. A pause is one peer's own, for anybody in
reach can fail on purpose. That an address can be changed is accepted: a password of 12 letters and
digits is not guessed in a thousand years of attempts that take seconds each; what a pause saves is
the air and the meter's time.

Sans-I/O: ``now`` is monotonic seconds.
"""

from dataclasses import dataclass

FAILURES = 5
"""Failed attempts in a row that cost nothing (inferred)."""
FIRST_S = 60.0
"""The first pause; each further failure doubles it (inferred)."""
LAST_S = 900.0
"""No pause is longer: whoever has the right password at last waits a quarter of an hour at most
(inferred)."""
MAX_PEERS = 16
"""Peers that are remembered; the one whose last failure is oldest is forgotten."""


@dataclass(slots=True)
class _Record:
    """One peer's failures since its last success."""

    failed: int = 0
    until: float = 0.0


class JoinBackOff:
    """Who has failed how often, and until when that one is not listened to.

    ``unheard`` counts the attempts that fell into a pause.
    """

    def __init__(self) -> None:
        self.unheard = 0
        self._records: dict[str, _Record] = {}

    def failures(self, peer: str) -> int:
        """This peer's failed attempts since its last success."""
        record = self._records.get(peer)
        return 0 if record is None else record.failed

    def pause_s(self, peer: str, now: float) -> float:
        """How much is left of this peer's pause; 0 for none."""
        record = self._records.get(peer)
        return 0.0 if record is None else max(0.0, record.until - now)

    def admits(self, peer: str, now: float) -> bool:
        """Whether an attempt of this peer may begin now; one that may not is counted."""
        if self.pause_s(peer, now) <= 0:
            return True
        self.unheard += 1
        return False

    def failed(self, peer: str, now: float) -> None:
        """An attempt ended without success."""
        record = self._records.pop(peer, None) or _Record()
        while len(self._records) >= MAX_PEERS:
            del self._records[next(iter(self._records))]
        self._records[peer] = record
        record.failed += 1
        if record.failed >= FAILURES:
            # Bounded, for a peer may fail for years.
            doublings = min(record.failed - FAILURES, 30)
            record.until = now + min(LAST_S, FIRST_S * 2**doublings)

    def succeeded(self, peer: str) -> None:
        """It has the password: nothing is held against it."""
        self._records.pop(peer, None)

    def reset(self) -> None:
        """There is another password: everybody begins anew."""
        self._records.clear()
