"""The bench's metering unit: a simulated unit fed by a house, and what it remembers.

A unit keeps its registers without power. The simulated one does so by remembering when it was
fitted and with which readings: its load is the same function of true time after every restart, so
the integral from then to now is what a real unit would have counted, whoever was watching.
"""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from meter_runtime.bench.files import write_atomically
from meter_runtime.bench.load import CsvLoad, LoadModel
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.stored import Stored
from meter_runtime.clock import Clock, slot_start
from meter_runtime.errors import MeterError
from meter_runtime.units.contracts import Nameplate, UnitKind
from meter_runtime.units.metering.simulated import LoadSource, SimulatedMeteringUnit

UNIT_FILE = "metering-unit.json"
_CAPACITY_A = 60
_MWH_PER_KWH = 1_000_000
_MWH_PER_DWH = 100
_MWS_PER_MWH = 3600


@dataclass(frozen=True, slots=True)
class Fitting:
    """When a unit was fitted (ms of the UTC epoch, true time), and its registers then (mWs)."""

    serial: str
    at_ms: int
    forward_mws: int
    reverse_mws: int
    replacement: int = 0
    """How many units the seed had drawn before this one."""
    adopted: bool = False
    """The serial is not the seed's but that of a history found in the state directory."""


def metering_unit(
    options: BenchOptions,
    clock: Clock,
    state_dir: Path,
    epoch: float | None = None,
    stored: Stored | None = None,
) -> SimulatedMeteringUnit:
    """The unit of this bench: the one remembered in ``state_dir``, else a new one.

    It counts by true time, which is ``epoch`` and the clock's monotonic time; None takes wall time
    for it. Where values are ``stored`` and no unit is remembered, as after an import, it is the
    one they are of.
    """
    if epoch is None:
        epoch = clock.wall() - clock.monotonic()
    kept = state_dir / UNIT_FILE
    fitting = _remembered(kept)
    if fitting is None:
        now = epoch + clock.monotonic()
        fitting = _new(options, now, 0) if stored is None else _of_stored(stored, now)
        _remember(kept, fitting)
    return _fitted(options, clock, fitting, epoch)


def replacement_unit(
    options: BenchOptions, clock: Clock, state_dir: Path, epoch: float
) -> SimulatedMeteringUnit:
    """The unit that was is taken out, and another one fitted."""
    kept = state_dir / UNIT_FILE
    before = _remembered(kept)
    now = epoch + clock.monotonic()
    fitting = _new(options, now, 1 if before is None else before.replacement + 1)
    _remember(kept, fitting)
    return _fitted(options, clock, fitting, epoch)


def _new(options: BenchOptions, now: float, replacement: int) -> Fitting:
    """A unit as the seed draws it, fitted now."""
    rng = _drawing(options, replacement)
    return Fitting(
        _serial(rng),
        round(now * 1000),
        (rng.randrange(1_000, 30_000) * _MWH_PER_KWH + rng.randrange(_MWH_PER_KWH)) * _MWS_PER_MWH,
        rng.randrange(10, 5_000) * _MWH_PER_KWH * _MWS_PER_MWH if options.two_way else 0,
        replacement,
    )


def _of_stored(stored: Stored, now: float) -> Fitting:
    """The unit that the stored values are of, as it was when they were stored."""
    kept, newest = stored.checkpoint, stored.newest
    at, forward_mwh, reverse_mwh = now, 0, 0
    if newest is not None:
        at = slot_start(newest.slot)
        forward_mwh, reverse_mwh = (
            energy * _MWH_PER_DWH for energy in (newest.forward_dwh, newest.reverse_dwh)
        )
    if kept is not None and kept.wall is not None and (newest is None or kept.wall >= at):
        at = kept.wall
        forward_mwh = max(forward_mwh, kept.unit_forward_mwh)
        reverse_mwh = max(reverse_mwh, kept.unit_reverse_mwh)
    return Fitting(
        stored.serial,
        round(at * 1000),
        forward_mwh * _MWS_PER_MWH,
        reverse_mwh * _MWS_PER_MWH,
        adopted=True,
    )


def _fitted(
    options: BenchOptions, clock: Clock, fitting: Fitting, epoch: float
) -> SimulatedMeteringUnit:
    serial = fitting.serial if fitting.adopted else _serial(_drawing(options, fitting.replacement))
    nameplate = Nameplate(
        kind=UnitKind.METERING,
        model="simulated",
        serial=serial,
        maker="bench",
        wiring=options.wiring,
        capacity_a=_CAPACITY_A,
        two_way=options.two_way,
    )
    load = _load(options, fitting.at_ms / 1000)
    state = json.dumps(asdict(fitting))
    began = clock.monotonic()
    return SimulatedMeteringUnit.restore(
        state, clock, load, nameplate, epoch + began, started_at=began
    )


def _remembered(kept: Path) -> Fitting | None:
    """The unit that is in place; None where none was ever fitted."""
    try:
        state = json.loads(kept.read_text("ascii"))
        return Fitting(
            str(state["serial"]),
            int(state["at_ms"]),
            int(state["forward_mws"]),
            int(state["reverse_mws"]),
            int(state.get("replacement", 0)),
            bool(state.get("adopted", False)),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise MeterError(f"{kept}: is damaged; remove it to fit a new unit") from None


def _remember(kept: Path, fitting: Fitting) -> None:
    write_atomically(kept, json.dumps(asdict(fitting)))


def _drawing(options: BenchOptions, replacement: int) -> random.Random:
    """What a unit's serial and first readings are drawn from, in this order."""
    generation = f".{replacement}" if replacement else ""
    return random.Random(f"metering unit {options.seed}{generation}")


def _serial(rng: random.Random) -> str:
    return f"S{rng.randrange(10**9):09d}"


def _load(options: BenchOptions, start: float) -> LoadSource:
    if options.load is not None:
        return CsvLoad(options.load, start, wiring=options.wiring)
    return LoadModel(
        options.seed, pv_kw=options.pv_kw if options.two_way else 0.0, wiring=options.wiring
    )
