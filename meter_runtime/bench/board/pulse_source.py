"""A meter's S0 outputs, seen from the wire: one pulse for each quantum of energy.

The outputs are open collectors: a pulse pulls its wire low, an idle output lets it go. Between two
looks the energy is taken to have flowed evenly, so the count is exact at each look, and the times
are as exact as looks are frequent. A pulse and the pause after it last ``pulse_ms`` each at least:
a meter whose load is too high for its constant falls behind, as a real one does.
"""

from collections.abc import Callable

from meter_runtime.bench.board.gpio import VirtualWire

MWS_PER_KWH = 3_600_000_000

SHORTEST_PULSE_MS = 30.0

BOUNCE_NS = 400_000
"""What one bounce of a mechanical output lasts, and the pause after it."""


class PulseSource:
    """Pulses of ``energy()``: forward and reverse in mW·s since the unit was fitted; never less.

    What flowed before now has been told already. Without a ``reverse`` wire, reverse energy makes
    no pulses. While :attr:`cut` is set the wires are cut: pulses happen, and reach nobody. The next
    :attr:`missing` pulses do not reach anybody either. Each pulse begins with :attr:`bounces`.
    """

    def __init__(
        self,
        energy: Callable[[], tuple[int, int]],
        pulses_per_kwh: int,
        forward: VirtualWire,
        reverse: VirtualWire | None = None,
        *,
        pulse_ms: float = SHORTEST_PULSE_MS,
    ) -> None:
        self.cut = False
        self.missing = 0
        self.bounces = 0
        self.pulse_ns = round(pulse_ms * 1e6)
        self._energy = energy
        self._pulses_per_kwh = pulses_per_kwh
        self._now_ns = forward.now_ns
        wires = [forward] if reverse is None else [forward, reverse]
        self._outputs = [_Output(self, wire) for wire in wires]
        self._told_mws = energy()
        self._told_ns = self._now_ns()
        for wire in wires:
            wire.sources.append(self)

    @property
    def pulses(self) -> tuple[int, ...]:
        """Pulses begun on each output, those that reached nobody included."""
        self.catch_up()
        return tuple(output.pulses for output in self._outputs)

    def catch_up(self) -> None:
        now_ns, energy = self._now_ns(), self._energy()
        span_ns = now_ns - self._told_ns
        for output, before, after in zip(self._outputs, self._told_mws, energy, strict=False):
            begin = before * self._pulses_per_kwh
            flowed = after * self._pulses_per_kwh - begin
            for threshold in range(
                (begin // MWS_PER_KWH + 1) * MWS_PER_KWH, begin + flowed + 1, MWS_PER_KWH
            ):
                output.pulse(self._told_ns + span_ns * (threshold - begin) // flowed)
            output.catch_up(now_ns)
        self._told_mws, self._told_ns = energy, now_ns

    def unplug(self) -> None:
        """Let go of the wires, as a unit that is pulled out does."""
        for output in self._outputs:
            output.wire.sources.remove(self)
            output.wire.drive(None)


class _Output:
    """One open collector, and the pulses that wait for it."""

    def __init__(self, meter: PulseSource, wire: VirtualWire) -> None:
        self.wire = wire
        self.pulses = 0
        self._meter = meter
        self._waiting = 0
        self._free_ns = 0
        self._ends_ns: int | None = None

    def pulse(self, due_ns: int) -> None:
        """A quantum is full."""
        self.catch_up(due_ns)
        if self._free_ns <= due_ns:
            self._begin(due_ns)
        else:
            self._waiting += 1

    def catch_up(self, now_ns: int) -> None:
        """Do what was to be done until now."""
        while self._waiting and self._free_ns <= now_ns:
            self._waiting -= 1
            self._begin(self._free_ns)
        self._end(now_ns)

    def _begin(self, at_ns: int) -> None:
        self._end(at_ns)
        self.pulses += 1
        self._free_ns = at_ns + 2 * self._meter.pulse_ns
        if self._meter.missing:
            self._meter.missing -= 1
        elif not self._meter.cut:
            for _ in range(self._meter.bounces):
                self.wire.drive(False, at_ns)
                self.wire.drive(None, at_ns + BOUNCE_NS)
                at_ns += 2 * BOUNCE_NS
            self.wire.drive(False, at_ns)
            self._ends_ns = self._free_ns - self._meter.pulse_ns

    def _end(self, now_ns: int) -> None:
        if self._ends_ns is not None and self._ends_ns <= now_ns:
            self.wire.drive(None, self._ends_ns)
            self._ends_ns = None
