"""PANA's reliable exchange of requests and answers (RFC 5191, sections 5.2, 5.5 and 9).

One request is outstanding at a time in each direction. A request is repeated with growing
intervals until its answer comes; a repeated request from the peer gets the same answer again;
anything out of sequence, of another session or with a wrong AUTH is dropped and counted.

One thing is more lenient than the RFC, which ends the session with the first request that is
never answered: here a session may outlive it, so under a key a request may run ahead of the
sequence by those that were given up.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from meter_runtime.comm.auth.pana_message import (
    Flag,
    MalformedPana,
    Message,
    encode,
    parse,
    sign,
    verify,
)

SEQUENCE_MODULUS = 2**32


@dataclass(frozen=True, slots=True)
class Schedule:
    """Retransmission: first interval, longest interval, transmissions before giving up."""

    initial_s: float
    maximum_s: float
    attempts: int


REQUEST_SCHEDULE = Schedule(initial_s=1.0, maximum_s=30.0, attempts=10)
"""REQ_IRT, REQ_MRT, REQ_MRC (RFC 5191, section 9.1)."""

PCI_SCHEDULE = Schedule(initial_s=1.0, maximum_s=120.0, attempts=7)
"""PCI_IRT and PCI_MRT are the RFC's; it repeats for ever, while modules give up after some 40 s:
the number of attempts is *unverified*."""

_JITTER = 0.1


class Retransmitter:
    """Repeats one packet by a :class:`Schedule`, each interval ±10 %."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._packet: bytes | None = None
        self._schedule = REQUEST_SCHEDULE
        self._sent = 0
        self._interval = 0.0
        self.deadline: float | None = None

    def start(self, packet: bytes, schedule: Schedule, now: float) -> None:
        """The packet was sent at ``now``; repeat it until :meth:`stop`."""
        self._packet, self._schedule, self._sent = packet, schedule, 1
        self._interval = self._spread(schedule.initial_s)
        self.deadline = now + self._interval

    def stop(self) -> None:
        self._packet = self.deadline = None

    def tick(self, now: float) -> bytes | None:
        """The packet, when it is due again. :attr:`exhausted` says when hope is gone."""
        if self._packet is None or self.deadline is None or now < self.deadline:
            return None
        if self._sent >= self._schedule.attempts:
            return None
        self._sent += 1
        doubled = 2 * self._interval + self._spread(self._interval) - self._interval
        if doubled > self._schedule.maximum_s:
            doubled = self._spread(self._schedule.maximum_s)
        self._interval = doubled
        self.deadline = now + doubled
        return self._packet

    def exhausted(self, now: float) -> bool:
        """All attempts were made and the last interval has passed."""
        return (
            self._packet is not None
            and self.deadline is not None
            and now >= self.deadline
            and self._sent >= self._schedule.attempts
        )

    def _spread(self, interval: float) -> float:
        return interval * (1 + self._rng.uniform(-_JITTER, _JITTER))


class Exchange:
    """Sequence numbers, duplicates, retransmission and AUTH of one end of one session."""

    def __init__(self, rng: random.Random, session_id: int = 0) -> None:
        self.session_id = session_id
        self.key: bytes | None = None
        """PANA_AUTH_KEY in force: what is sent is signed with it, what comes must be."""
        self.outgoing: list[bytes] = []
        self.dropped = 0
        self._sequence = rng.getrandbits(32)
        self._retransmitter = Retransmitter(rng)
        self._outstanding: Message | None = None
        self._last_request: int | None = None
        self._last_answer: bytes | None = None

    @property
    def deadline(self) -> float | None:
        return self._retransmitter.deadline

    def request(
        self,
        flags: Flag,
        kind: int,
        avps: tuple[tuple[int, bytes], ...],
        now: float,
    ) -> bytes:
        """Send a request and repeat it until it is answered; gives its bytes."""
        self._sequence = (self._sequence + 1) % SEQUENCE_MODULUS
        message = Message(flags | Flag.REQUEST, kind, self.session_id, self._sequence, avps)
        packet = self._send(message)
        self._outstanding = message
        self._retransmitter.start(packet, REQUEST_SCHEDULE, now)
        return packet

    def initiate(self, packet: bytes, now: float) -> None:
        """Send and repeat a PCI, which has no answer of its own type."""
        self.outgoing.append(packet)
        self._retransmitter.start(packet, PCI_SCHEDULE, now)

    def answer(self, request: Message, avps: tuple[tuple[int, bytes], ...]) -> bytes:
        """Answer a request, with its flags; gives the answer's bytes."""
        flags = request.flags & ~Flag.REQUEST
        message = Message(flags, request.type, self.session_id, request.sequence, avps)
        packet = self._send(message)
        self._last_request, self._last_answer = request.sequence, packet
        return packet

    def settle(self) -> None:
        """Nothing is awaited any more."""
        self._outstanding = None
        self._retransmitter.stop()

    def take(
        self, data: bytes, complete_key: Callable[[Message], bytes | None] | None = None
    ) -> Message | None:
        """A message that is in order, else None.

        ``complete_key`` gives the key that a message with flag C must be signed with: the new
        one, which comes into force with it; None there accepts it unsigned (a rejection).
        """
        try:
            message = parse(data)
        except MalformedPana:
            self.dropped += 1
            return None
        if self._is_repeated(message):
            if self._last_answer is not None and self._last_answer not in self.outgoing:
                self.outgoing.append(self._last_answer)
            return None
        if not (self._in_order(message) and self._authentic(message, data, complete_key)):
            self.dropped += 1
            return None
        if not message.is_request:
            self.settle()
        return message

    def tick(self, now: float) -> bool:
        """Repeat what is due; True when the peer did not answer at all."""
        packet = self._retransmitter.tick(now)
        if packet is not None:
            self.outgoing.append(packet)
            return False
        if self._retransmitter.exhausted(now):
            self.settle()
            return True
        return False

    def take_output(self) -> list[bytes]:
        packets, self.outgoing = self.outgoing, []
        return packets

    def _send(self, message: Message) -> bytes:
        packet = encode(message if self.key is None else sign(message, self.key))
        self.outgoing.append(packet)
        return packet

    def _is_repeated(self, message: Message) -> bool:
        return (
            message.is_request
            and message.session_id == self.session_id
            and message.sequence == self._last_request
        )

    def _in_order(self, message: Message) -> bool:
        if message.session_id != self.session_id:
            # The first request brings the session's number to the client.
            return self.session_id == 0 and message.is_request
        if message.is_request:
            if self._last_request is None:
                return True
            ahead = (message.sequence - self._last_request) % SEQUENCE_MODULUS
            return ahead == 1 or (self.key is not None and 1 < ahead < SEQUENCE_MODULUS // 2)
        waiting = self._outstanding
        return (
            waiting is not None
            and message.sequence == waiting.sequence
            and message.type == waiting.type
            and not (message.flags ^ waiting.flags) & (Flag.START | Flag.COMPLETE)
        )

    def _authentic(
        self,
        message: Message,
        data: bytes,
        complete_key: Callable[[Message], bytes | None] | None,
    ) -> bool:
        if message.flags & Flag.COMPLETE and complete_key is not None:
            key = complete_key(message)
        else:
            key = self.key
        return key is None or verify(data, key)
