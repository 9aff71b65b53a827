"""An uplink, the load profile it tells, and a head-end behind a line that loses and reorders."""

import heapq
import itertools
import random
from dataclasses import dataclass, field

from meter_runtime.aroute.messages import Mark, Readings, decode, encode
from meter_runtime.aroute.uplink import Kind, Outgoing, ReadingsLost, Uplink
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.ring import Record
from meter_runtime.storage.uplink_state import UplinkStateStore

FIRST = 990_000
METER = "M1"


class Profile:
    """A load profile in memory: what is in it, and what was ever true."""

    def __init__(self, depth: int = 600) -> None:
        self.depth = depth
        self.two_way: bool | None = True
        self.truth: dict[str, dict[int, int]] = {}
        self.forgotten: dict[tuple[str, int], int] = {}
        self.serial: str | None = None
        self._value = 1000
        self.begin("A")

    def begin(self, serial: str, first: int = FIRST) -> None:
        self.serial = serial
        self.first_slot = first
        self._held: dict[int, Record] = {}
        for slot in [s for s in self.truth.setdefault(serial, {}) if s >= first]:
            del self.truth[serial][slot]

    @property
    def newest(self) -> int | None:
        return max((record.slot for record in self._held.values()), default=None)

    @property
    def records(self) -> dict[int, Record]:
        """What is not hidden behind the newest, as in the ring."""
        return {r.slot: r for r in self._held.values() if r.slot >= self.reach}

    @property
    def hidden(self) -> set[int]:
        return {record.slot for record in self._held.values() if record.slot < self.reach}

    @property
    def reach(self) -> int:
        newest = self.newest
        return self.first_slot if newest is None else max(self.first_slot, newest - self.depth + 1)

    def record(self, slot: int) -> Record | None:
        held = self._held.get(slot % self.depth)
        return held if held is not None and held.slot == slot >= self.reach else None

    def store(self, slot: int) -> None:
        self._value += 1
        assert self.serial is not None
        over = self._held.get(slot % self.depth)
        if over is not None and over.slot != slot - self.depth:
            self._forget(over.slot)  # overwritten by a clock far ahead
        self._held[slot % self.depth] = Record(slot, self._value, 0)
        self.truth[self.serial][slot] = self._value

    def withdraw(self, slots: list[int]) -> None:
        assert self.serial is not None
        for slot in slots:
            del self._held[slot % self.depth]
            del self.truth[self.serial][slot]
            self._forget(slot - self.depth)

    def _forget(self, slot: int) -> None:
        """It was overwritten, and what overwrote it went: nothing tells it from one never taken."""
        assert self.serial is not None
        value = self.truth[self.serial].pop(slot, None)
        if value is not None:
            self.forgotten[self.serial, slot] = value


@dataclass
class Kept:
    """What the head-end has of one unit."""

    begins: int
    runs: list[tuple[int, int]] = field(default_factory=list)
    """Told by the chain, joined where they touch."""
    highest: int = 0
    rows: dict[int, tuple[int, int | None]] = field(default_factory=dict)
    chained: set[int] = field(default_factory=set)

    @property
    def upto(self) -> int:
        """The end of the run in which the first message began."""
        return next(upto for after, upto in self.runs if after <= self.begins <= upto)

    def join(self, after: int, upto: int) -> None:
        touching = [run for run in self.runs if run[0] <= upto and run[1] >= after]
        joined = [*touching, (after, upto)]
        self.runs = [run for run in self.runs if run not in touching]
        self.runs.append((min(a for a, _ in joined), max(u for _, u in joined)))


class HeadEnd:
    """Stores by the rules of ``messages``: per slot the higher sequence; marks what is whole."""

    def __init__(self, profile: Profile) -> None:
        self.units: dict[str, Kept] = {}
        self.histories: list[Readings] = []
        self.taken = 0
        """True values that a message without them erased."""
        self._profile = profile

    def take(self, outgoing: Outgoing) -> Mark | None:
        readings = decode(encode(outgoing.readings), Readings)
        kept = self.units.get(readings.unit)
        if kept is None:
            begins = (readings.after, readings.after)
            kept = self.units[readings.unit] = Kept(readings.after, [begins])
        told = {reading.slot: reading.forward_dwh for reading in readings.readings}
        assert all(readings.after < slot <= readings.upto for slot in told)
        truth = self._profile.truth[readings.unit]
        for slot in range(readings.after + 1, readings.upto + 1):
            sequence, before = kept.rows.get(slot, (-1, None))
            if readings.sequence > sequence:
                value = told.get(slot)
                # What came by a history only may lie in a gap, and that is told as nothing.
                taken = before is not None and value is None and slot in kept.chained
                self.taken += taken and truth.get(slot) == before
                kept.rows[slot] = (readings.sequence, value)
                if outgoing.kind is Kind.CHAIN:
                    kept.chained.add(slot)
        kept.highest = max(kept.highest, readings.sequence)
        if outgoing.kind is Kind.HISTORY:
            self.histories.append(readings)
            return None
        kept.join(readings.after, readings.upto)
        return self.mark(readings.unit, resend=kept.upto < readings.upto)

    def mark(self, unit: str, *, resend: bool = False) -> Mark:
        kept = self.units[unit]
        return Mark(unit=unit, upto=kept.upto, sequence=kept.highest, resend=resend)


class World:
    """Time passes by :meth:`run` only."""

    def __init__(self, seed: int = 1, depth: int = 600, jitter_s: float = 20.0) -> None:
        self.rng = random.Random(seed)
        self.now = 5000.0
        self.profile = Profile(depth)
        self.head_end = HeadEnd(self.profile)
        self.media = MemoryMedia(UplinkStateStore.size_for(1))
        self.forgot = False
        self.jitter_s = jitter_s
        self.online = False
        self.loss = 0.0
        self.duplication = 0.0
        self.delay_s = 0.5
        self.disturbed = False
        self.refusals = 0.0
        self.messages: list[tuple[float, Outgoing]] = []
        self.losses: list[ReadingsLost] = []
        self.written_off: set[int] = set()
        self._line: list[tuple[float, int, Outgoing | Mark]] = []
        self._order = itertools.count()
        self.uplink = self.boot()
        self.disturbed = False

    def forget(self) -> None:
        """The state is lost with the power, and what was on the line."""
        self._line.clear()
        self.media = MemoryMedia(UplinkStateStore.size_for(1))
        self.forgot = True
        self.boot()

    def boot(self) -> Uplink:
        """The meter after a power cut."""
        self.uplink = Uplink(
            self.profile,
            UplinkStateStore(self.media),
            METER,
            jitter_s=self.jitter_s,
            rng=random.Random(self.rng.random()),
        )
        self.disturbed = True
        self.written_off |= self.profile.hidden
        if self.online:
            self.connect()
        return self.uplink

    def connect(self) -> None:
        """The broker is there, and has a retained mark."""
        self.online = True
        self.uplink.connected(self.now)
        if self.profile.serial in self.head_end.units:
            self._send(self.head_end.mark(self.profile.serial))

    def disconnect(self) -> None:
        self.online = False
        self.uplink.lost()

    def boundary(self, slot: int) -> None:
        self.profile.store(slot)
        self.uplink.stored(slot, self.now)

    def boundaries(self, number: int) -> None:
        newest = self.profile.newest
        first = self.profile.first_slot if newest is None else newest + 1
        for slot in range(first, first + number):
            self.boundary(slot)

    def withdraw(self, slots: list[int]) -> None:
        self.profile.withdraw(slots)
        self.uplink.withdrawn(tuple(slots), self.now)

    def run(self, seconds: float) -> None:
        """Let the meter speak and the line carry, for so long."""
        until = self.now + seconds
        turns = 0
        while True:
            turns += 1
            assert turns < 20 * seconds + 1000, "the uplink spins"
            outgoing = self.uplink.due(self.now, self.now)
            self.losses += self.uplink.losses()
            if outgoing is not None:
                taken = self.rng.random() >= self.refusals
                if taken:
                    self.messages.append((self.now, outgoing))
                    self._send(outgoing)
                self.uplink.sent(outgoing, taken, self.now)
                continue
            deadline = self.uplink.next_deadline()
            assert deadline is None or deadline > self.now
            waits = [until, *([deadline] if deadline is not None else [])]
            waits += [self._line[0][0]] if self._line else []
            self.now = max(self.now, min(waits))
            while self._line and self._line[0][0] <= self.now:
                self._arrive(heapq.heappop(self._line)[2])
            if self.now >= until:
                return

    def heal(self) -> None:
        """Nothing disturbs any more: everything that can be told is told."""
        self.loss = self.duplication = self.refusals = 0.0
        if not self.online:
            self.connect()
        self.run(6000)

    def check(self) -> None:
        """The head-end has what the meter has, and nothing that is not true."""
        serial = self.profile.serial
        assert serial is not None
        assert self.uplink.queued == 0
        newest = self.profile.newest
        if newest is None and serial not in self.head_end.units:
            return
        rows = self.head_end.units[serial].rows
        has = {slot: value for slot, (_, value) in rows.items() if value is not None}
        stored = {slot: record.forward_dwh for slot, record in self.profile.records.items()}
        known = {
            slot: value
            for slot, value in has.items()
            if slot >= self.profile.reach
            and self.profile.forgotten.get((serial, slot)) != value
            # A meter that forgot what it said cannot take it back before its time comes.
            and not (self.forgot and slot > (newest or 0))
        }
        # What the newest hides at a restart may come to light again after it, untold.
        found = {s: v for s, v in stored.items() if s in known or s not in self.written_off}
        assert known == found
        # It may happen where a restart, or marks a hundred seconds late, come between a jump over
        # what the ring let go and the head-end's question, and the ring turns on meanwhile.
        assert not self.head_end.taken or self.disturbed

    def _send(self, thing: Outgoing | Mark) -> None:
        self.disturbed |= self.delay_s > 10
        copies = 1 + (self.rng.random() < self.duplication)
        for _ in range(copies):
            if self.rng.random() >= self.loss:
                at = self.now + self.rng.uniform(0.01, self.delay_s)
                heapq.heappush(self._line, (at, next(self._order), thing))

    def _arrive(self, thing: Outgoing | Mark) -> None:
        match thing:
            case Outgoing():
                mark = self.head_end.take(thing)
                if mark is not None:
                    self._send(mark)
            case Mark() if self.online:
                self.uplink.mark(thing, self.now)
            case Mark():
                pass
