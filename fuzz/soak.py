"""``python -m fuzz.soak [SECONDS]``: a meter and a HEMS live through random faults.

Each round begins a fault or two of the catalogue, lets some time pass, real and virtual, and ends
them. Then the HEMS, a process of its own, must be served again within a bound; memory and open
descriptors must stay where they were. What is chosen comes from the seed alone.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meter_runtime.bench import Bench, BenchOptions
from meter_runtime.bench.faults.catalogue import CATALOGUE
from meter_runtime.bench.happenings import Happening
from meter_runtime.bench.scripted_hems import PASSWORD_VARIABLE
from meter_runtime.errors import MeterError

SERVED_WITHIN_S = 90.0
"""After the faults: the meter's longest back-off, and a join."""
WARM_UP_ROUNDS = 20
"""Until then buffers fill and caches grow."""
MORE_MB = 12
MORE_DESCRIPTORS = 8
LONGEST_FAULT_S = 4.0
LONGEST_JUMP_S = 6 * 3600.0
LOAD = "time,power_w\n0,700\n3600,-400\n"
"""Not the household model: it remembers days, and its memory would hide what leaks."""


@dataclass(frozen=True, slots=True)
class Load:
    """What this process holds."""

    megabytes: float
    descriptors: int


class SoakFailed(MeterError):  # noqa: N818 - what a soak found, not an accident of ours
    """The meter did not come back, or grew; the message names round and seed."""


def soak(seconds: float, seed: int) -> int:
    """Rounds until the time is up, at least one; how many. Raises :class:`SoakFailed`."""
    rng = random.Random(f"soak {seed}")
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        load = Path(folder, "load.csv")
        load.write_text(LOAD, "ascii")
        return asyncio.run(_rounds(BenchOptions(seed=seed, load=load), rng, until))


async def _rounds(options: BenchOptions, rng: random.Random, until: float) -> int:
    done = 0
    settled: Load | None = None
    async with Bench(options) as bench:
        home = asyncio.create_task(_live(bench), name="HEMS")
        try:
            await _served(bench, f"seed {options.seed}: before any fault")
            while done == 0 or time.monotonic() < until:
                done += 1
                where = f"round {done} of seed {options.seed}"
                told = await _round(bench, rng)
                waited_s = await _served(bench, f"{where}: {told}")
                load = _load()
                print(
                    f"round {done}: {told}; served after {waited_s:.1f} s;"
                    f" {load.megabytes:.0f} MB, {load.descriptors} descriptors",
                    flush=True,
                )
                if done == WARM_UP_ROUNDS:
                    settled = load
                _check(settled, load, where)
        finally:
            home.cancel()
            await asyncio.gather(home, return_exceptions=True)
    return done


async def _round(bench: Bench, rng: random.Random) -> str:
    """Faults, time, no faults; in words."""
    told = []
    for name in rng.sample(sorted(CATALOGUE), rng.randint(1, 2)):
        try:
            bench.inject(name)
            told.append(name)
        except MeterError:
            told.append(f"({name})")  # not possible now, as with nobody joined
    await asyncio.sleep(rng.uniform(0, LONGEST_FAULT_S))
    if rng.random() < 0.5:
        jump_s = round(rng.uniform(0, LONGEST_JUMP_S))
        await bench.advance(jump_s)
        told.append(f"{jump_s} s pass")
    bench.clear()
    return ", ".join(told)


async def _served(bench: Bench, where: str) -> float:
    """Wait for the next answer that the HEMS gets; the seconds it took."""
    answered = asyncio.Event()
    began = time.monotonic()

    def heed(one: Happening) -> None:
        if one.kind == "response" and one.detail["received"]:
            answered.set()

    unsubscribe = bench.subscribe(heed)
    try:
        async with asyncio.timeout(SERVED_WITHIN_S):
            await answered.wait()
    except TimeoutError:
        raise SoakFailed(
            f"{where}: not served within {SERVED_WITHIN_S:g} s; {bench.status()['broute']}"
        ) from None
    finally:
        unsubscribe()
    return time.monotonic() - began


async def _live(bench: Bench) -> None:
    """A HEMS that is started again whenever it gives up."""
    while True:
        hems = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "meter_runtime.bench.scripted_hems"),
            *(bench.tty, bench.route_b_id, "--read", "E7,E0,EA", "--every", "0.2"),
            stdout=asyncio.subprocess.DEVNULL,
            env={**os.environ, PASSWORD_VARIABLE: bench.password},
        )
        try:
            await hems.wait()
        finally:
            if hems.returncode is None:
                hems.kill()
                await hems.wait()


def _load() -> Load:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Load(megabytes, len(list(Path("/proc/self/fd").iterdir())))


def _check(settled: Load | None, load: Load, where: str) -> None:
    if settled is None:
        return
    if load.megabytes > settled.megabytes + MORE_MB:
        raise SoakFailed(f"{where}: memory grew from {settled.megabytes:.0f} MB")
    if load.descriptors > settled.descriptors + MORE_DESCRIPTORS:
        raise SoakFailed(f"{where}: open descriptors grew from {settled.descriptors}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 lived through all, 1 did not, 2 wrong use."""
    parser = argparse.ArgumentParser(
        prog="dev soak",
        description="Let a meter and a HEMS live through random faults.",
        epilog="example: ./dev soak 28800 --seed 7",
    )
    parser.add_argument("seconds", nargs="?", type=float, default=3600, help="how long (3600)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (1)")
    args = parser.parse_args(argv)
    try:
        done = soak(args.seconds, args.seed)
    except SoakFailed as failure:
        print(f"soak: {failure}", file=sys.stderr)
        return 1
    print(f"{done} rounds, all served")
    return 0


if __name__ == "__main__":
    sys.exit(main())
