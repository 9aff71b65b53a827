"""Finer values than the half-hour: minutes in memory, and rings of minutes and five minutes.

Rings are written in one batch each half-hour and when the meter stops, to spare the medium: a power
cut loses the values of the running half-hour, which are then no data. The registers lose nothing.
"""

from collections.abc import Sequence

from meter_runtime.clock import HALF_HOUR_S
from meter_runtime.metrology.backlog import Backlog
from meter_runtime.metrology.boundaries import MINUTE_S
from meter_runtime.metrology.events import MinuteTaken, Untrue, Withdraw
from meter_runtime.storage.ring import Flag, Record, Ring

MINUTES_KEPT = 70
"""Minutes in memory and served: an hour, and some for a late question."""

WAITING_S = 2 * 86_400
"""How much of each ring waits for storage to heal: two days. Beyond, the oldest is dropped."""

_PER_BATCH = HALF_HOUR_S // MINUTE_S


class FineValues:
    """The minutes of the last hour, and whatever ``rings`` keep of the days before."""

    def __init__(self, rings: Sequence[Ring]) -> None:
        self._minutes: dict[int, Record] = {}
        self._kept = {ring.interval_s: _backlog(ring) for ring in rings}
        if len(self._kept) != len(rings):
            raise ValueError("two rings of fine values have the same interval")
        self._flags = dict.fromkeys(self._kept, Flag.NONE)
        self._batch: int | None = None

    @property
    def dropped(self) -> int:
        """Values lost because storage failed for too long."""
        return sum(backlog.dropped for backlog in self._kept.values())

    def due(self, minute: int) -> bool:
        """A half-hour's values are complete, and wait."""
        return self._batch is not None and minute // _PER_BATCH > self._batch

    @property
    def withdrawing(self) -> bool:
        """Something is to be taken back on a medium."""
        return any(backlog.withdrawing for backlog in self._kept.values())

    def record(self, interval_s: int, slot: int) -> Record | None:
        """The registers at the opening of ``epoch // interval_s``; None where no ring keeps it."""
        backlog = self._kept.get(interval_s)
        record = None if backlog is None else backlog.record(slot)
        if record is None and interval_s == MINUTE_S:
            return self._minutes.get(slot)
        return record

    def keep(self, taken: MinuteTaken) -> None:
        """Remember a minute; the first pass of one stands."""
        if self.record(MINUTE_S, taken.minute) is None:
            if len(self._minutes) >= MINUTES_KEPT:
                del self._minutes[next(iter(self._minutes))]
            self._minutes[taken.minute] = _record(taken.minute, taken, taken.flags)
        for interval_s, backlog in self._kept.items():
            self._flags[interval_s] |= taken.flags & ~Flag.COARSE
            slot, within = divmod(taken.minute * MINUTE_S, interval_s)
            if within or backlog.record(slot) is not None:
                continue
            backlog.add(_record(slot, taken, self._flags[interval_s] | taken.flags))
            self._flags[interval_s] = Flag.NONE
            if self._batch is None:
                self._batch = taken.minute // _PER_BATCH

    def withdraw(self, order: Withdraw) -> None:
        """Forget what was taken by a clock that was wrong."""
        for backlog in self._kept.values():
            backlog.withdraw(order)
        self._minutes = {m: r for m, r in self._minutes.items() if not _named(r, order)}

    def store(self) -> None:
        """Make everything durable; raises :class:`MeterError`, then all of it waits on."""
        for backlog in self._kept.values():
            backlog.store()
        self._batch = None


def _backlog(ring: Ring) -> Backlog:
    if ring.interval_s % MINUTE_S:
        raise ValueError(f"fine values are of whole minutes, not of {ring.interval_s} s")
    return Backlog(ring, min(ring.depth, WAITING_S // ring.interval_s))


def _record(slot: int, taken: MinuteTaken, flags: Flag) -> Record:
    return Record(slot, taken.forward_dwh, taken.reverse_dwh, flags)


def _named(minute: Record, order: Withdraw) -> bool:
    opens = minute.slot * MINUTE_S
    if opens <= order.after:
        return False
    if order.reason is Untrue.FUTURE:
        return True
    return bool(minute.flags & Flag.COARSE) and order.until is not None and opens <= order.until
