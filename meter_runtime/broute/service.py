"""The B-route at work: link events in, requests answered, announcements out.

Three small loops over one communication unit. Their rules live in the sans-I/O parts: the node
decides what to answer, the announcer what to say unasked and when, :class:`LinkStatus` what the
operator is told. A datagram that cannot be sent is the home's loss, never the meter's.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Any

from meter_runtime.broute.announcer import Announcer
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.echonet.data import MeterSettings
from meter_runtime.broute.echonet.frame import Esv
from meter_runtime.broute.echonet.node import EchonetNode
from meter_runtime.broute.status import LinkStatus
from meter_runtime.clock import Clock, jst, slot_start, wait_for_event
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


class BRouteService:
    """Serves one home over one communication unit.

    Link events are published on ``bus`` once they have been followed here.
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
    ) -> None:
        self.unit = unit
        self.node = node
        self.announcer = announcer
        self.credentials: BRouteCredentials | None = credentials
        """None once they were revoked: nothing is told any more."""
        self.link = LinkStatus()
        self._clock = clock
        self._bus = bus
        self._announcer_stirred = asyncio.Event()
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
        try:
            await self.unit.start(self.credentials.link)
            self._serving = True
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_link())
                group.create_task(self._answer())
                group.create_task(self._announce())
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
        self.link.credentials_changed()
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
        self.link.credentials_changed()
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
            return {"in_service": False}
        session = self.link.session
        return {
            "in_service": True,
            **self.link.report(),
            "medium": self.unit.medium,
            "link": self.link.detail,
            "session": None
            if session is None
            else {
                "peer": session.peer,
                "since": jst(session.since).isoformat(timespec="seconds"),
                "expires": jst(session.expires).isoformat(timespec="seconds"),
            },
            "counters": {
                **self.link.counters,
                **self.unit.counters,
                **self.node.counters,
                **self.announcer.counters,
            },
        }

    async def _follow_link(self) -> None:
        async for event in self.unit.events():
            self.link.follow(event, self._clock.wall())
            self._log(event)
            if self._bus is not None:
                self._bus.publish(event)
            now = self._clock.monotonic()
            match event:
                case AuthOk(peer):
                    self.node.reset_session()
                    self.announcer.authenticated(peer, now)
                case LinkStarted():
                    self.started.set()
                    self.announcer.peer_gone(now)
                case PeerLeft() | SessionExpired() | UnitFault() | LinkStartFailed():
                    self.announcer.peer_gone(now)
                case _:
                    continue
            self._announcer_stirred.set()

    async def _answer(self) -> None:
        while True:
            datagram = await self.unit.recv()
            payload = datagram.payload
            if self.credentials is None:
                continue
            answer = self.node.handle(payload)
            if answer is not None:
                await self._send(answer, datagram.peer)
            elif len(payload) >= 12 and payload[10] == Esv.INFC_RES:
                self.announcer.infc_answered(int.from_bytes(payload[2:4], "big"))
                self._announcer_stirred.set()
            self.check_statuses()  # the home may have set one, with or without an answer

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
