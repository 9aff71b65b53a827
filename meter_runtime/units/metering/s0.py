"""Driver ``s0``: a meter that tells its energy by pulses (S0 interface).

A pulse is a closed contact or transistor of at least 30 ms, followed by a pause of at least 30 ms;
``pulses_per_kwh``, the meter's constant, says what each stands for (IEC 62053-31, DIN 43864; the
figures as meters' manuals quote them, *unverified*). Lines: ``pulse_forward`` and, of a two-way
meter, ``pulse_reverse``.

Pulses are counted by the kernel's sequence numbers, not by the events that reach us. An event that
was dropped because we came too late was an edge that happened: its energy flowed, and leaving it
out would be the error. So it is counted, by the alternation of levels, and reported. An edge that
leads to the level there was before (a spike, too short for its level to be read) is no pulse.

What this unit cannot know:

* energy while the meter's program does not run: it keeps no registers;
* current: it has none (None), so whatever limits or serves current does without;
* a cut wire, which looks like no load. A shorted one is found.

Power follows from the time between pulses, and so comes late: a fall is seen as the next pulse is
overdue, and after ``zero_after_s`` power is 0. After a change of direction it is 0 until the second
pulse.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from meter_runtime.clock import Clock
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.units.contracts import Nameplate, Sample, UnitKind, Wiring
from meter_runtime.units.drivers import Driver, DriverContext
from meter_runtime.units.failures import failing_as_unit
from meter_runtime.units.gpio import SEQUENCE_MODULUS, Edge, InputLine
from meter_runtime.units.options import Options

log = logging.getLogger(__name__)

FORWARD = "pulse_forward"
REVERSE = "pulse_reverse"

MWH_PER_KWH = 1_000_000
JOULE_PER_KWH = 3_600_000

SHORTEST_PERIOD_NS = 50_000_000
"""Pulse and pause of S0 last 60 ms (*unverified*); debouncing jitters by a tick of the kernel."""

STUCK_S = 10.0
"""A line active for longer is no pulse, but a fault; *unverified*: meters pulse up to 0.5 s."""

DEBOUNCE_MS = 10
"""A third of the shortest pulse."""
ZERO_AFTER_S = 300
"""At 1000 pulses/kWh, 12 W."""


@dataclass(frozen=True, slots=True)
class Rise:
    """The newest pulse whose event we saw: when it began, and which one it was."""

    at_ns: int
    pulses: int


class PulseCounter:
    """Pulses of one line, from its edges; ``active`` is the line's level before the first."""

    def __init__(self, *, active: bool) -> None:
        self.pulses = 0
        self.lost_edges = 0
        """Edges that are known by their numbers only; their pulses are counted."""
        self.irregular = 0
        """Times that levels did not alternate: an edge to the level there was is no change."""
        self.too_fast = 0
        """Pulses that followed another one sooner than S0 allows."""
        self.rise: Rise | None = None
        self.changed_ns: int | None = None
        """When the newest edge happened."""
        self._active = active
        self._sequence = 0

    def take(self, edges: Iterable[Edge]) -> None:
        """Count edges, oldest first."""
        for edge in edges:
            happened = (edge.sequence - self._sequence) % SEQUENCE_MODULUS
            if not 0 < happened < SEQUENCE_MODULUS // 2:
                # Numbers that do not go on tell nothing of what happened: nothing is counted.
                self.irregular += 1
                self._active, self._sequence = edge.active, edge.sequence
                continue
            self.lost_edges += happened - 1
            # An odd number of changes leads to the other level. What does not fit was no change.
            fits = (edge.active != self._active) == (happened % 2 == 1)
            self.irregular += not fits
            changes = happened if fits else happened - 1
            new = (changes + (not self._active)) // 2
            self.pulses += new
            if edge.active and new:
                self._note(Rise(edge.at_ns, self.pulses))
            self._active = edge.active
            self._sequence = edge.sequence
            self.changed_ns = edge.at_ns

    def _note(self, rise: Rise) -> None:
        before = self.rise
        if before is not None and rise.pulses == before.pulses + 1:
            self.too_fast += rise.at_ns - before.at_ns < SHORTEST_PERIOD_NS
        self.rise = rise


class PulseRate:
    """How fast pulses of one direction come: the average over those since the last look."""

    def __init__(self, first: Rise) -> None:
        self._newest = first
        self._pulses = 0
        self._span_ns = 0

    def take(self, newest: Rise) -> None:
        """Look at the newest pulse."""
        if newest.at_ns > self._newest.at_ns:
            self._pulses = newest.pulses - self._newest.pulses
            self._span_ns = newest.at_ns - self._newest.at_ns
            self._newest = newest

    def power_w(self, now_ns: int, pulses_per_kwh: int) -> int:
        """Power, rounded: by the rate, or by what a pulse that is overdue still allows."""
        if not self._pulses:
            return 0
        pulses, span_ns = self._pulses, self._span_ns
        waited_ns = self.waited_ns(now_ns)
        if waited_ns * pulses > span_ns:
            pulses, span_ns = 1, waited_ns
        divisor = pulses_per_kwh * span_ns
        return (2 * pulses * JOULE_PER_KWH * 1_000_000_000 + divisor) // (2 * divisor)

    def waited_ns(self, now_ns: int) -> int:
        """Since the newest pulse."""
        return now_ns - self._newest.at_ns


class PulseLine:
    """An input line, opened for edges, with what was counted on it since ``opened_ns``."""

    def __init__(self, role: str, line: InputLine, opened_ns: int) -> None:
        self.counter = PulseCounter(active=line.active())
        self.close = line.close
        self._role = role
        self._line = line
        self._opened_ns = opened_ns
        self._told: Rise | None = None

    def take(self) -> Rise | None:
        """Count what has come in; the newest pulse, where it was not told yet."""
        lost = self.counter.lost_edges
        self.counter.take(self._line.take())
        if not lost and self.counter.lost_edges:
            log.warning("%s: edges came faster than they were read", self._role)
        if self.counter.rise == self._told:
            return None
        self._told = self.counter.rise
        return self._told

    def stuck(self, now_ns: int) -> str | None:
        """What is wrong with a line that does not go back, or None."""
        changed_ns = self.counter.changed_ns
        since_s = (now_ns - (self._opened_ns if changed_ns is None else changed_ns)) / 1e9
        if since_s < STUCK_S or not self._line.active():
            return None
        return (
            f"{self._role} has been active for {since_s:.0f} s, which is no pulse;"
            " look for a short circuit, and check active_low"
        )

    def findings(self, now_ns: int) -> Iterator[str]:
        """What a self-test says of it."""
        counter = self.counter
        if (stuck := self.stuck(now_ns)) is not None:
            yield stuck
        if counter.lost_edges:
            yield (
                f"{self._role}: {counter.lost_edges} edges came faster than they were read;"
                " they are counted by their numbers"
            )
        if counter.irregular:
            yield f"{self._role}: {counter.irregular} times levels did not alternate; debounce more"
        if counter.too_fast:
            yield (
                f"{self._role}: {counter.too_fast} pulses came faster than S0 allows;"
                " debounce more, or look for noise on the wire"
            )


class S0Unit:
    """A metering unit on one or two pulse lines, which it owns and closes."""

    keeps_registers = False

    def __init__(
        self,
        clock: Clock,
        nameplate: Nameplate,
        pulses_per_kwh: int,
        forward: InputLine,
        reverse: InputLine | None = None,
        *,
        zero_after_s: int = ZERO_AFTER_S,
    ) -> None:
        self.nameplate = nameplate
        self._clock = clock
        self._pulses_per_kwh = pulses_per_kwh
        self._zero_after_ns = zero_after_s * 1_000_000_000
        self._forward = PulseLine(FORWARD, forward, self._now_ns())
        self._reverse = None if reverse is None else PulseLine(REVERSE, reverse, self._now_ns())
        self._lines = [line for line in (self._forward, self._reverse) if line is not None]
        self._flows: PulseLine | None = None
        self._rate: PulseRate | None = None

    @property
    def counters(self) -> tuple[PulseCounter, ...]:
        """Of the forward line and, of a two-way meter, the reverse one."""
        return tuple(line.counter for line in self._lines)

    async def read(self) -> Sample:
        with failing_as_unit(self._name()):
            self._take()
            now_ns = self._now_ns()
            for line in self._lines:
                if (stuck := line.stuck(now_ns)) is not None:
                    raise MeterError(stuck)
        power_w = self._power_w(now_ns)
        return Sample(
            self._energy_mwh(self._forward),
            0 if self._reverse is None else self._energy_mwh(self._reverse),
            power_w if self._flows is self._forward else -power_w,
            current_r_ma=None,
            current_t_ma=None,
        )

    async def self_test(self) -> list[str]:
        with failing_as_unit(self._name()):
            self._take()
            now_ns = self._now_ns()
            return [finding for line in self._lines for finding in line.findings(now_ns)]

    async def close(self) -> None:
        """Let go of the lines; harmless twice."""
        for line in self._lines:
            line.close()

    def _take(self) -> None:
        """Count, and follow the rate for as long as pulses come from one line only."""
        fresh = [(rise, line) for line in self._lines if (rise := line.take()) is not None]
        if not fresh:
            return
        newest, flows = max(fresh, key=lambda each: each[0].at_ns)
        if self._rate is not None and len(fresh) == 1 and flows is self._flows:
            self._rate.take(newest)
        else:
            self._flows, self._rate = flows, PulseRate(newest)

    def _power_w(self, now_ns: int) -> int:
        if self._rate is None or self._rate.waited_ns(now_ns) >= self._zero_after_ns:
            return 0
        return self._rate.power_w(now_ns, self._pulses_per_kwh)

    def _energy_mwh(self, line: PulseLine) -> int:
        # From the whole count each time: no remainder is ever lost.
        return line.counter.pulses * MWH_PER_KWH // self._pulses_per_kwh

    def _now_ns(self) -> int:
        return round(self._clock.monotonic() * 1e9)

    def _name(self) -> str:
        return f"S0 unit {self.nameplate.serial}"


async def build(context: DriverContext) -> S0Unit:
    """Open the slot's lines. The options, with their defaults:

    * ``pulses_per_kwh``, 1 to 100000: no default, unless the nameplate's calibration has it;
    * ``debounce_ms``, 0 to 1000: :data:`DEBOUNCE_MS`;
    * ``zero_after_s``, 1 to 86400: :data:`ZERO_AFTER_S`.

    A meter without an ID EEPROM is described by options as well: ``serial`` (no default), ``model``
    (S0), ``wiring`` (1P3W), ``capacity_a`` (unknown), ``two_way`` (false). UsageError tells what is
    wrong with them, MeterError which line is missing or cannot be opened.
    """
    wires = context.wires
    if wires is None:
        raise UsageError(f"the s0 driver needs a slot of the board, with a line {FORWARD}")
    options = Options("s0", context.options)
    constant = options.integer("pulses_per_kwh", 1, 100_000)
    debounce_ms = options.integer("debounce_ms", 0, 1000)
    zero_after_s = options.integer("zero_after_s", 1, 86_400)
    nameplate = context.nameplate or _described(options)
    options.end()
    constant = _agreed(constant, nameplate)
    debounce_us = 1000 * (DEBOUNCE_MS if debounce_ms is None else debounce_ms)
    with ExitStack() as opened:
        lines = []
        for role in (FORWARD, REVERSE) if nameplate.two_way else (FORWARD,):
            line = wires.input(role, edges=True, debounce_us=debounce_us)
            opened.callback(line.close)
            lines.append(line)
        unit = S0Unit(
            context.clock,
            nameplate,
            constant,
            *lines,
            zero_after_s=ZERO_AFTER_S if zero_after_s is None else zero_after_s,
        )
        opened.pop_all()
    return unit


def _described(options: Options) -> Nameplate:
    """The nameplate of a meter that has none we could read."""
    plate = options.nameplate(UnitKind.METERING)
    return replace(
        plate,
        wiring=plate.wiring or Wiring.ONE_PHASE_THREE_WIRE,
        two_way=bool(options.flag("two_way")),
    )


def _agreed(option: int | None, nameplate: Nameplate) -> int:
    """The meter's constant, which two sources must not tell differently."""
    printed = nameplate.calibration.get("pulses_per_kwh")
    constant = printed if option is None else option
    if constant is None:
        raise UsageError(
            "the s0 driver needs the option pulses_per_kwh: the constant printed on the meter"
        )
    if printed not in (None, constant):
        raise UsageError(
            f"the s0 driver: pulses_per_kwh = {option}, but the nameplate of {nameplate.serial}"
            f" says {printed}; remove the option, or label the unit anew"
        )
    if not 1 <= constant <= 100_000:
        raise UsageError(
            f"the s0 driver: the nameplate of {nameplate.serial} says {constant} pulses per kWh;"
            " label the unit anew with 1 to 100000"
        )
    return constant


DRIVER = Driver(build)
"""No detect: a pulse output has nothing to be recognised by."""
