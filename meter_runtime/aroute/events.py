"""What the operator hears of: happenings of the meter as :class:`~.messages.Event` documents.

One table says which, under what name and with which details. Neither addresses of the home's
devices nor what a command was given are among them. A queue of :data:`MAX_EVENTS` waits to be
published and loses its oldest; a kind that comes more than :data:`PER_HOUR` times within an hour is
held back until the hour is over, and its next event says how many were (``held_back``).

Nothing here waits: metering publishes on the same bus.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.messages import Event
from meter_runtime.aroute.presence import LocalPortOpened, TerminalConnected
from meter_runtime.aroute.uplink import ReadingsLost
from meter_runtime.clock import Clock
from meter_runtime.comm.contracts import (
    AuthFailed,
    AuthOk,
    LinkStarted,
    LinkStartFailed,
    PeerLeft,
    SessionExpired,
    UnitFault,
)
from meter_runtime.events import EventBus
from meter_runtime.functions.calls import OptionalUnitAnswers, OptionalUnitSilent
from meter_runtime.functions.switch_events import (
    SwitchAgrees,
    SwitchMismatch,
    SwitchMoved,
    SwitchRefused,
)
from meter_runtime.functions.voltage import VoltageBackInBand, VoltageOutOfBand
from meter_runtime.metrology.events import (
    BoundariesMissed,
    BoundariesWithdrawn,
    ClockStepped,
    OutageEnded,
    ReadingFellBack,
    ReadingLeapt,
    StorageFailed,
    StorageHealed,
    UnitAnswers,
    UnitReplaced,
    UnitRestarted,
    UnitSilent,
)
from meter_runtime.supervisor import TaskFailed
from meter_runtime.units.keeper import UnitFitted, UnitRemoved

MAX_EVENTS = 1000
PER_HOUR = 12
"""Events of one kind."""
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class CommandDone:
    """A command of the utility's was answered."""

    command_id: bytes
    code: Code


@dataclass(frozen=True, slots=True)
class BRouteDiagnosed:
    """The B-route's diagnosis became another, or whether it is an alarm.

    ``message`` is 1 to 4 as in the utility's table; 0: not in service.
    """

    message: int
    alarm: bool


@dataclass(frozen=True, slots=True)
class _Row:
    """How a happening is told."""

    kind: str
    details: Callable[[Any], dict[str, Any]]


def _row(kind: str, *names: str) -> _Row:
    """With these attributes, as they are; of an enumeration's member the name."""

    def details(happening: object) -> dict[str, Any]:
        return {name: _plain(getattr(happening, name)) for name in names}

    return _Row(kind, details)


def _plain(value: Any) -> Any:
    name = getattr(value, "name", None)
    return name.lower() if isinstance(name, str) else value


TABLE: Mapping[type[Any], _Row] = {
    OutageEnded: _row("power_outage", "since", "until"),
    ClockStepped: _row("clock_stepped", "by_s", "wall"),
    BoundariesMissed: _row("boundaries_missed", "first", "last", "reason"),
    BoundariesWithdrawn: _Row(
        "boundaries_withdrawn",
        lambda happening: {
            "first": happening.slots[0],
            "last": happening.slots[-1],
            "count": len(happening.slots),
            "reason": _plain(happening.reason),
        },
    ),
    ReadingsLost: _row("readings_lost", "unit", "first", "last"),
    ReadingFellBack: _row("metering_unit_fell_back"),
    ReadingLeapt: _row("metering_unit_leapt"),
    UnitRestarted: _row("metering_unit_restarted"),
    UnitReplaced: _row("metering_unit_replaced", "old_serial", "new_serial"),
    UnitSilent: _row("metering_unit_silent", "reason"),
    UnitAnswers: _row("metering_unit_answers", "failures"),
    OptionalUnitSilent: _row("optional_unit_silent", "reason"),
    OptionalUnitAnswers: _row("optional_unit_answers", "failures"),
    UnitFitted: _Row(
        "unit_fitted",
        lambda happening: {
            "slot": happening.slot,
            "model": happening.nameplate.model,
            "serial": happening.nameplate.serial,
        },
    ),
    UnitRemoved: _row("unit_removed", "slot", "reason"),
    StorageFailed: _row("storage_failed", "reason"),
    StorageHealed: _row("storage_healed", "dropped"),
    SwitchMoved: _row("switch_moved", "position", "origin"),
    SwitchMismatch: _row("switch_mismatch", "wanted", "found"),
    SwitchAgrees: _row("switch_agrees", "position"),
    SwitchRefused: _row("switch_refused", "wanted", "origin", "refusal"),
    VoltageOutOfBand: _row("voltage_out_of_band", "line", "side", "voltage_mv"),
    VoltageBackInBand: _row("voltage_back_in_band", "line", "voltage_mv"),
    LinkStarted: _row("broute_link_started"),
    LinkStartFailed: _row("broute_link_failed", "reason"),
    UnitFault: _row("communication_unit_fault", "reason"),
    AuthFailed: _row("broute_authentication_failed"),
    AuthOk: _row("broute_session_begun"),
    PeerLeft: _row("broute_session_ended"),
    SessionExpired: _row("broute_session_expired"),
    BRouteDiagnosed: _row("broute_alarm", "alarm", "message"),
    # A crash's reason may quote anything.
    TaskFailed: _row("part_failed", "name", "restart_in_s"),
    LocalPortOpened: _row("local_port_opened"),
    TerminalConnected: _row("terminal_connected", "terminal"),
    CommandDone: _Row(
        "command_done",
        lambda happening: {
            "command_id": happening.command_id.hex(),
            "code": happening.code.value,
        },
    ),
}


@dataclass(slots=True)
class _Rate:
    """How often a kind came since ``since``."""

    since: float
    told: int = 0
    held_back: int = 0


class Events:
    """The events of ``meter_id`` from now on; ``stirred`` is called when one begins to wait."""

    def __init__(self, bus: EventBus, clock: Clock, meter_id: str) -> None:
        self._clock = clock
        self._meter_id = meter_id
        self._waiting: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._number = 0
        self._rates: dict[str, _Rate] = {}
        self._session = False
        self._alarm = False
        self.stirred: Callable[[], None] = lambda: None
        self.counters = {"told": 0, "held_back": 0, "dropped": 0}
        for happening in TABLE:
            bus.subscribe(happening, self._follow)

    def __len__(self) -> int:
        return len(self._waiting)

    def first(self) -> Event | None:
        """The oldest that waits."""
        return self._waiting[0] if self._waiting else None

    def published(self, event: Event) -> None:
        """This one is with the broker."""
        self.counters["told"] += 1
        if self._waiting and self._waiting[0] is event:
            self._waiting.popleft()

    def _follow(self, happening: object) -> None:
        if self._goes_without_saying(happening):
            return
        row = TABLE[type(happening)]
        details = row.details(happening)
        now = self._clock.monotonic()
        rate = self._rates.get(row.kind)
        if rate is None or now - rate.since >= HOUR_S:
            if rate is not None and rate.held_back:
                details["held_back"] = rate.held_back
            rate = self._rates[row.kind] = _Rate(now)
        if rate.told >= PER_HOUR:
            rate.held_back += 1
            self.counters["held_back"] += 1
            return
        rate.told += 1
        self._add(row.kind, details)

    def _goes_without_saying(self, happening: object) -> bool:
        """A session that is renewed did not begin, and one that never began does not end.

        Of the diagnosis only the beginning and the end of an alarm are told; the whole of it has a
        topic of its own.
        """
        match happening:
            case BRouteDiagnosed(alarm=alarm):
                had, self._alarm = self._alarm, alarm
                return had == alarm
            case AuthOk():
                renewed, self._session = self._session, True
                return renewed
            case PeerLeft() | SessionExpired():
                had, self._session = self._session, False
                return not had
            case LinkStarted() | LinkStartFailed() | UnitFault():
                self._session = False
            case _:
                pass
        return False

    def _add(self, kind: str, details: dict[str, Any]) -> None:
        self.counters["dropped"] += len(self._waiting) == MAX_EVENTS
        self._number += 1
        self._waiting.append(
            Event(
                meter_id=self._meter_id,
                number=self._number,
                at=self._clock.wall(),
                trust=self._clock.trust.value,
                kind=kind,
                details=details,
            )
        )
        self.stirred()
