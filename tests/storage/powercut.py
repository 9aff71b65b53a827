"""Every scenario of the power-cut tests, and the program that plays all of each.

``python powercut.py [--seed N] [SCENARIO ...]`` tries every cut and every survivor, prints how many
there were and ends with 1 when a check failed. The tests of this folder play a sample.
"""

import argparse
import asyncio
import logging
import random
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import power_command
import power_journal
import power_ring
from power import Life, Tally, explore
from power_command import CommandLife
from power_journal import JournalLife, JournalStep
from power_metering import (
    COARSE_TIME,
    MINUTES,
    SHORT_DAY,
    WHOLE_DAY,
    WRONG_TIME,
    MeterLife,
    Plant,
    Step,
)
from power_registers import RegisterLife
from power_ring import RingLife, RingStep
from power_vault import VaultLife

FRAM, FILE = 1, 512
"""Write units: what is kept twice is laid out by them."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A life to be cut ``times`` times in a row.

    ``sample`` is the share of survivors that the ordinary tests look at after each cut, and
    ``whole`` that of the long form: all of them, but where that would take hours.
    """

    begin: Callable[[asyncio.Runner], Life]
    times: int
    sample: tuple[float, ...]
    whole: tuple[float, ...] = ()

    def play(self, seed: int, *, whole: bool) -> Tally:
        rng = random.Random(seed)
        # What a vault draws by lot is to be the same again.
        with asyncio.Runner() as runner, patch("os.urandom", random.Random(seed).randbytes):
            try:
                share = self.whole if whole else self.sample
                return explore(self.begin(runner), self.times, rng, Tally(), share)
            except Exception as error:
                error.add_note(f"seed {seed}")
                raise


def _scenarios() -> dict[str, Scenario]:
    found: dict[str, Scenario] = {}
    rings = {
        "wrap-around": power_ring.WRAP_AROUND,
        "unit-swap": power_ring.UNIT_SWAP,
        "wrong-clock": power_ring.WRONG_CLOCK,
        "header": power_ring.HEADER,
        "forgotten-future": power_ring.FORGOTTEN_FUTURE,
        "fine": power_ring.FINE,
    }
    journals = {
        "wrap-around": power_journal.WRAP_AROUND,
        "pending-across": power_journal.PENDING_ACROSS,
    }
    for medium, unit in (("fram", FRAM), ("file", FILE)):
        # The records lie in the same way on both.
        second = (1.0, 1.0) if unit == FRAM else (1.0, 0.1)
        for name, steps in rings.items():
            begin = partial(_ring, steps, unit)
            found[f"ring-{name}-{medium}"] = Scenario(begin, 2, (0.1, 0.05), second)
        many = partial(_ring, power_ring.MANY_UNITS, unit)
        found[f"ring-many-units-{medium}"] = Scenario(many, 1, (0.3,))
        found[f"ring-used-medium-{medium}"] = Scenario(partial(_used_ring, unit), 2, (0.2, 0.05))
        found[f"registers-{medium}"] = Scenario(partial(_registers, unit), 2, (0.1, 0.05))
        found[f"registers-worn-{medium}"] = Scenario(partial(_worn, unit), 2, (0.1, 0.05))
        found[f"vault-{medium}"] = Scenario(partial(_vault, unit), 2, (0.02, 0.01), (0.2, 0.05))
        for name, commands in journals.items():
            begin = partial(_journal, commands, unit)
            found[f"journal-{name}-{medium}"] = Scenario(begin, 2, (0.015, 0.03), (0.3, 0.2))
        several = partial(_command, power_command.SEVERAL, unit)
        found[f"command-several-{medium}"] = Scenario(several, 1, (0.02,))
        rotation = partial(_command, power_command.ROTATION, unit)
        found[f"command-rotation-{medium}"] = Scenario(rotation, 1, (0.02,))
        one = partial(_command, power_command.ONE, unit)
        found[f"command-one-{medium}"] = Scenario(one, 2, (0.003, 0.005), (0.05, 0.02))
        for name, lasting in (("lasting", True), ("forgetful", False)):
            begin = partial(_meter, WHOLE_DAY, lasting, unit)
            found[f"day-{name}-unit-{medium}"] = Scenario(begin, 1, (0.03,))
            begin = partial(_meter, SHORT_DAY, lasting, unit)
            found[f"meter-{name}-unit-{medium}"] = Scenario(begin, 2, (0.02, 0.02), (0.1, 1.0))
            begin = partial(_meter, MINUTES, lasting, unit)
            found[f"minutes-{name}-unit-{medium}"] = Scenario(begin, 1, (0.02,))
            begin = partial(_meter, WRONG_TIME, lasting, unit)
            found[f"wrong-time-{name}-unit-{medium}"] = Scenario(begin, 1, (0.1,))
            begin = partial(_meter, COARSE_TIME, lasting, unit)
            found[f"coarse-time-{name}-unit-{medium}"] = Scenario(begin, 1, (0.1,))
    return found


def _ring(steps: tuple[RingStep, ...], write_unit: int, _: asyncio.Runner) -> Life:
    return RingLife.new(steps, write_unit)


def _used_ring(write_unit: int, _: asyncio.Runner) -> Life:
    return RingLife.used(power_ring.USED_MEDIUM, write_unit)


def _registers(write_unit: int, _: asyncio.Runner) -> Life:
    return RegisterLife.new(write_unit)


def _worn(write_unit: int, _: asyncio.Runner) -> Life:
    return RegisterLife.worn(write_unit)


def _journal(steps: tuple[JournalStep, ...], write_unit: int, _: asyncio.Runner) -> Life:
    return JournalLife.new(steps, write_unit)


def _vault(write_unit: int, _: asyncio.Runner) -> Life:
    return VaultLife.new(write_unit)


def _command(numbers: tuple[int, ...], write_unit: int, runner: asyncio.Runner) -> Life:
    return CommandLife.new(numbers, write_unit, runner)


def _meter(steps: tuple[Step, ...], lasting: bool, write_unit: int, runner: asyncio.Runner) -> Life:
    return MeterLife.new(steps, Plant(lasting, write_unit, steps is MINUTES, runner))


SCENARIOS = _scenarios()


def _report(name: str, seed: int, whole: bool) -> tuple[Tally | None, str]:
    logging.disable(logging.CRITICAL)
    began = time.perf_counter()
    try:
        tally = SCENARIOS[name].play(seed, whole=whole)
    except Exception:
        return None, f"{name}: FAILED\n{traceback.format_exc()}"
    took = time.perf_counter() - began
    line = f"{name:32}{tally.cuts:8} cuts{tally.survivors:9} survivors{took:7.1f} s"
    for mixture in tally.believed:
        line += f"\n{name}: a torn record was believed, its check being right by chance: "
        line += mixture.hex()
    return tally, line


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="powercut", description=__doc__)
    parser.add_argument("scenario", nargs="*", choices=[*SCENARIOS, []], metavar="SCENARIO")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", action="store_true", help="what the tests look at only")
    options = parser.parse_args(argv)
    total, failed = Tally(), 0
    with ProcessPoolExecutor() as workers:
        names = options.scenario or list(SCENARIOS)
        play = partial(_report, seed=options.seed, whole=not options.sample)
        for tally, line in workers.map(play, names):
            print(line, flush=True)
            if tally is None:
                failed += 1
            else:
                total.add(tally)
    print(f"in all {total}, seed {options.seed}; {failed} of {len(names)} scenarios failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
