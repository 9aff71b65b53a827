"""The A-route at work: half-hours, events and diagnosis up, marks and commands down.

A handful of small loops over one bearer, each on its own, so that a command never waits behind a
backlog and the backlog never behind an event. Their rules live elsewhere: what is due in
:mod:`~meter_runtime.aroute.uplink`, what a command may do in :mod:`~meter_runtime.aroute.gate`,
what is worth telling in :mod:`~meter_runtime.aroute.events`. Metering waits for nothing here: what
it says on the bus is remembered as a few numbers, and acted upon later.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol, get_args

from meter_runtime.aroute import results
from meter_runtime.aroute.cbor import MalformedError
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.dispatch import Way
from meter_runtime.aroute.events import BRouteDiagnosed, CommandDone, Events
from meter_runtime.aroute.messages import (
    Birth,
    BRouteStatus,
    Mark,
    Presence,
    Topics,
    decode,
    encode,
)
from meter_runtime.aroute.uplink import Kind, Uplink
from meter_runtime.clock import Clock, jst, sleep_until, slot_start, wait_for_event
from meter_runtime.comm.contracts import LinkEvent
from meter_runtime.comm.mqtt import Received, Will
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.metrology.events import BoundariesWithdrawn, BoundaryStored, UnitReplaced
from meter_runtime.units.keeper import UnitFitted, UnitRemoved

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""What the broker did not take is offered again after this."""
STATUS_PAUSE_S = 1.0
"""Between two diagnoses."""
MAX_IN_HAND = 16
"""Commands being checked or carried out; of further ones nothing is heard."""
MAX_RESULTS = 64
"""Results that wait for the broker, as many as the journal keeps."""


class Bearer(Protocol):
    """What is used of :class:`~meter_runtime.comm.mqtt.MqttBearer`."""

    on_connected: list[Callable[[], None]]
    counters: dict[str, int]

    @property
    def connected(self) -> bool: ...

    @property
    def protocol(self) -> str | None: ...

    async def run(self) -> None: ...

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool: ...

    async def receive(self) -> Received: ...


class Gate(Protocol):
    """What is used of :class:`~meter_runtime.aroute.gate.Gate`."""

    @property
    def counters(self) -> Mapping[str, int]: ...

    async def take(self, message: bytes, way: Way) -> bytes | None: ...

    def settle(self) -> list[bytes]: ...


def subscriptions(topics: Topics) -> tuple[str, ...]:
    """What the meter's bearer subscribes to."""
    return topics.commands, topics.mark


def will(topics: Topics) -> Will:
    """What the broker says for the meter once it is lost; said by itself when it leaves."""
    return Will(topics.lwt, encode(Presence(online=False)))


class ARouteService:
    """One meter towards its utility.

    ``birth`` and ``broute_report`` are asked whenever they are to be published.
    """

    def __init__(
        self,
        bearer: Bearer,
        topics: Topics,
        uplink: Uplink,
        gate: Gate,
        events: Events,
        *,
        birth: Callable[[], Birth],
        broute_report: Callable[[], dict[str, Any]],
        clock: Clock,
        bus: EventBus,
    ) -> None:
        self._bearer = bearer
        self._topics = topics
        self._uplink = uplink
        self._gate = gate
        self._events = events
        self._birth = birth
        self._broute_report = broute_report
        self._clock = clock
        self._bus = bus
        self._online = asyncio.Event()
        self._uplink_stirred = asyncio.Event()
        self._events_stirred = asyncio.Event()
        self._results_stirred = asyncio.Event()
        self._greeting_due = asyncio.Event()
        self._status_stirred = asyncio.Event()
        self._told_status: dict[str, Any] | None = None
        self._last_command: dict[str, str] | None = None
        self._results: deque[bytes] = deque(maxlen=MAX_RESULTS)
        self._in_hand: set[asyncio.Task[None]] = set()
        self._counters = dict.fromkeys(("marks", "malformed", "strays", "commands", "overrun"), 0)
        events.stirred = self._events_stirred.set
        bearer.on_connected.append(self._connected)
        bus.subscribe(BoundaryStored, self._boundary_stored)
        bus.subscribe(BoundariesWithdrawn, self._boundaries_withdrawn)
        bus.subscribe(UnitReplaced, self._unit_replaced)
        bus.subscribe(UnitFitted, self._units_changed)
        bus.subscribe(UnitRemoved, self._units_changed)
        for link_event in get_args(LinkEvent):
            bus.subscribe(link_event, self._diagnosis_stirred)
        bus.subscribe(BRouteDiagnosed, self._diagnosis_stirred)

    async def run(self) -> None:
        """Speak with the utility until cancelled."""
        self._results.extend(self._gate.settle())
        self._results_stirred.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._bearer.run())
                group.create_task(self._receive(group))
                for loop in (
                    self._greet,
                    self._tell_results,
                    self._tell_readings,
                    self._tell_events,
                    self._tell_diagnosis,
                ):
                    group.create_task(loop())
        finally:
            self._online.clear()
            self._uplink.lost()

    def report(self) -> dict[str, Any]:
        """The ``aroute`` part of the status document."""
        boundary = self._uplink.acknowledged_boundary
        return {
            "connected": self._bearer.connected,
            "protocol": self._bearer.protocol,
            "queued": self._uplink.queued,
            "queued_results": len(self._results),
            "queued_events": len(self._events),
            "acknowledged_up_to": None
            if boundary is None
            else jst(slot_start(boundary)).isoformat(timespec="seconds"),
            "last_command": self._last_command,
            "counters": {
                "link": dict(self._bearer.counters),
                "received": dict(self._counters),
                "readings": dict(self._uplink.counters),
                "commands": dict(self._gate.counters),
                "events": dict(self._events.counters),
            },
        }

    # What is heard on the bus and from the bearer: noted, never waited for.

    def _connected(self) -> None:
        self._uplink.connected(self._clock.monotonic())
        self._told_status = None
        self._online.set()
        self._greeting_due.set()
        self._status_stirred.set()
        self._uplink_stirred.set()

    def _boundary_stored(self, event: BoundaryStored) -> None:
        self._uplink.stored(event.slot, self._clock.monotonic())
        self._uplink_stirred.set()
        self._status_stirred.set()

    def _boundaries_withdrawn(self, event: BoundariesWithdrawn) -> None:
        self._uplink.withdrawn(event.slots, self._clock.monotonic())
        self._uplink_stirred.set()

    def _unit_replaced(self, _: UnitReplaced) -> None:
        self._uplink.unit_changed(self._clock.monotonic())
        self._uplink_stirred.set()

    def _units_changed(self, _: UnitFitted | UnitRemoved) -> None:
        self._greeting_due.set()
        self._uplink_stirred.set()
        self._status_stirred.set()

    def _diagnosis_stirred(self, _: object) -> None:
        self._status_stirred.set()

    # Down.

    async def _receive(self, group: asyncio.TaskGroup) -> None:
        while True:
            received = await self._bearer.receive()
            if received.topic == self._topics.mark:
                self._take_mark(received.payload)
            elif received.topic == self._topics.results:
                pass  # our own: it lies under the commands' filter
            elif not received.topic.startswith(self._topics.commands.removesuffix("+")):
                self._counters["strays"] += 1
            elif len(self._in_hand) >= MAX_IN_HAND:
                self._counters["overrun"] += 1
            else:
                self._counters["commands"] += 1
                task = group.create_task(self._take_command(received.payload))
                self._in_hand.add(task)
                task.add_done_callback(self._in_hand.discard)

    def _take_mark(self, payload: bytes) -> None:
        try:
            mark = decode(payload, Mark)
        except MeterError as wrong:
            self._counters["malformed"] += 1
            log.warning("a mark that is none: %s", wrong)
            return
        self._counters["marks"] += 1
        self._uplink.mark(mark, self._clock.monotonic())
        self._uplink_stirred.set()

    async def _take_command(self, message: bytes) -> None:
        try:
            result = await self._gate.take(message, Way.CONTROL)
        except Exception as failure:  # one command's fault stays that command's
            log.error("a command was left undone: %s", type(failure).__name__)
            return
        if result is None:
            return
        self._results.append(result)
        self._results_stirred.set()
        self._tell_done(result)
        # It may have asked for half-hours, or changed whom the home is served by.
        self._uplink_stirred.set()
        self._status_stirred.set()

    def _tell_done(self, message: bytes) -> None:
        try:
            result = results.peek(message)
        except MalformedError:
            return
        if result.command_id is not None and result.code is not Code.REJECTED:
            self._last_command = {
                "id": result.command_id.hex(),
                "code": result.code.value,
                "answered": jst(self._clock.wall()).isoformat(timespec="seconds"),
            }
            self._bus.publish(CommandDone(result.command_id, result.code))

    # Up.

    async def _tell_results(self) -> None:
        """Each until the broker has it; the journal has it anyway."""
        while True:
            while self._results:
                result = self._results[0]
                await self._insist(self._topics.results, result)
                if self._results and self._results[0] is result:
                    self._results.popleft()
            self._results_stirred.clear()
            await self._results_stirred.wait()

    async def _tell_events(self) -> None:
        while True:
            while (event := self._events.first()) is not None:
                await self._insist(self._topics.event, encode(event))
                self._events.published(event)
            self._events_stirred.clear()
            await self._events_stirred.wait()

    async def _greet(self) -> None:
        """Who we are, at each connection and when that changes."""
        while True:
            await self._greeting_due.wait()
            self._greeting_due.clear()
            await self._insist(self._topics.lwt, encode(Presence(online=True)), retain=True)
            await self._insist(self._topics.birth, encode(self._birth()), retain=True)

    async def _tell_diagnosis(self) -> None:
        while True:
            await self._status_stirred.wait()
            self._status_stirred.clear()
            report = self._broute_report()
            lasting = _lasting(report)
            if lasting == self._told_status:
                continue
            self._told_status = lasting
            status = BRouteStatus(
                meter_id=self._topics.meter_id, at=self._clock.wall(), report=report
            )
            await self._insist(self._topics.broute_status, encode(status), retain=True)
            await sleep_until(self._clock, self._clock.monotonic() + STATUS_PAUSE_S)

    async def _tell_readings(self) -> None:
        topics = {Kind.CHAIN: self._topics.readings, Kind.HISTORY: self._topics.history}
        while True:
            self._uplink_stirred.clear()
            outgoing = self._uplink.due(self._clock.monotonic(), self._clock.wall())
            for lost in self._uplink.losses():
                log.warning("%s", lost)
                self._bus.publish(lost)
            if outgoing is None:
                deadline = self._uplink.next_deadline()
                await wait_for_event(self._clock, self._uplink_stirred, deadline)
                continue
            payload = encode(outgoing.readings)
            taken = await self._bearer.publish(topics[outgoing.kind], payload)
            self._uplink.sent(outgoing, taken, self._clock.monotonic())
            if not self._bearer.connected:
                self._uplink.lost()

    async def _insist(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish until the broker has it."""
        while not await self._bearer.publish(topic, payload, retain=retain):
            if not self._bearer.connected:
                self._online.clear()
                await self._online.wait()
            else:
                await sleep_until(self._clock, self._clock.monotonic() + RETRY_S)


_FLEETING = ("counters", "failed_joins", "signal", "recent")


def _lasting(report: Mapping[str, Any]) -> dict[str, Any]:
    """A B-route's report without what changes all the time."""
    session = report.get("session")
    lasting = {name: value for name, value in report.items() if name not in _FLEETING}
    if session is not None:
        lasting["session"] = {name: session[name] for name in session if name != "expires"}
    return lasting
