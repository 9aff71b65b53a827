"""Driver ``relay``: a latching relay with a coil for each direction, and feedback.

Lines: ``coil_open`` and ``coil_close``, each of which moves the contacts while it is active;
``feedback_open`` and ``feedback_closed``, auxiliary contacts that are active in their position. One
of the two will do, and then a relay between its positions looks as if it were in the other one.

A coil gets one pulse and nothing between pulses. Never both coils: the other one is switched off
first, and while a coil cannot be switched off nothing is switched on. However a drive ends, by its
time, by a failure or by cancellation, both coils are switched off on the way out. The pulse is
timed by the event loop; what a dead process leaves behind is the wiring's business
(``docs/units-gpio.md``).
"""

import logging
from contextlib import ExitStack
from dataclasses import replace

from meter_runtime.clock import Clock, sleep_until
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.units.contracts import (
    Nameplate,
    OptionalFunction,
    SwitchPosition,
    UnitFailure,
    UnitKind,
)
from meter_runtime.units.drivers import Driver, DriverContext
from meter_runtime.units.failures import failing_as_unit
from meter_runtime.units.gpio import InputLine, OutputLine
from meter_runtime.units.options import Options

log = logging.getLogger(__name__)

COIL_OPEN = "coil_open"
COIL_CLOSE = "coil_close"
FEEDBACK_OPEN = "feedback_open"
FEEDBACK_CLOSED = "feedback_closed"

PULSE_MS = 100
"""What a coil gets; *unverified*: the relay's datasheet says how long it needs and bears."""

REST_S = 0.05
"""From one pulse to the next: the field of a coil must be gone before the other one pulls."""

FEEDBACK_DEBOUNCE_MS = 5

_FEEDBACK = {
    "both": (FEEDBACK_OPEN, FEEDBACK_CLOSED),
    "open": (FEEDBACK_OPEN,),
    "closed": (FEEDBACK_CLOSED,),
}


class RelayUnit:
    """A switching unit on its lines, which it owns and closes.

    ``feedback_open`` or ``feedback_closed`` may be None, not both.
    """

    def __init__(
        self,
        clock: Clock,
        nameplate: Nameplate,
        *,
        coil_open: OutputLine,
        coil_close: OutputLine,
        feedback_open: InputLine | None,
        feedback_closed: InputLine | None,
        pulse_ms: int = PULSE_MS,
    ) -> None:
        if feedback_open is None and feedback_closed is None:
            raise ValueError("a relay needs feedback")
        self.nameplate = nameplate
        self._clock = clock
        self._coils = {COIL_OPEN: coil_open, COIL_CLOSE: coil_close}
        self._feedback_open = feedback_open
        self._feedback_closed = feedback_closed
        self._pulse_s = pulse_ms / 1000
        self._driving = False
        self._rested_at = 0.0
        self._closed = False

    async def open_contacts(self) -> None:
        """UnitFailure also while a drive is under way: it is not waited for."""
        await self._drive(COIL_OPEN)

    async def close_contacts(self) -> None:
        """UnitFailure also while a drive is under way: it is not waited for."""
        await self._drive(COIL_CLOSE)

    async def position(self) -> SwitchPosition:
        with failing_as_unit(self._name()):
            is_open = None if self._feedback_open is None else self._feedback_open.active()
            is_closed = None if self._feedback_closed is None else self._feedback_closed.active()
        match is_open, is_closed:
            case (True, False | None) | (None, False):
                return SwitchPosition.OPEN
            case (False | None, True) | (False, None):
                return SwitchPosition.CLOSED
            case False, False:
                return SwitchPosition.BETWEEN
            case _:
                return SwitchPosition.UNKNOWN

    async def self_test(self) -> list[str]:
        """Looks at the feedback and switches the coils off; moves nothing."""
        if self._driving:
            return []
        findings = self._switch_off()
        match await self.position():
            case SwitchPosition.UNKNOWN:
                findings.append("both feedback contacts are active: check their wiring")
            case SwitchPosition.BETWEEN:
                findings.append("no feedback contact is active: stuck between, or a wire is off")
            case _:
                pass
        return findings

    async def close(self) -> None:
        """Switch the coils off and let go of the lines; a drive under way fails."""
        if self._closed:
            return
        self._switch_off()
        self._closed = True
        for line in (*self._coils.values(), self._feedback_open, self._feedback_closed):
            if line is not None:
                line.close()

    async def _drive(self, role: str) -> None:
        if self._driving:
            raise UnitFailure(f"{self._name()} is being driven already")
        self._driving = True
        try:
            await sleep_until(self._clock, self._rested_at)
            await self._pulse(role)
        finally:
            self._driving = False

    async def _pulse(self, role: str) -> None:
        self._check_usable()
        try:
            self._demand_off()
            with failing_as_unit(self._name()):
                self._coils[role].set(True)
            await sleep_until(self._clock, self._clock.monotonic() + self._pulse_s)
            self._check_usable()
        finally:
            # Nothing is raised here: it would hide why the drive ends, a cancellation above all.
            self._switch_off()
            self._rested_at = self._clock.monotonic() + REST_S
        self._demand_off()

    def _demand_off(self) -> None:
        if failures := self._switch_off():
            raise UnitFailure(f"{self._name()}: {'; '.join(failures)}")

    def _switch_off(self) -> list[str]:
        """Both coils, each whatever becomes of the other; what failed."""
        if self._closed:
            return []
        failures = []
        for role, coil in self._coils.items():
            try:
                coil.set(False)
            except MeterError as error:
                failures.append(f"{role} cannot be switched off, it may burn: {error}")
                log.error("%s: %s", self._name(), failures[-1])
        return failures

    def _check_usable(self) -> None:
        if self._closed:
            raise UnitFailure(f"{self._name()} was closed already")

    def _name(self) -> str:
        return f"relay {self.nameplate.serial}"


async def build(context: DriverContext) -> RelayUnit:
    """Open the slot's lines; nothing moves. The options, with their defaults:

    * ``pulse_ms``, 5 to 1000: :data:`PULSE_MS`;
    * ``feedback``, which contacts are wired, "open", "closed" or "both": both;
    * ``debounce_ms`` of the feedback, 0 to 1000: :data:`FEEDBACK_DEBOUNCE_MS`.

    A unit without an ID EEPROM is described by options as well: ``serial`` (no default), ``model``
    (RELAY), ``wiring`` and ``capacity_a`` (unknown). UsageError tells what is wrong with them,
    MeterError which line is missing or cannot be opened.
    """
    wires = context.wires
    if wires is None:
        raise UsageError(f"the relay driver needs a slot of the board, with a line {COIL_OPEN}")
    options = Options("relay", context.options)
    pulse_ms = options.integer("pulse_ms", 5, 1000)
    debounce_ms = options.integer("debounce_ms", 0, 1000)
    wired = options.choice("feedback", _FEEDBACK) or _FEEDBACK["both"]
    nameplate = context.nameplate or _described(options)
    options.end()
    if nameplate.function is not OptionalFunction.SWITCHING:
        raise UsageError(
            f"the relay driver: unit {nameplate.serial} ({nameplate.model}) is no switching unit"
        )
    debounce_us = 1000 * (FEEDBACK_DEBOUNCE_MS if debounce_ms is None else debounce_ms)
    with ExitStack() as opened:
        coils: dict[str, OutputLine] = {}
        for role in (COIL_OPEN, COIL_CLOSE):
            coils[role] = wires.output(role, initial=False)
            opened.callback(coils[role].close)
        feedback: dict[str, InputLine] = {}
        for role in wired:
            feedback[role] = wires.input(role, debounce_us=debounce_us)
            opened.callback(feedback[role].close)
        unit = RelayUnit(
            context.clock,
            nameplate,
            coil_open=coils[COIL_OPEN],
            coil_close=coils[COIL_CLOSE],
            feedback_open=feedback.get(FEEDBACK_OPEN),
            feedback_closed=feedback.get(FEEDBACK_CLOSED),
            pulse_ms=PULSE_MS if pulse_ms is None else pulse_ms,
        )
        opened.pop_all()
    return unit


def _described(options: Options) -> Nameplate:
    """The nameplate of a unit that has none we could read."""
    return replace(options.nameplate(UnitKind.OPTIONAL), function=OptionalFunction.SWITCHING)


DRIVER = Driver(build)
"""No detect: a relay has nothing to be recognised by."""
