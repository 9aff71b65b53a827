"""The operator's drill book: each drill shows both ways what the page says, in time, and heals.

That they all come out as they should is tests/bench/test_scenario_shipped.py's to see.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from meter_runtime.bench.scenario import load
from meter_runtime.bench.scenario.model import Expectation, Scenario, duration
from meter_runtime.bench.scenario.office import ON_SITE, REMOTE
from meter_runtime.broute.causes import Cause

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "diagnosis.md").read_text(encoding="utf-8")
DRILLS = sorted((ROOT / "scenarios").glob("drill-*.toml"))
ROW = re.compile(
    r"^\| \[`(?P<name>drill-[a-z-]+)`\]\(#(?P<anchor>[a-z-]+)\) \| (?P<message>\d), (?P<more>[^|]*)"
    r" \| (?P<within>\w+) \| (?P<healed>\w+) \|$",
    re.MULTILINE,
)
ROWS = {row["name"]: row for row in ROW.finditer(PAGE)}
HEALED = {"message": 1, "alarm": False}


def wanted(drill: Scenario, kind: str) -> list[Expectation]:
    """What must be seen, in one of the two ways."""
    return [each for each in drill.expect if each.what == kind and not each.never]


def test_the_page_has_every_drill_and_no_other() -> None:
    assert sorted(ROWS) == [path.stem for path in DRILLS]
    headings = {
        line[4:].lower().replace(" ", "-") for line in PAGE.splitlines() if line[:4] == "### "
    }
    assert {row["anchor"] for row in ROWS.values()} == headings


@pytest.mark.parametrize("path", DRILLS, ids=lambda path: path.stem)
@pytest.mark.parametrize("kind", [REMOTE, ON_SITE])
def test_a_drill_shows_what_the_page_says_and_then_that_all_is_well(path: Path, kind: str) -> None:
    row = ROWS[path.stem]
    *troubles, healed = wanted(load(path), kind)
    assert healed.where == HEALED
    assert healed.within == row["healed"]
    expected = [each for each in troubles if each.where["message"] == int(row["message"])]
    assert expected or kind == REMOTE
    for each in expected:
        assert each.where["alarm"] is ("no alarm" not in row["more"])
        assert duration(each.within or "", "within") <= duration(row["within"], "within")


@pytest.mark.parametrize("path", DRILLS, ids=lambda path: path.stem)
def test_a_cause_the_page_names_is_looked_for_in_the_drill(path: Path) -> None:
    told: list[str] = re.findall("`([a-z_]+)`", ROWS[path.stem]["more"])
    for word in (word for word in told if word in list(Cause)):
        for kind in (REMOTE, ON_SITE):
            causes = [str(each.where.get("causes", "")) for each in wanted(load(path), kind)]
            assert any(word in cause for cause in causes), (word, kind)


def test_a_drill_is_played_alone_by_one_command() -> None:
    drill = ROOT / "scenarios" / "drill-wrong-password.toml"
    command = [sys.executable, "-m", "meter_runtime", "bench", "--scenario", str(drill)]
    played = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own
    assert played.returncode == 0, played.stderr
    assert "✓ diagnosis-remote message=2 alarm=True causes=wrong_password" in played.stdout
    assert "passed: Drill: the home typed the password wrong" in played.stdout
