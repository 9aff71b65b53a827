"""Every fault is tested, described for its user, and refuses what it cannot do."""

import ast
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.bench.faults.catalogue import CATALOGUE, GROUPS, describe, find
from meter_runtime.bench.faults.parameters import Password, checked, shown
from meter_runtime.errors import UsageError

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs" / "faults"
NAMES = sorted(CATALOGUE)
BEGINNERS = ("begin", "trouble", "inject")


def begun(path: Path) -> Iterator[str]:
    """The faults that a test file begins."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            first = node.args[0]
            if node.func.attr in BEGINNERS and isinstance(first, ast.Constant):
                yield str(first.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_fault_is_met_at_the_port_of_a_hems(name: str) -> None:
    group = CATALOGUE[name].group
    assert name in set(begun(ROOT / "tests" / "living" / f"test_faults_{group}.py"))


@pytest.mark.parametrize("name", NAMES)
def test_every_fault_has_a_recipe_with_its_command(name: str) -> None:
    recipes = (RECIPES / f"{CATALOGUE[name].group}.md").read_text()
    _, found, rest = recipes.partition(f"\n## {name}\n")
    assert found, "it has no section"
    section = rest.partition("\n## ")[0]
    assert f"meter-runtime inject {name}" in section
    assert "Your HEMS" in section


COMMAND = re.compile(r"meter-runtime inject ([a-z][^\n#]*)")


@pytest.mark.parametrize("page", [ROOT / "docs" / "faults.md", *sorted(RECIPES.glob("*.md"))])
def test_every_command_in_the_recipes_is_possible(page: Path) -> None:
    commands = COMMAND.findall(page.read_text())
    assert commands
    for command in commands:
        name, *words = command.split()
        fault = find(name)
        settings = dict(word.split("=") for word in words if "=" in word)
        assert settings.pop("count", None) is None or fault.counts
        assert "--for" not in words or not fault.momentary
        checked(name, fault.parameters, settings)


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_no_recipe_is_of_a_fault_that_is_not_there(group: str) -> None:
    recipes = (RECIPES / f"{group}.md").read_text()
    headings = [line[3:] for line in recipes.splitlines() if line.startswith("## ")]
    assert headings == [fault.name for fault in GROUPS[group]]
    assert f"faults/{group}.md" in (ROOT / "docs" / "faults.md").read_text()


def test_names_are_unique_and_each_entry_knows_its_group() -> None:
    assert len(CATALOGUE) == sum(len(faults) for faults in GROUPS.values())
    for group, faults in GROUPS.items():
        assert {fault.group for fault in faults} == {group}


@pytest.mark.parametrize("name", NAMES)
def test_every_default_is_possible(name: str) -> None:
    fault = CATALOGUE[name]
    values = checked(name, fault.parameters, {})
    assert set(values) == {parameter.name for parameter in fault.parameters}


def test_a_fault_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(UsageError, match='no fault "slwo"; did you mean "slow"'):
        find("slwo")


def test_a_parameter_that_is_not_there_names_the_nearest() -> None:
    slow = CATALOGUE["slow"]
    with pytest.raises(UsageError, match='slow has no parameter "second"; did you mean "seconds"'):
        checked("slow", slow.parameters, {"second": 3})


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("slow", "seconds", "soon"),
        ("slow", "seconds", "0s"),
        ("slow", "seconds", True),
        ("loss", "rate", "1.5"),
        ("loss", "rate", "nan"),
        ("loss", "direction", "sideways"),
        ("duplicate", "copies", "2.5"),
        ("sna", "epc", "7F"),
        ("unknown-epc", "epc", "all"),
        ("unit", "code", "05"),
        ("coefficient", "value", "0"),
        ("rewrite", "id", "12"),
    ],
)
def test_an_impossible_value_says_what_is_possible(
    name: str, parameter: str, value: object
) -> None:
    fault = CATALOGUE[name]
    kind = next(p.kind for p in fault.parameters if p.name == parameter)
    with pytest.raises(UsageError, match=f"fault {name}: {parameter}=.* give ") as refused:
        checked(name, fault.parameters, {parameter: value})
    assert str(refused.value).endswith(kind.range)


@pytest.mark.parametrize(
    ("text", "seconds"), [("200ms", 0.2), ("8", 8), ("8s", 8), ("1.5m", 90), (2, 2), (0.5, 0.5)]
)
def test_times_are_written_as_people_do(text: object, seconds: float) -> None:
    assert checked("slow", CATALOGUE["slow"].parameters, {"seconds": text})["seconds"] == seconds


def test_a_password_is_never_shown() -> None:
    declared = CATALOGUE["rewrite"].parameters
    values = checked("rewrite", declared, {"password": "SECRET123456"})
    assert values["password"].reveal() == "SECRET123456"
    assert "SECRET123456" not in str(shown(values))
    with pytest.raises(UsageError) as refused:
        checked("rewrite", declared, {"password": "SECRET"})
    assert "SECRET" not in str(refused.value)
    assert Password().range in str(refused.value)


@given(
    st.sampled_from(NAMES),
    st.text(max_size=40) | st.integers() | st.floats() | st.none() | st.booleans(),
)
def test_whatever_is_given_is_taken_or_refused(name: str, value: object) -> None:
    declared = CATALOGUE[name].parameters
    for parameter in declared:
        with contextlib.suppress(UsageError):
            assert parameter.name in checked(name, declared, {parameter.name: value})


def test_the_description_says_it_all() -> None:
    described = {str(entry["name"]): entry for entry in describe()}
    assert sorted(described) == NAMES
    assert described["slow"]["parameters"] == [
        {
            "name": "seconds",
            "default": "8s",
            "range": "0.001 s to 600 s",
            "says": "before each answer",
        }
    ]
