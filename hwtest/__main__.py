"""``python -m hwtest``: boot the machines, run their checks, say what was proved."""

import asyncio
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hwtest import gpio_sim, pc, power_cuts, sabrelite
from hwtest.guest import outcomes
from hwtest.outcome import FAIL, PASS, Outcome
from hwtest.packages import PC, SABRELITE, cache_directory, require_programs, unpacked
from hwtest.sabrelite import Chips
from hwtest.sabrelite_chips import new_fram, new_id_eeprom
from meter_runtime.cli.parser import Parser
from meter_runtime.errors import MeterError, UsageError, nearest

PC_BOUND_S = 240.0
DEVICES_BOUND_S = 120.0
CUTS_MAX = 1000


class Laboratory:
    """Both machines, ready to be started; what they say and keep lies in ``logs``."""

    def __init__(self, cache: Path, *, cuts: int, seed: int) -> None:
        self.logs = cache / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self._cache = cache
        self._cuts = cuts
        self._seed = seed

    async def pc(self) -> list[Outcome]:
        """GPIO, S0, relay, clock."""
        kernel = unpacked(PC, self._cache)
        start = self.logs / "pc.initrd"
        start.write_bytes(pc.initrd(kernel, gpio_sim.built(kernel, self._cache)))
        command = pc.command(kernel, start, self.logs / "pc.console")
        return await outcomes(command, self.logs, "pc", PC_BOUND_S)

    async def sabrelite(self) -> list[Outcome]:
        """I²C, FRAM, ID EEPROM, RTC."""
        return await outcomes(
            self._sabrelite("sabrelite", "devices", new_fram()),
            *(self.logs, "sabrelite", DEVICES_BOUND_S),
        )

    async def powercuts(self) -> list[Outcome]:
        """The load profile and the registers on the FRAM, and QEMU killed as they are written."""
        prepared = power_cuts.prepared()
        command = self._sabrelite("cut", "writing", prepared)
        chip = self._chips("cut").fram
        cuts = power_cuts.cut_again_and_again(
            command, chip, self.logs, cuts=self._cuts, seed=self._seed
        )
        return [await cuts]

    def _chips(self, name: str) -> Chips:
        return Chips(self.logs / f"{name}.fram", self.logs / f"{name}.eeprom")

    def _sabrelite(self, name: str, mode: str, fram: bytes) -> list[str]:
        kernel = unpacked(SABRELITE, self._cache)
        start = sabrelite.initrd(kernel, self._cache, self.logs / f"{name}.initrd")
        chips = self._chips(name)
        chips.fram.write_bytes(fram)
        chips.id_eeprom.write_bytes(new_id_eeprom())
        return sabrelite.command(kernel, start, self.logs / f"{name}.console", chips, mode)


PARTS = {
    "pc": Laboratory.pc,
    "sabrelite": Laboratory.sabrelite,
    "powercuts": Laboratory.powercuts,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Check what was asked for; 0 all passed, 1 something failed, 2 wrongly asked."""
    try:
        parser = Parser(
            prog="hwtest",
            description="Run the meter's lowest code on real kernel devices, in QEMU.",
            epilog="example: python -m hwtest --only sabrelite,powercuts --cuts 20",
            allow_abbrev=False,
        )
        parser.add_argument("--only", metavar="PART,…", help=f"some of: {', '.join(PARTS)}")
        parser.add_argument(
            "--cuts", type=int, default=power_cuts.CUTS, help="power cuts (%(default)s)"
        )
        parser.add_argument("--seed", type=int, help="when the power is cut; else at random")
        args = parser.parse_args(argv)
        parts = list(PARTS) if args.only is None else choose(args.only)
        if not 1 <= args.cuts <= CUTS_MAX:
            raise UsageError(f"--cuts {args.cuts}: give a number from 1 to {CUTS_MAX}")
        seed = random.randrange(1 << 32) if args.seed is None else args.seed
        require_programs()
        laboratory = Laboratory(cache_directory(), cuts=args.cuts, seed=seed)
        return 0 if asyncio.run(run(laboratory, parts)) else 1
    except UsageError as wrong:
        return _complain(wrong, 2)
    except MeterError as failure:
        return _complain(failure, 1)


def choose(names: str) -> list[str]:
    """The parts of a comma-separated list, in their own order; UsageError for others."""
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in PARTS:
            raise UsageError(f'no part "{name}"; {nearest(name, PARTS)}')
    return [name for name in PARTS if name in wanted]


async def run(laboratory: Laboratory, parts: Sequence[str]) -> bool:
    """Part after part, told as they end; whether everything passed."""
    found: dict[str, list[Outcome]] = {}
    began = time.monotonic()
    for part in parts:
        print(f"\n== {part}", flush=True)
        found[part] = await PARTS[part](laboratory)
        print(*map(shown, found[part]), sep="\n", flush=True)
    print(f"\n{summary(found)} in {time.monotonic() - began:.0f} s")
    return all(outcome.passed for part in found.values() for outcome in part)


def shown(outcome: Outcome) -> str:
    """One line for a person."""
    return f"{PASS if outcome.passed else FAIL}  {outcome.check}: {outcome.text}"


def summary(found: Mapping[str, Sequence[Outcome]]) -> str:
    """How many passed, and which did not."""
    everything = [(part, outcome) for part, outcomes in found.items() for outcome in outcomes]
    failed = [f"{part}: {outcome.check}" for part, outcome in everything if not outcome.passed]
    passed = f"{len(everything) - len(failed)} of {len(everything)} checks passed"
    return f"{passed}; failed: {', '.join(failed)};" if failed else passed


def _complain(failure: MeterError, status: int) -> int:
    print(f"hwtest: {failure}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
