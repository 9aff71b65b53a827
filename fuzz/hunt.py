"""One target under atheris; ``python -m fuzz.hunt TARGET CORPUS FAILURES SECONDS``.

A process of its own, because libFuzzer ends the process it runs in.
"""

import importlib
import sys
from pathlib import Path

import atheris

MAX_INPUT = 2048


def main() -> None:
    """Never returns."""
    name, corpus, failures, seconds = sys.argv[1:]
    with atheris.instrument_imports(include=["meter_runtime"]):
        target = importlib.import_module(f"fuzz.{name}")
    folder = Path(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.SEEDS):
        (folder / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", f"-max_len={MAX_INPUT}", "-timeout=10"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={failures}/", corpus], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
