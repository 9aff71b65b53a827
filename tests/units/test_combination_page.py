"""docs/unit-combinations.md says what the code does."""

from pathlib import Path

import pytest

from meter_runtime.cli import main
from meter_runtime.units.contracts import UnitKind
from meter_runtime.units.findings import codes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "unit-combinations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", codes())
def test_every_code_is_on_it(code: str) -> None:
    line = codes()[code]
    effects = {kind.value: line.effect(kind, "en") for kind in UnitKind}
    told = set(effects.values())
    effect = (
        told.pop()
        if len(told) == 1
        else "; ".join(f"{kind}: {effect}" for kind, effect in effects.items())
    )
    row = f"| {code} | {line.severity.value} | {line.words['en'].title} | {effect} |"
    assert row in PAGE.splitlines()


@pytest.mark.parametrize(
    "command",
    [
        "units check examples/units/four-mistakes.toml",
        "units explain U-16 --lang ja",
        "units count",
    ],
)
def test_its_examples_print_what_it_shows(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    main(command.split())
    assert f"$ meter-runtime {command}" in PAGE
    assert capsys.readouterr().out in PAGE


def test_every_example_file_is_on_it() -> None:
    for file in (ROOT / "examples" / "units").glob("*.toml"):
        assert f"| `{file.name}` | " in PAGE
