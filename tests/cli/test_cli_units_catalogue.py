"""``units list``, ``count``, ``check`` and ``explain``."""

import json
from pathlib import Path

import pytest

from meter_runtime.cli import main
from meter_runtime.units.findings import codes

EXAMPLES = Path(__file__).parents[2] / "examples" / "units"
GOOD = str(EXAMPLES / "two-way-60a.toml")
BAD = str(EXAMPLES / "four-mistakes.toml")

Output = pytest.CaptureFixture[str]


def told(capsys: Output, *argv: str, status: int = 0) -> str:
    """What the command prints, having ended with this status."""
    assert main(["units", *argv]) == status
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_360_combinations_are_counted(capsys: Output) -> None:
    assert told(capsys, "count") == "360\n"


def test_the_count_is_broken_down_when_asked(capsys: Output) -> None:
    lines = told(capsys, "count", "--verbose").splitlines()
    assert lines[0] == "360"
    assert lines[1] == (
        "of 1344: 12 communication units × 14 metering units × 4 optional units or none"
        " × 2 terminal covers"
    )
    assert lines[2].strip().startswith("672 refused by U-10: ")
    assert [line.split()[3] for line in lines[2:-1]] == ["U-10:", "U-15:", "U-16:", "U-17:"]


def test_every_unit_is_listed(capsys: Output) -> None:
    listed = told(capsys, "list")
    assert "MU-1P3W-60-2        1P3W, 60 A, two-way, driver mcp39f521\n" in listed
    assert "CU-RF-NONE-1        A-route RF, no B-route, one-way, no driver\n" in listed
    assert "OU-VOLT             voltage, driver ads1115\n" in listed
    units = json.loads(told(capsys, "list", "--json"))
    assert units["covers"] == ["normal", "rain"]
    assert sum(not unit["bare"] for unit in units["units"]) == 29
    assert all(unit["model"] in listed for unit in units["units"])


def test_units_that_go_together_are_said_to(capsys: Output) -> None:
    assert told(capsys, "check", GOOD) == "these units go together\n"
    assert told(capsys, "check", GOOD, "--lang", "ja") == "これらのユニットの組合せは有効です\n"


def test_mistakes_are_told_with_what_they_cost(capsys: Output) -> None:
    lines = told(capsys, "check", BAD, status=1).splitlines()
    assert [line.split()[0] for line in lines[::2]] == ["U-08", "U-09", "U-13", "U-16"]
    assert lines[-2].startswith("U-16 error: switching capacity differs from the metering unit's")
    assert lines[-1].strip() == "→ the meter does not enter service"


def test_mistakes_are_told_in_japanese(capsys: Output) -> None:
    lines = told(capsys, "check", BAD, "--lang", "ja", status=1).splitlines()
    assert lines[0].startswith("U-08 異常: 再エネ契約ですが、計量ユニットが単方向です(MU-")


def test_the_verdict_is_one_document(capsys: Output) -> None:
    document = json.loads(told(capsys, "check", BAD, "--json", status=1))
    assert document["ok"] is False
    assert document["findings"][-1] == {
        "code": "U-16",
        "severity": "error",
        "text": "switching capacity differs from the metering unit's (OU-SW-120 no. S00000000005,"
        " MU-1P3W-60-1 no. M00000000005: 120 A ≠ 60 A)",
        "unit": "optional",
        "disables": ["service"],
    }
    assert document["service"]["in_service"] is False
    assert json.loads(told(capsys, "check", GOOD, "--json")) == {
        "ok": True,
        "findings": [],
        "service": dict.fromkeys(["in_service", "broute", "switching", "voltage", "reverse"], True),
    }


def test_a_warning_is_told_and_is_no_failure(capsys: Output, tmp_path: Path) -> None:
    path = tmp_path / "units.toml"
    text = Path(GOOD).read_text(encoding="utf-8")
    path.write_text(text.replace("detached", "multi-dwelling"), encoding="utf-8")
    lines = told(capsys, "check", str(path)).splitlines()
    assert lines[0].startswith("U-14 warning: ")
    assert lines[1].strip() == "→ everything is served; an alarm is raised"


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("code", codes())
def test_every_code_is_explained(capsys: Output, code: str, language: str) -> None:
    explained = told(capsys, "explain", code, "--lang", language)
    headings = ("原因: ", "処置: ") if language == "ja" else ("cause: ", "remedy: ")
    assert explained.startswith(f"{code} ")
    assert all(f"\n{heading}" in explained for heading in headings)


def test_an_effect_that_depends_on_the_unit_is_told_for_each(capsys: Output) -> None:
    explained = told(capsys, "explain", "u-23")
    assert "effect (metering): the meter does not enter service\n" in explained
    assert "effect (communication): no B-route\n" in explained


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["explain", "U-61"], 'no finding has the code "U-61"; did you mean "U-'),
        (["check", "none.toml"], "none.toml: no such file; examples are in examples/units"),
        (["explain", "U-16", "--lang", "jp"], "argument --lang: invalid choice: 'jp'"),
        (["cuont"], "invalid choice: 'cuont'"),
    ],
)
def test_wrong_use_is_one_line(capsys: Output, argv: list[str], said: str) -> None:
    assert main(["units", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
