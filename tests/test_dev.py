"""``./dev``: the real script, with every program it calls replaced by one that takes notes."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "dev"
POSIX_TOOLS = ["cat", "cksum", "dirname", "env", "find", "head", "mkdir", "rm", "sh"]

NOTE_TAKER = """#!/bin/sh
echo "${0##*/} $*" >>"$NOTES"
case " $FAILING " in *" ${0##*/} "*) echo "noise of ${0##*/}"; exit 1 ;; esac
"""

PYTHON = """#!/bin/sh
case "$*" in
    "-c import sys, venv, ensurepip"*) [ -e "$MACHINE/venv-module" ] ;;
    "-c import sys, sys"*) exit "$TOO_OLD" ;;
    "-c "*) echo python3.12-venv ;;
    "-m venv "*)
        echo "python3 -m venv" >>"$NOTES"
        mkdir -p "$3/bin"
        for tool in python ruff mypy lint-imports pytest meter-runtime; do
            cat "$MACHINE/note-taker" >"$3/bin/$tool"
            /bin/chmod +x "$3/bin/$tool"
        done ;;
esac
"""

APT_GET = """#!/bin/sh
echo "apt-get $*" >>"$NOTES"
case "$*" in install*) : >"$MACHINE/venv-module" ;; esac
"""


@dataclass
class Checkout:
    """A fresh checkout, and a machine that has little more than a shell."""

    root: Path
    machine: Path
    failing: str = ""
    too_old: bool = False

    def provide(self, name: str, text: str) -> None:
        program = self.machine / "bin" / name
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)

    def add_venv_module(self) -> None:
        (self.machine / "venv-module").touch()

    def dev(self, *args: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(  # noqa: S603 - our own script
            [str(self.root / "dev"), *args],
            cwd=cwd or self.root,
            env={
                "PATH": str(self.machine / "bin"),
                "MACHINE": str(self.machine),
                "NOTES": str(self.machine / "notes"),
                "FAILING": self.failing,
                "TOO_OLD": str(int(self.too_old)),
                "CDPATH": os.sep,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def called(self) -> list[str]:
        """The programs called since the last look, in order."""
        notes = self.machine / "notes"
        lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
        notes.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root, machine = tmp_path / "a check out", tmp_path / "machine"
    root.mkdir()
    shutil.copy(SCRIPT, root / "dev")
    (root / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    (machine / "bin").mkdir(parents=True)
    for tool in POSIX_TOOLS:
        real = shutil.which(tool)
        assert real is not None
        (machine / "bin" / tool).symlink_to(real)
    (machine / "note-taker").write_text(NOTE_TAKER, encoding="utf-8")
    made = Checkout(root, machine)
    made.provide("python3", PYTHON)
    made.provide("apt-get", APT_GET)
    made.provide("id", "#!/bin/sh\necho 0\n")
    return made


INSTALL = ["python3 -m venv", "python -m pip install --disable-pip-version-check -e .[bench,dev]"]
REINSTALL = ["python -m pip --version", INSTALL[1]]
CHECKS = ["ruff format --check .", "ruff check .", "mypy ", "lint-imports --no-logo --no-cache"]


def installed(checkout: Checkout) -> Checkout:
    checkout.add_venv_module()
    assert checkout.dev("lint").returncode == 0
    checkout.called()
    return checkout


@pytest.mark.parametrize("argv", [[], ["help"], ["--help"]])
def test_it_lists_its_targets_and_touches_nothing(checkout: Checkout, argv: Sequence[str]) -> None:
    listed = checkout.dev(*argv)
    assert listed.returncode == 0
    everyday = ("run", "test", "lint", "format", "bench", "clean")
    proofs = ("fuzz", "soak", "powercut", "kill", "model", "swaps", "collect", "hwtest")
    for target in (*everyday, *proofs):
        assert f"\n  {target} " in listed.stdout
    assert not (checkout.root / ".venv").exists()


def test_an_unknown_target_is_wrong_use(checkout: Checkout) -> None:
    wrong = checkout.dev("tset")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.endswith('dev: no target "tset"\n')


def test_the_first_test_installs_and_runs_every_check(checkout: Checkout) -> None:
    checkout.add_venv_module()
    ran = checkout.dev("test", "-k", "two words")
    assert ran.returncode == 0
    assert checkout.called() == [*INSTALL, *CHECKS, "pytest -n auto --dist worksteal -k two words"]


def test_the_second_installs_nothing(checkout: Checkout) -> None:
    installed(checkout).dev("test")
    assert checkout.called() == [*CHECKS, "pytest -n auto --dist worksteal"]


def test_it_works_from_any_directory(checkout: Checkout, tmp_path: Path) -> None:
    installed(checkout).dev("lint", cwd=tmp_path)
    assert checkout.called() == CHECKS


def test_changed_metadata_is_installed_into_the_same_environment(checkout: Checkout) -> None:
    installed(checkout)
    (checkout.root / "pyproject.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
    assert checkout.dev("lint").returncode == 0
    assert checkout.called() == [*REINSTALL, *CHECKS]


def test_a_moved_checkout_gets_a_new_environment(checkout: Checkout, tmp_path: Path) -> None:
    installed(checkout)
    checkout.root = checkout.root.rename(tmp_path / "moved")
    assert checkout.dev("lint").returncode == 0
    assert checkout.called() == [*INSTALL, *CHECKS]


def test_a_failed_installation_is_shown_and_tried_again(checkout: Checkout) -> None:
    checkout.add_venv_module()
    checkout.failing = "python"
    failed = checkout.dev("test")
    assert failed.returncode == 1
    assert failed.stderr.endswith("noise of python\ndev: the installation failed; see above\n")
    checkout.called()
    checkout.failing = ""
    assert checkout.dev("lint").returncode == 0
    assert checkout.called()[-5:] == [INSTALL[1], *CHECKS]


def test_every_check_runs_and_the_failed_ones_are_named(checkout: Checkout) -> None:
    installed(checkout).failing = "mypy pytest"
    failed = checkout.dev("test")
    assert failed.returncode == 1
    assert failed.stderr == "dev: failed: types tests\n"
    assert failed.stdout.endswith("== tests\nnoise of pytest\n")
    assert checkout.called() == [*CHECKS, "pytest -n auto --dist worksteal"]


def test_run_starts_the_bench_with_a_hems(checkout: Checkout) -> None:
    installed(checkout).dev("run", "--load", "my load.csv")
    assert checkout.called() == [
        "meter-runtime bench --hems momonga --history 1 --load my load.csv"
    ]


def test_bench_measures(checkout: Checkout) -> None:
    installed(checkout).dev("bench", "echonet")
    assert checkout.called() == ["python -m benchmarks echonet"]


def test_fuzz_hunts_where_the_fuzzer_is(checkout: Checkout) -> None:
    installed(checkout).dev("fuzz", "600")
    assert checkout.called() == ["python -c import atheris", "python -m fuzz 600"]


def test_soak_takes_its_time_and_its_seed(checkout: Checkout) -> None:
    installed(checkout).dev("soak", "60", "--seed", "7")
    assert checkout.called() == ["python -m fuzz.soak 60 --seed 7"]


def test_the_long_proofs_take_their_arguments(checkout: Checkout) -> None:
    installed(checkout).dev("powercut", "--seed", "7", "registers-fram")
    checkout.dev("kill", "20")
    checkout.dev("model", "9")
    checkout.dev("swaps", "7")
    assert checkout.called() == [
        "python tests/storage/powercut.py --seed 7 registers-fram",
        "python -m fuzz.kill 20",
        "pytest --timeout=0 tests/metrology/test_model.py",
        "python -m fuzz.swaps 7",
    ]


def test_collect_takes_its_lives(checkout: Checkout) -> None:
    installed(checkout).dev("collect", "3")
    assert checkout.called() == ["python -m fuzz.collecting 3"]


def test_hwtest_takes_its_parts(checkout: Checkout) -> None:
    installed(checkout).dev("hwtest", "--only", "pc")
    assert checkout.called() == ["python -m hwtest --only pc"]


def test_a_machine_without_a_fuzzer_is_told_in_one_line(checkout: Checkout) -> None:
    installed(checkout).failing = "python"
    told = checkout.dev("fuzz")
    assert told.returncode == 1
    assert told.stderr.splitlines()[-1].startswith("dev: atheris has no build for this machine")


def test_clean_removes_what_can_be_made_again(checkout: Checkout) -> None:
    installed(checkout)
    (checkout.root / "package" / "__pycache__").mkdir(parents=True)
    (checkout.root / ".ruff_cache").mkdir()
    assert checkout.dev("clean").returncode == 0
    left = sorted(path.name for path in checkout.root.rglob("*"))
    assert left == ["dev", "package", "pyproject.toml"]


def test_root_gets_the_missing_venv_module(checkout: Checkout) -> None:
    assert checkout.dev("lint").returncode == 0
    assert checkout.called() == [
        "apt-get update",
        "apt-get install -y python3-venv python3.12-venv",
        *INSTALL,
        *CHECKS,
    ]


def test_another_user_is_told_the_one_command_that_mends_it(checkout: Checkout) -> None:
    checkout.provide("id", "#!/bin/sh\necho 1000\n")
    told = checkout.dev("lint")
    assert told.returncode == 1
    assert told.stderr.endswith("sudo apt-get install -y python3-venv python3.12-venv\n")
    assert checkout.called() == []


def test_an_old_python_is_not_taken(checkout: Checkout) -> None:
    checkout.too_old = True
    told = checkout.dev("lint")
    assert told.returncode == 1
    assert "no Python 3.11 or later on the PATH" in told.stderr
