"""Snapshots and checkpoints on their way to storage, and what waits while storage fails.

Writes are done at once, on the loop. They are small and rare: 16 bytes each half-hour, 76 bytes
each ten seconds or watt-hour, each followed by one ``fdatasync`` (0.15 ms on a solid-state disk;
an SD card takes some 10 ms, while a UART's buffer lasts for 300). In return a stored boundary is
stored when its event is published, and nothing can overtake it. A failing medium costs one vain
write per checkpoint interval: metering goes on in memory.
"""

import logging
from collections import deque
from dataclasses import replace

from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.metrology.accumulator import MWH_PER_DWH
from meter_runtime.metrology.events import (
    BoundaryRefused,
    BoundaryStored,
    Snapshot,
    StorageFailed,
    StorageHealed,
)
from meter_runtime.storage.registers import Checkpoint, RegisterStore
from meter_runtime.storage.ring import Record, Ring

log = logging.getLogger(__name__)

PENDING_LIMIT = 96
"""Boundaries that wait for storage to heal: two days. Beyond, the oldest is dropped."""

AHEAD_LIMIT_MWH = 100_000
"""How far a boundary can be ahead of the checkpoint before it: what 36 kW bring in ten seconds.

A record's CRC has 16 bits only, so one that claims more is not let near the registers.
"""


def resume(ring: Ring, registers: RegisterStore) -> Checkpoint | None:
    """What to go on from: the last checkpoint, brought up to a boundary stored after it.

    The power may fail between the two. A unit that lost its own registers with it would then
    take the meter's below a boundary that was served already.
    """
    kept, newest = registers.load(), ring.newest()
    if kept is None or newest is None or kept.unit_serial != ring.serial:
        return kept
    forward = max(0, newest.forward_dwh * MWH_PER_DWH - kept.forward_mwh)
    reverse = max(0, newest.reverse_dwh * MWH_PER_DWH - kept.reverse_mwh)
    if forward + reverse > AHEAD_LIMIT_MWH:
        return kept
    return replace(
        kept,
        forward_mwh=kept.forward_mwh + forward,
        reverse_mwh=kept.reverse_mwh + reverse,
        unit_forward_mwh=kept.unit_forward_mwh + forward,
        unit_reverse_mwh=kept.unit_reverse_mwh + reverse,
    )


class Recorder:
    """The only writer of ``ring`` and ``registers``."""

    def __init__(self, ring: Ring, registers: RegisterStore, bus: EventBus) -> None:
        self.ring = ring
        self.version = 0
        """Counts the boundaries that became known, stored or not."""
        self.failures = 0
        """Vain attempts to write."""
        self.dropped = 0
        """Boundaries lost because storage failed for too long."""
        self._registers = registers
        self._bus = bus
        self._pending: deque[Record] = deque()
        self._failed = False
        self._lost = 0

    @property
    def failing(self) -> bool:
        """The last attempt to write was vain."""
        return self._failed

    @property
    def pending(self) -> int:
        """Boundaries that are known, yet not stored."""
        return len(self._pending)

    def record(self, slot: int) -> Record | None:
        """The registers at the opening of this slot, stored or waiting to be."""
        stored = self.ring.get(slot)
        if stored is not None or not self._pending:
            return stored
        return next((record for record in self._pending if record.slot == slot), None)

    def keep(self, snapshot: Snapshot) -> None:
        """Store a boundary now, or as soon as storage heals; the first one known stands."""
        kept = self.record(snapshot.slot)
        if kept is not None:
            self._bus.publish(BoundaryRefused(snapshot.slot, kept))
            return
        if len(self._pending) == PENDING_LIMIT:
            self._pending.popleft()
            self.dropped += 1
            self._lost += 1
        self._pending.append(
            Record(snapshot.slot, snapshot.forward_dwh, snapshot.reverse_dwh, snapshot.flags)
        )
        self.version += 1
        self.catch_up()

    def catch_up(self) -> bool:
        """Store what waits; True when nothing is left."""
        while self._pending:
            record = self._pending[0]
            try:
                stored = self.ring.append(
                    record.slot, record.forward_dwh, record.reverse_dwh, record.flags
                )
            except MeterError as error:
                self._fail(error)
                return False
            self._pending.popleft()
            if stored:
                self._bus.publish(BoundaryStored(record.slot, record))
            else:
                self._bus.publish(BoundaryRefused(record.slot, self.ring.get(record.slot)))
        return True

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Store what waits, then the registers."""
        if not self.catch_up():
            return
        try:
            self._registers.save(checkpoint)
        except MeterError as error:
            self._fail(error)
            return
        if self._failed:
            self._failed = False
            dropped, self._lost = self._lost, 0
            log.warning("storage works again, %d boundaries were lost", dropped)
            self._bus.publish(StorageHealed(dropped))

    def _fail(self, error: MeterError) -> None:
        self.failures += 1
        if not self._failed:
            self._failed = True
            log.error("%s; metering continues in memory", error)
            self._bus.publish(StorageFailed(str(error)))
