"""A meter whose power fails: boundary after boundary, each told once it is durable."""

from hwtest.inside.buses import SABRELITE_BUS, open_bus
from hwtest.inside.checks import ResultPort
from hwtest.power_cut_plan import (
    CHECKPOINTED,
    OPENED,
    STORED,
    checkpoint,
    open_registers,
    open_ring,
    record,
)
from meter_runtime.storage.fram import FramMedia


def write_until_the_power_fails(port: ResultPort) -> None:
    """Go on from what the chip has. What was said has left the machine before the next write."""
    chip = FramMedia(open_bus(SABRELITE_BUS))
    ring = open_ring(chip)
    registers = open_registers(chip)
    newest = ring.newest()
    assert newest is not None, "the load profile is gone"
    slot = newest.slot
    assert registers.load() is not None, "the checkpoint is gone"
    port.say(OPENED, slot)
    while True:
        slot += 1
        there = record(slot)
        assert ring.append(slot, there.forward_dwh, there.reverse_dwh), f"slot {slot} was refused"
        port.say(STORED, slot)
        registers.save(checkpoint(slot))
        port.say(CHECKPOINTED, slot)
