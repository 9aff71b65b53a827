"""The B-route at work: link events in, requests answered, announcements out.

A few small loops over one communication unit. Their rules live in the sans-I/O parts: the node
decides what to answer, the announcer what to say unasked and when, :class:`LinkStatus` what the
operator is told, :class:`Requests` how much a home may ask. A datagram that cannot be sent is the
home's loss, never the meter's.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Any

from meter_runtime.broute.announcer import Announcer
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.diagnosis import DiagnosisChanged, NotServed, OutOfService, Verdict
from meter_runtime.broute.echonet.data import MeterSettings
from meter_runtime.broute.echonet.frame import HEAD_SIZE, Esv
from meter_runtime.broute.echonet.node import EchonetNode
from meter_runtime.broute.requests import Requests
from meter_runtime.broute.status import LinkStatus, Moment, RewriteGrace
from meter_runtime.clock import Clock, slot_start, wait_for_event
from meter_runtime.comm.contracts import (
    AuthFailed,
    AuthOk,
    CommunicationUnit,
    LinkEvent,
    LinkStarted,
    LinkStartFailed,
    PeerLeft,
    SessionExpired,
    UnitFault,
)
from meter_runtime.events import EventBus

log = logging.getLogger(__name__)

TAKEN_AT_ONCE = 32
"""Datagrams that are taken in before others get their turn, where the unit has so many."""


class BRouteService:
    """Serves one home over one communication unit.

    Link events are published on ``bus`` once they have been followed here, and
    :class:`~meter_runtime.broute.diagnosis.DiagnosisChanged` whenever, by them or by time alone,
    the diagnosis became another. ``grace`` is that of the last rewrite.
    """

    def __init__(
        self,
        unit: CommunicationUnit,
        node: EchonetNode,
        announcer: Announcer,
        credentials: BRouteCredentials,
        clock: Clock,
        *,
        bus: EventBus | None = None,
        grace: RewriteGrace | None = None,
    ) -> None:
        self.unit = unit
        self.node = node
        self.announcer = announcer
        self.credentials: BRouteCredentials | None = credentials
        """None once they were revoked: nothing is told any more."""
        self.link = LinkStatus(grace)
        # Before anybody asks: a link that nobody has tried to bring up yet is no alarm.
        self.link.begin(Moment.of(clock))
        self._clock = clock
        self._bus = bus
        self._requests = Requests()
        self._asked = asyncio.Event()
        self._announcer_stirred = asyncio.Event()
        self._diagnosis_stirred = asyncio.Event()
        self._told: Verdict | None = None
        self._serving = False
        self._sending = 0
        self.started = asyncio.Event()
        self.idle = asyncio.Event()
        """Nothing of ours is on its way through the communication unit."""
        self.idle.set()
        self.ended = asyncio.Event()
        """Nobody uses the communication unit: not started yet, or the link was brought down."""
        self.ended.set()

    async def run(self) -> None:
        """Serve until cancelled; the link is brought down on the way out.

        Returns at once where the credentials were revoked.
        """
        if self.credentials is None:
            return
        self.ended.clear()
        self.link.begin(Moment.of(self._clock))
        self._tell_change()
        try:
            await self.unit.start(self.credentials.link)
            self._serving = True
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_link())
                group.create_task(self._take_in())
                group.create_task(self._answer())
                group.create_task(self._announce())
                group.create_task(self._watch())
        finally:
            self._serving = False
            try:
                await self.unit.stop()
            finally:
                self.ended.set()

    async def set_credentials(self, credentials: BRouteCredentials) -> None:
        """The utility rewrote ID, password and acceptance day: the home must join anew.

        From here on only history of the new acceptance day is told, what the last home had chosen
        to see is forgotten, the session is dropped, and an authentication failure that was latched
        counts no more.
        """
        self.credentials = credentials
        self.link.credentials_changed(Moment.of(self._clock))
        self._tell_change()
        self._requests.forget()
        self.show(self.node.settings)
        if self._serving:
            self.announcer.peer_gone(self._clock.monotonic())
            self._announcer_stirred.set()
            await self.unit.set_credentials(credentials.link)

    def revoke(self) -> None:
        """The service to this home is over, from here on: it is told nothing, joined or not.

        Whoever runs this service ends it then.
        """
        self.credentials = None
        self.link.credentials_changed(Moment.of(self._clock))
        self._requests.forget()
        self._serving = False
        self.announcer.peer_gone(self._clock.monotonic())

    def show(self, settings: MeterSettings) -> None:
        """Answer and announce with these settings from now on, and with the present ID (EPC C0).

        What the home had chosen to see (E5, ED, EF) is forgotten.
        """
        if self.credentials is None:
            return
        own = replace(settings, route_b_id=self.credentials.link.route_b_id)
        self.node = self.node.with_settings(own)
        self.announcer.exchange_node(self.node)

    def boundary(self, slot: int) -> None:
        """A half-hour value was stored: it is announced, if we serve."""
        if not self._serving:
            return
        age = max(0.0, self._clock.wall() - slot_start(slot))
        self.announcer.boundary(slot, self._clock.monotonic(), age)
        self._announcer_stirred.set()

    def check_statuses(self) -> None:
        """Something happened that the meter's statuses may show: a change is announced."""
        changed = self.node.changed_statuses()
        if changed and self._serving:
            self.announcer.statuses_changed(changed, self._clock.monotonic())
            self._announcer_stirred.set()

    def report(self) -> dict[str, Any]:
        """The ``broute`` part of the status document."""
        if self.credentials is None:
            return OutOfService(NotServed.REVOKED).report()
        return {
            "in_service": True,
            **self.link.report(self._clock.monotonic(), self.unit.medium),
            "counters": {
                **self.link.counters,
                **self.unit.counters,
                **self._requests.counters,
                **self.node.counters,
                **self.announcer.counters,
            },
        }

    def diagnosis(self) -> tuple[int, int]:
        """The diagnosis in two numbers: the message, and the items' bits."""
        now = self._clock.monotonic()
        return int(self.link.verdict(now).message), self.link.items(now).bits

    async def _follow_link(self) -> None:
        async for event in self.unit.events():
            self.link.follow(event, Moment.of(self._clock))
            self._log(event)
            if self._bus is not None:
                self._bus.publish(event)
            self._tell_change()
            now = self._clock.monotonic()
            match event:
                case AuthOk(peer):
                    self.node.reset_session()
                    self.announcer.authenticated(peer, now)
                case LinkStarted():
                    self.started.set()
                    self.announcer.peer_gone(now)
                case PeerLeft(peer) | SessionExpired(peer):
                    self._requests.forget(peer)
                    self.announcer.peer_gone(now)
                case UnitFault() | LinkStartFailed():
                    self._requests.forget()
                    self.announcer.peer_gone(now)
                case _:
                    continue
            self._announcer_stirred.set()

    async def _take_in(self) -> None:
        """Whatever comes is taken at once, so that a confirmation never waits behind requests."""
        taken = 0
        while True:
            datagram = await self.unit.recv()
            now = self._clock.monotonic()
            if self.link.heard(datagram.peer, datagram.rssi_dbm, Moment.of(self._clock)):
                self._tell_change()
            if self.credentials is None:
                continue
            if self._confirms(datagram.payload):
                self._announcer_stirred.set()
            elif self._requests.offer(datagram, now):
                self._asked.set()
            taken += 1
            if taken % TAKEN_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _confirms(self, payload: bytes) -> bool:
        """It is the answer that an INFC of ours waits for; such a one is never over the limit."""
        if len(payload) < HEAD_SIZE or payload[10] != Esv.INFC_RES:
            return False
        return self.announcer.infc_answered(int.from_bytes(payload[2:4], "big"))

    async def _answer(self) -> None:
        while True:
            request = self._requests.next()
            if request is None:
                self._asked.clear()
                await self._asked.wait()
                continue
            answer = self.node.handle(request.payload)
            if answer is not None:
                await self._send(answer, request.peer)
            self.check_statuses()  # the home may have set one, with or without an answer
            # One request to a turn of the loop, also where nothing was waited for: the meter
            # first.
            await asyncio.sleep(0)

    async def _announce(self) -> None:
        while True:
            self._announcer_stirred.clear()
            announcement = self.announcer.due(self._clock.monotonic())
            if announcement is not None:
                sent = await self._send(announcement.payload, announcement.peer)
                self.announcer.sent(sent, self._clock.monotonic())
                continue
            await wait_for_event(
                self._clock, self._announcer_stirred, self.announcer.next_deadline()
            )

    async def _watch(self) -> None:
        """Sessions and graces end by themselves."""
        while True:
            self._diagnosis_stirred.clear()
            self._tell_change()
            deadline = self.link.next_deadline(self._clock.monotonic())
            await wait_for_event(self._clock, self._diagnosis_stirred, deadline)

    def _tell_change(self) -> None:
        """Publish the verdict, once it is another."""
        verdict = self.link.verdict(self._clock.monotonic())
        if verdict == self._told or self.credentials is None:
            return
        self._told = verdict
        self._diagnosis_stirred.set()
        if self._bus is not None:
            self._bus.publish(DiagnosisChanged(verdict))

    async def _send(self, payload: bytes, peer: str) -> bool:
        self._sending += 1
        self.idle.clear()
        try:
            return await self.unit.send(payload, peer)
        finally:
            self._sending -= 1
            if not self._sending:
                self.idle.set()

    def _log(self, event: LinkEvent) -> None:
        match event:
            case AuthFailed() | LinkStartFailed() | UnitFault():
                log.warning("link: %s", event)
            case _:
                log.info("link: %s", event)
