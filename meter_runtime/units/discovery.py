"""Which units are plugged in: every slot is asked at once, each within its bound.

A slot is asked in this order, until something answers:

1. its presence line, where it has one: inactive means *absent*, and ends it;
2. its ID EEPROM: a nameplate says what the unit is;
3. the drivers' own detection, one after the other by name, all of them: two drivers of one kind
   may speak with the same address, and two units in one slot must be noticed;
4. the configuration, which may name a driver that can only be believed: one that cannot look for
   its unit, or one with a ``port`` of its unit's own. That port is not asked: whoever names driver
   and port may plug the unit in later.

A slot that was asked and is silent is *absent*. It is *abnormal* where something is there that
cannot be used, or where a wire failed and nobody can tell. What is told depends on the answers
and their order, never on which of two came first: a question has :data:`QUESTION_BOUND_S`, a slot
has its bound, and what is answered later is not used. Whether the unit then works is its driver's
to find out, and whether the units suit each other is the combination rules'.
"""

import asyncio
import enum
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.units import catalogue, drivers
from meter_runtime.units.board import Board, NoSuchWire, SlotProfile, Wires
from meter_runtime.units.contracts import Nameplate, UnitFailure, UnitKind
from meter_runtime.units.drivers import Driver
from meter_runtime.units.eeprom import is_silence, read_nameplate
from meter_runtime.units.nameplate import NameplateUnreadable

log = logging.getLogger(__name__)

AUTO = "auto"
"""The configuration leaves the driver to discovery."""

BOUND_S = 3.0
"""For all questions to one slot; the slots are asked side by side."""

QUESTION_BOUND_S = 1.0

UNREADABLE = "U-23"
TWO_UNITS = {
    UnitKind.METERING: "U-02",
    UnitKind.COMMUNICATION: "U-04",
    UnitKind.OPTIONAL: "U-05",
}
"""The findings' codes of more than one unit of a kind."""

T = TypeVar("T")

Source = Literal["eeprom", "detect", "configuration", "none"]


class Presence(enum.Enum):
    """What is in a slot."""

    ABSENT = "absent"
    FOUND = "found"
    ABNORMAL = "abnormal"
    """Something that cannot be used, or nobody can tell."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question, where it was asked, and what came of it."""

    what: str
    where: str
    answer: str
    took_ms: float


@dataclass(frozen=True, slots=True)
class SlotFinding:
    """What discovery says of one slot."""

    slot: SlotProfile
    presence: Presence
    nameplate: Nameplate | None
    """By EEPROM or detection; None also of a unit FOUND by the configuration's word alone."""
    driver: str
    """Who shall speak with the unit; "" where none was found."""
    source: Source
    """Who told what the unit is."""
    reason: str
    """Why it is not FOUND."""
    codes: tuple[str, ...]
    """Findings that follow from it, "U-23"."""
    trail: tuple[Asked, ...]
    """Every question in its order."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration says of a slot: a driver's name or "auto", and its options."""

    driver: str = AUTO
    options: Mapping[str, Any] = field(default_factory=dict)


class Registry(Protocol):
    """Where drivers come from; :mod:`meter_runtime.units.drivers` is the real one."""

    def find(self, kind: UnitKind) -> Mapping[str, Driver]: ...

    def load_driver(self, kind: UnitKind, name: str) -> Driver: ...


async def discover(
    board: Board,
    wanted: Mapping[str, Wanted],
    *,
    bound_s: float = BOUND_S,
    registry: Registry = drivers,
) -> dict[str, SlotFinding]:
    """All slots of the board, by name in the profile's order.

    The questions take ``bound_s`` of real time at most, and importing drivers what it takes.
    ``wanted`` is by slot name; a slot that it leaves out is asked for any unit. Raises UsageError
    for a driver that nobody provides, or one wanted in a slot that the board does not have, and
    MeterError for one that cannot be imported, before anything is asked.
    """
    slots = {slot.name: slot for slot in board.profile.slots}
    for name, wish in wanted.items():
        if name not in slots and wish.driver != AUTO:
            raise UsageError(
                f'board {board.profile.name} has no slot "{name}"; {nearest(name, slots)}'
            )
    searches = [
        _Search(board, slot, wanted.get(name, Wanted()), bound_s=bound_s, registry=registry)
        for name, slot in slots.items()
    ]
    return {finding.slot.name: finding for finding in await _findings(searches)}


async def discover_slot(
    board: Board,
    slot: SlotProfile,
    wanted: Wanted,
    *,
    bound_s: float = BOUND_S,
    registry: Registry = drivers,
    plugged: bool | None = None,
) -> SlotFinding:
    """One slot, as :func:`discover` does it.

    ``plugged`` is what the presence line says, for a caller that holds it open.
    """
    search = _Search(board, slot, wanted, bound_s=bound_s, registry=registry, plugged=plugged)
    (finding,) = await _findings([search])
    return finding


async def _findings(searches: Sequence["_Search"]) -> list[SlotFinding]:
    """What the searches find, side by side."""
    await asyncio.gather(*(search.identify() for search in searches))
    for search in searches:
        # Importing drivers holds the loop: not while an answer is waited for.
        search.load_drivers()
    return await asyncio.gather(*(search.ask_drivers() for search in searches))


class _Search:
    """The questions to one slot, whose time runs only while they are asked."""

    def __init__(
        self,
        board: Board,
        slot: SlotProfile,
        wanted: Wanted,
        *,
        bound_s: float,
        registry: Registry,
        plugged: bool | None = None,
    ) -> None:
        self._board = board
        self._slot = slot
        self._named = "" if wanted.driver == AUTO else wanted.driver
        self._candidates: Mapping[str, Driver] = {}
        if self._named:
            self._candidates = {self._named: registry.load_driver(slot.kind, self._named)}
        port = wanted.options.get("port")
        at_port = isinstance(port, str)
        self._wires = Wires(board, replace(slot, uart=port) if at_port else slot)
        """As the drivers see them: a port that the configuration names stands for the UART."""
        self._believed = any(at_port or each.detect is None for each in self._candidates.values())
        """The configuration names a driver that cannot ask, or says where its unit is."""
        self._registry = registry
        self._plugged = plugged
        self._loop = asyncio.get_running_loop()
        self._left_s = bound_s
        self._deadline = 0.0
        self._trail: list[Asked] = []
        self._trouble = ""
        """Why silence proves nothing."""
        self._blank = False
        self._nameplate: Nameplate | None = None
        self._finding: SlotFinding | None = None

    async def identify(self) -> None:
        """Ask the presence line and the ID EEPROM."""
        self._deadline = self._loop.time() + self._left_s
        self._finding = await self._identified()
        self._left_s = self._deadline - self._loop.time()

    def load_drivers(self) -> None:
        """Import who speaks with the unit; who might, where that is still to be found out."""
        if self._finding is not None:
            return
        driver = self._named
        if self._nameplate is not None:
            driver = driver or catalogue.shipped().driver(self._nameplate)
            if driver:
                self._finding = self._labelled(self._nameplate, driver)
        if not driver:
            self._candidates = self._registry.find(self._slot.kind)

    async def ask_drivers(self) -> SlotFinding:
        """Ask the drivers where the EEPROM did not tell all, and come to a finding."""
        if self._finding is not None:
            return self._finding
        self._deadline = self._loop.time() + self._left_s
        unasked = self._trouble
        claims = await self._claims()
        if claims and unasked:
            # Who has a nameplate that could not be read is not who the chip says.
            return self._not_found(unasked)
        if len(claims) > 1:
            return self._two_units(claims)
        for driver, nameplate in claims.items():
            if self._nameplate is not None:
                return self._found(self._nameplate, driver, "eeprom")
            return self._found(nameplate, driver, "detect")
        return self._unclaimed()

    async def _identified(self) -> SlotFinding | None:
        """What presence line and EEPROM rule out; None leaves the unit to a driver."""
        if self._plugged is None:
            self._plugged = self._ask_presence()
        if self._plugged is False:
            return self._not_found("nothing is plugged in", presence=Presence.ABSENT)
        try:
            nameplate = await self._read_eeprom()
        except NameplateUnreadable as unreadable:
            return self._not_found(str(unreadable), UNREADABLE)
        if nameplate is None:
            return None
        if nameplate.kind is not self._slot.kind:
            return self._not_found(
                f"a {nameplate.kind.value} unit ({_name(nameplate)}) is plugged in here;"
                f" move it to the {nameplate.kind.value} slot",
                UNREADABLE,
            )
        self._nameplate = nameplate
        return None

    def _labelled(self, nameplate: Nameplate, driver: str) -> SlotFinding:
        try:
            self._registry.load_driver(self._slot.kind, driver)
        except MeterError as unknown:
            return self._not_found(f"{_name(nameplate)}: {unknown}")
        return self._found(nameplate, driver, "eeprom")

    def _unclaimed(self) -> SlotFinding:
        """No driver says that there is a unit of its."""
        if self._nameplate is not None:
            return self._not_found(
                f"no driver knows {_name(self._nameplate)}; name one in the configuration,"
                " or in its nameplate"
            )
        if self._believed:
            return self._found(None, self._named, "configuration")
        label = f"label it: meter-runtime units label --slot {self._slot.name}"
        if self._blank:
            return self._not_found(f"the unit's ID EEPROM is blank; {label}", UNREADABLE)
        if self._plugged:
            silent = f"something is plugged in and silent; {label}"
            return self._not_found(self._trouble or silent, UNREADABLE)
        if self._trouble:
            return self._not_found(self._trouble)
        return self._not_found("no unit answers", presence=Presence.ABSENT)

    def _ask_presence(self) -> bool | None:
        """What the presence line says; None where there is none, or it cannot be read."""
        line = self._slot.presence
        if line is None:
            return None
        began = self._loop.time()
        try:
            opened = self._board.gpio.input(line)
            try:
                plugged = opened.active()
            finally:
                opened.close()
        except MeterError as failure:
            self._note("presence line", str(line), str(failure), began)
            return None
        answer = "something is plugged in" if plugged else "nothing is plugged in"
        self._note("presence line", str(line), answer, began)
        return plugged

    async def _read_eeprom(self) -> Nameplate | None:
        """The nameplate; None where there is no EEPROM or a blank one. NameplateUnreadable."""
        bus, address = self._slot.i2c, self._slot.eeprom
        if bus is None or address is None:
            return None
        what, where = "ID EEPROM (24C32)", f"{bus} address {address:#04x}"
        began = self._loop.time()
        try:
            wire = self._board.i2c(bus)
            nameplate = await self._within_bound(lambda: read_nameplate(wire, address))
        except (UnitFailure, MeterError) as failure:
            self._note(what, where, self._judged(failure), began)
            if isinstance(failure, NameplateUnreadable):
                raise
            return None
        self._blank = nameplate is None
        self._note(what, where, "blank" if nameplate is None else _name(nameplate), began)
        return nameplate

    async def _claims(self) -> dict[str, Nameplate]:
        """Which drivers say that the unit is one of theirs."""
        slot = self._wires.slot
        where = ", ".join(wire for wire in (slot.i2c, slot.uart) if wire) or "no wires"
        claims = {}
        for name, driver in sorted(self._candidates.items()):
            if driver.detect is None or self._believed:
                continue
            began = self._loop.time()
            try:
                nameplate = await self._within_bound(partial(driver.detect, self._wires))
            except (UnitFailure, MeterError) as failure:
                answer = self._judged(failure)
            except Exception as bug:  # one driver's fault must not cost the slot
                log.exception("the driver %s failed while it looked for its unit", name)
                answer = self._judged(MeterError(f"the driver failed: {type(bug).__name__}"))
            else:
                answer = "none of its units" if nameplate is None else _name(nameplate)
                if nameplate is not None:
                    claims[name] = nameplate
            self._note(f"driver {name}", where, answer, began)
        return claims

    def _judged(self, failure: Exception) -> str:
        """A failed question's answer; remembers those that make silence prove nothing."""
        if isinstance(failure, UnitFailure) and is_silence(failure):
            return "no answer"
        if isinstance(failure, NoSuchWire):
            return "no wire for it"
        if not isinstance(failure, NameplateUnreadable):
            self._trouble = self._trouble or str(failure)
        return str(failure)

    async def _within_bound(self, question: Callable[[], Awaitable[T]]) -> T:
        """The answer, or UnitFailure; one that does not heed its cancellation is left behind."""
        left = min(QUESTION_BOUND_S, self._deadline - self._loop.time())
        if left <= 0:
            raise UnitFailure("not asked: the slot's time was over")
        task = asyncio.ensure_future(question())
        task.add_done_callback(_heed)
        try:
            done, _ = await asyncio.wait((task,), timeout=left)
            if done:
                return task.result()
        finally:
            task.cancel()
        raise UnitFailure("no answer in time")

    def _note(self, what: str, where: str, answer: str, began: float) -> None:
        self._trail.append(Asked(what, where, answer, (self._loop.time() - began) * 1000))

    def _found(self, nameplate: Nameplate | None, driver: str, source: Source) -> SlotFinding:
        return SlotFinding(
            self._slot, Presence.FOUND, nameplate, driver, source, "", (), tuple(self._trail)
        )

    def _two_units(self, claims: Mapping[str, Nameplate]) -> SlotFinding:
        units = " and ".join(f"{_name(unit)} ({driver})" for driver, unit in claims.items())
        return self._not_found(f"{units} both answer; leave one", TWO_UNITS[self._slot.kind])

    def _not_found(
        self, reason: str, *codes: str, presence: Presence = Presence.ABNORMAL
    ) -> SlotFinding:
        return SlotFinding(
            self._slot, presence, None, self._named, "none", reason, codes, tuple(self._trail)
        )


def _name(nameplate: Nameplate) -> str:
    return f"{nameplate.model} no. {nameplate.serial}"


def _heed(task: "asyncio.Future[Any]") -> None:
    """Take note of an exception that comes too late for anybody else."""
    if not task.cancelled():
        task.exception()
