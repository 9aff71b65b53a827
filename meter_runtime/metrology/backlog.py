"""One ring, and what waits to be written into it while storage fails.

What is said here holds at once, whatever the medium does: a boundary added is known, one withdrawn
is not. :meth:`Backlog.store` makes it durable: first what is taken back, then what is new, so that
a true value can take the place of a wrong one.
"""

from dataclasses import dataclass

from meter_runtime.metrology.events import Untrue, Withdraw
from meter_runtime.storage.ring import Flag, Record, Ring


@dataclass(frozen=True, slots=True)
class Stored:
    """What one :meth:`Backlog.store` did: records that are durable, and those the ring refused."""

    stored: tuple[Record, ...]
    refused: tuple[Record, ...]


class Backlog:
    """The records of ``ring``, stored or waiting; at most ``limit`` wait."""

    def __init__(self, ring: Ring, limit: int) -> None:
        self.ring = ring
        self.dropped = 0
        """Records lost because storage failed for too long."""
        self._limit = limit
        self._waiting: dict[int, Record] = {}
        self._coarse: dict[int, int] = {}
        """Place in the ring and slot of what a coarse clock stored since the start, also where the
        ring hides it behind a newer one."""
        self._withdrawn: set[int] = set()
        self._nothing_after: int | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Nothing is left for :meth:`store`."""
        return not self._waiting and not self.withdrawing

    @property
    def withdrawing(self) -> bool:
        """Something is to be taken back on the medium."""
        return bool(self._withdrawn) or self._nothing_after is not None

    @property
    def newest(self) -> int | None:
        """The newest slot that has a record, stored or waiting."""
        slots = [*self._waiting]
        stored = self.ring.newest()
        if stored is not None:
            if self._hides(stored.slot):
                slots += [record.slot for record in self._stored()]
            else:
                slots.append(stored.slot)
        return max(slots, default=None)

    def record(self, slot: int) -> Record | None:
        """The record of this slot, stored or waiting."""
        waiting = self._waiting.get(slot)
        if waiting is not None or self._hides(slot):
            return waiting
        return self.ring.get(slot)

    def add(self, record: Record) -> None:
        """Let a record wait for :meth:`store`; its slot must have none. The oldest gives way."""
        if len(self._waiting) >= self._limit:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1
        self._waiting[record.slot] = record

    def withdraw(self, order: Withdraw) -> tuple[int, ...]:
        """From now on these slots have no record; which had one, oldest first."""
        after = int(order.after // self.ring.interval_s)
        match order.reason:
            case Untrue.COARSE:
                until = order.after if order.until is None else order.until
                coarse = {r.slot for r in self._waiting.values() if r.flags & Flag.COARSE}
                # Hidden ones as well: they would be served again once those before them go.
                coarse.update(self._coarse.values())
                gone = [slot for slot in coarse if after < slot <= until // self.ring.interval_s]
                self._withdrawn.update(gone)
            case Untrue.FUTURE:
                gone = [slot for slot in self._waiting if slot > after]
                gone += [record.slot for record in self._stored() if record.slot > after]
                # Not only those in sight: older ones of the same kind may be hidden behind them.
                held = self._nothing_after
                self._nothing_after = after if held is None else min(after, held)
        for slot in gone:
            self._waiting.pop(slot, None)
        self._coarse = {p: s for p, s in self._coarse.items() if not self._hides(s)}
        return tuple(sorted(gone))

    def store(self) -> Stored:
        """Make everything durable; raises :class:`MeterError`, then all of it waits on."""
        if self._withdrawn:
            self.ring.withdraw(self._withdrawn)
            self._withdrawn.clear()
        while self._nothing_after is not None:
            future = [r.slot for r in self.ring.records() if r.slot > self._nothing_after]
            if future:
                self.ring.withdraw(future)
            else:
                self._nothing_after = None
        if not self._waiting:
            return Stored((), ())
        waiting = tuple(self._waiting.values())
        stored = self.ring.extend(waiting)
        self._waiting.clear()
        for record in stored:
            place = record.slot % self.ring.depth
            if record.flags & Flag.COARSE:
                self._coarse[place] = record.slot
            else:
                self._coarse.pop(place, None)
        return Stored(tuple(stored), tuple(r for r in waiting if r not in stored))

    def _stored(self) -> list[Record]:
        return [record for record in self.ring.records() if not self._hides(record.slot)]

    def _hides(self, slot: int) -> bool:
        after = self._nothing_after
        return slot in self._withdrawn or (after is not None and slot > after)
