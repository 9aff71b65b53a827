"""``python -m fuzz [SECONDS]``: hunt through every target, or replay what was found.

What the fuzzer learns is kept in ``.fuzz/`` and is where the next hunt begins. A failure is one
file in ``.fuzz/failures/``; put what it taught into the target's ``SEEDS``.
"""

import argparse
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from fuzz import TARGETS

WORK = Path(".fuzz")
FAILURES = WORK / "failures"
GRACE_S = 60
"""How much longer than told a hunt may take: start, instrumentation, minimising."""


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 nothing found, 1 found something or cannot hunt, 2 wrong use."""
    parser = argparse.ArgumentParser(
        prog="dev fuzz",
        description="Fuzz everything that reads bytes from outside.",
        epilog="example: ./dev fuzz 600 --only host_uart",
    )
    parser.add_argument("seconds", nargs="?", type=int, default=60, help="in all (60)")
    parser.add_argument("--only", action="append", choices=TARGETS, help="this target; repeatable")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one kept failure again")
    args = parser.parse_args(argv)
    targets = args.only or list(TARGETS)
    if args.replay is not None:
        return _replay(args.replay, targets)
    if args.seconds < len(targets):
        parser.error(f"give at least a second for each of {len(targets)} targets")
    if importlib.util.find_spec("atheris") is None:
        print(
            "fuzz: atheris is missing: pip install atheris (Python 3.11 to 3.14)", file=sys.stderr
        )
        return 1
    FAILURES.mkdir(parents=True, exist_ok=True)
    found = [name for name in targets if not _hunt(name, args.seconds // len(targets))]
    return 1 if found else 0


def _hunt(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; False where something was found."""
    print(f"{name}: {seconds} s …", end=" ", flush=True)
    hunt = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "fuzz.hunt", name, str(WORK / name), str(FAILURES), str(seconds)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + GRACE_S,
        check=False,
    )
    runs = re.search(r"Done (\d+) runs", hunt.stderr)
    if hunt.returncode == 0 and runs is not None:
        print(f"{runs[1]} inputs, nothing found")
        return True
    print(f"FOUND\n{hunt.stdout}")
    file = re.search(r"Test unit written to (\S+)", hunt.stderr)
    if file is None:
        print(hunt.stderr)
    else:
        print(f"replay: ./dev fuzz --only {name} --replay {file[1]}")
    return False


def _replay(file: Path, targets: list[str]) -> int:
    try:
        data = file.read_bytes()
    except OSError as reason:
        print(f"fuzz: {file}: {reason.strerror}", file=sys.stderr)
        return 2
    for name in targets:
        importlib.import_module(f"fuzz.{name}").run(data)
        print(f"{name}: {len(data)} bytes, nothing wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
