"""The command line's manners: exit statuses, one-line errors, quick starts."""

import os
import subprocess
import sys
import types
from argparse import Namespace
from pathlib import Path

import pytest

from meter_runtime import __version__, cli
from meter_runtime.cli import COMMANDS, main
from meter_runtime.cli.parser import add_command
from meter_runtime.errors import MeterError, UsageError

MINE = ["status", "history", "advance"]


def python(*args: str, **kwargs: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **kwargs},
    )


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A command ``status`` that raises what the test puts into ``failure``."""
    module = types.ModuleType("status")

    def run(args: Namespace) -> int:
        raise module.failure

    module.register = lambda commands: add_command(commands, "status", "", "")  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"{cli.__name__}.status", module)
    return module


@pytest.mark.parametrize(
    ("failure", "status", "said"),
    [
        (UsageError("no such day; 0 to 99"), 2, "meter-runtime: no such day; 0 to 99\n"),
        (MeterError("no port;\nplug it in"), 1, "meter-runtime: no port; plug it in\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_failure_is_one_line_and_a_status(
    failing: types.ModuleType,
    capsys: pytest.CaptureFixture[str],
    failure: BaseException,
    status: int,
    said: str,
) -> None:
    failing.failure = failure  # type: ignore[attr-defined]
    assert main(["status"]) == status
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["statsu"], 'no command "statsu"; did you mean "status"?'),
        (["status", "--jsn"], "\"--jsn\" is not an option here; see 'meter-runtime status --help'"),
        (["--jsn"], "\"--jsn\" is not an option here; see 'meter-runtime --help'"),
        (["advance"], "the following arguments are required: DURATION; see"),
        (["advance", "soon"], '"soon" is no duration; write one like 90s, 30m, 1h30m or 2d'),
        (["history", "--day", "100"], "--day 100: a day is 0 (today) to 99 days ago"),
        (["history", "--json", "--csv"], "not allowed with argument --json; see"),
        (["history", "--plot", "day.txt"], "--plot day.txt: name a file that ends in .pdf, .png"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("meter-runtime: ")
    assert said in err
    assert err.count("\n") == 1


def test_without_a_command_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n    {name} " not in listed] == []


@pytest.mark.parametrize("command", MINE)
def test_every_command_helps_with_an_example(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"example:\n  meter-runtime {command}" in capsys.readouterr().out


def test_the_version_is_told() -> None:
    told = python("-m", "meter_runtime", "--version")
    assert (told.returncode, told.stdout) == (0, f"meter-runtime {__version__}\n")


def test_listing_commands_imports_none_of_them() -> None:
    listed = python("-X", "importtime", "-m", "meter_runtime", "--help")
    assert listed.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in listed.stderr.splitlines()}
    heavy = {"asyncio", "rich", "matplotlib", "msgspec", "momonga", "meter_runtime.bench"}
    assert imported & heavy == set()


def test_a_command_on_a_meter_draws_in_nothing_of_the_laboratory(tmp_path: Path) -> None:
    asked = python(
        *("-X", "importtime", "-m", "meter_runtime", "status"),
        *("--control", str(tmp_path / "none.sock")),
    )
    assert asked.returncode == 1
    imported = {line.rpartition("|")[2].strip() for line in asked.stderr.splitlines()}
    assert "asyncio" in imported
    assert imported & {"rich", "matplotlib", "momonga", "meter_runtime.bench"} == set()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_not_an_error(unbuffered: str) -> None:
    read, write = os.pipe()
    os.close(read)
    left = subprocess.run(
        [sys.executable, "-m", "meter_runtime"],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(write)
    assert (left.returncode, left.stderr) == (141, b"")


def test_a_terminal_that_cannot_show_a_sign_still_works() -> None:
    shown = python(
        "-c", "from meter_runtime.cli import main; main([]); print('▇')", PYTHONIOENCODING="ascii"
    )
    assert (shown.returncode, shown.stdout[-2:]) == (0, "?\n")
