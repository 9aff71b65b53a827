"""The PANA session of a module: joining, its life, its end, in either role.

Owns who is admitted, until when, and which key goes with it. The messages themselves are
``join``'s; how they get on air is the core's, which hands each :class:`PanaMessage` back through
:meth:`PanaSession.sent` once it has left, because an outcome holds only from then on.

A meter (agent) serves one HEMS at a time: while one is joined or joining, others are refused.

Source: SKSTACK-IP command manuals as quoted by public client code; RFC 5191 for the life cycle.
"""

import random
from collections import deque
from dataclasses import dataclass, replace

from meter_runtime.bench.air.pace import AirPace
from meter_runtime.bench.module.join import (
    Admitted,
    Authenticator,
    Kind,
    Message,
    Rejected,
    Step,
    Supplicant,
    decode,
)
from meter_runtime.bench.module.registers import Reg
from meter_runtime.bench.module.state import ModuleState
from meter_runtime.comm.skstack.replies import EventNumber

REAUTHENTICATE_AT = 0.8
"""A PaC re-authenticates after this share of the session's life."""

MAX_WAITING_MESSAGES = 16


@dataclass(frozen=True, slots=True)
class Ended:
    """The session ends once the answer to the peer's TERMINATE has been sent."""


@dataclass(frozen=True, slots=True)
class PanaMessage:
    """A UDP-716 payload for the core to send, and what holds once it has been."""

    peer: str
    payload: bytes
    outcome: Admitted | Rejected | Ended | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """An EVENT for the host about this peer."""

    number: EventNumber
    peer: str


@dataclass(frozen=True, slots=True)
class Session:
    """An admitted peer."""

    peer: str
    session_id: int
    key_id: bytes
    expires_at: float
    renew_at: float | None


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A join in progress."""

    peer: str
    machine: Supplicant | Authenticator
    give_up_at: float
    renewal: bool


class PanaSession:
    """The one session of a module."""

    def __init__(self, state: ModuleState, rng: random.Random, pace: AirPace) -> None:
        self._state = state
        self._rng = rng
        self._pace = pace
        self.reset()

    def reset(self) -> None:
        """Forget session, attempts and role; the peer is not told."""
        self.is_agent = False
        self.current: Session | None = None
        self._attempt: _Attempt | None = None
        self._expired = False
        self._leaving: tuple[str, float] | None = None
        self._waiting: deque[tuple[float, PanaMessage]] = deque()

    @property
    def joining(self) -> bool:
        """We are a PaC whose join is under way."""
        return self._attempt is not None and isinstance(self._attempt.machine, Supplicant)

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
        times = [ready_at for ready_at, _ in self._waiting]
        if self._attempt is not None:
            times.append(self._attempt.give_up_at)
        if self._leaving is not None:
            times.append(self._leaving[1])
        if self.current is not None:
            times.append(self.current.expires_at)
            if self.current.renew_at is not None and not self.joining:
                times.append(self.current.renew_at)
        return min(times, default=None)

    def serve(self) -> None:
        """SKSTART: admit PaCs from now on."""
        self.is_agent = True

    def join(self, peer: str, now: float) -> bool:
        """SKJOIN: begin anew with a PAA; False without credentials or while joining."""
        if self._state.credentials is None or self.joining or self.is_agent:
            return False
        self.current = None
        self._begin(peer, 0, now)
        return True

    def rejoin(self, now: float) -> bool:
        """SKREJOIN: re-authenticate; False where there is no session to renew."""
        if self.current is None or self.is_agent or self.joining:
            return False
        if self._state.credentials is None:
            return False
        self._begin(self.current.peer, self.current.session_id, now)
        return True

    def terminate(self, now: float) -> bool:
        """SKTERM: end the session from our side; False where there is none."""
        if self.current is None:
            return False
        peer, session_id = self.current.peer, self.current.session_id
        self.current = None
        self._attempt = None
        self._leaving = (peer, now + self._pace.terminate_patience_s)
        self._post(peer, Message(Kind.TERMINATE, session_id), None, now)
        return True

    def receive(self, peer: str, payload: bytes, now: float) -> list[Notice]:
        """A UDP-716 datagram came."""
        message = decode(payload)
        if message is None:
            return []
        match message.kind:
            case Kind.TERMINATE:
                session = self.current
                if session is not None and (session.peer, session.session_id) == (
                    peer,
                    message.session_id,
                ):
                    self._post(peer, Message(Kind.TERMINATED, message.session_id), Ended(), now)
                return []
            case Kind.TERMINATED:
                if self._leaving is None or self._leaving[0] != peer:
                    return []
                self._leaving = None
                return [Notice(EventNumber.TERMINATED, peer)]
            case Kind.INITIATE | Kind.REAUTHENTICATE:
                if not self._admit(peer, message, now):
                    return []
            case _:
                pass
        if self._attempt is None or self._attempt.peer != peer:
            return []
        step = self._attempt.machine.receive(message)
        return self._take(peer, step, now)

    def sent(self, message: PanaMessage, now: float) -> list[Notice]:
        """A message handed out by :meth:`tick` left the air, acknowledged or not."""
        if message.outcome is None:
            return []
        return self._conclude(message.peer, message.outcome, now)

    def tick(self, now: float) -> tuple[list[PanaMessage], list[Notice]]:
        """Messages that are ready, and what time brought about."""
        notices: list[Notice] = []
        attempt = self._attempt
        if attempt is not None and now >= attempt.give_up_at:
            self._attempt = None
            notices.append(Notice(EventNumber.PANA_FAILED, attempt.peer))
        if self._leaving is not None and now >= self._leaving[1]:
            notices.append(Notice(EventNumber.TERMINATE_TIMED_OUT, self._leaving[0]))
            self._leaving = None
        notices.extend(self._age(now))
        ready: list[PanaMessage] = []
        while self._waiting and self._waiting[0][0] <= now:
            ready.append(self._waiting.popleft()[1])
        return ready, notices

    def _age(self, now: float) -> list[Notice]:
        session = self.current
        if session is None:
            return []
        if now >= session.expires_at:
            self.current = None
            self._expired = True
            return [Notice(EventNumber.SESSION_EXPIRED, session.peer)]
        if session.renew_at is not None and now >= session.renew_at and not self.joining:
            self.current = replace(session, renew_at=None)
            if self._state.registers[Reg.AUTO_REAUTH]:
                self.rejoin(now)
        return []

    def _begin(self, peer: str, session_id: int, now: float) -> None:
        credentials = self._state.credentials
        if credentials is None:
            return
        supplicant = Supplicant(credentials, self._rng, session_id)
        give_up_at = now + self._pace.join_patience_s
        self._attempt = _Attempt(peer, supplicant, give_up_at, renewal=session_id != 0)
        self._post(peer, supplicant.begin(), None, now, think=False)

    def _admit(self, peer: str, message: Message, now: float) -> bool:
        """Open a join that a PaC asks for; False where this one may not."""
        credentials = self._state.credentials
        if not self.is_agent or credentials is None:
            return False
        renewal = message.kind is Kind.REAUTHENTICATE
        others = {entry.peer for entry in (self.current, self._attempt) if entry is not None}
        stranger = renewal and (
            self.current is None or self.current.session_id != message.session_id
        )
        if others - {peer} or stranger:
            self._post(peer, Message(Kind.REFUSE, message.session_id), None, now)
            return False
        machine = Authenticator(credentials, self._rng, self._state.lifetime_s)
        self._attempt = _Attempt(peer, machine, now + self._pace.join_patience_s, renewal)
        return True

    def _take(self, peer: str, step: Step, now: float) -> list[Notice]:
        if step.answer is not None:
            self._post(peer, step.answer, step.outcome, now)
            return []
        if step.outcome is None:
            return []
        return self._conclude(peer, step.outcome, now)

    def _conclude(
        self, peer: str, outcome: Admitted | Rejected | Ended, now: float
    ) -> list[Notice]:
        if isinstance(outcome, Ended):
            self.current = None
            return [Notice(EventNumber.SESSION_CLOSED_BY_PEER, peer)]
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return []
        if isinstance(outcome, Rejected):
            if attempt.renewal:
                self.current = None
            return [Notice(EventNumber.PANA_FAILED, peer)]
        self._expired = False
        self._leaving = None
        self.current = Session(
            peer,
            outcome.session_id,
            outcome.key_id,
            expires_at=now + outcome.lifetime_s,
            renew_at=None if self.is_agent else now + REAUTHENTICATE_AT * outcome.lifetime_s,
        )
        return [Notice(EventNumber.PANA_DONE, peer)]

    def _post(
        self,
        peer: str,
        message: Message,
        outcome: Admitted | Rejected | Ended | None,
        now: float,
        *,
        think: bool = True,
    ) -> None:
        if len(self._waiting) >= MAX_WAITING_MESSAGES:
            return
        ready_at = now + (self._pace.think_s(self._rng) if think else 0.0)
        if self._waiting:
            ready_at = max(ready_at, self._waiting[-1][0])
        self._waiting.append((ready_at, PanaMessage(peer, message.encode(), outcome)))
