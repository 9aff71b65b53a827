"""Where registers go on after a start: the checkpoint, or a boundary stored after it."""

from dataclasses import replace

import pytest

from meter_runtime.metrology.counter import most_gained
from meter_runtime.metrology.recorder import resume
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.registers import Checkpoint, RegisterStore, unit_mark
from meter_runtime.storage.ring import Ring

SLOT = 994_000
DEPTH = 48
KEPT = Checkpoint(5_000_050, 2_000_000, 9_000_000, 8_000_000, unit_mark("A1"), SLOT * 1800.0 - 1)


def stores(
    checkpoint: Checkpoint | None, forward_dwh: int, reverse_dwh: int
) -> tuple[Ring, RegisterStore]:
    ring = Ring.open(MemoryMedia(Ring.size_for(DEPTH, 1)), 1800, DEPTH, "A1", SLOT)
    ring.append(SLOT, forward_dwh, reverse_dwh)
    registers = RegisterStore(MemoryMedia(RegisterStore.size_for(1)))
    if checkpoint is not None:
        registers.save(checkpoint)
    return ring, registers


def test_a_boundary_stored_after_the_checkpoint_moves_both_sides_of_it() -> None:
    assert resume(*stores(KEPT, 50_003, 20_001)) == Checkpoint(
        5_000_300, 2_000_100, 9_000_250, 8_000_100, unit_mark("A1"), KEPT.wall
    )


@pytest.mark.parametrize(("forward", "reverse"), [(50_000, 20_000), (49_000, 0)])
def test_a_boundary_before_the_checkpoint_changes_nothing(forward: int, reverse: int) -> None:
    assert resume(*stores(KEPT, forward, reverse)) == KEPT


@pytest.mark.parametrize(
    ("wall", "elapsed_s"), [(SLOT * 1800.0 - 1, 1), (SLOT * 1800.0 - 900, 900), (None, 1800)]
)
def test_a_boundary_further_ahead_than_any_unit_can_count_is_not_believed(
    wall: float | None, elapsed_s: int
) -> None:
    kept = replace(KEPT, wall=wall)
    beyond = 20_000 + most_gained(elapsed_s) // 100
    assert resume(*stores(kept, 50_000, beyond)) != kept
    assert resume(*stores(kept, 50_000, beyond + 1)) == kept


def test_another_unit_has_other_registers() -> None:
    other = replace(KEPT, unit=unit_mark("B2"))
    assert resume(*stores(other, 50_003, 20_001)) == other


def test_without_a_checkpoint_the_unit_decides() -> None:
    assert resume(*stores(None, 50_003, 20_001)) is None
