"""The legally relevant part names itself by version and content."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from meter_runtime import metrology
from meter_runtime.metrology.identity import VERSION, fingerprint


def fingerprint_of(copy: Path) -> str:
    code = "import identity; print(identity.fingerprint())"
    run = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def test_the_fingerprint_is_a_stable_sha_256() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", fingerprint())
    assert fingerprint() == fingerprint()
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


def test_the_fingerprint_changes_with_any_source_file(tmp_path: Path) -> None:
    copy = tmp_path / "metrology"
    source = Path(metrology.__file__).parent
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert fingerprint_of(copy) == fingerprint()
    with (copy / "accumulator.py").open("a") as file:
        file.write("\n")
    assert fingerprint_of(copy) != fingerprint()
