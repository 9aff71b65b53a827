"""The life of a ring, and what it owes after a power cut."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from power import Contents, Cut, Supply, TornBelievedError

from meter_runtime.storage.ring import RECORD_SIZE, Flag, Record, Ring

DEPTH = 6
INTERVAL_S = 10_800
NOW = 165_700
FUTURE = NOW + 900 * DEPTH


@dataclass(frozen=True, slots=True)
class Fit:
    """The meter starts with this unit."""

    serial: str
    at_slot: int = NOW


@dataclass(frozen=True, slots=True)
class Extend:
    """Several boundaries at once."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Boundaries that never were; ``back`` are those they had hidden."""

    slots: tuple[int, ...]
    back: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A boundary that the ring must not take."""

    record: Record


RingStep = Fit | Record | Extend | Withdraw | Refused


def record(slot: int, flags: Flag = Flag.NONE) -> Record:
    """A boundary whose registers have something in each byte, and differ from all others."""
    return Record(slot, slot * 700_000_001 % (1 << 40), slot * 1_300_000_007 % (1 << 40), flags)


def extend(*slots: int) -> Extend:
    return Extend(tuple(record(slot) for slot in slots))


WRAP_AROUND: tuple[RingStep, ...] = (
    Fit("A1"),
    *(record(NOW + n) for n in range(DEPTH)),
    Fit("A1"),
    *(record(NOW + n, Flag.POWER_FAIL) for n in range(DEPTH, 2 * DEPTH + 2)),
    record(NOW + 2 * DEPTH + 5),
    record(NOW + 2 * DEPTH + 3),
    Fit("A1"),
    record(NOW + 4 * DEPTH),
    record(NOW + 4 * DEPTH + 1),
)

UNIT_SWAP: tuple[RingStep, ...] = (
    Fit("A1"),
    *(record(NOW + n) for n in range(DEPTH + 1)),
    Fit("B2", NOW + 2),
    *(record(NOW + n) for n in range(DEPTH + 1, DEPTH + 4)),
    Fit("A1", NOW + DEPTH + 4),
    record(NOW + DEPTH + 5),
    Fit("A1"),
    record(NOW + DEPTH + 6),
)

WRONG_CLOCK: tuple[RingStep, ...] = (
    Fit("A1", 2 * NOW),
    record(NOW),
    record(NOW + 1),
    Fit("B2", 2 * NOW),
    record(NOW + 2),
    record(NOW + 3),
)

HEADER: tuple[RingStep, ...] = (
    Fit("A1"),
    record(NOW),
    Fit("B2", NOW + 1),
    Fit("A1", NOW + 1),
    record(NOW + 1),
)

MANY_UNITS: tuple[RingStep, ...] = (
    Fit("A1"),
    record(NOW + 1),
    *(Fit(("A1", "B2")[n % 2]) for n in range(1, 18)),
    record(NOW + 2),
)

FORGOTTEN_FUTURE: tuple[RingStep, ...] = (
    Fit("A1"),
    *(record(NOW + n) for n in range(DEPTH + 2)),
    record(FUTURE + 1),
    record(FUTURE + 2),
    Refused(record(NOW + DEPTH + 2)),
    Fit("A1"),
    Withdraw((FUTURE + 1, FUTURE + 2), back=tuple(NOW + n for n in range(3, 7))),
    record(NOW + DEPTH + 2),
    Refused(record(NOW + DEPTH + 2, Flag.ADJUSTED)),
    Withdraw((NOW + DEPTH + 2,)),
    record(NOW + DEPTH + 2, Flag.ADJUSTED),
    Fit("A1"),
    record(NOW + DEPTH + 3),
)

FINE: tuple[RingStep, ...] = (
    Fit("A1"),
    extend(*(NOW + n for n in range(4))),
    extend(*(NOW + n for n in range(4, 9))),
    Fit("A1"),
    extend(NOW + 10, NOW + 11, NOW + 13),
    Withdraw((NOW + 11, NOW + 13)),
    extend(NOW + 11, NOW + 12),
    Fit("B2", NOW + 13),
    extend(*(NOW + n for n in range(13, 13 + DEPTH))),
)

USED_MEDIUM: tuple[RingStep, ...] = (Fit("A1"), record(NOW + 2), extend(NOW + 3, NOW + 4))


@dataclass(frozen=True, slots=True)
class Known:
    """What is on the medium by place: the unit in the header (None: no header yet) and records.

    A place in ``unsure`` was being written at a cut and is not as it was: it may stay torn, or be
    completed by a later write that is torn in its turn, to one of these records.
    """

    serial: str | None = None
    epoch: int = 0
    places: Mapping[int, tuple[int, Record]] = field(default_factory=dict)
    unsure: Mapping[int, tuple[Record, ...]] = field(default_factory=dict)

    def then(self, step: RingStep) -> "Known":
        """The same after an acknowledged step."""
        match step:
            case Fit(serial):
                if serial == self.serial:
                    return self
                borne = {epoch % 16 for epoch, _ in self.places.values()}
                epoch = next(
                    n for n in range(self.epoch + 1, self.epoch + 17) if n % 16 not in borne
                )
                return replace(self, serial=serial, epoch=epoch)
            case Withdraw(slots):
                served = self.served()
                gone = {slot % DEPTH for slot in slots if slot in served}
                kept = {place: one for place, one in self.places.items() if place not in gone}
                return replace(self, places=kept)
            case Refused():
                return self
        new_places = {r.slot % DEPTH: (self.epoch, r) for r in _writes(step)}
        unsure = {place: r for place, r in self.unsure.items() if place not in new_places}
        return replace(self, places={**self.places, **new_places}, unsure=unsure)

    def served(self) -> dict[int, Record]:
        """The unit's records that are not too old."""
        found = [record for epoch, record in self.places.values() if epoch == self.epoch]
        newest = max((record.slot for record in found), default=0)
        return {record.slot: record for record in found if record.slot > newest - DEPTH}

    def after(self, step: RingStep, served: Mapping[int, Record]) -> "Known":
        """The same after a cut in ``step``, with what is served then."""
        writes = {r.slot % DEPTH: r for r in _writes(step)}
        found = {r.slot % DEPTH: (self.epoch, r) for r in served.values()}
        unsure = {place: r for place, r in self.unsure.items() if place not in found}
        places = dict(self.places)
        for place in {*self.unsure, *_touches(step)}:
            places.pop(place, None)
            if place in found:
                places[place] = found[place]
            else:
                tried = (writes[place],) if place in writes else ()
                unsure[place] = (*unsure.get(place, ()), *tried)
        return replace(self, places=places, unsure=unsure)


class RingLife:
    """One run over a ring, step by step; each step is acknowledged before the next."""

    def __init__(
        self, contents: Contents, steps: tuple[RingStep, ...], known: Known, write_unit: int
    ) -> None:
        self.supply = Supply(contents, write_unit)
        self._write_unit = write_unit
        self._began: list[tuple[int, RingStep, Known]] = []
        ring: Ring | None = None
        for step in steps:
            self._began.append((self.supply.now, step, known))
            if isinstance(step, Fit):
                ring = _open(self.supply, step)
            else:
                assert ring is not None
                _take(ring, step, self.supply)
            known = known.then(step)
            assert (ring.serial, ring.epoch) == (known.serial, known.epoch), "not its unit"
            served = {r.slot: r for r in ring.records()}
            assert served == known.served(), "not what was stored"
        assert known.serial is not None
        self._began.append((self.supply.now, Fit(known.serial), known))

    @classmethod
    def new(cls, steps: tuple[RingStep, ...], write_unit: int) -> "RingLife":
        return cls((bytes(Ring.size_for(DEPTH, write_unit)),), steps, Known(), write_unit)

    @classmethod
    def used(cls, steps: tuple[RingStep, ...], write_unit: int) -> "RingLife":
        """On a medium full of good records under a header that nobody can read."""
        records = tuple(record(NOW + n) for n in range(DEPTH))
        (content,) = cls.new((Fit("A1"), *records), write_unit).supply.contents
        places = {r.slot % DEPTH: (1, r) for r in records}
        contents = (b"\x55" * _header(content) + content[_header(content) :],)
        return cls(contents, steps, Known(epoch=1, places=places), write_unit)

    def after(self, cut: Cut, contents: Contents) -> Iterator["RingLife"]:
        if cut.operation is None:
            assert cut.before == cut.after, "acknowledged, yet not flushed"
        # The power may fail in the last moment before a step as well as in the step.
        _, step, known = next(b for b in reversed(self._began) if b[0] <= cut.at)
        if known.serial is None:
            assert isinstance(step, Fit)
            ring = _open(Supply(contents, self._write_unit), step)
            assert len(ring) == 0, "boundaries of nobody's are served"
            yield self._again(contents, step, Fit("?"), known)
            return
        fits = [Fit(known.serial)]
        if isinstance(step, Fit) and step.serial != known.serial:
            fits.append(step)
        rings = [_open(Supply(contents, self._write_unit), fit) for fit in fits]
        assert not any(ring.header_lost for ring in rings), "the header was lost"
        (ring,) = (ring for ring in rings if not ring.replaced)
        if ring is not rings[0]:
            known = known.then(step)
        served = {r.slot: r for r in ring.records()}
        _check(served, step, known, cut, contents)
        known = known.after(step, served)
        assert ring.corrupt <= len(known.unsure), "more is torn than was written"
        assert (ring.serial, ring.epoch) == (known.serial, known.epoch), "not its unit"
        for fit in fits:
            yield self._again(contents, fit, step, known)

    def _again(self, contents: Contents, fit: Fit, step: RingStep, known: Known) -> "RingLife":
        """The meter starts with this unit, ends what it was about, and goes on."""
        served = known.then(fit).served()
        steps: list[RingStep] = [fit]
        if isinstance(step, Withdraw) and (left := tuple(s for s in step.slots if s in served)):
            steps.append(Withdraw(left))
            served = known.then(fit).then(steps[-1]).served()
        newest = max(served, default=fit.at_slot)
        steps += (record(newest + 1), extend(newest + 2, newest + 3), fit)
        return RingLife(contents, tuple(steps), known, self._write_unit)


def _take(ring: Ring, step: RingStep, supply: Supply) -> None:
    before = supply.now
    match step:
        case Record(slot, forward, reverse, flags):
            assert ring.append(slot, forward, reverse, flags)
        case Extend(records):
            assert ring.extend(records) == list(records)
        case Withdraw(slots, back):
            withdrawn = ring.withdraw(slots)
            assert sorted(r.slot for r in withdrawn) == sorted(slots)
            assert all(ring.get(slot) is not None for slot in back)
        case Refused(refused):
            assert not ring.append(
                refused.slot, refused.forward_dwh, refused.reverse_dwh, refused.flags
            )
            assert supply.now == before, "what is refused must not be written"
        case Fit():
            raise AssertionError("a unit is fitted at a start only")


def _open(supply: Supply, fit: Fit) -> Ring:
    return Ring.open(supply.media[0], INTERVAL_S, DEPTH, fit.serial, fit.at_slot)


def _header(content: bytes) -> int:
    """Bytes before the records."""
    return len(content) - DEPTH * RECORD_SIZE


def _writes(step: RingStep) -> tuple[Record, ...]:
    match step:
        case Record():
            return (step,)
        case Extend(records):
            return records
        case _:
            return ()


def _touches(step: RingStep) -> set[int]:
    """The places that the step writes to."""
    slots = step.slots if isinstance(step, Withdraw) else [r.slot for r in _writes(step)]
    return {slot % DEPTH for slot in slots}


def _check(
    served: Mapping[int, Record], step: RingStep, known: Known, cut: Cut, contents: Contents
) -> None:
    """Each boundary that is owed is there, and none that is not."""
    writes = _writes(step)
    newest = max(served, default=0)
    for slot, one in served.items():
        place = slot % DEPTH
        owed = known.places.get(place)
        if one in (*writes, *known.unsure.get(place, ())) or owed == (known.epoch, one):
            continue
        begin = _header(contents[0]) + place * RECORD_SIZE
        if cut.tore(contents, 0, begin, RECORD_SIZE):
            raise TornBelievedError(contents[0][begin : begin + RECORD_SIZE])
        raise AssertionError(f"slot {slot} was invented")
    for place, (epoch, one) in known.places.items():
        if epoch != known.epoch or place in _touches(step):
            continue
        assert one.slot in served or one.slot <= newest - DEPTH, f"slot {one.slot} was lost"
