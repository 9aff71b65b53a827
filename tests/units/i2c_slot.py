"""What tests of I²C drivers plug their chip models into: a slot, a clock, and loads."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meter_runtime.bench.board.bus import Chip, VirtualI2C
from meter_runtime.bench.load.curve import StepCurve
from meter_runtime.clock import Trust
from meter_runtime.units.board import BoardProfile, SlotProfile, Wires
from meter_runtime.units.buses import AsyncI2C, ImmediateBus
from meter_runtime.units.contracts import Nameplate, UnitKind
from meter_runtime.units.drivers import DriverContext
from meter_runtime.units.gpio import Gpio
from meter_runtime.units.metering.simulated import Load

SLOT = SlotProfile("metering", UnitKind.METERING, i2c="i2c-7")


class NoTimer:
    def cancel(self) -> None:
        """It has run already, or soon will."""


class EagerClock:
    """Time moves when a test says so, and at once to whatever someone waits for."""

    trust = Trust.SYNCED

    def __init__(self, at: float = 1_790_000_000.0) -> None:
        self.at = at
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at

    def call_at(self, when: float, callback: Callable[[], None]) -> NoTimer:
        self.waits.append(when - self.at)
        self.at = max(self.at, when)
        asyncio.get_running_loop().call_soon(callback)
        return NoTimer()

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


class SharedBus:
    """A bus on which others get their turn between any two transfers, as on a worker's."""

    def __init__(self, bus: ImmediateBus) -> None:
        self.name = bus.name
        self._bus = bus

    async def write(self, address: int, data: bytes) -> None:
        await self._bus.write(address, data)
        await asyncio.sleep(0)

    async def read(self, address: int, n: int) -> bytes:
        told = await self._bus.read(address, n)
        await asyncio.sleep(0)
        return told

    async def transfer(self, address: int, data: bytes, n: int) -> bytes:
        told = await self._bus.transfer(address, data, n)
        await asyncio.sleep(0)
        return told


class OneBusBoard:
    """A board with one I²C bus and nothing else."""

    profile = BoardProfile("test", "one bus", (SLOT,))

    def __init__(self, chips: Mapping[int, Chip]) -> None:
        self.virtual = VirtualI2C("i2c-7", chips)
        self._bus = ImmediateBus(self.virtual)
        self._shared = SharedBus(self._bus)

    @property
    def gpio(self) -> Gpio:
        raise NotImplementedError

    def i2c(self, bus: str) -> AsyncI2C:
        assert bus == "i2c-7"
        return self._shared

    def close(self) -> None:
        self._bus.close()

    @property
    def wires(self) -> Wires:
        return Wires(self, SLOT)

    def context(
        self, clock: EagerClock, nameplate: Nameplate | None = None, **options: Any
    ) -> DriverContext:
        return DriverContext(clock, options, wires=self.wires, nameplate=nameplate)


class Steps:
    """A load of whole watts, each for a number of seconds, from a wall time on, over and over."""

    def __init__(self, start: float, steps: Sequence[tuple[float, int]], r_ma: int = 1000) -> None:
        starts = [0]
        for seconds, _ in steps:
            starts.append(starts[-1] + round(seconds * 1000))
        self._curve = StepCurve(starts[:-1], [power for _, power in steps], starts[-1])
        self._start_ms = round(start * 1000)
        self._r_ma = r_ma

    def power(self, at_ms: int) -> Load:
        within = (at_ms - self._start_ms) % self._curve.end_ms
        return Load(self._curve.power_of(self._curve.index(within)), self._r_ma, None)

    def energy(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        before, after = self._until(from_ms), self._until(to_ms)
        return after[0] - before[0], after[1] - before[1]

    def _until(self, at_ms: int) -> tuple[int, int]:
        rounds, within = divmod(at_ms - self._start_ms, self._curve.end_ms)
        whole, part = self._curve.until(self._curve.end_ms), self._curve.until(within)
        return rounds * whole[0] + part[0], rounds * whole[1] + part[1]
