"""The bench's house, and the metering unit in front of it: what flows, and what was counted of it.

A unit keeps its registers without power. The bench remembers when its unit was fitted and with
which readings: the load is the same function of true time after every restart, so the integral
from then to now is what a real unit would have counted, whoever was watching. While a unit is out
of its slot the house goes on and nothing is counted.
"""

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from meter_runtime.bench.board.supply import Flow, Supply
from meter_runtime.bench.files import write_atomically
from meter_runtime.bench.load import CsvLoad, LoadModel
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.stored import Stored
from meter_runtime.clock import Clock, slot_start
from meter_runtime.errors import MeterError
from meter_runtime.units.contracts import Nameplate, Wiring
from meter_runtime.units.metering.simulated import LoadSource

UNIT_FILE = "metering-unit.json"
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
    began_ms: int | None = None
    """Where a load that is played begins; None is ``at_ms``."""
    out: bool = False
    """It was out of its slot when the bench ended."""
    named: str = ""
    """The serial that a file of units gave to the unit that is here, or that was here first."""


class Household:
    """One house: ``plate`` is its metering unit's nameplate, without a serial that of the seed's.

    It lives by true time, which is ``epoch`` and the clock's monotonic time; None takes wall time
    for it. The unit is the one remembered in ``state_dir``, else a new one. Where values are
    ``stored`` and no unit is remembered, as after an import, it is the one they are of. MeterError
    for a memory that is damaged or of another bench.
    """

    def __init__(
        self,
        options: BenchOptions,
        clock: Clock,
        state_dir: Path,
        plate: Nameplate,
        *,
        epoch: float | None = None,
        stored: Stored | None = None,
    ) -> None:
        self._options = options
        self._clock = clock
        self._epoch = clock.wall() - clock.monotonic() if epoch is None else epoch
        self._file = state_dir / UNIT_FILE
        self._plate = plate
        self._fitting = self._fitting_of(stored)
        self.supply = self._supplied()

    @property
    def nameplate(self) -> Nameplate:
        """The metering unit's."""
        return replace(self._plate, serial=self._fitting.serial)

    @property
    def taps(self) -> tuple[Callable[[], Flow], ...]:
        """The house's lines, R and T or R alone, whichever unit is in front of it."""
        if self.supply.lines == 1:
            return (lambda: self.supply.flow(0),)
        return lambda: self.supply.flow(0), lambda: self.supply.flow(1)

    def replace_unit(self) -> None:
        """Another unit of the model is in front of the house from now on."""
        before = self._fitting
        fitting = self._new(before.replacement + 1)
        self._remember(replace(fitting, named=before.named))
        self.supply = self._supplied()

    def unplug(self) -> None:
        """The unit is pulled out."""
        self.supply.unplug()
        self._remember(self._as_counted(out=True))

    def plug(self) -> None:
        """The unit is put back in."""
        self.supply.plug()
        self._remember(self._as_counted(out=False))

    def _fitting_of(self, stored: Stored | None) -> Fitting:
        kept, named = self._remembered(), self._plate.serial
        if kept is not None and (named in (kept.serial, kept.named) if named else not kept.named):
            if not named and not kept.adopted and kept.serial != self._drawn(kept.replacement):
                raise self._foreign(kept)
            return kept
        if kept is not None and not named:
            raise self._foreign(kept)
        if stored is not None and named in ("", stored.serial):
            fitting = replace(_of_stored(stored, self._now()), named=named)
        else:
            fitting = self._new(0)
            if named:
                fitting = replace(fitting, serial=named, named=named)
        self._remember(fitting)
        return fitting

    def _foreign(self, kept: Fitting) -> MeterError:
        return MeterError(
            f"{self._file}: is of metering unit {kept.serial}; start the bench as that unit was"
            " fitted, or remove it to fit the new unit"
        )

    def _supplied(self) -> Supply:
        fitting = self._fitting
        began_ms = fitting.at_ms if fitting.began_ms is None else fitting.began_ms
        load = self._load(began_ms / 1000)
        now = self._now()
        if fitting.out:
            fitting = replace(fitting, at_ms=round(now * 1000), began_ms=began_ms, out=False)
            self._remember(fitting)
        return Supply(
            self._clock.monotonic,
            load,
            now,
            (fitting.forward_mws, fitting.reverse_mws),
            since=min(fitting.at_ms / 1000, now),
            wiring=self._wiring,
            two_way=self._plate.two_way,
        )

    @property
    def _wiring(self) -> Wiring:
        return self._plate.wiring or self._options.wiring

    def _load(self, start: float) -> LoadSource:
        options, wiring = self._options, self._wiring
        if options.load is not None:
            return CsvLoad(options.load, start, wiring=wiring)
        pv_kw = options.pv_kw if self._plate.two_way else 0.0
        return LoadModel(options.seed, pv_kw=pv_kw, wiring=wiring)

    def _new(self, replacement: int) -> Fitting:
        """A unit as the seed draws it, fitted now."""
        rng = self._drawing(replacement)
        serial = _serial(rng)
        forward = rng.randrange(1_000, 30_000) * _MWH_PER_KWH + rng.randrange(_MWH_PER_KWH)
        reverse = rng.randrange(10, 5_000) * _MWH_PER_KWH if self._plate.two_way else 0
        return Fitting(
            serial,
            round(self._now() * 1000),
            forward * _MWS_PER_MWH,
            reverse * _MWS_PER_MWH,
            replacement,
        )

    def _as_counted(self, *, out: bool) -> Fitting:
        fitting, (forward, reverse) = self._fitting, self.supply.registers
        began = fitting.at_ms if fitting.began_ms is None else fitting.began_ms
        return replace(
            fitting,
            at_ms=round(self._now() * 1000),
            forward_mws=forward,
            reverse_mws=reverse,
            began_ms=began,
            out=out,
        )

    def _drawn(self, replacement: int) -> str:
        return _serial(self._drawing(replacement))

    def _drawing(self, replacement: int) -> random.Random:
        """What a unit's serial and first readings are drawn from, in this order."""
        generation = f".{replacement}" if replacement else ""
        return random.Random(f"metering unit {self._options.seed}{generation}")

    def _now(self) -> float:
        return self._epoch + self._clock.monotonic()

    def _remembered(self) -> Fitting | None:
        """The unit that is in place; None where none was ever fitted."""
        try:
            state = json.loads(self._file.read_text("ascii"))
            began = state.get("began_ms")
            return Fitting(
                str(state["serial"]),
                int(state["at_ms"]),
                int(state["forward_mws"]),
                int(state["reverse_mws"]),
                int(state.get("replacement", 0)),
                bool(state.get("adopted", False)),
                None if began is None else int(began),
                bool(state.get("out", False)),
                str(state.get("named", "")),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise MeterError(f"{self._file}: is damaged; remove it to fit a new unit") from None

    def _remember(self, fitting: Fitting) -> None:
        self._fitting = fitting
        write_atomically(self._file, json.dumps(asdict(fitting)))


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


def _serial(rng: random.Random) -> str:
    return f"S{rng.randrange(10**9):09d}"
