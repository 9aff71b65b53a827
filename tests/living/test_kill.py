"""The killing, for a moment: what a meter killed at random moments serves is true and stays."""

import re
from datetime import date
from pathlib import Path

import pytest

from fuzz import kill
from fuzz.kill_record import Broken, Record, Truth, Values
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.clock import first_slot_of, jst_day

SEED = 11


def test_a_killed_meter_loses_and_invents_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert kill.main(["6", "--seed", "3"]) == 0
    *kills, last = capsys.readouterr().out.splitlines()
    assert len(kills) == 6
    for moment in kill.MOMENTS:
        assert re.search(rf"\b[12] {moment}\b", last)
    served = re.search(r": (\d+) boundaries served", last)
    assert served is not None
    assert int(served[1]) >= 10


@pytest.fixture
async def record(tmp_path: Path) -> tuple[Record, Values]:
    """A record of a real unit, and a day that its meter has truly served."""
    async with Bench(BenchOptions(seed=SEED, history_days=1, state_dir=tmp_path)) as bench:
        day = jst_day(bench.clock.wall() - 86_400)
        first = first_slot_of(day)
        rows = [bench.meter.metering.record(first + i) for i in range(48)]
        counts = tuple(None if row is None else row.forward_dwh for row in rows)
    assert None not in counts
    return Record(Truth(SEED, tmp_path)), Values(day, 0, counts, 1)


def changed(values: Values, **changes: int | None) -> Values:
    """The day with one value changed: ``at`` is which, ``to`` what it is then."""
    counts = list(values.counts)
    at = changes["at"]
    assert at is not None
    counts[at] = changes["to"]
    return Values(values.day, values.direction, tuple(counts), values.dwh)


async def test_what_a_meter_serves_is_the_truth_of_its_house(record: tuple[Record, Values]) -> None:
    judge, day = record
    judge.take(day)
    assert judge.checked == judge.exact() == 48


async def test_a_value_that_is_gone_or_has_changed_is_told(record: tuple[Record, Values]) -> None:
    judge, day = record
    judge.take(changed(day, at=7, to=None))
    judge.take(day)
    with pytest.raises(Broken, match=r"forward value 7 of .* was \d+ and is None"):
        judge.take(changed(day, at=7, to=None))
    now = day.counts[7]
    assert now is not None
    with pytest.raises(Broken, match=r"forward value 7 of .* was \d+ and is"):
        judge.take(changed(day, at=7, to=now + 1))


async def test_a_value_a_watt_hour_off_is_told(record: tuple[Record, Values]) -> None:
    judge, day = record
    now = day.counts[30]
    assert now is not None
    with pytest.raises(Broken, match=r"forward value 30 of .* and truly"):
        judge.take(changed(day, at=30, to=now - 10))


async def test_a_value_from_before_the_unit_is_told(record: tuple[Record, Values]) -> None:
    judge, day = record
    with pytest.raises(Broken, match="before there was a unit"):
        judge.take(Values(date(2020, 1, 1), 0, day.counts, 1))


async def test_a_register_that_goes_back_is_told(record: tuple[Record, Values]) -> None:
    judge, _ = record
    judge.registers((10.0, 5.0), 0)
    judge.registers((10.0, 5.1), 0)
    with pytest.raises(Broken, match=r"reverse register 5\.0 after 5\.1"):
        judge.registers((10.0, 5.0), 0)
