"""What a killed meter may serve: the truth, computed apart from it, and what it has served before.

The truth is the house's load from the fitting of the metering unit to a boundary, on top of the
registers the unit was fitted with. A boundary is the first reading at or after it, so its value
lies between the truth then and the truth as late as a reading may be.
"""

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from meter_runtime.bench.household import UNIT_FILE
from meter_runtime.bench.load import LoadModel
from meter_runtime.bench.options import BenchOptions
from meter_runtime.clock import SLOTS_PER_DAY, first_slot_of, jst_day, slot_start
from meter_runtime.errors import MeterError
from meter_runtime.metrology.boundaries import LATE_S

MWS_PER_DWH = 360_000
DWH_PER_COUNT = 1000
"""EPC E1 of the bench: a count is 0.1 kWh."""
DIRECTIONS = ("forward", "reverse")


class Broken(MeterError):  # noqa: N818 - what a hunt found, not an accident of ours
    """A value was lost or invented; the message says which."""


class Truth:
    """The registers of the unit that a bench of this seed has fitted in ``state_dir``."""

    def __init__(self, seed: int, state_dir: Path) -> None:
        options = BenchOptions(seed=seed)
        self._load = LoadModel(seed, pv_kw=options.pv_kw, wiring=options.wiring)
        fitted = json.loads((state_dir / UNIT_FILE).read_text("ascii"))
        self._from_ms = int(fitted["at_ms"])
        self._start = int(fitted["forward_mws"]), int(fitted["reverse_mws"])
        self.range = lru_cache(maxsize=8192)(self._range)

    def _range(self, slot: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Least and most of both registers, 0.1 Wh, that the boundary of ``slot`` may have."""
        boundary_ms = slot_start(slot) * 1000
        return self._at(boundary_ms), self._at(boundary_ms + round(LATE_S * 1000))

    @property
    def first_day(self) -> date:
        """When the unit was fitted."""
        return jst_day(self._from_ms / 1000)

    def knows(self, slot: int) -> bool:
        """The unit was in place when this slot opened."""
        return slot_start(slot) * 1000 >= self._from_ms

    def _at(self, at_ms: int) -> tuple[int, int]:
        forward, reverse = self._load.energy(self._from_ms, max(self._from_ms, at_ms))
        return (self._start[0] + forward) // MWS_PER_DWH, (self._start[1] + reverse) // MWS_PER_DWH


@dataclass(frozen=True, slots=True)
class Values:
    """One direction of one day as it was served: 48 registers, in units of ``dwh`` 0.1 Wh."""

    day: date
    direction: int
    counts: tuple[int | None, ...]
    dwh: int


class Record:
    """What was served, held against the truth and against what was served before."""

    def __init__(self, truth: Truth) -> None:
        self.checked = 0
        """Values compared with the truth."""
        self._truth = truth
        self._served: dict[tuple[int, int, int], int] = {}
        self._registers: dict[tuple[int, int], float] = {}

    @property
    def first_day(self) -> date:
        """When the unit was fitted; nothing is known from before."""
        return self._truth.first_day

    def take(self, values: Values) -> None:
        """Raises :class:`Broken` for a value that is wrong, has changed, or is gone."""
        first = first_slot_of(values.day)
        for slot, count in enumerate(values.counts, first):
            key = slot, values.direction, values.dwh
            before = self._served.get(key)
            what = f"{DIRECTIONS[values.direction]} value {slot - first} of {values.day}"
            if before is not None and count != before:
                raise Broken(f"{what} was {before} and is {count}")
            if count is None:
                continue
            if not self._truth.knows(slot):
                raise Broken(f"{what} is {count}, before there was a unit")
            least, most = (both[values.direction] for both in self._truth.range(slot))
            if not least // values.dwh <= count <= most // values.dwh:
                raise Broken(f"{what} is {count} x {values.dwh / 10:g} Wh, and truly {least / 10}")
            self._served[key] = count
            self.checked += 1

    def registers(self, values: tuple[float, float], unit: int) -> None:
        """The registers as served in some unit: raises :class:`Broken` when one went back."""
        for direction, value in enumerate(values):
            before = self._registers.get((direction, unit), 0.0)
            if value < before:
                raise Broken(f"{DIRECTIONS[direction]} register {value} after {before}")
            self._registers[direction, unit] = value

    def known(self, dwh: int) -> set[tuple[int, int]]:
        """Slots and directions that were served in this unit."""
        return {(slot, direction) for slot, direction, unit in self._served if unit == dwh}

    def exact(self) -> int:
        """Boundaries served in 0.1 Wh that were taken at their very instant."""
        return sum(
            count == self._truth.range(slot)[0][direction]
            for (slot, direction, unit), count in self._served.items()
            if unit == 1
        )


def counts_of(kwh: list[float | None]) -> tuple[int | None, ...]:
    """momonga's floating kilowatt-hours in counts of 0.1 kWh."""
    return tuple(
        None if value is None else int((Decimal(str(value)) * 10).to_integral_value())
        for value in kwh
    )


def dwh_of(watt_hours: list[float | None]) -> tuple[int | None, ...]:
    """The operator's watt-hours in 0.1 Wh."""
    if len(watt_hours) != SLOTS_PER_DAY:
        raise Broken(f"a day of {len(watt_hours)} values")
    return tuple(None if value is None else round(value * 10) for value in watt_hours)
