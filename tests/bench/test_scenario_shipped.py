"""The scenarios that are shipped: each loads, says what it is about, and comes out as it should."""

from pathlib import Path

import pytest

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.scenario import bench_options, load, play

FOLDER = Path(__file__).parents[2] / "scenarios"
FILES = sorted(FOLDER.glob("*.toml"))


def test_there_are_many() -> None:
    assert len(FILES) >= 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_it_comes_out_as_it_should(path: Path) -> None:
    scenario = load(path)
    assert scenario.about.strip()
    assert scenario.expect
    async with Bench(bench_options(scenario, path.parent)) as bench:
        report = await play(scenario, bench)
        told = "\n".join(f"{h.at_monotonic:.2f} {h.kind} {h.text}" for h in bench.happenings)
    failed = [result for result in report.results if not result.passed]
    assert not failed, f"{failed}\n{told}"
