"""The bench's metering unit: the same after every restart, whenever that is, and whoever asks."""

from dataclasses import replace
from pathlib import Path

import pytest

from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.fitted import fitted_file
from meter_runtime.bench.household import UNIT_FILE, Household
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.stored import Stored
from meter_runtime.clock import Clock, slot_start
from meter_runtime.errors import MeterError
from meter_runtime.storage.registers import Checkpoint, unit_mark
from meter_runtime.storage.ring import Record
from meter_runtime.units.contracts import Nameplate, UnitKind

OPTIONS = BenchOptions(seed=3)
FITTED = 1_795_143_600.0
SLOT = int(FITTED // 1800)


MWS_PER_MWH = 3600


def plate(options: BenchOptions) -> Nameplate:
    (found,) = (u for u in fitted_file(options).units if u.kind is UnitKind.METERING)
    return found.nameplate


def household(
    clock: Clock,
    state: Path,
    epoch: float | None = None,
    stored: Stored | None = None,
    *,
    options: BenchOptions = OPTIONS,
    serial: str = "",
) -> Household:
    named = replace(plate(options), serial=serial)
    return Household(options, clock, state, named, epoch=epoch, stored=stored)


def counted_mwh(house: Household) -> tuple[int, int]:
    forward, reverse = house.supply.registers
    return forward // MWS_PER_MWH, reverse // MWS_PER_MWH


async def energy_at(state: Path, true_time: float, clock_error_s: float = 0.0) -> tuple[int, int]:
    """The unit's registers at a true time, whatever the meter's clock shows then."""
    clock = BenchClock(true_time - 900 + clock_error_s)
    house = household(clock, state, true_time - 900 - clock.monotonic())
    read: list[tuple[int, int]] = []

    async def visit() -> None:
        read.append(counted_mwh(house))

    await clock.advance(900, visit)
    return read[-1]


async def test_its_registers_are_a_function_of_true_time_alone(tmp_path: Path) -> None:
    household(BenchClock(FITTED), tmp_path)
    later = await energy_at(tmp_path, FITTED + 86_400)
    earlier = await energy_at(tmp_path, FITTED + 3_600, clock_error_s=-7_200)
    assert sum(earlier) < sum(later)
    again = await energy_at(tmp_path, FITTED + 86_400, clock_error_s=3e7)
    # Some milliseconds may lie between a clock's start and its move.
    assert again == pytest.approx(later, abs=20)


async def test_each_replacement_is_another_unit_also_after_a_restart(tmp_path: Path) -> None:
    clock = BenchClock(FITTED)
    house = household(clock, tmp_path)
    serials = [house.nameplate.serial]
    for _ in range(3):
        house.replace_unit()
        serials.append(household(clock, tmp_path).nameplate.serial)
        assert house.nameplate.serial == serials[-1]
    assert len(set(serials)) == len(serials)


async def test_a_unit_that_was_out_has_counted_nothing_until_the_next_start(
    tmp_path: Path,
) -> None:
    clock = BenchClock(FITTED)
    house = household(clock, tmp_path)
    await clock.advance(3600, _nothing)
    house.unplug()
    counted = house.supply.registers
    later = BenchClock(FITTED + 86_400)
    again = household(later, tmp_path)
    assert sum(again.supply.registers) == pytest.approx(sum(counted), abs=100_000)
    await later.advance(3600, _nothing)
    assert sum(again.supply.registers) > sum(counted) + 100_000


async def test_a_unit_that_is_put_back_goes_on_from_its_own_readings(tmp_path: Path) -> None:
    clock = BenchClock(FITTED)
    house = household(clock, tmp_path)
    house.unplug()
    counted = sum(house.supply.registers)
    await clock.advance(3600, _nothing)
    house.plug()
    assert sum(house.supply.registers) == pytest.approx(counted, abs=100_000)
    assert household(clock, tmp_path).supply.registers == pytest.approx(
        house.supply.registers, abs=100_000
    )


async def test_a_unit_of_a_file_keeps_its_serial_and_its_registers(tmp_path: Path) -> None:
    clock = BenchClock(FITTED)
    house = household(clock, tmp_path, serial="M00000000001")
    assert house.nameplate.serial == "M00000000001"
    house.replace_unit()
    replaced = house.nameplate.serial
    assert household(clock, tmp_path, serial="M00000000001").nameplate.serial == replaced
    other = household(clock, tmp_path, serial="M00000000002")
    assert other.nameplate.serial == "M00000000002"
    with pytest.raises(MeterError, match="remove it"):
        household(clock, tmp_path)


async def test_a_stored_history_gets_its_own_unit_once(tmp_path: Path) -> None:
    stored = Stored("REAL0007", Record(SLOT, 70_000_000, 5_000_000), None)
    clock = BenchClock(slot_start(SLOT))
    house = household(clock, tmp_path, None, stored)
    assert house.nameplate.serial == "REAL0007"
    forward, reverse = counted_mwh(house)
    assert forward - 70_000_000 * 100 in range(10)
    assert reverse - 5_000_000 * 100 in range(10)
    other = Stored("OTHER", Record(SLOT, 1, 1), None)
    assert household(clock, tmp_path, None, other).nameplate.serial == "REAL0007"


async def test_a_checkpoint_after_the_last_boundary_is_gone_on_from(tmp_path: Path) -> None:
    mark = unit_mark("REAL0007")
    at = slot_start(SLOT) + 600
    kept = Checkpoint(7_000_000_500, 9, 6_000_000_500, 8, mark, at)
    stored = Stored("REAL0007", Record(SLOT, 60_000_000, 0), kept)
    forward, _ = counted_mwh(household(BenchClock(at), tmp_path, None, stored))
    assert forward - 6_000_000_500 in range(10)


async def test_a_unit_of_another_seed_is_refused(tmp_path: Path) -> None:
    clock = BenchClock(FITTED)
    household(clock, tmp_path)
    with pytest.raises(MeterError, match="remove it"):
        household(clock, tmp_path, options=BenchOptions(seed=4))


@pytest.mark.parametrize("content", ["", "7", "[]", "{}", '{"serial": "S1", "at_ms": "x"}', "\xff"])
async def test_a_damaged_memory_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / UNIT_FILE).write_text(content, "latin-1")
    with pytest.raises(MeterError, match="is damaged; remove it to fit a new unit"):
        household(BenchClock(FITTED), tmp_path)


async def _nothing() -> None:
    """Nobody looks meanwhile."""
