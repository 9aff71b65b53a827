"""The bench's metering unit: a simulated unit fed by a house, and what it remembers.

A unit keeps its registers without power. The simulated one does so by remembering when it was
fitted and with which readings: its load is the same function of time after every restart, so the
integral from then to now is what a real unit would have counted, whoever was watching.
"""

import json
import random
from pathlib import Path

from meter_runtime.bench.files import write_atomically
from meter_runtime.bench.load import CsvLoad, LoadModel
from meter_runtime.bench.options import BenchOptions
from meter_runtime.clock import Clock
from meter_runtime.units.contracts import Nameplate, UnitKind
from meter_runtime.units.metering.simulated import LoadSource, SimulatedMeteringUnit

UNIT_FILE = "metering-unit.json"
_CAPACITY_A = 60
_MWH_PER_KWH = 1_000_000


def metering_unit(
    options: BenchOptions, clock: Clock, state_dir: Path, *, replacement: int = 0
) -> SimulatedMeteringUnit:
    """The unit of this bench: the one remembered in ``state_dir``, else a new one.

    ``replacement`` counts from 1: the unit that was is taken out, and another one fitted.
    """
    kept = state_dir / UNIT_FILE
    if replacement:
        kept.unlink(missing_ok=True)
    else:
        replacement = _replacement(kept)
    generation = f".{replacement}" if replacement else ""
    rng = random.Random(f"metering unit {options.seed}{generation}")
    nameplate = Nameplate(
        kind=UnitKind.METERING,
        model="simulated",
        serial=f"S{rng.randrange(10**9):09d}",
        maker="bench",
        wiring=options.wiring,
        capacity_a=_CAPACITY_A,
        two_way=options.two_way,
    )
    if kept.exists():
        state = kept.read_text("ascii")
        load = _load(options, SimulatedMeteringUnit.fitted_at(state))
        return SimulatedMeteringUnit.restore(state, clock, load, nameplate, clock.wall())
    load = _load(options, clock.wall())
    unit = SimulatedMeteringUnit(
        clock,
        load,
        nameplate,
        clock.wall(),
        start_forward_mwh=rng.randrange(1_000, 30_000) * _MWH_PER_KWH + rng.randrange(_MWH_PER_KWH),
        start_reverse_mwh=rng.randrange(10, 5_000) * _MWH_PER_KWH if options.two_way else 0,
    )
    write_atomically(kept, json.dumps({**json.loads(unit.snapshot()), "replacement": replacement}))
    return unit


def _replacement(kept: Path) -> int:
    """Which unit is remembered: 0 the first; 0 as well where nothing readable is."""
    try:
        return int(json.loads(kept.read_text("ascii")).get("replacement", 0))
    except (OSError, ValueError, TypeError, AttributeError):
        return 0


def _load(options: BenchOptions, start: float) -> LoadSource:
    if options.load is not None:
        return CsvLoad(options.load, start, wiring=options.wiring)
    return LoadModel(
        options.seed, pv_kw=options.pv_kw if options.two_way else 0.0, wiring=options.wiring
    )
