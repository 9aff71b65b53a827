"""Which unit is in which slot, from the start to the last swap.

The keeper finds units (:mod:`~meter_runtime.units.discovery`), has their drivers prepare them, and
hands them to the *crew*, who put them to work. Then it watches: a presence line says at once that a
unit was pulled; where there is none, a unit that its user finds silent is asked who it is. What is
gone is taken off duty, what is new is checked and put to work, and nobody else notices.

::

    absent ──► found ──► active ──► silent ──► active (the same unit answers again)
       ▲                    │          │
       └──────── removed ◄──┴──────────┘

A driver that crashes or hangs costs its own slot only, and is tried again after a growing pause.
"""

import asyncio
import enum
import logging
import random
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from meter_runtime.clock import Clock, Hold, sleep_until
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.events import EventBus
from meter_runtime.units.board import Board, SlotProfile, Wires
from meter_runtime.units.contracts import Nameplate, UnitFailure, UnitKind
from meter_runtime.units.discovery import Presence, SlotFinding, Wanted, discover, discover_slot
from meter_runtime.units.drivers import DriverContext, load_driver
from meter_runtime.units.gpio import InputLine

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""How often presence lines are looked at, and what is due is tried."""

PAUSES_S = (1.0, 2.0, 5.0, 15.0, 60.0)
"""How long an empty or failing slot rests between attempts, one after the other."""

PATIENCE = 2
"""A silent unit is asked so often who it is before it counts as gone, or its driver as stuck."""

CONTACT_DEBOUNCE_US = 10_000
"""A presence contact bounces while a unit is pushed in."""

BUILD_BOUND_S = 3.0
CLOSE_BOUND_S = 2.0
"""How long a driver may take to prepare its unit and to let it go, in real time."""


class SlotState(enum.Enum):
    """What the meter's operator is told of a slot."""

    ABSENT = "absent"
    ABNORMAL = "abnormal"
    """Something is there that cannot be used."""
    ACTIVE = "active"
    SILENT = "silent"
    """At work, and not answering."""
    REMOVED = "removed"
    """It was active, and was taken out."""


@dataclass(slots=True)
class Slot:
    """One place of the board, and who is in it."""

    profile: SlotProfile
    state: SlotState = SlotState.ABSENT
    finding: SlotFinding | None = None
    """What the last discovery said."""
    nameplate: Nameplate | None = None
    unit: Any = None
    reason: str = ""
    """Why it is not active."""
    troubles: tuple[str, ...] = ()
    """What its self-test found."""
    labelled: bool = False
    """Who is in it said so by an ID EEPROM, and has not been unplugged since."""
    attempts: int = 0
    due: float = 0.0
    presence: InputLine | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class UnitFitted:
    """A unit was put to work."""

    slot: str
    kind: UnitKind
    nameplate: Nameplate


@dataclass(frozen=True, slots=True)
class UnitRemoved:
    """A unit was taken off duty."""

    slot: str
    kind: UnitKind
    reason: str


class Crew(Protocol):
    """Who puts units to work. Calls for one meter never overlap."""

    async def fit(self, slot: Slot) -> None:
        """``slot.unit`` is ready. MeterError or UnitFailure: it cannot be used."""
        ...

    async def remove(self, slot: Slot) -> None:
        """``slot.unit`` is gone, or must not be used any more; never raises."""
        ...

    async def review(self, slots: Mapping[str, Slot]) -> None:
        """Something changed: judge the combination anew, and begin or end what follows."""
        ...


class Keeper:
    """The slots of one board.

    ``wanted`` is what the configuration says of each, by slot name; ``given`` are units that are
    there without being looked for.
    """

    def __init__(
        self,
        board: Board,
        wanted: Mapping[str, Wanted],
        crew: Crew,
        clock: Clock,
        *,
        bus: EventBus,
        rng: random.Random,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self.slots = {profile.name: Slot(profile) for profile in board.profile.slots}
        self._board = board
        self._wanted = wanted
        self._crew = crew
        self._clock = clock
        self._bus = bus
        self._rng = rng
        self._given = given or {}
        self._turn = asyncio.Lock()
        self._started = False
        self._hold = Hold()

    async def start(self) -> None:
        """Discover all slots at once and put their units to work, metering first.

        Raises UsageError for a driver that nobody provides, and for what the configuration tells
        a driver wrongly: that is told once, to whoever wrote it.
        """
        findings = await discover(self._board, self._wanted)
        try:
            async with self._turn:
                for slot in sorted(self.slots.values(), key=lambda each: _RANK[each.profile.kind]):
                    self._watch_presence(slot)
                    await self._settle(slot, findings[slot.profile.name])
                self._started = True
                await self._crew.review(self.slots)
        except BaseException:
            await self.close()
            raise

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._hold.ended()
            await sleep_until(self._clock, self._clock.monotonic() + LOOK_S)
            await self.look()

    def held(self) -> AbstractContextManager[None]:
        """While the clock is moved by hand: :meth:`run` rests, who moves it calls :meth:`look`."""
        return self._hold

    async def look(self) -> None:
        """Follow the presence lines, and try what is due; never raises for a unit."""
        async with self._turn:
            before = self._shape()
            for slot in self.slots.values():
                await self._look_at(slot)
            if self._shape() != before:
                await self._crew.review(self.slots)

    async def review(self) -> None:
        """Have the crew judge anew: something else changed than what is plugged in."""
        async with self._turn:
            await self._crew.review(self.slots)

    def suspect(self, kind: UnitKind, reason: str) -> None:
        """Whoever uses units of this kind finds them silent: they are asked who they are."""
        for slot in self.slots.values():
            if slot.profile.kind is kind and slot.state is SlotState.ACTIVE:
                slot.state, slot.reason = SlotState.SILENT, reason
                slot.attempts, slot.due = 0, self._clock.monotonic()

    def trust(self, kind: UnitKind) -> None:
        """They answer again."""
        for slot in self.slots.values():
            if slot.profile.kind is kind and slot.state is SlotState.SILENT:
                slot.state, slot.reason = SlotState.ACTIVE, ""

    async def close(self) -> None:
        """Let go of every unit and line. The board is its owner's, and the crew is at rest."""
        async with self._turn:
            for slot in self.slots.values():
                await _let_go(slot)
                if slot.presence is not None:
                    slot.presence.close()
                    slot.presence = None

    def _shape(self) -> list[object]:
        """What a review depends on."""
        return [(slot.unit, slot.state, slot.reason) for slot in self.slots.values()]

    async def _look_at(self, slot: Slot) -> None:
        plugged, moved = _plugged(slot), _moved(slot)
        if moved or plugged is False:
            await self._vacate(slot)
        if slot.state is SlotState.ACTIVE or plugged is False:
            return
        if self._clock.monotonic() < slot.due or _holds_its_line(slot):
            return
        wanted = self._wanted.get(slot.profile.name, _ANY)
        finding = await discover_slot(self._board, slot.profile, wanted, plugged=plugged)
        await self._settle(slot, finding)

    async def _vacate(self, slot: Slot) -> None:
        """Whatever was in the slot is not in it any more, or not as it was."""
        if slot.unit is not None:
            await self._take_out(slot, "it was unplugged")
        elif slot.state is SlotState.ABNORMAL:
            slot.state, slot.reason = SlotState.ABSENT, "nothing is plugged in"
        slot.labelled = False
        slot.attempts, slot.due = 0, self._clock.monotonic()

    async def _settle(self, slot: Slot, finding: SlotFinding) -> None:
        """Make the slot what was found in it."""
        if slot.labelled and finding.source == "detect":
            # Its EEPROM is disturbed: by its chip alone it would pass for another unit.
            reason = "its ID EEPROM does not answer any more, its chip does"
            finding = replace(finding, presence=Presence.ABNORMAL, nameplate=None, reason=reason)
        slot.labelled |= finding.source == "eeprom"
        slot.finding = finding
        if slot.unit is not None:
            await self._judge_silence(slot, finding)
        elif finding.presence is Presence.FOUND or slot.profile.name in self._given:
            await self._put_in(slot, finding)
        else:
            absent = finding.presence is Presence.ABSENT
            if slot.state is not SlotState.REMOVED or not absent:
                slot.state = SlotState.ABSENT if absent else SlotState.ABNORMAL
            slot.reason = finding.reason
            self._rest(slot)

    async def _judge_silence(self, slot: Slot, finding: SlotFinding) -> None:
        """A silent unit was asked who it is."""
        found, patient = finding.nameplate, slot.attempts < PATIENCE
        silent = slot.state is SlotState.SILENT  # it may have answered its user meanwhile
        if finding.presence is not Presence.FOUND:
            # A bus may be disturbed for a moment; a unit is gone for long.
            if not patient and silent:
                await self._take_out(slot, finding.reason)
                return
        elif found is not None and not _same(slot.nameplate, found):
            await self._take_out(slot, f"unit {found.serial} is in its place")
            await self._put_in(slot, finding)
            return
        # A communication unit's driver brings its link up again for as long as it lives.
        elif not patient and silent and slot.profile.kind is not UnitKind.COMMUNICATION:
            await self._take_out(slot, "its driver is started again")
            await self._put_in(slot, finding)
            return
        self._rest(slot)

    async def _put_in(self, slot: Slot, finding: SlotFinding) -> None:
        try:
            slot.unit = self._given.get(slot.profile.name) or await self._build(slot, finding)
            slot.nameplate = finding.nameplate or slot.unit.nameplate
            slot.troubles = await _self_test(slot)
            await self._crew.fit(slot)
        except (MeterError, UnitFailure) as failure:
            if isinstance(failure, UsageError) and not self._started:
                raise
            await self._refuse(slot, str(failure))
        except Exception as failure:  # a driver's fault stays its slot's
            log.exception("slot %s: the driver %s failed", slot.profile.name, finding.driver)
            reason = f"the driver {finding.driver} failed: {type(failure).__name__}"
            await self._refuse(slot, reason)
        else:
            slot.state, slot.reason, slot.attempts = SlotState.ACTIVE, "", 0
            plate: Nameplate = slot.nameplate
            log.info("slot %s: %s no. %s is at work", slot.profile.name, plate.model, plate.serial)
            self._bus.publish(UnitFitted(slot.profile.name, slot.profile.kind, plate))

    async def _build(self, slot: Slot, finding: SlotFinding) -> Any:
        wanted = self._wanted.get(slot.profile.name, _ANY)
        context = DriverContext(
            self._clock,
            wanted.options,
            self._rng,
            Wires(self._board, slot.profile),
            finding.nameplate if finding.source == "eeprom" else None,
        )
        driver = load_driver(slot.profile.kind, finding.driver)
        try:
            # Real time on purpose: a hung driver hangs in it, whatever the clock is told.
            async with asyncio.timeout(BUILD_BOUND_S):
                return await driver.build(context)
        except TimeoutError:
            raise UnitFailure(
                f"the driver {finding.driver} did not get it ready within {BUILD_BOUND_S:g} s"
            ) from None

    async def _refuse(self, slot: Slot, reason: str) -> None:
        await _let_go(slot)
        slot.nameplate, slot.troubles = None, ()
        if slot.reason != reason:
            log.error("slot %s: %s", slot.profile.name, reason)
        slot.state, slot.reason = SlotState.ABNORMAL, reason
        self._rest(slot)

    async def _take_out(self, slot: Slot, reason: str) -> None:
        if slot.unit is None:
            return
        log.warning("slot %s: the unit is off duty: %s", slot.profile.name, reason)
        await self._crew.remove(slot)
        await _let_go(slot)
        slot.nameplate, slot.troubles = None, ()
        slot.state, slot.reason = SlotState.REMOVED, reason
        slot.attempts, slot.due = 0, self._clock.monotonic()
        self._bus.publish(UnitRemoved(slot.profile.name, slot.profile.kind, reason))

    def _rest(self, slot: Slot) -> None:
        pause = PAUSES_S[min(slot.attempts, len(PAUSES_S) - 1)]
        slot.attempts += 1
        slot.due = self._clock.monotonic() + pause

    def _watch_presence(self, slot: Slot) -> None:
        line = slot.profile.presence
        if line is None or slot.presence is not None:
            return
        try:
            slot.presence = self._board.gpio.input(
                line, edges=True, debounce_us=CONTACT_DEBOUNCE_US
            )
        except MeterError as failure:
            log.warning("slot %s: presence is not watched: %s", slot.profile.name, failure)


def _plugged(slot: Slot) -> bool | None:
    """What the presence line says; None where there is none, or it cannot be read."""
    if slot.presence is None:
        return None
    try:
        return slot.presence.active()
    except MeterError:
        return None


def _moved(slot: Slot) -> bool:
    """The presence contact was open since the last look, however short: a unit may be another."""
    if slot.presence is None:
        return False
    try:
        return any(not edge.active for edge in slot.presence.take())
    except MeterError:
        return False


def _same(one: Nameplate | None, other: Nameplate) -> bool:
    return one is not None and (one.model, one.serial) == (other.model, other.serial)


def _holds_its_line(slot: Slot) -> bool:
    """A radio without a label can be asked by its own driver only, who does so all the time."""
    radio = slot.unit is not None and slot.profile.kind is UnitKind.COMMUNICATION
    return radio and slot.finding is not None and slot.finding.source != "eeprom"


async def _self_test(slot: Slot) -> tuple[str, ...]:
    if slot.profile.kind is UnitKind.COMMUNICATION:
        return ()  # its link tells how it is
    try:
        async with asyncio.timeout(BUILD_BOUND_S):
            return tuple(await slot.unit.self_test())
    except TimeoutError:
        return (f"the self-test took longer than {BUILD_BOUND_S:g} s",)


async def _let_go(slot: Slot) -> None:
    unit, slot.unit = slot.unit, None
    if unit is None:
        return
    try:
        async with asyncio.timeout(CLOSE_BOUND_S):
            await unit.close()
    except Exception as failure:  # it is gone either way
        log.debug("slot %s: closing its unit: %r", slot.profile.name, failure)


_ANY = Wanted("auto", {})

_RANK = {UnitKind.METERING: 0, UnitKind.OPTIONAL: 1, UnitKind.COMMUNICATION: 2}
"""Metering outranks the rest."""
