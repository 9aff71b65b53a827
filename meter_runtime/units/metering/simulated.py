"""A metering unit without a chip: it integrates a load exactly.

What flows is a :class:`LoadSource`'s business; the unit owns the registers. Energy follows the
elapsed monotonic time, so that a step of the wall clock creates none: the load's day goes on from
where the unit was started. It models no noise, no drift and no error of measurement.
"""

import json
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from meter_runtime.clock import HALF_HOUR_S, Clock
from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.units.contracts import (
    Nameplate,
    Sample,
    UnitFailure,
    UnitKind,
    UnitSnapshot,
    Wiring,
)
from meter_runtime.units.drivers import Driver, DriverContext

MWS_PER_MWH = 3600

SNAPSHOTS_KEPT = 48
"""Boundaries in the unit's own log: a day."""
_HALF_HOUR_MS = HALF_HOUR_S * 1000

FITTED_WALL = 1_767_193_200
"""2026-01-01 00:00 JST: when the driver's unit began to count, in UTC seconds."""


@dataclass(frozen=True, slots=True)
class Load:
    """What flows at one instant: signed power, and line currents signed alike."""

    power_w: int
    r_ma: int | None
    t_ma: int | None


class LoadSource(Protocol):
    """Something that uses and yields energy; time is milliseconds of the UTC epoch."""

    def power(self, at_ms: int) -> Load: ...

    def energy(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        """Forward and reverse energy in milliwatt-seconds, each at least 0, exactly.

        Additive: the energies of adjoining spans sum up to that of the whole.
        """
        ...


class SimulatedMeteringUnit:
    """A unit fitted at ``start_wall`` (UTC seconds) with these registers.

    ``started_at`` is what the clock's monotonic time was then; None is now.
    On a one-way nameplate reverse energy is not counted and leaves the forward register alone.
    While ``failure`` is set, readings fail with it. With ``keeps_snapshots`` the unit logs each
    half-hour boundary by its own clock, which is ``clock_error_s`` ahead of the time it was fitted
    at, and tells the last :data:`SNAPSHOTS_KEPT` once. ``keeps_registers`` is what it claims: a
    unit that forgets is one that is made anew after a power cut.
    """

    def __init__(
        self,
        clock: Clock,
        load: LoadSource,
        nameplate: Nameplate,
        start_wall: float,
        *,
        started_at: float | None = None,
        start_forward_mwh: int = 0,
        start_reverse_mwh: int = 0,
        keeps_registers: bool = True,
        keeps_snapshots: bool = False,
        clock_error_s: float = 0.0,
    ) -> None:
        self.nameplate = nameplate
        self.keeps_registers = keeps_registers
        self.failure: str | None = None
        self._clock = clock
        self._load = load
        self._start_ms = round(start_wall * 1000)
        # Wall minus monotonic time: rounded once, at each reading, it loses no millisecond.
        self._epoch = start_wall - (clock.monotonic() if started_at is None else started_at)
        self._at_ms = self._start_ms
        self._forward_mws = start_forward_mwh * MWS_PER_MWH
        self._reverse_mws = start_reverse_mwh * MWS_PER_MWH
        self._keeps_snapshots = keeps_snapshots
        self._clock_error_ms = round(clock_error_s * 1000)
        self._log: deque[tuple[int, int, int]] = deque(maxlen=SNAPSHOTS_KEPT)

    async def read(self) -> Sample:
        if self.failure is not None:
            raise UnitFailure(f"metering unit {self.nameplate.serial}: {self.failure}")
        self._integrate(self._now_ms())
        load = self._load.power(self._at_ms)
        return Sample(
            *self._registers(),
            load.power_w,
            load.r_ma,
            load.t_ma,
            self._tell_log(),
        )

    async def self_test(self) -> list[str]:
        return [] if self.failure is None else [self.failure]

    async def close(self) -> None:
        """Nothing is held open."""

    def snapshot(self) -> str:
        """What the unit remembers without power, as JSON; see :meth:`restore`."""
        self._integrate(self._now_ms())
        state = {
            "serial": self.nameplate.serial,
            "at_ms": self._at_ms,
            "forward_mws": self._forward_mws,
            "reverse_mws": self._reverse_mws,
        }
        return json.dumps(state)

    @classmethod
    def restore(
        cls,
        state: str,
        clock: Clock,
        load: LoadSource,
        nameplate: Nameplate,
        start_wall: float,
        *,
        started_at: float | None = None,
    ) -> "SimulatedMeteringUnit":
        """The same unit again: between the snapshot and ``start_wall`` the load has flowed.

        A ``start_wall`` before the snapshot adds nothing. Raises :class:`MeterError` for a state
        that is damaged or another unit's.
        """
        try:
            kept = json.loads(state)
            serial = str(kept["serial"])
            at_ms, forward, reverse = (
                int(kept[key]) for key in ("at_ms", "forward_mws", "reverse_mws")
            )
        except (ValueError, TypeError, KeyError) as error:
            raise MeterError(
                "the simulated metering unit's state is damaged; remove it to fit a new unit"
            ) from error
        if serial != nameplate.serial:
            raise MeterError(
                f"the state is of metering unit {serial}, not {nameplate.serial};"
                " remove it to fit the new unit"
            )
        unit = cls(clock, load, nameplate, start_wall, started_at=started_at)
        unit._forward_mws, unit._reverse_mws = forward, reverse
        unit._at_ms = min(at_ms, unit._start_ms)
        unit._count(unit._start_ms)
        return unit

    @staticmethod
    def fitted_at(state: str) -> float:
        """When the unit of this snapshot took it, UTC seconds; 0 where it cannot be read."""
        try:
            return int(json.loads(state)["at_ms"]) / 1000
        except (ValueError, TypeError, KeyError):
            return 0.0

    def _now_ms(self) -> int:
        return round((self._epoch + self._clock.monotonic()) * 1000)

    def _integrate(self, to_ms: int) -> None:
        if self._keeps_snapshots:
            # Where its own clock reads a half-hour, the unit logs what it has counted.
            error, first = self._clock_error_ms, self._at_ms + self._clock_error_ms
            last = (to_ms + error) // _HALF_HOUR_MS
            for slot in range(max(first // _HALF_HOUR_MS + 1, last - SNAPSHOTS_KEPT + 1), last + 1):
                self._count(slot * _HALF_HOUR_MS - error)
                self._log.append((self._at_ms, *self._registers()))
        self._count(to_ms)

    def _count(self, to_ms: int) -> None:
        if to_ms <= self._at_ms:
            return
        forward, reverse = self._load.energy(self._at_ms, to_ms)
        self._forward_mws += forward
        if self.nameplate.two_way:
            self._reverse_mws += reverse
        self._at_ms = to_ms

    def _registers(self) -> tuple[int, int]:
        return self._forward_mws // MWS_PER_MWH, self._reverse_mws // MWS_PER_MWH

    def _tell_log(self) -> tuple[UnitSnapshot, ...]:
        ahead_s = self._clock.wall() - self._now_ms() / 1000
        told = tuple(UnitSnapshot(at_ms / 1000 + ahead_s, *kept) for at_ms, *kept in self._log)
        self._log.clear()
        return told


class SteadyLoad:
    """Constant power: what the driver uses where no bench brings a household."""

    def __init__(self, power_w: int, wiring: Wiring) -> None:
        self._power_w = power_w
        two_wire = wiring is Wiring.ONE_PHASE_TWO_WIRE
        # Nominal 100 V per line, unity power factor.
        share_ma = power_w * 10 if two_wire else power_w * 5
        self._load = Load(power_w, share_ma, None if two_wire else share_ma)

    def power(self, at_ms: int) -> Load:
        return self._load

    def energy(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        energy = self._power_w * (to_ms - from_ms)
        return max(0, energy), max(0, -energy)


def driver(context: DriverContext) -> SimulatedMeteringUnit:
    """The driver ``simulated``: ``power_w`` flows constantly (default 500, negative to the grid);
    ``serial`` and ``wiring`` are the nameplate's.

    A real unit counts on while the meter's program does not run. This one remembers nothing, so
    it starts with what has flowed since :data:`FITTED_WALL`: its registers outlive a restart.
    """
    options = dict(context.options)
    try:
        power_w = int(options.pop("power_w", 500))
        serial = str(options.pop("serial", "SIM000000001"))
        wiring = Wiring(options.pop("wiring", Wiring.ONE_PHASE_THREE_WIRE.value))
    except ValueError as wrong:
        raise UsageError(f"the simulated driver: {wrong}") from None
    if options:
        wrong_key = next(iter(options))
        known = ("power_w", "serial", "wiring")
        raise UsageError(
            f'the simulated driver has no option "{wrong_key}"; {nearest(wrong_key, known)}'
        )
    nameplate = Nameplate(UnitKind.METERING, "simulated", serial, wiring=wiring, capacity_a=60)
    load = SteadyLoad(power_w, wiring)
    wall = context.clock.wall()
    forward, reverse = load.energy(0, max(0, round((wall - FITTED_WALL) * 1000)))
    return SimulatedMeteringUnit(
        context.clock,
        load,
        nameplate,
        wall,
        start_forward_mwh=forward // MWS_PER_MWH,
        start_reverse_mwh=reverse // MWS_PER_MWH,
    )


async def _build(context: DriverContext) -> SimulatedMeteringUnit:
    return driver(context)


DRIVER = Driver(build=_build)
