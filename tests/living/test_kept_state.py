"""What a bench finds in its state directory: its own past, a former version's, or an import.

Time never goes back behind what was stored, and neither do the registers.
"""

import asyncio
import csv
import gzip
import json
import shutil
import time
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from fuzz.kill_record import Record, Truth, Values, counts_of
from meter_runtime.bench.household import UNIT_FILE
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.timekeeping import TIME_FILE
from meter_runtime.clock import HALF_HOUR_S, first_slot_of, jst, jst_day, slot_at, slot_start
from meter_runtime.errors import MeterError
from meter_runtime.storage.ring import Record as Stored

from .conftest import Home
from .program import command

FORMAT_1 = Path(__file__).parent / "format1"
"""What the version before load profiles of format 2 kept: of seed 5, 2026-11-18 to 20."""
SEED = 5
DAY_S = 86_400.0
CSV_HEADER = "meter_id,unit_serial,time,forward_wh,reverse_wh,flags\n"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def options(state: Path, **others: object) -> BenchOptions:
    return BenchOptions(seed=SEED, state_dir=state, **others)  # type: ignore[arg-type]


def stored(bench: Bench) -> list[Stored]:
    return list(bench.meter.metering.ring.records())


@pytest.fixture(autouse=True)
def unit_was_never_doubted(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No restart may show the meter a metering unit that reads less than before."""
    yield
    told = [name for name in ("ReadingFellBack", "UnitRestarted") if name in caplog.text]
    assert told == []


def kept_time(state: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((state / TIME_FILE).read_text())
    return found


def values_of(bench: Bench, day: date) -> list[Values]:
    """What the meter has of this day, in both directions."""
    first = first_slot_of(day)
    rows = [bench.meter.metering.record(first + i) for i in range(48)]
    return [
        Values(day, 0, tuple(None if row is None else row.forward_dwh for row in rows), 1),
        Values(day, 1, tuple(None if row is None else row.reverse_dwh for row in rows), 1),
    ]


@pytest.fixture
def former(state: Path) -> dict[int, tuple[int, int]]:
    """The state directory of the former version, and what its meter served by slot, 0.1 Wh."""
    state.mkdir()
    shutil.copy(FORMAT_1 / UNIT_FILE, state)
    for packed in FORMAT_1.glob("*.gz"):
        (state / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    with (FORMAT_1 / "served.csv").open() as file:
        served = {
            int(row["slot"]): (int(row["forward_dwh"]), int(row["reverse_dwh"]))
            for row in csv.DictReader(file)
        }
    ended = slot_start(max(served)) + 700
    (state / TIME_FILE).write_text(f"{ended - time.time():.3f}\n")
    return served


async def test_a_former_versions_meter_goes_on(
    state: Path, former: dict[int, tuple[int, int]]
) -> None:
    async with Bench(options(state)) as bench, Home(bench).joined() as home:
        assert {r.slot: (r.forward_dwh, r.reverse_dwh) for r in stored(bench)} == former
        await bench.advance(2 * HALF_HOUR_S)
        assert [r.slot for r in stored(bench)[-3:]] == [max(former) + i for i in range(3)]
        judge, today = Record(Truth(SEED, state)), jst_day(bench.clock.wall())
        for slot in (max(former) + 1, max(former) + 2):
            values = values_of(bench, jst_day(slot_start(slot)))
            judge.take(values[0])
            judge.take(values[1])

        rows = await home.get("historical_cumulative_energy_1", day=1, reverse=True)
        first = first_slot_of(today - timedelta(days=1))
        expected = tuple(former[first + i][1] // 1000 for i in range(48))
        assert counts_of([row["cumulative energy"] for row in rows]) == expected


async def test_an_imported_history_is_served_and_goes_on(state: Path, tmp_path: Path) -> None:
    yesterday = jst_day(time.time()) - timedelta(days=1)
    first = first_slot_of(yesterday)
    expected = {first + i: (70_000_000 + 1234 * i, 5_000_000 + 99 * i) for i in range(48)}
    lines = [
        f"HOME-7,REAL0007,{jst(slot_start(slot)).isoformat()},"
        f"{Decimal(forward) / 10},{Decimal(reverse) / 10},\n"
        for slot, (forward, reverse) in expected.items()
    ]
    (tmp_path / "real.csv").write_text(CSV_HEADER + "".join(lines))
    done = await command("history", "--import", tmp_path / "real.csv", "--state", state)
    assert (done.status, done.err) == (0, "")

    for _ in range(2):
        async with Bench(options(state)) as bench, Home(bench).joined() as home:
            assert bench.meter.metering.unit.nameplate.serial == "REAL0007"
            assert (await home.get("serial_number")).rstrip("\0") == "REAL0007"
            there = {r.slot: (r.forward_dwh, r.reverse_dwh) for r in stored(bench)}
            assert {slot: there[slot] for slot in expected} == expected
            await bench.advance(HALF_HOUR_S)
            newest = stored(bench)[-1]
            assert newest.slot > max(expected)
            assert newest.forward_dwh > expected[max(expected)][0]
            days = (jst_day(bench.clock.wall()) - yesterday).days
            rows = await home.get("historical_cumulative_energy_1", day=days)
            counts = counts_of([row["cumulative energy"] for row in rows])
            assert counts == tuple(forward // 1000 for forward, _ in expected.values())


async def test_a_bench_killed_in_an_advance_has_lived_until_its_end(state: Path) -> None:
    async with Bench(options(state)) as bench:
        before = bench.clock.wall()
        seen: list[dict[str, float]] = []
        bench.clock.call_at(bench.clock.monotonic() + 100, lambda: seen.append(kept_time(state)))
        await bench.advance(DAY_S)
        (on_the_way,) = seen
        after = bench.clock.wall()
    left = on_the_way["offset_s"] + time.time()
    assert after <= left < after + 60
    assert after == pytest.approx(before + DAY_S, abs=60)


async def test_an_advance_that_is_refused_leaves_no_time_behind(state: Path) -> None:
    async with Bench(options(state)) as bench:
        before = kept_time(state)
        with pytest.raises(MeterError):
            await bench.advance(1e9)
        assert kept_time(state)["offset_s"] == pytest.approx(before["offset_s"], abs=0.1)


async def test_time_and_registers_never_go_back_behind_what_was_stored(state: Path) -> None:
    async with Bench(options(state)) as bench:
        await bench.advance(DAY_S)
        wall, newest = bench.clock.wall(), stored(bench)[-1]
        forward = bench.meter.metering.forward_mwh
    (state / TIME_FILE).write_text(json.dumps(dict.fromkeys(kept_time(state), 0.0)))
    async with Bench(options(state)) as bench:
        assert bench.clock.wall() >= wall - 1
        assert stored(bench)[-1] == newest
        await bench.advance(HALF_HOUR_S)
        now = bench.meter.metering.forward_mwh
        assert now is not None
        assert forward is not None
        assert now > forward


async def test_a_clock_that_was_set_back_stays_so_and_the_unit_counts_on(state: Path) -> None:
    async with Bench(options(state)) as bench:
        await bench.advance(DAY_S)
        bench.set_clock(bench.clock.wall() - 3 * 3600)
        shown, forward = bench.clock.wall(), bench.meter.metering.forward_mwh
    async with Bench(options(state)) as bench:
        assert bench.clock.wall() == pytest.approx(shown, abs=30)
        await bench.advance(60)
        now = bench.meter.metering.forward_mwh
        assert now is not None
        assert forward is not None
        assert 0 < now - forward < 1_000_000


@pytest.mark.parametrize("error_s", [3 * 3600.0, 4 * 365 * DAY_S])
async def test_an_error_of_the_clock_leaves_no_trace_when_it_is_mended(
    state: Path, error_s: float
) -> None:
    async with Bench(options(state)) as bench:
        true = bench.clock.wall()
        bench.set_clock(true + error_s)
        await bench.advance(2 * HALF_HOUR_S)
        bench.set_clock(bench.clock.wall() - error_s)
    async with Bench(options(state)) as bench:
        assert bench.clock.wall() == pytest.approx(true + 2 * HALF_HOUR_S, abs=60)


async def test_a_history_that_was_ended_on_the_way_is_measured_to_its_end(state: Path) -> None:
    # Early in a half-hour: no boundary may come while the test runs.
    opening = jst(slot_start(slot_at(time.time())) + 60)
    wanted = options(state, history_days=2, start=opening)
    async with Bench(wanted) as bench:
        whole = [(r.slot, r.forward_dwh, r.reverse_dwh) for r in stored(bench)]
    shutil.rmtree(state)

    cut = Bench(wanted)
    coming = asyncio.create_task(cut.__aenter__())
    while measured(cut) < len(whole) // 2:
        assert not coming.done()
        await asyncio.sleep(0)  # a few turns of the loop for each of its stops
    coming.cancel()
    await asyncio.gather(coming, return_exceptions=True)
    assert not (state / TIME_FILE).exists()

    async with Bench(wanted) as bench:
        assert [(r.slot, r.forward_dwh, r.reverse_dwh) for r in stored(bench)] == whole


def measured(bench: Bench) -> int:
    """Boundaries of a bench that may not have got as far as having a meter."""
    try:
        return len(stored(bench))
    except AttributeError:
        return 0
