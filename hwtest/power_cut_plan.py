"""What is written while the power may fail: known to who writes and to who looks afterwards.

A boundary is a record of the load profile and then a register checkpoint, both with values that
follow from its slot. The ring is almost full at the start: soon, old records are overwritten.
"""

from meter_runtime.storage.fram import FRAM_SIZE, FramMedia
from meter_runtime.storage.media import Media, Slice
from meter_runtime.storage.registers import Checkpoint, RegisterStore, unit_mark
from meter_runtime.storage.ring import LOAD_PROFILE_DEPTH, Record, Ring

SERIAL = "HWTEST"
INTERVAL_S = 1800
FIRST_SLOT = 990_000
PREFILLED = LOAD_PROFILE_DEPTH - 8

OPENED = "OPENED"
"""``OPENED newest-slot``: the stores were opened, and this is where they go on from."""
STORED = "STORED"
"""``STORED slot``: the record is durable."""
CHECKPOINTED = "CHECKPOINTED"
"""``CHECKPOINTED slot``: so is the checkpoint."""

_RING_SIZE = Ring.size_for(LOAD_PROFILE_DEPTH, FramMedia.write_unit)
_REGISTERS = FRAM_SIZE - RegisterStore.size_for(FramMedia.write_unit)


def record(slot: int) -> Record:
    """What the load profile must say of this slot."""
    return Record(slot, 1_000_000 + 37 * (slot - FIRST_SLOT), 5 * (slot - FIRST_SLOT))


def checkpoint(slot: int) -> Checkpoint:
    """The registers at this slot."""
    there = record(slot)
    forward, reverse = there.forward_dwh * 100, there.reverse_dwh * 100
    return Checkpoint(forward, reverse, forward, reverse, unit_mark(SERIAL), slot * INTERVAL_S)


def open_ring(chip: Media) -> Ring:
    """The load profile, where the product keeps it: at the beginning of the chip."""
    place = Slice(chip, 0, _RING_SIZE, "load profile")
    return Ring.open(place, INTERVAL_S, LOAD_PROFILE_DEPTH, SERIAL, FIRST_SLOT)


def open_registers(chip: Media) -> RegisterStore:
    """The registers, where the product keeps them: at the end of the chip."""
    return RegisterStore(Slice(chip, _REGISTERS, FRAM_SIZE - _REGISTERS, "registers"))
