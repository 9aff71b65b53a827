"""Boundaries that the metering unit logged by itself while nobody could read it.

A unit's log fills a gap between two readings and nothing else: an entry counts where its stamp is
within :data:`SNAPSHOT_WITHIN_S` of the boundary and its registers lie between those of the readings
on either side. What does not fit is left out: no value is better than a wrong one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from meter_runtime.clock import HALF_HOUR_S, slot_start
from meter_runtime.metrology.counter import Registers
from meter_runtime.units.contracts import UnitSnapshot

SNAPSHOT_WITHIN_S = 2.0
"""How far a unit's own stamp may be from the boundary it stands for."""


@dataclass(frozen=True, slots=True)
class State:
    """The meter's registers and its unit's at one believed reading, mWh."""

    registers: Registers
    unit: Registers | None


def logged(
    snapshots: Sequence[UnitSnapshot], before: State, after: State, *, two_way: bool
) -> dict[int, Registers]:
    """The meter's registers by half-hour slot, as far as the unit's log can be believed.

    ``before`` and ``after`` are the readings on either side of the gap.
    """
    if not snapshots or before.unit is None or after.unit is None:
        return {}
    offset = _offset(before)
    if offset != _offset(after):
        return {}  # the unit went on from another place meanwhile
    found: dict[int, Registers] = {}
    off: dict[int, float] = {}
    low, high = before.unit, after.unit
    for snapshot in sorted(snapshots, key=lambda s: s.at):
        slot = round(snapshot.at / HALF_HOUR_S)
        distance = abs(snapshot.at - slot_start(slot))
        unit = snapshot.forward_mwh, snapshot.reverse_mwh if two_way else 0
        if distance > SNAPSHOT_WITHIN_S or distance >= off.get(slot, SNAPSHOT_WITHIN_S + 1):
            continue
        if not (low[0] <= unit[0] <= high[0] and low[1] <= unit[1] <= high[1]):
            continue
        low = unit
        off[slot] = distance
        found[slot] = unit[0] + offset[0], unit[1] + offset[1]
    return found


def _offset(state: State) -> Registers:
    """How far the meter's registers are ahead of the unit's."""
    unit = state.unit or (0, 0)
    return state.registers[0] - unit[0], state.registers[1] - unit[1]
