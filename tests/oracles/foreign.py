"""Foreign programs: found, started, bounded, ended, and what their debug output says."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE_S = 20.0
"""Each takes well under a second; a loaded machine is given more."""

_SYSTEM_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin"


def program(name: str, package: str) -> str:
    """Where the program is; the test is skipped where it is not."""
    found = shutil.which(name) or shutil.which(name, path=_SYSTEM_DIRECTORIES)
    if found is None:
        pytest.skip(f"{name} is missing; install it: sudo apt-get install {package}")
    return found


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program while the block runs, its output in ``log``, whole once the block is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the caller's own words
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def read_by(command: list[str]) -> str:
    """What a program that ends by itself prints; its failure is the test's."""
    done = subprocess.run(  # noqa: S603 - the caller's own words
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


def dumped(log: Path, label: str) -> list[bytes]:
    """Every value that the program dumped in hexadecimal under this label."""
    pattern = rf"^{re.escape(label)} - hexdump\(len=\d+\): ([0-9a-f ]+)$"
    return [bytes.fromhex(found) for found in re.findall(pattern, log.read_text(), re.MULTILINE)]
