"""The load profile against a dictionary: one record a place, the newest hides what is too old."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.ring import RECORD_SIZE, Flag, Record, Ring

DEPTH = 8
INTERVAL_S = 7200
SIZE = Ring.size_for(DEPTH, 1)
HEADER = SIZE - DEPTH * RECORD_SIZE
NOW = 248_611

energies = st.integers(0, (1 << 40) - 1)
flags = st.integers(0, 15).map(Flag)
near = st.integers(-DEPTH - 2, DEPTH + 2)
far = st.sampled_from((-1000, 100, 1000, 16 * DEPTH))


class BrittleMedia(MemoryMedia):
    """Fails on request: before a write, in the middle of it, or at the flush."""

    fails: str | None = None

    def write(self, offset: int, data: bytes) -> None:
        if self.fails == "torn":
            super().write(offset, data[: len(data) // 2])
        if self.fails in {"write", "torn"}:
            raise MeterError("card: cannot write: gone; replace it")
        super().write(offset, data)

    def flush(self) -> None:
        if self.fails == "flush":
            raise MeterError("card: cannot write: gone; replace it")


class RingAgainstDictionary(RuleBasedStateMachine):
    """What a ring has taken in, by place; what is on the medium besides is nobody's."""

    def __init__(self) -> None:
        super().__init__()
        self.media = BrittleMedia(SIZE)
        self.units = 0
        self.places: dict[int, Record] = {}
        self.first_slot = NOW
        self.vain: dict[int, list[Record]] = {}
        """Written in vain since, by place: one may be found after a restart, being true."""
        self.ring = self.open(NOW)

    def open(self, at_slot: int) -> Ring:
        return Ring.open(self.media, INTERVAL_S, DEPTH, f"U{self.units}", at_slot)

    @property
    def newest(self) -> int | None:
        return max((record.slot for record in self.places.values()), default=None)

    def expected(self) -> list[Record]:
        newest = self.newest
        shown = [] if newest is None else self.places.values()
        return sorted((r for r in shown if r.slot > (newest or 0) - DEPTH), key=lambda r: r.slot)

    def take(self, record: Record) -> bool:
        """The rules of an append, and its effect on the dictionary."""
        newest = self.newest
        if newest is None:
            self.first_slot = min(self.first_slot, record.slot)
        there = self.places.get(record.slot % DEPTH)
        refused = (
            record.slot < self.first_slot
            or (newest is not None and record.slot <= newest - DEPTH)
            or (there is not None and there.slot == record.slot)
        )
        if not refused:
            self.places[record.slot % DEPTH] = record
        return not refused

    def slot(self, ahead: int) -> int:
        return max(0, (self.newest or NOW) + ahead)

    @rule(ahead=near | far, forward=energies, reverse=energies, flags=flags)
    def append(self, ahead: int, forward: int, reverse: int, flags: Flag) -> None:
        record = Record(self.slot(ahead), forward, reverse, flags)
        assert self.ring.append(record.slot, forward, reverse, flags) is self.take(record)
        self.settle([record])

    @rule(aheads=st.lists(near, max_size=12), forward=energies)
    def extend(self, aheads: list[int], forward: int) -> None:
        base = self.slot(0)
        batch = [Record(base + ahead, forward, n) for n, ahead in enumerate(aheads)]
        stored = self.ring.extend(batch)
        assert stored == [record for record in batch if self.take(record)]
        self.settle(stored)

    def settle(self, stored: list[Record]) -> None:
        for record in stored:
            if self.places.get(record.slot % DEPTH) == record:
                self.vain.pop(record.slot % DEPTH, None)

    @rule(back=st.sets(st.integers(-2, DEPTH + 2), max_size=4))
    def withdraw(self, back: set[int]) -> None:
        slots = {self.slot(-n) for n in back}
        self.forget(slots)

    @precondition(lambda self: any(r not in self.expected() for r in self.places.values()))
    @rule()
    def withdraw_what_is_ahead(self) -> None:
        self.forget({record.slot for record in self.expected()})

    def forget(self, slots: set[int]) -> None:
        gone = {place: r for place, r in self.places.items() if r.slot in slots}
        for place in gone:
            del self.places[place]
        for slot in slots:
            # What memory holds is written over what may have been written in vain.
            self.vain.pop(slot % DEPTH, None)
        assert self.ring.withdraw(slots) == sorted(gone.values(), key=lambda r: r.slot)

    @rule(ahead=st.integers(1, DEPTH), how=st.sampled_from(["write", "torn", "flush"]))
    def fail(self, ahead: int, how: str) -> None:
        if self.newest is None:
            return
        record = Record(self.slot(ahead), 4, 4)
        self.media.fails = how
        try:
            self.ring.append(record.slot, 4, 4)
        except MeterError:
            self.vain.setdefault(record.slot % DEPTH, []).append(record)
        else:
            raise AssertionError("a vain write was called stored")
        finally:
            self.media.fails = None

    @rule()
    def reopen(self) -> None:
        self.ring = self.open(self.slot(0))
        for place, tried in self.vain.items():
            found = self.on_medium(place)
            known = self.places.pop(place, None)
            if found is not None:
                assert found in [known, *tried]
                self.places[place] = found
        self.vain.clear()

    def on_medium(self, place: int) -> Record | None:
        """The place's record, whatever newer ones hide."""
        alone = MemoryMedia(SIZE)
        alone.write(0, self.media.read(0, HEADER))
        at = HEADER + place * RECORD_SIZE
        alone.write(at, self.media.read(at, RECORD_SIZE))
        return Ring.open(alone, INTERVAL_S, DEPTH, f"U{self.units}").newest()

    @rule(back=st.integers(0, 3))
    def swap_unit(self, back: int) -> None:
        at_slot = self.slot(-back)
        previous = self.ring.serial
        self.units += 1
        self.places, self.vain, self.first_slot = {}, {}, at_slot
        self.ring = self.open(at_slot)
        assert self.ring.replaced
        assert self.ring.previous_serial == previous

    @rule()
    def lose_the_header(self) -> None:
        at_slot = self.slot(0)
        records = self.media.read(HEADER, SIZE - HEADER)
        self.media.write(0, bytes(HEADER))
        self.places, self.vain, self.first_slot = {}, {}, at_slot
        self.ring = self.open(at_slot)
        assert self.ring.header_lost is any(records)

    @precondition(lambda self: self.places and not self.vain)
    @rule(data=st.data(), at=st.integers(0, RECORD_SIZE - 1), mask=st.integers(1, 255))
    def damage(self, data: st.DataObject, at: int, mask: int) -> None:
        place = data.draw(st.sampled_from(sorted(self.places)))
        at += HEADER + place * RECORD_SIZE
        self.media.write(at, bytes((self.media.read(at, 1)[0] ^ mask,)))
        del self.places[place]
        self.ring = self.open(self.slot(0))
        assert self.ring.corrupt >= 1

    @invariant()
    def serves_what_the_dictionary_has(self) -> None:
        served = list(self.ring.records())
        assert served == self.expected()
        assert self.ring.first_slot == self.first_slot
        assert len(self.ring) == len(served) <= DEPTH
        assert self.ring.oldest() == (served[0] if served else None)
        assert self.ring.newest() == (served[-1] if served else None)
        for record in self.places.values():
            assert self.ring.get(record.slot) == (record if record in served else None)
            assert self.ring.get(record.slot + DEPTH) is None


TestRingAgainstDictionary = RingAgainstDictionary.TestCase
TestRingAgainstDictionary.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None
)
