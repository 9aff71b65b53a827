"""Boundaries and checkpoints on their way to storage, and what waits while storage fails.

Writes are done at once, on the loop. They are small and rare: 16 bytes each half-hour, 48 bytes a
checkpoint, each followed by one ``fdatasync`` (0.15 ms on a solid-state disk; an SD card takes some
10 ms, while a UART's buffer lasts for 300). In return a stored boundary is stored when its event is
published, and nothing can overtake it. While a medium fails metering goes on in memory, and a vain
write is tried at each boundary and whenever :meth:`Recorder.retry` is called.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from meter_runtime.clock import HALF_HOUR_S, slot_start
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.metrology.backlog import Backlog
from meter_runtime.metrology.counter import MWH_PER_DWH, most_gained
from meter_runtime.metrology.events import (
    BoundariesWithdrawn,
    BoundaryRefused,
    BoundaryStored,
    MinuteTaken,
    Snapshot,
    StorageFailed,
    StorageHealed,
    Withdraw,
)
from meter_runtime.metrology.fine import FineValues
from meter_runtime.storage.registers import Checkpoint, RegisterStore, unit_mark
from meter_runtime.storage.ring import Record, Ring

log = logging.getLogger(__name__)

PENDING_LIMIT = 96
"""Boundaries that wait for storage to heal: two days. Beyond, the oldest is dropped."""


def resume(ring: Ring, registers: RegisterStore) -> Checkpoint | None:
    """What to go on from: the last checkpoint, brought up to a boundary stored after it.

    The power may fail between the two. A unit that lost its own registers with it would then
    take the meter's below a boundary that was served already. A boundary further ahead than any
    unit can have counted since the checkpoint is not let near the registers.
    """
    kept, newest = registers.load(), ring.newest()
    if kept is None or newest is None or kept.unit != unit_mark(ring.serial):
        return kept
    forward = max(0, newest.forward_dwh * MWH_PER_DWH - kept.forward_mwh)
    reverse = max(0, newest.reverse_dwh * MWH_PER_DWH - kept.reverse_mwh)
    # Without a wall clock then: a checkpoint is never more than a half-hour behind.
    elapsed = HALF_HOUR_S if kept.wall is None else slot_start(newest.slot) - kept.wall
    if forward + reverse > most_gained(elapsed):
        return kept
    return replace(
        kept,
        forward_mwh=kept.forward_mwh + forward,
        reverse_mwh=kept.reverse_mwh + reverse,
        unit_forward_mwh=kept.unit_forward_mwh + forward,
        unit_reverse_mwh=kept.unit_reverse_mwh + reverse,
    )


class Recorder:
    """The only writer of ``ring``, ``registers`` and the rings of ``fine`` values."""

    def __init__(
        self, ring: Ring, registers: RegisterStore, bus: EventBus, fine: Sequence[Ring] = ()
    ) -> None:
        self.ring = ring
        self.fine = FineValues(fine)
        self.version = 0
        """Changes with the boundaries that are known, stored or not."""
        self.failures = 0
        """Vain attempts to write."""
        self._registers = registers
        self._bus = bus
        self._profile = Backlog(ring, PENDING_LIMIT)
        self._unsaved: Checkpoint | None = None
        self._failed = False
        self._fine_failed = False
        self._told_dropped = 0

    @property
    def failing(self) -> bool:
        """The last attempt to write was vain."""
        return self._failed

    @property
    def pending(self) -> int:
        """Boundaries that are known, yet not stored."""
        return len(self._profile)

    @property
    def dropped(self) -> int:
        """Boundaries lost because storage failed for too long."""
        return self._profile.dropped

    def newest(self) -> int | None:
        """The newest half-hour that has a record, stored or waiting to be."""
        return self._profile.newest

    def record(self, slot: int) -> Record | None:
        """The registers at the opening of this slot, stored or waiting to be."""
        return self._profile.record(slot)

    def keep(self, snapshot: Snapshot) -> None:
        """Let a boundary wait for :meth:`store`; the first one known stands."""
        kept = self.record(snapshot.slot)
        if kept is not None:
            self._bus.publish(BoundaryRefused(snapshot.slot, kept))
            return
        self._profile.add(
            Record(snapshot.slot, snapshot.forward_dwh, snapshot.reverse_dwh, snapshot.flags)
        )
        self.version += 1

    def withdraw(self, order: Withdraw) -> None:
        """Take back what a wrong clock booked; :meth:`store` makes it durable."""
        gone = self._profile.withdraw(order)
        self.fine.withdraw(order)
        self.version += 1
        if gone:
            log.warning("%d half-hours are withdrawn: %s", len(gone), order.reason.value)
            self._bus.publish(BoundariesWithdrawn(gone, order.reason))

    def keep_minute(self, taken: MinuteTaken) -> None:
        """Remember a minute, and store each half-hour of them."""
        self.fine.keep(taken)
        if not self._failed and self.fine.due(taken.minute):
            self._try(self._store_fine)

    def store(self) -> None:
        """Store what waits but the registers and the minutes of a running half-hour."""
        if self._try_profile() and self.fine.withdrawing:
            self._try(self._store_fine)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Store what waits, then the registers."""
        self._unsaved = checkpoint
        self._catch_up()

    def retry(self, checkpoint: Checkpoint | None) -> None:
        """Try anew after a failure; ``checkpoint`` is the registers as they are now."""
        if self._unsaved is not None and checkpoint is not None:
            self._unsaved = checkpoint
        self._catch_up()

    def close(self) -> None:
        """Store what waits, every finer value included."""
        if self._try_profile():
            self._try(self._store_fine)

    def _catch_up(self) -> None:
        if not self._try_profile() or not self._try(self._save):
            return
        if self._fine_failed and not self._try(self._store_fine):
            return
        if self._failed:
            self._failed = False
            dropped, self._told_dropped = self.dropped - self._told_dropped, self.dropped
            log.warning("storage works again, %d boundaries were lost", dropped)
            self._bus.publish(StorageHealed(dropped))

    def _try_profile(self) -> bool:
        return self._profile.idle or self._try(self._store_profile)

    def _store_profile(self) -> None:
        done = self._profile.store()
        for record in done.stored:
            self._bus.publish(BoundaryStored(record.slot, record))
        for record in done.refused:
            self._bus.publish(BoundaryRefused(record.slot, self.ring.get(record.slot)))

    def _save(self) -> None:
        if self._unsaved is not None:
            self._registers.save(self._unsaved)
            self._unsaved = None

    def _store_fine(self) -> None:
        self._fine_failed = True
        self.fine.store()
        self._fine_failed = False

    def _try(self, store: Callable[[], None]) -> bool:
        try:
            store()
        except MeterError as error:
            self.failures += 1
            if not self._failed:
                self._failed = True
                log.error("%s; metering continues in memory", error)
                self._bus.publish(StorageFailed(str(error)))
            return False
        return True
