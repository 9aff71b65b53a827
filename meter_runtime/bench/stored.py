"""What a meter has stored in a state directory, looked at before the next meter opens it.

A bench must know it to begin at the right time and with the right metering unit. The look opens
the stores as a meter does, which may bring them up to date, and releases them at once.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from meter_runtime.clock import HALF_HOUR_S, slot_start
from meter_runtime.storage.registers import Checkpoint, RegisterStore, unit_mark
from meter_runtime.storage.ring import LOAD_PROFILE_DEPTH, Record, Ring
from meter_runtime.storage.stores import RING_FILE, open_file_stores

_AFTER_S = 0.002
"""A checkpoint's time is rounded to the millisecond: so much later it is surely past."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The last that is known of the metering unit ``serial``; its checkpoint, if it is its own."""

    serial: str
    newest: Record | None
    checkpoint: Checkpoint | None

    @property
    def until(self) -> float | None:
        """An instant (UTC seconds by the meter's clock) just after everything stored."""
        instants = []
        if self.newest is not None:
            instants.append(float(slot_start(self.newest.slot)))
        if self.checkpoint is not None and self.checkpoint.wall is not None:
            instants.append(self.checkpoint.wall)
        return max(instants) + _AFTER_S if instants else None


def stored_in(state_dir: Path) -> Stored | None:
    """What the meter that last used this directory has stored; None where none has.

    Raises :class:`MeterError` where a meter could not use the directory either.
    """
    if not (state_dir / RING_FILE).exists():
        return None
    with contextlib.closing(open_file_stores(state_dir, fine=False)) as stores:
        serial = Ring.serial_on(stores.ring)
        if serial is None:
            return None
        ring = Ring.open(stores.ring, HALF_HOUR_S, LOAD_PROFILE_DEPTH, serial)
        checkpoint = RegisterStore(stores.registers).load()
    own = checkpoint is not None and checkpoint.unit == unit_mark(serial)
    return Stored(serial, ring.newest(), checkpoint if own else None)
