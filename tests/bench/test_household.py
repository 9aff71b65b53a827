"""The bench's metering unit: the same after every restart, whenever that is, and whoever asks."""

from pathlib import Path

import pytest

from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.household import UNIT_FILE, metering_unit, replacement_unit
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.stored import Stored
from meter_runtime.clock import slot_start
from meter_runtime.errors import MeterError
from meter_runtime.storage.registers import Checkpoint, unit_mark
from meter_runtime.storage.ring import Record
from meter_runtime.units.contracts import Sample

OPTIONS = BenchOptions(seed=3)
FITTED = 1_795_143_600.0
SLOT = int(FITTED // 1800)


async def energy_at(state: Path, true_time: float, clock_error_s: float = 0.0) -> tuple[int, int]:
    """The unit's registers at a true time, whatever the meter's clock shows then."""
    clock = BenchClock(true_time - 900 + clock_error_s)
    unit = metering_unit(OPTIONS, clock, state, true_time - 900 - clock.monotonic())
    read: list[Sample] = []

    async def visit() -> None:
        read.append(await unit.read())

    await clock.advance(900, visit)
    return read[-1].forward_mwh, read[-1].reverse_mwh


async def test_its_registers_are_a_function_of_true_time_alone(tmp_path: Path) -> None:
    metering_unit(OPTIONS, BenchClock(FITTED), tmp_path)
    later = await energy_at(tmp_path, FITTED + 86_400)
    earlier = await energy_at(tmp_path, FITTED + 3_600, clock_error_s=-7_200)
    assert sum(earlier) < sum(later)
    again = await energy_at(tmp_path, FITTED + 86_400, clock_error_s=3e7)
    # One millisecond may lie between two looks at a running clock.
    assert again == pytest.approx(later, abs=2)


async def test_each_replacement_is_another_unit_also_after_a_restart(tmp_path: Path) -> None:
    clock = BenchClock(FITTED)
    serials = [metering_unit(OPTIONS, clock, tmp_path).nameplate.serial]
    for _ in range(3):
        replacement_unit(OPTIONS, clock, tmp_path, clock.wall() - clock.monotonic())
        serials.append(metering_unit(OPTIONS, clock, tmp_path).nameplate.serial)
    assert len(set(serials)) == len(serials)


async def test_a_stored_history_gets_its_own_unit_once(tmp_path: Path) -> None:
    stored = Stored("REAL0007", Record(SLOT, 70_000_000, 5_000_000), None)
    clock = BenchClock(slot_start(SLOT))
    unit = metering_unit(OPTIONS, clock, tmp_path, None, stored)
    assert unit.nameplate.serial == "REAL0007"
    sample = await unit.read()
    assert sample.forward_mwh - 70_000_000 * 100 in range(10)
    assert sample.reverse_mwh - 5_000_000 * 100 in range(10)
    other = Stored("OTHER", Record(SLOT, 1, 1), None)
    assert metering_unit(OPTIONS, clock, tmp_path, None, other).nameplate.serial == "REAL0007"


async def test_a_checkpoint_after_the_last_boundary_is_gone_on_from(tmp_path: Path) -> None:
    mark = unit_mark("REAL0007")
    at = slot_start(SLOT) + 600
    kept = Checkpoint(7_000_000_500, 9, 6_000_000_500, 8, mark, at)
    stored = Stored("REAL0007", Record(SLOT, 60_000_000, 0), kept)
    sample = await metering_unit(OPTIONS, BenchClock(at), tmp_path, None, stored).read()
    assert sample.forward_mwh - 6_000_000_500 in range(10)


async def test_a_unit_of_another_seed_is_refused(tmp_path: Path) -> None:
    clock = BenchClock(FITTED)
    metering_unit(OPTIONS, clock, tmp_path)
    with pytest.raises(MeterError, match="remove it"):
        metering_unit(BenchOptions(seed=4), clock, tmp_path)


@pytest.mark.parametrize("content", ["", "7", "[]", "{}", '{"serial": "S1", "at_ms": "x"}', "\xff"])
async def test_a_damaged_memory_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / UNIT_FILE).write_text(content, "latin-1")
    with pytest.raises(MeterError, match="is damaged; remove it to fit a new unit"):
        metering_unit(OPTIONS, BenchClock(FITTED), tmp_path)
