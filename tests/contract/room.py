"""Where every driver is tested alike: a clock, a house with a knob for its power, and a board."""

import asyncio
import heapq
import itertools
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

from meter_runtime.bench.board.bus import VirtualI2C
from meter_runtime.bench.board.gpio import VirtualGpio
from meter_runtime.bench.board.supply import Supply
from meter_runtime.clock import Trust
from meter_runtime.units.board import BoardProfile, SlotProfile, Wires
from meter_runtime.units.buses import AsyncI2C, ImmediateBus
from meter_runtime.units.contracts import Nameplate, UnitKind, Wiring
from meter_runtime.units.drivers import DriverContext
from meter_runtime.units.gpio import LineSpec
from meter_runtime.units.metering.simulated import Load

START = 1_790_000_000.0
CHIP = "virtual"
BUS = "i2c-1"

LINES = {
    UnitKind.METERING: ("pulse_forward", "pulse_reverse"),
    UnitKind.OPTIONAL: ("coil_open", "coil_close", "feedback_open", "feedback_closed"),
    UnitKind.COMMUNICATION: (),
}
_PULLED_UP = ("pulse_", "feedback_")

IDLE_TURNS = 12
"""Turns of the loop after which everybody who could go on has done so."""


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class RoomClock:
    """Time that a test moves, or :meth:`during` a call as fast as the call waits for it."""

    trust = Trust.SYNCED

    def __init__(self) -> None:
        self.at = START
        self._timers: list[tuple[float, int, _Timer]] = []
        self._serial = itertools.count()

    def monotonic(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at

    def call_at(self, when: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(callback)
        heapq.heappush(self._timers, (when, next(self._serial), timer))
        return timer

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def move(self, seconds: float) -> None:
        """Let time pass; timers fire at their instants."""
        end = self.at + seconds
        while self._timers and self._timers[0][0] <= end:
            self._fire()
        self.at = end

    async def during(self, call: "asyncio.Future[Any]") -> float:
        """Let time pass for as long as the call waits for it; how many seconds that was."""
        began = self.at
        await _idle()
        while not call.done():
            if self._timers:
                self._fire()
            await _idle()
        return self.at - began

    async def until(self, happened: Callable[[], bool], bound_s: float) -> None:
        """Let time pass until it happened; AssertionError where it takes longer than this."""
        end = self.at + bound_s
        await _idle()
        while not happened():
            assert self._timers, "nobody waits for anything, and it has not happened"
            assert self._timers[0][0] <= end, f"it has not happened within {bound_s:g} s"
            self._fire()
            await _idle()

    def _fire(self) -> None:
        when, _, timer = heapq.heappop(self._timers)
        if timer.callback is not None:
            self.at = max(self.at, when)
            timer.callback()


async def _idle() -> None:
    for _ in range(IDLE_TURNS):
        await asyncio.sleep(0)


class House:
    """A load whose power a test turns up and down; it flows from now on."""

    def __init__(self, clock: RoomClock, wiring: Wiring) -> None:
        self._clock = clock
        self._two_wire = wiring is Wiring.ONE_PHASE_TWO_WIRE
        self._since_ms = [round(clock.at * 1000)]
        self._watts = [0]

    def turn_to(self, watts: int) -> None:
        """Negative towards the grid."""
        self._since_ms.append(round(self._clock.at * 1000))
        self._watts.append(watts)

    def power(self, at_ms: int) -> Load:
        watts = self._watts[max(0, bisect_right(self._since_ms, at_ms) - 1)]
        share_ma = watts * 10 if self._two_wire else watts * 5
        return Load(watts, share_ma, None if self._two_wire else share_ma)

    def energy(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        flows = [0, 0]
        ends = [*self._since_ms[1:], to_ms]
        for begin, end, watts in zip(self._since_ms, ends, self._watts, strict=True):
            span_ms = min(end, to_ms) - max(begin, from_ms)
            if span_ms > 0:
                flows[watts < 0] += abs(watts) * span_ms
        return flows[0], flows[1]


class Room:
    """A board with one slot, its bus and its lines, in a house."""

    def __init__(self, kind: UnitKind, nameplate: Nameplate) -> None:
        self.nameplate = nameplate
        self.clock = RoomClock()
        wiring = nameplate.wiring or Wiring.ONE_PHASE_THREE_WIRE
        self.house = House(self.clock, wiring)
        # A one-way unit's terminals see reverse energy as well; not to count it is the unit's part.
        self.supply = Supply(self.clock.monotonic, self.house, START, wiring=wiring)
        self.bus = VirtualI2C(BUS, {})
        self.gpio = VirtualGpio(self.clock, {CHIP: len(LINES[kind])})
        roles = LINES[kind]
        lines: Mapping[str, LineSpec] = {
            role: (
                LineSpec(CHIP, offset, active_low=True, pull="up")
                if role.startswith(_PULLED_UP)
                else LineSpec(CHIP, offset)
            )
            for offset, role in enumerate(roles)
        }
        self.slot = SlotProfile(kind.value, kind, i2c=BUS, lines=lines)
        self.profile = BoardProfile("room", "one slot", (self.slot,))
        self._bus = ImmediateBus(self.bus)

    @property
    def wires(self) -> Wires:
        return Wires(self, self.slot)

    def i2c(self, bus: str) -> AsyncI2C:
        assert bus == BUS
        return self._bus

    def close(self) -> None:
        self.gpio.close()

    def context(self, **options: Any) -> DriverContext:
        return DriverContext(self.clock, options, wires=self.wires, nameplate=self.nameplate)
