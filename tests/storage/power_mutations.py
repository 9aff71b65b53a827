"""Proves the power cuts: each fault of ``mutations.toml``, put into the source, must be found.

``python power_mutations.py [MUTATION ...]`` plays each fault's scenario, in a process of its own
whose modules are mutated in memory, and ends with 1 when one was not found.
"""

import importlib.util
import logging
import multiprocessing
import sys
import tomllib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from pathlib import Path

TABLE = Path(__file__).with_name("mutations.toml")


@dataclass(frozen=True, slots=True)
class Mutation:
    """A fault of one module, and the scenario that finds it."""

    name: str
    module: str
    old: str
    new: str
    scenario: str

    def __str__(self) -> str:
        return self.name

    def spec(self) -> ModuleSpec:
        """Where the module is."""
        spec = importlib.util.find_spec(f"meter_runtime.{self.module}")
        assert spec is not None
        return spec

    def source(self) -> str:
        """The module as it is."""
        origin = self.spec().origin
        assert origin is not None
        return Path(origin).read_text()

    def fits(self) -> bool:
        """There is one place for the fault."""
        return self.source().count(self.old) == 1

    def found(self) -> str | None:
        """How its scenario fails; None when it does not. Spoils this process."""
        name = f"meter_runtime.{self.module}"
        loader = _Mutated(self.source().replace(self.old, self.new))
        mutated = ModuleSpec(name, loader)
        mutated.submodule_search_locations = self.spec().submodule_search_locations
        module = importlib.util.module_from_spec(mutated)
        sys.modules[name] = module
        loader.exec_module(module)
        logging.disable(logging.CRITICAL)

        from powercut import SCENARIOS

        try:
            SCENARIOS[self.scenario].play(seed=1, whole=True)
        except Exception as error:
            how = str(error).split("\n", maxsplit=1)[0] or type(error).__name__
            cut = any(note.startswith("power cut") for note in getattr(error, "__notes__", ()))
            return how if cut else f"{how} (without any cut)"
        return None


class _Mutated(InspectLoader):
    def __init__(self, source: str) -> None:
        self._source = source

    def get_source(self, fullname: str) -> str:
        return self._source


MUTATIONS = tuple(
    Mutation(name, **fault) for name, fault in tomllib.loads(TABLE.read_text()).items()
)


def main(names: list[str]) -> int:
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    unfit = [mutation for mutation in chosen if not mutation.fits()]
    for mutation in unfit:
        print(f"{mutation.name:44}DOES NOT FIT {mutation.module} any more; mend {TABLE.name}")
    chosen = [mutation for mutation in chosen if mutation not in unfit]
    missed = len(unfit)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=spawn, max_tasks_per_child=1) as workers:
        for mutation, how in zip(chosen, workers.map(Mutation.found, chosen), strict=True):
            missed += how is None
            print(f"{mutation.name:44}{how or 'NOT FOUND'}", flush=True)
    print(f"{len(chosen) + len(unfit) - missed} of {len(chosen) + len(unfit)} found")
    return 1 if missed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
