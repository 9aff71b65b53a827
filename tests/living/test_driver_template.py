"""The driver template as its author's users have it: installed, found, and passing its tests."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from meter_runtime.errors import UsageError
from meter_runtime.units.contracts import UnitKind
from meter_runtime.units.drivers import Driver, load_driver

TEMPLATE = Path(__file__).parents[2] / "examples" / "driver-template"


def install(target: Path) -> None:
    """Do what pip does with the template's wheel; building one takes a network for its backend."""
    settings = tomllib.loads((TEMPLATE / "pyproject.toml").read_text(encoding="utf-8"))
    project, wheel = settings["project"], settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    for module in wheel["only-include"]:
        shutil.copy(TEMPLATE / module, target)
    info = target / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.3\nName: {project['name']}\nVersion: {project['version']}\n",
        encoding="utf-8",
    )
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")


def python(target: Path, *args: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, *args],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(target)},
    )


def test_it_is_found_once_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match='no metering driver is called "whm1"'):
        load_driver(UnitKind.METERING, "whm1")
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found = load_driver(UnitKind.METERING, "whm1")
    assert isinstance(found, Driver)
    assert found.detect is not None


def test_units_detect_asks_it_too(tmp_path: Path) -> None:
    def asked() -> set[str]:
        told = python(
            tmp_path, "-m", "meter_runtime", "units", "detect", "--board", "generic", "--json"
        )
        assert told.returncode == 1, told.stderr
        return {each["what"] for each in json.loads(told.stdout)["slots"]["metering"]["trail"]}

    before = asked()
    install(tmp_path)
    assert asked() - before == {"driver whm1"}


def test_its_own_tests_pass_as_it_is_installed(tmp_path: Path) -> None:
    target = tmp_path / "installed"
    target.mkdir()
    install(target)
    project = tmp_path / "project"
    shutil.copytree(
        TEMPLATE,
        project,
        ignore=lambda _, names: [
            name for name in names if name.startswith(("meter_driver", "__pycache__", "."))
        ],
    )
    run = python(target, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    assert run.returncode == 0, run.stdout
