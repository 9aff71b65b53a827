"""Virtual GPIO chips: wires that models drive and watch, read as a kernel lets programs read them.

A :class:`VirtualWire` is the copper: high or low, at an instant. An opened line is a program's view
of it: logical levels, kernel-like debouncing (a level counts once it has lasted, and is stamped
then), edges numbered from 1, and a bounded buffer that loses its oldest edges. Time stamps are the
clock's monotonic time.

Not modelled: analogue levels, two drivers on one wire (the host's output wins), interrupt latency.

A model that would change a wire thousands of times an hour need not set a timer for each: it puts
itself on the wire as a :class:`Source` and says what happened since when somebody looks.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from meter_runtime.clock import Clock, wait_for_event
from meter_runtime.errors import MeterError, nearest
from meter_runtime.units.gpio import (
    EDGES_KEPT,
    SEQUENCE_MODULUS,
    Edge,
    InputLine,
    LineSpec,
    OutputLine,
    Pull,
)

LOOK_S = 1.0
"""How often a reader that waits looks whether a :class:`Source` has something."""


class Source(Protocol):
    """A model that changes its wire when somebody looks."""

    def catch_up(self) -> None:
        """Drive the wire through what happened until now."""
        ...


Watcher = Callable[[bool, int], None]
"""Called with the new level, and when it was, in ns."""


class VirtualWire:
    """One pin's wire. ``high`` is what a voltmeter shows."""

    def __init__(self, clock: Clock) -> None:
        self.sources: list[Source] = []
        self._clock = clock
        self._model: bool | None = None
        self._host: bool | None = None
        self._pull: Pull = "none"
        self._shorted_to: bool | None = None
        self._high = False
        self._watchers: list[Watcher] = []

    @property
    def high(self) -> bool:
        """The level now; a wire that nobody drives or pulls is low."""
        self.catch_up()
        return self._high

    def drive(self, high: bool | None, at_ns: int | None = None) -> None:
        """A model's side: to this level, None lets go; ``at_ns`` None is now.

        Changes must come in the order of their time.
        """
        self._model = high
        self._resolve(self.now_ns() if at_ns is None else at_ns)

    def short(self, high: bool | None) -> None:
        """Hold the wire at this level whoever drives it; None ends that."""
        self.catch_up()
        self._shorted_to = high
        self._resolve(self.now_ns())

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Be called at each change of level; returns how to stop it."""
        self._watchers.append(watcher)

        def stop() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

        return stop

    def catch_up(self) -> None:
        """Let the sources say what happened until now."""
        for source in self.sources:
            source.catch_up()

    def now_ns(self) -> int:
        return round(self._clock.monotonic() * 1e9)

    def set_host(self, high: bool | None, pull: Pull) -> None:
        """The chip's side: what it drives (None: nothing), and its pull."""
        self._host, self._pull = high, pull
        self._resolve(self.now_ns())

    def _resolve(self, at_ns: int) -> None:
        if self._shorted_to is not None:
            high = self._shorted_to
        elif self._host is not None:
            high = self._host
        elif self._model is not None:
            high = self._model
        else:
            high = self._pull == "up"
        if high != self._high:
            self._high = high
            for watcher in tuple(self._watchers):
                watcher(high, at_ns)


class VirtualGpio:
    """Chips by label, each with so many lines; a :class:`~meter_runtime.units.gpio.Gpio`.

    ``edge_buffer`` is how many edges a line keeps for its reader. While :attr:`failure` is set,
    every use of a line fails with it, as when the chip is gone; a wire driven then stays driven.
    """

    def __init__(
        self, clock: Clock, chips: Mapping[str, int], *, edge_buffer: int = EDGES_KEPT
    ) -> None:
        self.failure: str | None = None
        self._clock = clock
        self._chips = {
            label: [VirtualWire(clock) for _ in range(lines)] for label, lines in chips.items()
        }
        self._edge_buffer = edge_buffer
        self._open: dict[tuple[str, int], _VirtualInput | _VirtualOutput] = {}

    def wire(self, chip: str, offset: int) -> VirtualWire:
        """The wire at this line, for a model; MeterError where there is none."""
        return self._wire(LineSpec(chip, offset))

    def input(self, line: LineSpec, *, edges: bool = False, debounce_us: int = 0) -> InputLine:
        wire = self._free(line)
        opened = _VirtualInput(
            self,
            wire,
            line,
            self._clock,
            edge_buffer=self._edge_buffer if edges else 0,
            debounce_ns=1000 * debounce_us,
        )
        self._open[line.chip, line.offset] = opened
        return opened

    def output(self, line: LineSpec, *, initial: bool) -> OutputLine:
        opened = _VirtualOutput(self, self._free(line), line, initial)
        self._open[line.chip, line.offset] = opened
        return opened

    def close(self) -> None:
        for line in self._open.values():
            line.close()
        self._open.clear()

    def check(self, line: LineSpec, *, closed: bool) -> None:
        """Raise what a line's use would: it was closed, or the chip fails."""
        if closed:
            raise MeterError(f"{line}: it was closed already; open it again")
        if self.failure is not None:
            raise MeterError(f"{line}: {self.failure}; check that the chip is there")

    def _free(self, line: LineSpec) -> VirtualWire:
        wire = self._wire(line)
        self.check(line, closed=False)
        held = self._open.get((line.chip, line.offset))
        if held is not None and not held.closed:
            raise MeterError(f"{line}: it is held already; take another line")
        return wire

    def _wire(self, line: LineSpec) -> VirtualWire:
        wires = self._chips.get(line.chip)
        if wires is None:
            hint = nearest(line.chip, self._chips)
            raise MeterError(f"{line}: no virtual GPIO chip has this label; {hint}")
        if not 0 <= line.offset < len(wires):
            raise MeterError(f"{line}: the chip has lines 0 to {len(wires) - 1}")
        return wires[line.offset]


class _VirtualInput:
    """One opened input. What it believes of the wire lags by the debounce period."""

    def __init__(
        self,
        gpio: VirtualGpio,
        wire: VirtualWire,
        line: LineSpec,
        clock: Clock,
        *,
        edge_buffer: int,
        debounce_ns: int,
    ) -> None:
        self.closed = False
        self._gpio = gpio
        self._wire = wire
        self._line = line
        self._clock = clock
        self._debounce_ns = debounce_ns
        wire.set_host(None, line.pull)
        self._active = self._raw = wire.high != line.active_low
        self._raw_since_ns = 0
        self._sequence = 0
        self._kept: deque[Edge] | None = deque(maxlen=edge_buffer) if edge_buffer else None
        self._changed = asyncio.Event()
        self._waits = False
        self._unwatch = wire.watch(self._on_change)

    def active(self) -> bool:
        self._look()
        return self._active

    def take(self) -> list[Edge]:
        self._look()
        if self._kept is None:
            raise RuntimeError(f"{self._line} was not opened for edges")
        taken = list(self._kept)
        self._kept.clear()
        return taken

    async def edges(self) -> list[Edge]:
        if self._waits:
            raise RuntimeError(f"{self._line} has a reader already")
        self._waits = True
        try:
            while not (taken := self.take()):
                self._changed.clear()
                await wait_for_event(self._clock, self._changed, self._next_look())
        finally:
            self._waits = False
        return taken

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._unwatch()
            self._wire.set_host(None, "none")
            self._changed.set()

    def _look(self) -> None:
        self._gpio.check(self._line, closed=self.closed)
        self._wire.catch_up()
        self._settle(self._wire.now_ns())

    def _next_look(self) -> float | None:
        """When a reader must look by itself: nobody calls for a level that merely lasts."""
        if self._raw != self._active:
            return (self._raw_since_ns + self._debounce_ns) / 1e9
        return self._clock.monotonic() + LOOK_S if self._wire.sources else None

    def _on_change(self, high: bool, at_ns: int) -> None:
        self._settle(at_ns)
        self._raw = high != self._line.active_low
        self._raw_since_ns = at_ns
        if not self._debounce_ns:
            self._settle(at_ns)
        self._changed.set()

    def _settle(self, now_ns: int) -> None:
        """Believe a level that has lasted until now."""
        believed_ns = self._raw_since_ns + self._debounce_ns
        if self._raw != self._active and believed_ns <= now_ns:
            self._active = self._raw
            if self._kept is not None:
                self._sequence = (self._sequence + 1) % SEQUENCE_MODULUS
                self._kept.append(Edge(believed_ns, self._active, self._sequence))


class _VirtualOutput:
    """One opened output."""

    def __init__(self, gpio: VirtualGpio, wire: VirtualWire, line: LineSpec, initial: bool) -> None:
        self.closed = False
        self._gpio = gpio
        self._wire = wire
        self._line = line
        self._active = initial
        wire.set_host(initial != line.active_low, "none")

    def set(self, active: bool) -> None:
        self._gpio.check(self._line, closed=self.closed)
        self._active = active
        self._wire.set_host(active != self._line.active_low, "none")

    def active(self) -> bool:
        return self._active

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._wire.set_host(None, "none")
