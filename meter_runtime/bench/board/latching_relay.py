"""A latching relay with two coils, seen from its pins, that remembers how it was mistreated.

A coil moves the armature while its wire is high; it arrives after ``travel_ms``, and a pulse that
ends before lets it fall back. Two auxiliary contacts hang on the armature: each pulls its feedback
wire low in its position, and both let go in between. Contacts of the house follow the armature.
What a relay must not meet is kept in :attr:`LatchingRelay.violations`.
"""

from collections import deque
from dataclasses import dataclass
from functools import partial

from meter_runtime.bench.board.gpio import VirtualWire
from meter_runtime.clock import Clock, Timer
from meter_runtime.units.contracts import SwitchPosition

VIOLATIONS_KEPT = 64
BOUNCE_S = 0.001


@dataclass(frozen=True, slots=True)
class Violation:
    """What a coil met, and when by the clock's monotonic time."""

    at: float
    what: str


class LatchingRelay:
    """The relay on its wires; ``burns_ms`` is what a coil bears.

    :attr:`stuck` holds the armature where it is. :attr:`welded` contacts do not come apart.
    :attr:`bounces` is how often feedback chatters at arrival. Each may change at any time and
    counts at the next move.
    """

    def __init__(
        self,
        clock: Clock,
        coil_open: VirtualWire,
        coil_close: VirtualWire,
        feedback_open: VirtualWire | None = None,
        feedback_closed: VirtualWire | None = None,
        *,
        closed: bool = True,
        travel_ms: float = 20,
        burns_ms: float = 1500,
    ) -> None:
        self.stuck = False
        self.welded = False
        self.bounces = 0
        self.operations = 0
        """Times the armature arrived."""
        self.weak_pulses = 0
        """Pulses that ended before it did."""
        self.violations: deque[Violation] = deque(maxlen=VIOLATIONS_KEPT)
        self._clock = clock
        self._travel_s = travel_ms / 1000
        self._burns_s = burns_ms / 1000
        self._feedback = {
            SwitchPosition.OPEN: feedback_open,
            SwitchPosition.CLOSED: feedback_closed,
        }
        self._rests_at = SwitchPosition.CLOSED if closed else SwitchPosition.OPEN
        self._position = self._rests_at
        self._coils = {
            SwitchPosition.OPEN: _Coil("opening", coil_open),
            SwitchPosition.CLOSED: _Coil("closing", coil_close),
        }
        self._arrival: Timer | None = None
        self._chatter: Timer | None = None
        self._unwatch = [
            coil.wire.watch(partial(self._on_coil, pulls_to))
            for pulls_to, coil in self._coils.items()
        ]
        for pulls_to, coil in self._coils.items():
            if coil.wire.high:
                self._on_coil(pulls_to, True, coil.wire.now_ns())
        self._show(self._position)

    @property
    def position(self) -> SwitchPosition:
        """Where the armature is, and with it the contacts."""
        return self._position

    def move_by_hand(self, position: SwitchPosition) -> None:
        """To OPEN or CLOSED, coils or not."""
        self._forget(self._arrival)
        self._arrive(position)

    def unplug(self) -> None:
        """Out of its socket: it stays as it is, and its wires are nobody's."""
        for stop in self._unwatch:
            stop()
        for timer in (self._arrival, self._chatter, *(coil.burns for coil in self._coils.values())):
            self._forget(timer)
        self._position = self._rests_at
        for wire in self._feedback.values():
            if wire is not None:
                wire.drive(None)

    def _on_coil(self, pulls_to: SwitchPosition, high: bool, _at_ns: int) -> None:
        coil = self._coils[pulls_to]
        coil.on = high
        self._forget(coil.burns)
        if high:
            coil.burns = self._clock.call_at(
                self._clock.monotonic() + self._burns_s,
                lambda: self._violate(f"the {coil.name} coil burns"),
            )
        self._move()

    def _move(self) -> None:
        """Start, or fall back, by what pulls now."""
        pulling = [position for position, coil in self._coils.items() if coil.on]
        if self._position is SwitchPosition.BETWEEN:
            self._forget(self._arrival)
            self.weak_pulses += 1
            self._position = self._rests_at
            self._show(self._position)
        if len(pulling) > 1:
            self._violate("both coils pull")
        elif pulling and self._can_reach(pulling[0]):
            self._position = SwitchPosition.BETWEEN
            self._show(self._position)
            self._arrival = self._clock.call_at(
                self._clock.monotonic() + self._travel_s, lambda: self._arrive(pulling[0])
            )

    def _can_reach(self, position: SwitchPosition) -> bool:
        held = self.stuck or (self.welded and position is SwitchPosition.OPEN)
        return not held and position is not self._rests_at

    def _arrive(self, position: SwitchPosition) -> None:
        self._position = self._rests_at = position
        self.operations += 1
        self._show(position)
        self._bounce(2 * self.bounces)

    def _bounce(self, left: int) -> None:
        """Chatter of the contact that has just closed: on, off and so on, and at last on."""
        self._forget(self._chatter)
        wire = self._feedback[self._rests_at]
        if wire is not None and self._position is self._rests_at:
            wire.drive(False if left % 2 == 0 else None)
            if left:
                self._chatter = self._clock.call_at(
                    self._clock.monotonic() + BOUNCE_S, lambda: self._bounce(left - 1)
                )

    def _show(self, position: SwitchPosition) -> None:
        for shown_by, wire in self._feedback.items():
            if wire is not None:
                wire.drive(False if position is shown_by else None)

    def _violate(self, what: str) -> None:
        self.violations.append(Violation(self._clock.monotonic(), what))

    @staticmethod
    def _forget(timer: Timer | None) -> None:
        if timer is not None:
            timer.cancel()


class _Coil:
    """One coil, and the timer by which it must be off."""

    def __init__(self, name: str, wire: VirtualWire) -> None:
        self.name = name
        self.wire = wire
        self.on = False
        self.burns: Timer | None = None
