"""Both ends of PANA and a wire between them, in virtual time, with a life to lead on it."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

from meter_runtime.comm.auth.paa import PaaSession
from meter_runtime.comm.auth.pac import PacSession
from meter_runtime.comm.auth.pana_events import Authenticated, SessionEvent, Terminated

PSK = bytes.fromhex("0123456789abcdef0123456789abcdef")
OTHER_PSK = bytes(16)
ID_S = b"SM" + b"0" * 32
ID_P = b"HEMS" + b"0" * 32
LATENCY_S = 0.01
LIFETIME_S = 86_400
PAC, PAA = "pac", "paa"
JOINED = Authenticated(LIFETIME_S, again=False)
RENEWED = Authenticated(LIFETIME_S, again=True)
QUIET_S = 300.0
"""Longer than anybody repeats anything."""
STORY_LENGTH = 19
"""Nine datagrams to join, eight to renew, two to leave."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """One datagram as it was sent."""

    at: float
    sender: str
    data: bytes


Meddle = Callable[[int, Crossing], list[tuple[float, bytes]]]
"""What becomes of the n-th datagram: the copies that arrive, each with its delay."""


def deliver(_: int, crossing: Crossing) -> list[tuple[float, bytes]]:
    return [(0.0, crossing.data)]


def lose(_: int, __: Crossing) -> list[tuple[float, bytes]]:
    return []


def only(position: int, fate: Meddle) -> Meddle:
    def meddle(index: int, crossing: Crossing) -> list[tuple[float, bytes]]:
        return (fate if index == position else deliver)(index, crossing)

    return meddle


def late(delay_s: float) -> Meddle:
    return lambda _, crossing: [(delay_s, crossing.data)]


def doubled(delay_s: float) -> Meddle:
    return lambda _, crossing: [(0.0, crossing.data), (delay_s, crossing.data)]


class PanaRoom:
    """A client that joins at time 0, and the session that its PCI begins."""

    def __init__(
        self,
        *,
        pac_psk: bytes = PSK,
        paa_psk: bytes = PSK,
        admitted: bytes | None = ID_P,
        reauthenticate: bool = False,
        lifetime_s: int = LIFETIME_S,
        meddle: Meddle = deliver,
        seed: int = 1,
    ) -> None:
        self.now = 0.0
        self.meddle = meddle
        self.crossings: list[Crossing] = []
        self.events: dict[str, list[SessionEvent]] = {PAC: [], PAA: []}
        self._rng = random.Random(seed)
        self._paa_psk, self._admitted, self._lifetime_s = paa_psk, admitted, lifetime_s
        self._under_way: list[tuple[float, int, str, bytes]] = []
        self._order = itertools.count()
        self.pac = PacSession(pac_psk, ID_P, self._rng, 0.0, reauthenticate=reauthenticate)
        self._paa: PaaSession | None = None

    @property
    def paa(self) -> PaaSession:
        assert self._paa is not None, "no PCI has arrived"
        return self._paa

    @property
    def has_agent(self) -> bool:
        return self._paa is not None

    def run(self, duration_s: float) -> None:
        """Everything that happens in so many seconds."""
        end = self.now + duration_s
        for _ in range(5000):
            self._collect()
            due = self._next_due()
            if due is None or due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            self._arrive()
            self.pac.tick(self.now)
            if self._paa is not None:
                self._paa.tick(self.now)
        raise AssertionError(f"an end is busy for ever at {self.now} s")

    def receive(self, receiver: str, data: bytes) -> None:
        """A datagram arrives at an end, whoever sent it."""
        if receiver == PAC:
            self.pac.receive(data, self.now)
        elif self._paa is not None:
            self._paa.receive(data, self.now)
        else:
            self._paa = PaaSession(
                self._paa_psk,
                ID_S,
                self._lifetime_s,
                self._rng,
                self.now,
                peer_id=self._admitted,
            )

    def sent_by(self, sender: str) -> list[bytes]:
        return [crossing.data for crossing in self.crossings if crossing.sender == sender]

    def _collect(self) -> None:
        ends = [(PAC, PAA, self.pac)] + ([(PAA, PAC, self._paa)] if self._paa else [])
        for sender, receiver, session in ends:
            self.events[sender] += session.take_events()
            for data in session.take_output():
                crossing = Crossing(self.now, sender, data)
                copies = self.meddle(len(self.crossings), crossing)
                self.crossings.append(crossing)
                for delay_s, copy in copies:
                    at = self.now + LATENCY_S + delay_s
                    heapq.heappush(self._under_way, (at, next(self._order), receiver, copy))

    def _next_due(self) -> float | None:
        times = [self.pac.next_deadline(), self._paa.next_deadline() if self._paa else None]
        times += [self._under_way[0][0]] if self._under_way else []
        return min((time for time in times if time is not None), default=None)

    def _arrive(self) -> None:
        while self._under_way and self._under_way[0][0] <= self.now:
            *_, receiver, data = heapq.heappop(self._under_way)
            self.receive(receiver, data)


def joined(**options: object) -> PanaRoom:
    room = PanaRoom(**options)  # type: ignore[arg-type]
    room.run(5)
    assert room.pac.is_open
    assert room.paa.is_open
    return room


def agree(room: PanaRoom) -> bool:
    return room.pac.key == room.paa.key is not None


def live(room: PanaRoom, leave: str = PAC) -> None:
    """Join, renew, leave: the same at both ends whatever happens on the way."""
    room.run(QUIET_S)
    assert agree(room)
    first = room.pac.key
    room.pac.reauthenticate(room.now)
    room.run(QUIET_S)
    assert agree(room)
    assert room.pac.key != first
    leaver = room.pac if leave == PAC else room.paa
    leaver.terminate(room.now)
    room.run(QUIET_S)
    for name in (PAC, PAA):
        assert room.events[name] == [JOINED, RENEWED, Terminated(by_peer=name != leave)]
    assert room.pac.is_over
    assert room.paa.is_over
    assert room.pac.next_deadline() is room.paa.next_deadline() is None
