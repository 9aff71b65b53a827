"""The PANA session of a module: joining, its life, its end, in either role.

Owns who is admitted, until when, and which key goes with it. The exchange itself is
``comm.auth``'s; how its messages get on air is the core's, which hands each :class:`PanaMessage`
back through :meth:`PanaSession.sent` once it has left, because what it brings about holds only
from then on.

A meter (agent) serves one HEMS at a time. While one is joined or joining, others get no answer:
PANA can refuse only in clear, and what is sent in clear could be forged to keep a home out. A
refused HEMS gives up by itself; should the place become free before that, it is admitted. One that
fails again and again meets silence for a while, too (:class:`JoinBackOff`); whether real modules do
that is *unverified*.

Source: SKSTACK-IP command manuals as quoted by public client code; RFC 5191 for the life cycle.
"""

import random
from collections import deque
from dataclasses import dataclass, field, replace

from meter_runtime.bench.air.pace import AirPace
from meter_runtime.bench.module.join import Association, PanaMessage
from meter_runtime.bench.module.registers import Reg
from meter_runtime.bench.module.state import ModuleState
from meter_runtime.comm.auth.back_off import JoinBackOff
from meter_runtime.comm.auth.paa import PaaSession
from meter_runtime.comm.auth.pac import PacSession
from meter_runtime.comm.auth.pana_events import (
    REAUTHENTICATE_AT,
    Authenticated,
    Expired,
    NoAnswer,
    Rejected,
    SessionEvent,
    Terminated,
    peer_id,
    server_id,
)
from meter_runtime.comm.auth.pana_message import Flag, MalformedPana, Message, Type, parse
from meter_runtime.comm.skstack.replies import EventNumber

MAX_WAITING_MESSAGES = 16
"""Datagrams that may wait to be computed over; more are lost, and repeated by the peer."""

RESTART_AFTER_S = 3.0
"""A PaC that asks anew during a join has restarted if its join was silent for so long; before,
the question is a repeat or a straggler."""


@dataclass(frozen=True, slots=True)
class Notice:
    """An EVENT for the host about this peer."""

    number: EventNumber
    peer: str


@dataclass(frozen=True, slots=True)
class Session:
    """An admitted peer."""

    association: Association = field(repr=False)
    key_id: bytes | None
    renew_at: float | None
    """When a PaC re-authenticates; None for an agent, and once it has tried."""

    @property
    def peer(self) -> str:
        return self.association.peer

    @property
    def expires_at(self) -> float | None:
        return self.association.machine.expires_at


@dataclass(frozen=True, slots=True)
class _Letter:
    """A datagram that the module computes over until ``ready_at``."""

    ready_at: float
    peer: str
    message: Message
    payload: bytes


class PanaSession:
    """The one session of a module."""

    def __init__(self, state: ModuleState, rng: random.Random, pace: AirPace) -> None:
        self._state = state
        self._rng = rng
        self._pace = pace
        self.back_off = JoinBackOff()
        self._psk: bytes | None = None
        self.reset()

    def reset(self) -> None:
        """Forget session, attempts and role; the peer is not told."""
        self.is_agent = False
        self.back_off.reset()
        self.current: Session | None = None
        self._attempt: Association | None = None
        self._leaving: Association | None = None
        self._former: Association | None = None
        self._expired = False
        self._inbox: deque[_Letter] = deque()
        self._stirred_at: float | None = None

    @property
    def joining(self) -> bool:
        """We are a PaC whose authentication, the first or another, is under way."""
        renewing = self.current is not None and self.current.association.give_up_at is not None
        return not self.is_agent and (self._attempt is not None or renewing)

    @property
    def may_send(self) -> bool:
        """Host datagrams pass: not between SKJOIN, or EVENT 29, and EVENT 25."""
        return not self.joining and not self._expired

    def key_for(self, peer: str | None) -> bytes | None:
        """The key's name towards a peer, or with None towards everybody in the session."""
        if self.current is not None and peer in (None, self.current.peer):
            return self.current.key_id
        return None

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do."""
        times = [self._stirred_at, self._inbox[0].ready_at if self._inbox else None]
        for association in self._associations():
            times.append(association.give_up_at)
            if not self._inbox:
                times.append(association.machine.next_deadline())
        if self.current is not None and not self.joining:
            times.append(self.current.renew_at)
        return min((time for time in times if time is not None), default=None)

    # The host's wishes

    def serve(self) -> None:
        """SKSTART: admit PaCs from now on."""
        self.is_agent = True

    def join(self, peer: str, now: float) -> bool:
        """SKJOIN: begin anew with a PAA; False without credentials or while joining."""
        credentials = self._state.credentials
        if credentials is None or self.joining or self.is_agent:
            return False
        self.current = None
        machine = PacSession(
            credentials.psk, peer_id(credentials), self._rng, now, reauthenticate=False
        )
        self._attempt = Association(peer, machine, now, give_up_at=now + self._pace.join_patience_s)
        self._stirred_at = now
        return True

    def rejoin(self, now: float) -> bool:
        """SKREJOIN: re-authenticate; False where there is no session to renew."""
        session, credentials = self.current, self._state.credentials
        if session is None or credentials is None or self.is_agent or self.joining:
            return False
        association, machine = session.association, session.association.machine
        if not isinstance(machine, PacSession):
            return False
        machine.psk = credentials.psk
        machine.reauthenticate(now)
        association.give_up_at = now + self._pace.join_patience_s
        self._stirred_at = now
        return True

    def terminate(self, now: float) -> bool:
        """SKTERM: end the session from our side; False where there is none."""
        if self.current is None:
            return False
        self._leaving, self.current = self.current.association, None
        self._attempt = None
        self._leaving.machine.terminate(now)
        self._leaving.give_up_at = now + self._pace.terminate_patience_s
        self._stirred_at = now
        return True

    # The air and the time

    def receive(self, peer: str, payload: bytes, now: float) -> None:
        """A UDP-716 datagram came; what belongs to no session here is not looked at."""
        try:
            message = parse(payload)
        except MalformedPana:
            return
        known = self._home_of(peer, message) is not None or self._admits(peer, message, now)
        if not known or len(self._inbox) >= MAX_WAITING_MESSAGES:
            return
        ready_at = now if _is_quick(message) else now + self._pace.think_s(self._rng)
        if self._inbox:
            ready_at = max(ready_at, self._inbox[-1].ready_at)
        self._inbox.append(_Letter(ready_at, peer, message, payload))

    def sent(self, message: PanaMessage, now: float) -> list[Notice]:
        """A message handed out by :meth:`tick` left the air, acknowledged or not."""
        return self._conclude(message.association, message.events, now)

    def tick(self, now: float) -> tuple[list[PanaMessage], list[Notice]]:
        """Messages that are ready, and what time brought about."""
        self._stirred_at = None
        messages: list[PanaMessage] = []
        notices: list[Notice] = []
        while self._inbox and self._inbox[0].ready_at <= now:
            self._open(self._inbox.popleft(), now)
            self._collect(messages, notices, now)
        self._renew(now)
        if not self._inbox:
            # A module that computes does nothing else: what it has in hand may be the answer.
            for association in self._associations():
                association.machine.tick(now)
            self._collect(messages, notices, now)
        notices += self._give_up(now)
        return messages, notices

    # Who is who

    def _associations(self) -> list[Association]:
        current = self.current.association if self.current is not None else None
        known = (self._attempt, current, self._leaving, self._former)
        return [association for association in known if association is not None]

    def _home_of(self, peer: str, message: Message) -> Association | None:
        """The association that a message belongs to."""
        for association in self._associations():
            machine = association.machine
            if machine.session_id:
                belongs = machine.session_id == message.session_id
            else:
                # A PaC learns the session's number from the first request.
                belongs = bool(message.flags & Flag.START)
            if association.peer == peer and belongs and not _asks_to_join(message):
                return association
        return None

    def _admits(self, peer: str, message: Message, now: float) -> bool:
        """Whether this is the beginning of a join that may be."""
        credentials = self._state.credentials
        if not self.is_agent or credentials is None or not _asks_to_join(message):
            return False
        attempt = self._attempt
        if attempt is not None and now - attempt.heard_at < RESTART_AFTER_S:
            return False
        busy = {attempt.peer} if attempt is not None else set()
        if self.current is not None:
            busy.add(self.current.peer)
        if busy - {peer}:
            return False
        if credentials.psk != self._psk:
            self._psk = credentials.psk
            self.back_off.reset()
        return self.back_off.admits(peer, now)

    def _open(self, letter: _Letter, now: float) -> None:
        credentials = self._state.credentials
        association = self._home_of(letter.peer, letter.message)
        if association is not None:
            machine = association.machine
            if isinstance(machine, PaaSession) and credentials is not None:
                # What was rewritten holds from the next authentication on.
                machine.psk, machine.lifetime_s = credentials.psk, self._state.lifetime_s
            association.receive(letter.payload, now)
            if self.is_agent and association is self._attempt:
                association.give_up_at = now + self._pace.agent_patience_s
        elif credentials is not None and self._admits(letter.peer, letter.message, now):
            agent = PaaSession(
                credentials.psk,
                server_id(credentials),
                self._state.lifetime_s,
                self._rng,
                now,
                peer_id=peer_id(credentials),
            )
            give_up_at = now + self._pace.agent_patience_s
            self._attempt = Association(letter.peer, agent, now, give_up_at=give_up_at)

    def _collect(self, messages: list[PanaMessage], notices: list[Notice], now: float) -> None:
        """What the machines want sent; their events go with the last of it."""
        for association in self._associations():
            payloads = association.machine.take_output()
            events = tuple(association.machine.take_events())
            messages += [PanaMessage(association, payload) for payload in payloads[:-1]]
            if payloads:
                messages.append(PanaMessage(association, payloads[-1], events))
            else:
                notices += self._conclude(association, events, now)

    # What came of it

    def _renew(self, now: float) -> None:
        session = self.current
        if session is None or self.joining or session.renew_at is None or now < session.renew_at:
            return
        self.current = replace(session, renew_at=None)
        if self._state.registers[Reg.AUTO_REAUTH]:
            self.rejoin(now)

    def _give_up(self, now: float) -> list[Notice]:
        """End what took too long."""
        notices = []
        for association in self._associations():
            if association.give_up_at is None or now < association.give_up_at:
                continue
            association.give_up_at = None
            if association is self._attempt:
                self._attempt = None
                # A question alone, which anybody can put, is no authentication that failed.
                if self.is_agent and not association.answered:
                    continue
                self._failed(association, now)
                notices.append(Notice(EventNumber.PANA_FAILED, association.peer))
            elif association is self._leaving:
                self._leaving = None
                notices.append(Notice(EventNumber.TERMINATE_TIMED_OUT, association.peer))
            elif isinstance(association.machine, PacSession):
                association.machine.abandon()
                notices.append(Notice(EventNumber.PANA_FAILED, association.peer))
        return notices

    def _conclude(
        self, association: Association, events: tuple[SessionEvent, ...], now: float
    ) -> list[Notice]:
        numbers = [self._follow(association, event, now) for event in events]
        return [Notice(number, association.peer) for number in numbers if number is not None]

    def _follow(
        self, association: Association, event: SessionEvent, now: float
    ) -> EventNumber | None:
        """What a session reports, as an event for the host; None where it is past."""
        if association is self._leaving:
            if isinstance(event, Authenticated):
                return None  # the host has changed its mind meanwhile
            self._leaving = None
            answered = not isinstance(event, Terminated) or event.answered
            return EventNumber.TERMINATED if answered else EventNumber.TERMINATE_TIMED_OUT
        joined = self.current is not None and association is self.current.association
        if not joined and association is not self._attempt:
            return None
        association.give_up_at = None
        if isinstance(event, Authenticated):
            self._admit(association, event, now)
            return EventNumber.PANA_DONE
        # It is over, but a peer that missed our last answer gets it again.
        self._former = association
        if joined:
            self.current = None
        else:
            self._attempt = None
        match event:
            case Terminated() if joined:
                return EventNumber.SESSION_CLOSED_BY_PEER
            case Expired() if joined:
                self._expired = True
                return EventNumber.SESSION_EXPIRED
            case NoAnswer() if self.is_agent and not association.answered:
                return None
            case Rejected() | NoAnswer() | Terminated() | Expired():
                self._failed(association, now)
                return EventNumber.PANA_FAILED

    def _failed(self, association: Association, now: float) -> None:
        if self.is_agent:
            self.back_off.failed(association.peer, now)

    def _admit(self, association: Association, event: Authenticated, now: float) -> None:
        if association is self._attempt:
            self._attempt = None
        self._leaving = self._former = None
        self._expired = False
        self.back_off.succeeded(association.peer)
        self.current = Session(
            association,
            association.key_id,
            renew_at=None if self.is_agent else now + REAUTHENTICATE_AT * event.lifetime_s,
        )


def _asks_to_join(message: Message) -> bool:
    return message.type == Type.CLIENT_INITIATION


def _is_quick(message: Message) -> bool:
    """Nothing to compute over: the last answer of an authentication, and ends of sessions."""
    if message.type == Type.TERMINATION:
        return True
    return bool(message.flags & Flag.COMPLETE) and not message.is_request
