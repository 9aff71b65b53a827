"""Half-hours on their way to the utility: which message is due, and what may be forgotten.

Sans-I/O. The load profile is the store that is forwarded from; here is only how much of it the
utility has. What it does not have as it stands is one interval, ``after < slot <= upto``, which new
boundaries extend upwards and corrections downwards. It is told from its lower end, one message of
up to :data:`~meter_runtime.aroute.messages.MAX_READINGS` records at a time, and shrinks when a
:class:`~meter_runtime.aroute.messages.Mark` bears that very message's sequence.

One message at a time, because ``upto`` alone proves nothing of a correction: the head-end had
*something* for those slots before. And it suffices: the whole load profile is eight messages. A
message that no mark answers is sent again, up to date and under a new sequence, after
:data:`RESEND_S`, then ever more rarely; a new boundary is sent at its time, answered or not.

The ring may turn faster than the utility listens. What is gone from it is told as
:class:`ReadingsLost`, and the chain goes on behind the gap; only where the head-end then asks for
the gap is it told that there is nothing, so that nothing it has is ever taken from it.

What outlives a restart is in :mod:`~meter_runtime.aroute.uplink_memory`. Beyond what it covers are
double faults only: half-hours that a clock far ahead had hidden when the meter restarted, a state
lost with a correction that was still owed, a head-end restored from before a correction. There a
command must ask for the history anew.
"""

import enum
import logging
import math
import random
from dataclasses import dataclass
from typing import Protocol

from meter_runtime.aroute.history_requests import HistoryRequests
from meter_runtime.aroute.messages import MAX_READINGS, Mark, Reading, Readings
from meter_runtime.aroute.uplink_memory import BOOT_SLOTS, StateStore, UplinkMemory
from meter_runtime.storage.ring import Record

log = logging.getLogger(__name__)

PACE_S = 1.0
"""Between two messages, and before the first one: a retained mark may be on its way."""
RESEND_S = 60.0
RESEND_LIMIT_S = 900.0
"""A message without an answer is sent again after the first, then twice as long, up to this."""
LAST_SLOT = 2**40
"""No mark is right that says more."""
RETRY_S = 5.0
"""A message that the broker did not take is sent again after this."""


class History(Protocol):
    """The half-hours of the present metering unit."""

    @property
    def serial(self) -> str | None:
        """None before any unit was plugged in."""
        ...

    @property
    def two_way(self) -> bool | None:
        """It has a reverse register; None while nobody knows: nothing is told then."""
        ...

    @property
    def newest(self) -> int | None: ...

    @property
    def reach(self) -> int:
        """From this slot on a record that is absent does not exist; before it, it was let go."""
        ...

    def record(self, slot: int) -> Record | None: ...


class Kind(enum.Enum):
    """What a message is for, and so its topic."""

    CHAIN = "reading/30m"
    HISTORY = "reading/history"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish; :meth:`Uplink.sent` wants to hear of it."""

    kind: Kind
    readings: Readings


@dataclass(frozen=True, slots=True)
class ReadingsLost:
    """Half-hours ``first`` to ``last`` (inclusive) of ``unit`` cannot be told any more."""

    unit: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Gap:
    """The head-end has ``after < slot <= upto`` as it stands, and asked for what is before it.

    Of ``asked < slot <= after`` it is told what the ring has, were it nothing.
    """

    asked: int
    after: int
    upto: int


class Uplink:
    """The half-hours of ``history`` on their way from ``meter_id`` to the utility.

    ``now`` is ``Clock.monotonic()`` throughout. A boundary is sent up to ``jitter_s`` after it was
    stored, drawn by ``rng``, so that a thousand meters do not speak at once. Raises MeterError
    where ``store`` cannot be read.
    """

    def __init__(
        self,
        history: History,
        store: StateStore,
        meter_id: str,
        *,
        jitter_s: float,
        rng: random.Random,
    ) -> None:
        self._history = history
        self._memory = UplinkMemory(store, rng)
        self._meter_id = meter_id
        self._jitter_s = jitter_s
        self._rng = rng
        self._connected = False
        self._serial: str | None = None
        self._told: int | None = None
        """Something was, or may have been, said of slots up to this one; None: of none yet."""
        self._after = self._upto = 0
        """The utility does not have ``after < slot <= upto`` as it stands."""
        self._given_up: tuple[int, int] | None = None
        """First and last slot of what was told as lost."""
        self._untold: int | None = None
        """The last slot that was given up before anything was said of it."""
        self._gap: _Gap | None = None
        self._in_flight: Readings | None = None
        self._handed_out: Outgoing | None = None
        self._unanswered = 0
        self._gaps = 0
        self._fresh_at = math.inf
        """When to tell what is new."""
        self._again_at = math.inf
        """When to tell again what was not answered."""
        self._paced_at = -math.inf
        """No message before this."""
        self._history_at = -math.inf
        self._requests = HistoryRequests()
        self._losses: list[ReadingsLost] = []
        self.counters = dict.fromkeys(
            ("sent", "repeated", "corrections", "gaps", "foreign_marks", "marks_beyond", "unsaved"),
            0,
        )
        self._follow_unit()

    @property
    def acknowledged(self) -> int | None:
        """The utility has everything up to this slot as it stands; None: nothing of this unit."""
        return self._after if self._pending else self._told

    @property
    def acknowledged_boundary(self) -> int | None:
        """The newest boundary among it, None where there is none."""
        acknowledged, newest = self.acknowledged, self._history.newest
        if acknowledged is None or newest is None or acknowledged < self._history.reach:
            return None
        return min(acknowledged, newest)

    @property
    def queued(self) -> int:
        """Half-hours that the utility does not have as they stand."""
        if not self._pending:
            return 0
        newest = self._history.newest or 0
        return max(1, min(self._upto, newest) - max(self._after, self._history.reach - 1))

    def stored(self, slot: int, now: float) -> None:
        """A boundary's record is durable."""
        self._follow_unit()
        if self._told is None:
            self._told = min(slot, self._history.reach) - 1
        if slot > self._told:
            self._need(self._told + 1, slot)
        else:
            self.counters["corrections"] += 1
            self._need(slot, slot)
        self._soon(now)

    def withdrawn(self, slots: tuple[int, ...], now: float) -> None:
        """These boundaries have no record any more."""
        self._follow_unit()
        if self._told is None:
            return
        if self._pending and self._upto > self._told:
            self._upto = max(self._told, min(self._upto, self._history.newest or 0))
        told = [slot for slot in slots if slot <= self._told]
        if told:
            self.counters["corrections"] += len(told)
            self._need(min(told), max(told))
        reach = self._history.reach
        if self._given_up is not None and reach <= self._given_up[1]:
            # A boundary far ahead had only hidden it.
            first, last = self._given_up
            self._given_up = (first, reach - 1) if first < reach else None
            self._need(max(first, reach), last)
        self._soon(now)

    def unit_changed(self, now: float) -> None:
        """Another metering unit may be in place: its history is another one, told from its start.

        What the utility did not get of the former one's is lost to it.
        """
        self._follow_unit()
        self._soon(now)

    def mark(self, mark: Mark, now: float) -> None:
        """The head-end says what it has."""
        self._follow_unit()
        if mark.unit != self._serial or self._told is None:
            self.counters["foreign_marks"] += 1
            return
        if not self._memory.used(mark.sequence) and not self._overtaken(mark.sequence, now):
            return
        if mark.upto > self._told:
            self._remembered(mark.upto, now)
        flight = self._in_flight
        if flight is not None and mark.sequence == flight.sequence:
            self._answered(flight, mark, now)
        elif mark.resend:
            self._rewind(mark.upto, now)
        self._keep()

    def connected(self, now: float) -> None:
        """The broker takes messages."""
        self._connected = True
        self._handed_out = None
        self._unanswered = 0
        self._paced_at = self._history_at = now + PACE_S
        self._fresh_at = now

    def lost(self) -> None:
        """It takes none; what was handed out may not have arrived."""
        self._connected = False
        self._handed_out = None

    def request_history(self, first: int, last: int, command_id: bytes) -> bool:
        """Send what is stored of these half-hours (inclusive) again; False: too many are waiting.

        What is not kept any more, or lies ahead, is left out.
        """
        return self._requests.add(first, last, command_id.hex())

    def due(self, now: float, wall: float) -> Outgoing | None:
        """The message to publish now, if one is; ``wall`` (UTC seconds) stands in it."""
        self._follow_unit()
        self._keep()
        if not self._speaks:
            return None
        if self._pending and now >= max(self._paced_at, min(self._fresh_at, self._again_at)):
            self._handed_out = self._next_of_chain(wall)
        if self._handed_out is None and self._requests and now >= self._history_at:
            self._handed_out = self._next_of_history(wall)
        return self._handed_out

    def sent(self, outgoing: Outgoing, ok: bool, now: float) -> None:
        """What :meth:`due` gave was taken by the broker, or was not."""
        if outgoing is not self._handed_out:
            return
        self._handed_out = None
        self._paced_at = now + PACE_S
        self._history_at = now + (PACE_S if ok else RETRY_S)
        self.counters["sent"] += ok
        if outgoing.kind is Kind.HISTORY:
            if ok:
                self._requests.sent(outgoing.readings.upto)
        elif outgoing.readings is self._in_flight:
            if ok:
                wait = min(RESEND_LIMIT_S, RESEND_S * 2.0 ** min(self._unanswered, 16))
                self._unanswered += 1
            else:
                wait = RETRY_S
            self._again_at = now + wait

    def next_deadline(self) -> float | None:
        """When :meth:`due` should be asked again, unless something happens before."""
        if not self._speaks:
            return None
        chain = min(self._fresh_at, self._again_at) if self._pending else math.inf
        history = self._history_at if self._requests else math.inf
        deadline = min(max(chain, self._paced_at), history)
        return None if deadline == math.inf else deadline

    def losses(self) -> tuple[ReadingsLost, ...]:
        """What cannot be told any more, since this was asked last."""
        losses, self._losses = tuple(self._losses), []
        return losses

    @property
    def _pending(self) -> bool:
        return self._after < self._upto

    @property
    def _speaks(self) -> bool:
        known = self._serial is not None and self._history.two_way is not None
        return self._connected and known and self._handed_out is None

    def _follow_unit(self) -> None:
        serial = self._history.serial
        if serial is None or serial == self._serial:
            return
        if self._serial is not None and self._pending:
            self._losses.append(ReadingsLost(self._serial, self._after + 1, self._upto))
        at_boot, self._serial = self._serial is None, serial
        self._in_flight = self._gap = self._untold = self._given_up = None
        newest, saved = self._history.newest, self._memory.of(serial)
        if at_boot and saved is not None:
            # What the ring has may have been told since the state was written.
            self._told = max(saved.told, newest or 0)
            self._after = min(saved.acknowledged, self._told)
            if newest is not None:
                last = max(newest - BOOT_SLOTS, self._history.reach - 1)
                self._after = min(self._after, last)
            self._upto = self._told
        else:
            self._told = newest
            self._after = self._history.reach - 1
            self._upto = self._after if newest is None else newest
        self._fresh_at = -math.inf

    def _need(self, first: int, last: int) -> None:
        """The utility does not have these slots as they stand."""
        if self._in_flight is not None and first <= self._in_flight.upto:
            # It was made before: an answer to it proves nothing any more.
            self._in_flight = None
        if self._gap is not None and first <= self._gap.upto and last > self._gap.after:
            self._gap = None
        if self._pending:
            self._after, self._upto = min(self._after, first - 1), max(self._upto, last)
        else:
            self._after, self._upto = first - 1, last
            self._fresh_at = self._again_at = math.inf

    def _soon(self, now: float) -> None:
        self._fresh_at = min(self._fresh_at, now + self._rng.uniform(0, self._jitter_s))

    def _overtaken(self, sequence: int, now: float) -> bool:
        """The head-end knows later messages of ours than we do; False where it cannot be right.

        The state was lost, and what was said under lower sequences does not count.
        """
        self.counters["marks_beyond"] += 1
        if not self._memory.skip_to(sequence):
            log.error("the head-end's mark has the sequence %d, beyond all reason", sequence)
            return False
        self._in_flight = None
        self._fresh_at = now
        return True

    def _remembered(self, upto: int, now: float) -> None:
        """The head-end has something of later slots than we told it: of before the state was lost.

        It acknowledges nothing. They are told anew, as they stand.
        """
        self.counters["marks_beyond"] += 1
        if upto < LAST_SLOT:
            self._need((self._told or 0) + 1, upto)
            self._told = upto
            self._fresh_at = min(self._fresh_at, now)

    def _answered(self, flight: Readings, mark: Mark, now: float) -> None:
        """The head-end has this very message; before it there may be a gap."""
        if mark.upto < flight.upto and not mark.resend:
            return
        self._in_flight = None
        self._again_at = math.inf
        self._after = flight.upto
        if mark.upto >= flight.upto:
            self._unanswered = self._gaps = 0
            if self._gap is not None and self._gap.after <= flight.upto:
                self._after = max(self._after, self._gap.upto)
                self._gap = self._untold = None
            self._fresh_at = min(self._fresh_at, now)
            return
        self.counters["gaps"] += 1
        self._gaps += 1
        if mark.upto < flight.after:
            # Behind what it never heard of it may have something, from before the ring turned on.
            untold = self._untold
            begin = flight.after if untold is None else min(flight.after, untold)
            begin = begin if begin > mark.upto else flight.after
            self._need(mark.upto + 1, begin)
            self._gap = _Gap(mark.upto, begin, flight.upto)
        else:
            self._need(mark.upto + 1, flight.upto)
        # A head-end that is never content must not be spoken with each second.
        pause = min(RESEND_LIMIT_S, PACE_S * 2.0 ** min(self._gaps, 16))
        self._fresh_at = now + pause

    def _rewind(self, upto: int, now: float) -> None:
        told = self._told or 0
        asked = self._pending and self._after <= upto and told <= self._upto
        if upto < told and not asked:
            self._need(upto + 1, told)
        self._fresh_at = min(self._fresh_at, now)

    def _next_of_chain(self, wall: float) -> Outgoing | None:
        upto, gap = self._upto, self._gap
        if gap is not None and gap.asked <= self._after < gap.after:
            upto = min(upto, gap.after)
        elif self._after < self._history.reach - 1:
            last = min(self._history.reach - 1, upto)
            self._give_up(self._after + 1, last)
            self._after = last
            if not self._pending:
                return None
        self.counters["repeated"] += self._in_flight is not None
        self._in_flight = self._message(self._after, upto, wall, None)
        self._told = max(self._told or 0, self._in_flight.upto)
        self._fresh_at = self._again_at = math.inf
        return Outgoing(Kind.CHAIN, self._in_flight)

    def _give_up(self, first: int, last: int) -> None:
        self._losses.append(ReadingsLost(self._serial or "", first, last))
        if last > (self._told or 0):
            self._untold = last
        before = self._given_up or (first, last)
        self._given_up = min(before[0], first), max(before[1], last)

    def _next_of_history(self, wall: float) -> Outgoing | None:
        # What the chain has not told yet it could not take back.
        newest = None if self._told is None else min(self._told, self._history.newest or 0)
        part = self._requests.next(self._history.reach, newest)
        if part is None:
            return None
        after, upto, request_id = part
        return Outgoing(Kind.HISTORY, self._message(after, upto, wall, request_id))

    def _message(self, after: int, upto: int, wall: float, request: str | None) -> Readings:
        """What is stored of ``after < slot <= upto``, or of the part that fits."""
        first, last = max(after + 1, self._history.reach), min(upto, self._history.newest or 0)
        readings: list[Reading] = []
        for slot in range(first, last + 1):
            record = self._history.record(slot)
            if record is None:
                continue
            if len(readings) == MAX_READINGS:
                upto = slot - 1
                break
            reverse = record.reverse_dwh if self._history.two_way else None
            readings.append(Reading(slot, record.forward_dwh, reverse, int(record.flags)))
        self._memory.reserve()
        self._keep()
        return Readings(
            meter_id=self._meter_id,
            unit=self._serial or "",
            sequence=self._memory.next_sequence(),
            after=after,
            upto=upto,
            readings=tuple(readings),
            sent_at=wall,
            request=request,
        )

    def _keep(self) -> None:
        acknowledged = self.acknowledged
        if self._serial is None or self._told is None or acknowledged is None:
            return
        newest, reach = self._history.newest, self._history.reach
        self._memory.keep(self._serial, acknowledged, self._told, newest, reach)
        self.counters["unsaved"] = self._memory.failures
