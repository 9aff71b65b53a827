"""``meter-runtime bench`` with scenarios, captures and traces, as a person types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from meter_runtime.cli import main

QUIET = 'title = "Nothing happens"\npatience = "1s"\n[[expect]]\nwhat = "joined"\n'


def typed(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "meter_runtime", "bench", *argv],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_scenario_tells_its_story_and_its_verdicts(tmp_path: Path) -> None:
    path = tmp_path / "quiet.toml"
    path.write_text(QUIET + 'never = true\n[[step]]\ndo = "advance"\nby = "30m"\n')
    files = {name: tmp_path / name for name in ("a.pcapng", "a.jsonl", "a.xml")}
    done = typed(
        "--scenario", str(path), "--capture", str(files["a.pcapng"]),
        "--trace", str(files["a.jsonl"]), "--junit", str(files["a.xml"]),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ready, *story = done.stdout.splitlines()
    assert json.loads(ready)["meters"]
    assert any("▶ advance by=30m" in line for line in story)
    assert any(" boundary " in line for line in story)
    assert story[-2:] == ["✓ never joined: it did not happen", "passed: Nothing happens"]
    assert all(file.stat().st_size for file in files.values())
    assert 'failures="0"' in files["a.xml"].read_text()


def test_an_expectation_that_is_not_met_is_exit_status_1(tmp_path: Path) -> None:
    path = tmp_path / "quiet.toml"
    path.write_text(QUIET)
    done = typed("--scenario", str(path), "--junit", str(tmp_path / "a.xml"))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "FAILED: Nothing happens"
    assert 'failures="1"' in (tmp_path / "a.xml").read_text()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--scenario", "no.toml"], "no.toml: no such scenario; name a TOML file"),
        (["--scenario", "no.toml", "--air", "real"], "--air and --scenario exclude each other"),
        (["--scenario", "no.toml", "--hems", "momonga"], "--hems none leaves the HEMS to you"),
        (["--junit", "a.xml"], "give --scenario, too"),
        (["--start", "noon"], '--start: "noon" is no date and time'),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(
    argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *argv]) == 2
    complaint = capsys.readouterr().err
    assert told in complaint
    assert complaint.count("\n") == 1


def test_a_capture_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--capture", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"meter-runtime: {tmp_path}: cannot be written: Is a directory\n"
    )


def test_the_modules_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    from meter_runtime.bench.module.profiles import PROFILES

    assert main(["bench", "--list-modules"]) == 0
    text = capsys.readouterr().out
    for name in PROFILES:
        assert f"{name}\n  firmware  " in text
    assert "echo=0|1" in text
