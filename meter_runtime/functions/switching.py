"""The supply's switch: who may move it, whether it went there, and what stands after a restart.

*Wanted* is what was commanded last, and is stored before the contacts part. *Position* is what the
unit's feedback says. Where the two differ there is a mismatch: it is told, and nothing moves. The
contacts open only by a command or by the limiter, never because of what is stored: after a restart,
after a power cut in the middle of a move and in another unit they stay as they are. A store that
cannot be read means *closed*.

A command is refused while a move is under way, too soon after the last one, and without a unit; one
to open also where the combination of units forbids it, where the unit's feedback is silent, and
where the command cannot be stored. Closing asks for no more than it needs: it is the safe side.
"""

import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from meter_runtime.clock import Clock, Trust, sleep_until
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.functions.calls import Silence
from meter_runtime.functions.limiter import Advice, Limiter
from meter_runtime.functions.pace import Pace
from meter_runtime.functions.switch_events import (
    Refusal,
    SwitchAgrees,
    SwitchMismatch,
    SwitchMoved,
    SwitchRefused,
    SwitchRefusedError,
)
from meter_runtime.storage.switch_state import Origin, SwitchState, SwitchStateStore
from meter_runtime.units.contracts import SwitchingUnit, SwitchPosition, UnitFailure
from meter_runtime.units.failures import READ_BOUND_S, bounded

log = logging.getLogger(__name__)

MIN_INTERVAL_S = 60.0
"""From one commanded move to the next; *unverified*."""

ARRIVAL_S = 2.0
"""How long after a drive the feedback may take to say so."""

LOOK_S = 0.1
ATTEMPTS = 2
DRIVE_BOUND_S = 5.0
"""Of one drive, in real time."""

STORE_RETRY_S = 10.0

_WHO = "the switching unit"


@dataclass(frozen=True, slots=True)
class SwitchStatus:
    """The switch at a glance; ``since`` is when ``wanted`` was, in UTC seconds."""

    fitted: bool
    position: SwitchPosition
    wanted: SwitchPosition
    origin: Origin
    since: float | None
    mismatch: bool
    moving: bool
    stored: bool
    """What is wanted would outlive a power cut."""
    operations: int
    """Drives since the start."""
    trips: int | None
    """Of the limiter; None where it is off."""
    locked_out: bool
    """The limiter opened for the last time: only a command closes."""


class SwitchingService:
    """The switch of one meter. ``unit`` None: none is fitted yet.

    ``permitted`` tells why the contacts may not be opened now, None when they may. ``current_a``
    is what the limiter is fed with; without ``limiter`` nothing is limited.
    """

    def __init__(
        self,
        unit: SwitchingUnit | None,
        clock: Clock,
        bus: EventBus,
        store: SwitchStateStore,
        *,
        permitted: Callable[[], str | None] = lambda: None,
        min_interval_s: float = MIN_INTERVAL_S,
        limiter: Limiter | None = None,
        current_a: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._unit = unit
        self._clock = clock
        self._bus = bus
        self._store = store
        self._permitted = permitted
        self._min_interval_s = min_interval_s
        self._limiter = limiter
        self._next_limiter: tuple[Limiter | None] | None = None
        self._releases = False
        self._current_a = current_a
        self._pace = Pace(clock)
        self._silence = Silence(bus)
        self._state = SwitchState()
        self._position = SwitchPosition.UNKNOWN
        self._mismatch: SwitchMismatch | None = None
        self._moving = False
        self._commands = 0
        self._operations = 0
        self._operated_at: float | None = None
        self._loaded = False
        self._unsaved = False
        self._tried_at = 0.0
        self._store_trouble = ""
        self._recall()

    @property
    def status(self) -> SwitchStatus:
        return SwitchStatus(
            fitted=self._unit is not None,
            position=self._position,
            wanted=self._wanted,
            origin=self._state.origin,
            since=self._state.since,
            mismatch=self._mismatch is not None,
            moving=self._moving,
            stored=self._loaded and not self._unsaved,
            operations=self._operations,
            trips=None if self._limiter is None else self._limiter.trips,
            locked_out=self._limiter is not None and self._limiter.spent,
        )

    def fit(self, unit: SwitchingUnit) -> None:
        """This unit is in the slot now; :meth:`poll` looks at it, and nothing moves."""
        self.removed()
        self._unit = unit

    def removed(self) -> None:
        """No unit is in the slot; a move under way ends. Harmless twice."""
        self._unit = None
        self._position = SwitchPosition.UNKNOWN
        self._mismatch = None
        self._silence.forget()

    async def command(self, wanted: SwitchPosition) -> SwitchPosition:
        """Open or close, and wait for the feedback (20 s at most): where the contacts are then.

        Another position than ``wanted`` is a mismatch, told already; UNKNOWN also where the unit
        was removed meanwhile. Raises :class:`SwitchRefusedError` where nothing was tried.
        """
        if wanted not in {SwitchPosition.OPEN, SwitchPosition.CLOSED}:
            raise ValueError(f"a switch can be open or closed, not {wanted.value}")
        return await self._operate(wanted, Origin.COMMAND)

    def limit(self, limiter: Limiter | None) -> None:
        """Limit by this one from now on, or with None not at all.

        A switch that the one before had opened is closed after the new one's pause, and without a
        new one at the next :meth:`poll`; after its last trip it stays open until a command.
        """
        self._next_limiter = (limiter,)
        if not self._moving:
            self._exchange_limiter()

    async def run(self) -> None:
        """Watch the switch each second until cancelled."""
        await self._pace.keep(self.poll)

    def held(self) -> AbstractContextManager[None]:
        """While the clock is moved by hand: :meth:`run` rests, only :meth:`poll` looks."""
        return self._pace.hold

    async def poll(self) -> None:
        """Look at the switch, and do as the limiter says. Neither unit nor store makes it raise."""
        self._retry_store()
        unit, commands = self._unit, self._commands
        if unit is None or self._moving:
            return
        position = await self._look(unit)
        if self._unit is not unit or self._commands != commands:
            return
        if position is None:
            self._position = SwitchPosition.UNKNOWN
        else:
            self._compare(position)
        await self._limit()

    @property
    def _wanted(self) -> SwitchPosition:
        return SwitchPosition.OPEN if self._state.wanted_open else SwitchPosition.CLOSED

    def _exchange_limiter(self) -> None:
        if self._next_limiter is None:
            return
        (limiter,), self._next_limiter = self._next_limiter, None
        before, self._limiter = self._limiter, limiter
        state = self._state
        if state.origin is not Origin.LIMIT:
            return
        if limiter is not None:
            limiter.resume(self._clock.monotonic(), state.trips, is_open=state.wanted_open)
        elif before is not None:
            self._releases = state.wanted_open and not before.spent

    async def _limit(self) -> None:
        # A switch that should be open by command is not the limiter's to close again.
        commanded_open = self._state.wanted_open and self._state.origin is not Origin.LIMIT
        if commanded_open:
            return
        if self._limiter is not None:
            advice = self._limiter.feed(self._clock.monotonic(), self._current_a())
        else:
            advice = Advice.CLOSE if self._releases else None
        match advice:
            case Advice.OPEN:
                if self._permitted() is not None:
                    return
                wanted = SwitchPosition.OPEN
            case Advice.CLOSE:
                wanted = SwitchPosition.CLOSED
            case None:
                return
        try:
            await self._operate(wanted, Origin.LIMIT)
        except SwitchRefusedError as refused:
            log.warning("the limiter: %s", refused)

    async def _operate(self, wanted: SwitchPosition, origin: Origin) -> SwitchPosition:
        unit = self._unit
        if unit is None:
            raise self._refuse(wanted, origin, Refusal.NO_UNIT, "plug one in")
        if self._moving:
            raise self._refuse(wanted, origin, Refusal.MOVING, "wait until it is over")
        self._moving = True
        self._commands += 1
        try:
            position = await self._look(unit)
            if self._unit is not unit:
                raise self._refuse(wanted, origin, Refusal.NO_UNIT, "it was taken out")
            self._check(wanted, origin, position)
            self._keep(wanted, origin)
            if position is wanted:
                self._compare(position)
            else:
                position = await self._drive(unit, wanted, origin)
            self._tell_limiter(position, origin)
            return position
        finally:
            self._moving = False
            self._exchange_limiter()

    def _check(
        self, wanted: SwitchPosition, origin: Origin, position: SwitchPosition | None
    ) -> None:
        """Raises SwitchRefusedError where the contacts must not be driven now."""
        if origin is Origin.COMMAND and position is not wanted and self._operated_at is not None:
            left_s = self._operated_at + self._min_interval_s - self._clock.monotonic()
            if left_s > 0:
                raise self._refuse(
                    wanted, origin, Refusal.TOO_SOON, f"wait for {math.ceil(left_s)} s"
                )
        if wanted is SwitchPosition.OPEN:
            if (why := self._permitted()) is not None:
                raise self._refuse(wanted, origin, Refusal.NOT_PERMITTED, why)
            if position is None:
                raise self._refuse(wanted, origin, Refusal.SILENT, "check the unit")

    async def _drive(
        self, unit: SwitchingUnit, wanted: SwitchPosition, origin: Origin
    ) -> SwitchPosition:
        opens = wanted is SwitchPosition.OPEN
        for _ in range(ATTEMPTS):
            if opens and self._permitted() is not None:
                break
            self._operations += 1
            try:
                drive = unit.open_contacts if opens else unit.close_contacts
                await bounded(drive, DRIVE_BOUND_S, _WHO)
            except UnitFailure as failure:
                log.error("%s", failure)
            finally:
                self._operated_at = self._clock.monotonic()
            position = await self._arrival(unit, wanted)
            if self._unit is not unit:
                return SwitchPosition.UNKNOWN
            self._compare(position)
            if position is wanted:
                self._bus.publish(SwitchMoved(position, origin))
                break
        return self._position

    async def _arrival(self, unit: SwitchingUnit, wanted: SwitchPosition) -> SwitchPosition:
        """Where the contacts are as soon as they are where they should be, or in the end."""
        deadline = self._clock.monotonic() + ARRIVAL_S
        while True:
            position = await self._look(unit)
            now = self._clock.monotonic()
            if position is wanted or self._unit is not unit or now >= deadline:
                return position or SwitchPosition.UNKNOWN
            await sleep_until(self._clock, min(deadline, now + LOOK_S))

    async def _look(self, unit: SwitchingUnit) -> SwitchPosition | None:
        """What the feedback says; None when it is silent."""
        try:
            position = await bounded(unit.position, READ_BOUND_S, _WHO)
        except UnitFailure as failure:
            if self._unit is unit:
                self._silence.missed(str(failure))
            return None
        if self._unit is unit:
            self._silence.heard()
        return position

    def _compare(self, position: SwitchPosition) -> None:
        self._position = position
        wanted = self._wanted
        if position is wanted:
            if self._mismatch is not None:
                self._mismatch = None
                log.warning("the switch is %s, as it should be, again", position.value)
                self._bus.publish(SwitchAgrees(position))
            return
        mismatch = SwitchMismatch(wanted, position)
        if mismatch != self._mismatch:
            self._mismatch = mismatch
            log.error("the switch should be %s and is %s", wanted.value, position.value)
            self._bus.publish(mismatch)

    def _tell_limiter(self, position: SwitchPosition, origin: Origin) -> None:
        if position is SwitchPosition.CLOSED or origin is Origin.COMMAND:
            self._releases = False
        if self._limiter is None:
            return
        now = self._clock.monotonic()
        match origin, position:
            case Origin.COMMAND, _:
                self._limiter.reset(now)
            case _, SwitchPosition.OPEN if self._state.wanted_open:
                self._limiter.opened(now)
            case _, SwitchPosition.CLOSED if not self._state.wanted_open:
                self._limiter.closed(now)
            case _:
                pass

    def _refuse(
        self, wanted: SwitchPosition, origin: Origin, refusal: Refusal, reason: str
    ) -> SwitchRefusedError:
        self._bus.publish(SwitchRefused(wanted, origin, refusal, reason))
        verb = "open" if wanted is SwitchPosition.OPEN else "close"
        return SwitchRefusedError(refusal, f"the switch does not {verb}: {refusal.value}; {reason}")

    def _keep(self, wanted: SwitchPosition, origin: Origin) -> None:
        """Store what is wanted now; SwitchRefusedError where an opening cannot be stored."""
        opens = wanted is SwitchPosition.OPEN
        trips = 0
        if origin is Origin.LIMIT and self._limiter is not None:
            trips = self._limiter.trips + opens
        since = None if self._clock.trust is Trust.UNSET else self._clock.wall()
        before, self._state = self._state, SwitchState(opens, origin, trips, since)
        try:
            self._save()
        except MeterError as failure:
            # The medium may have it all the same: what stands is written again.
            self._unsaved = True
            if opens:
                self._state = before
                raise self._refuse(wanted, origin, Refusal.NOT_STORED, str(failure)) from failure
            log.error("%s; the switch is closed all the same", failure)

    def _save(self) -> None:
        self._tried_at = self._clock.monotonic()
        if not self._loaded:
            self._store.load()
            self._loaded = True
        self._store.save(self._state)
        self._unsaved = False

    def _recall(self) -> None:
        """Learn what was wanted before the restart."""
        self._tried_at = now = self._clock.monotonic()
        try:
            kept = self._store.load()
        except MeterError as failure:
            if str(failure) != self._store_trouble:
                self._store_trouble = str(failure)
                log.error("%s; until then the switch should be closed", failure)
            return
        self._loaded = True
        if kept is None:
            if self._store.damaged:
                log.error("what the switch was told last is lost; it should be closed")
            return
        self._state = kept
        if self._limiter is not None and kept.origin is Origin.LIMIT:
            self._limiter.resume(now, kept.trips, is_open=kept.wanted_open)

    def _retry_store(self) -> None:
        if self._moving or self._clock.monotonic() - self._tried_at < STORE_RETRY_S:
            return
        if self._unsaved:
            try:
                self._save()
            except MeterError as failure:
                log.debug("%s", failure)
        elif not self._loaded:
            self._recall()
