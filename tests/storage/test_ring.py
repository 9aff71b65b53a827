"""The load profile against an oracle: a dictionary that forgets as the ring must."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import FileMedia, MemoryMedia
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import LOAD_PROFILE_DEPTH, RECORD_SIZE, Flag, Record, Ring
from meter_runtime.storage.twin import Twin

DEPTH = 8
SIZE = Ring.size_for(DEPTH, 1)
HEADER = SIZE - DEPTH * RECORD_SIZE
NOW = 994_000


def open_ring(media: MemoryMedia, serial: str = "A1", at_slot: int = NOW) -> Ring:
    return Ring.open(media, 1800, DEPTH, serial, at_slot)


class CountingMedia(MemoryMedia):
    writes = flushes = 0
    broken = False

    def write(self, offset: int, data: bytes) -> None:
        if self.broken:
            raise MeterError("card: cannot write: gone; replace it")
        self.writes += 1
        super().write(offset, data)

    def flush(self) -> None:
        self.flushes += 1


def test_forty_two_days_and_the_registers_fit_a_32_kib_fram() -> None:
    assert LOAD_PROFILE_DEPTH >= 41 * 48 + 1
    assert Ring.size_for(LOAD_PROFILE_DEPTH, 1) + RegisterStore.size_for(1) <= 32 * 1024


def test_a_record_comes_back_after_reopening() -> None:
    media = MemoryMedia(SIZE)
    ring = open_ring(media)
    assert ring.append(NOW, 123_456_789_012, 7, Flag.ADJUSTED | Flag.POWER_FAIL)
    expected = Record(NOW, 123_456_789_012, 7, Flag.ADJUSTED | Flag.POWER_FAIL)
    assert ring.get(NOW) == open_ring(media).get(NOW) == expected


def test_an_append_is_one_write_and_one_flush() -> None:
    media = CountingMedia(SIZE)
    ring = open_ring(media)
    media.writes = media.flushes = 0
    ring.append(NOW, 1, 2)
    assert (media.writes, media.flushes) == (1, 1)


def test_the_first_snapshot_of_a_boundary_stands() -> None:
    media = CountingMedia(SIZE)
    ring = open_ring(media)
    ring.append(NOW, 1, 2)
    before = media.writes
    assert not ring.append(NOW, 5, 6)
    assert media.writes == before
    assert ring.get(NOW) == Record(NOW, 1, 2)


def test_a_slot_as_old_as_the_ring_is_deep_is_refused() -> None:
    ring = open_ring(MemoryMedia(SIZE))
    ring.append(NOW + 20, 1, 1)
    assert not ring.append(NOW + 20 - DEPTH, 1, 1)
    assert ring.append(NOW + 21 - DEPTH, 1, 1)


def test_a_jump_forward_hides_what_fell_out_of_reach() -> None:
    media = MemoryMedia(SIZE)
    ring = open_ring(media)
    for slot in range(NOW, NOW + DEPTH):
        ring.append(slot, 1, 1)
    ring.append(NOW + DEPTH + 2, 1, 1)
    for view in (ring, open_ring(media)):
        assert [r.slot for r in view.records()] == [
            NOW + 3, NOW + 4, NOW + 5, NOW + 6, NOW + 7, NOW + 10,
        ]  # fmt: skip
        oldest, newest = view.oldest(), view.newest()
        assert oldest is not None
        assert newest is not None
        assert (oldest.slot, newest.slot, len(view)) == (NOW + 3, NOW + 10, 6)


def test_another_unit_hides_all_earlier_history() -> None:
    media = MemoryMedia(SIZE)
    ring = open_ring(media, "A1")
    ring.append(NOW, 1, 1)
    ring.append(NOW + 3, 1, 1)
    swapped = open_ring(media, "B2", NOW + 2)
    assert swapped.replaced
    assert (swapped.epoch, swapped.first_slot, len(swapped)) == (2, NOW + 2, 0)
    assert swapped.newest() is None
    assert swapped.append(NOW + 3, 9, 9)
    assert not swapped.append(NOW + 1, 9, 9)
    again = open_ring(media, "B2", NOW + 5)
    assert not again.replaced
    assert list(again.records()) == [Record(NOW + 3, 9, 9)]


def test_the_first_unit_put_back_starts_anew() -> None:
    media = MemoryMedia(SIZE)
    open_ring(media, "A1").append(NOW, 1, 1)
    open_ring(media, "B2", NOW + 1)
    assert len(open_ring(media, "A1", NOW + 2)) == 0


def test_sixteen_units_later_an_equal_epoch_nibble_revives_nothing() -> None:
    media = MemoryMedia(SIZE)
    open_ring(media, "U0").append(NOW, 1, 1)
    for n in range(1, 17):
        ring = open_ring(media, f"U{n}", NOW + 1)
    assert ring.epoch % 16 == 1
    assert len(open_ring(media, "U16", NOW + 1)) == 0


def test_a_unit_fitted_under_a_wrong_clock_begins_with_its_first_record() -> None:
    media = MemoryMedia(SIZE)
    ring = open_ring(media, at_slot=2 * NOW)
    assert ring.append(NOW, 1, 1)
    assert not ring.append(NOW - 1, 1, 1)
    assert open_ring(media).first_slot == NOW


def test_minutes_fit_although_their_slots_exceed_24_bits() -> None:
    media = MemoryMedia(SIZE)
    minute = 29_850_000
    ring = Ring.open(media, 60, DEPTH, "A1", minute)
    ring.append(minute + 1, 3, 4)
    assert Ring.open(media, 60, DEPTH, "A1").get(minute + 1) == Record(minute + 1, 3, 4)


@pytest.mark.parametrize("filler", [0x00, 0xFF])
def test_a_blank_record_is_no_record(filler: int) -> None:
    media = MemoryMedia(SIZE)
    open_ring(media, at_slot=0)
    media.write(HEADER, bytes((filler,)) * (SIZE - HEADER))
    ring = open_ring(media)
    assert len(ring) == 0
    assert ring.corrupt == (DEPTH if filler else 0)


def test_an_intact_record_in_the_wrong_place_is_corrupt() -> None:
    media = MemoryMedia(SIZE)
    open_ring(media).append(NOW, 1, 1)
    at = HEADER + NOW % DEPTH * RECORD_SIZE
    record = media.read(at, RECORD_SIZE)
    media.write(at, bytes(RECORD_SIZE))
    media.write(HEADER + (NOW + 1) % DEPTH * RECORD_SIZE, record)
    ring = open_ring(media)
    assert (len(ring), ring.corrupt) == (0, 1)


def test_a_medium_without_a_believable_header_is_emptied_not_believed() -> None:
    media = MemoryMedia(SIZE)
    open_ring(media).append(NOW, 1, 1)
    media.write(0, b"\x55" * HEADER)
    ring = open_ring(media)
    assert ring.reformatted
    assert len(ring) == 0
    assert not open_ring(media).reformatted


def test_a_new_medium_is_not_called_damaged() -> None:
    assert not open_ring(MemoryMedia(SIZE)).reformatted


def test_a_ring_of_other_dimensions_is_an_error() -> None:
    media = MemoryMedia(SIZE)
    open_ring(media)
    with pytest.raises(MeterError, match="holds 8 values of 1800 s where 4 of 1800 s"):
        Ring.open(media, 1800, 4, "A1")


def test_a_newer_format_is_an_error_and_stays_untouched() -> None:
    media = MemoryMedia(SIZE)
    open_ring(media).append(NOW, 1, 1)
    newer = Twin(media, 0, b"MRng", 2, 36)
    newer.load()
    newer.save(bytes(36))
    before = media.read(0, SIZE)
    with pytest.raises(MeterError, match="newer"):
        open_ring(media)
    assert media.read(0, SIZE) == before


@pytest.mark.parametrize(("forward", "reverse"), [(-1, 0), (0, -1), (1 << 40, 0), (0, 1 << 40)])
def test_a_register_out_of_range_is_refused(forward: int, reverse: int) -> None:
    ring = open_ring(MemoryMedia(SIZE))
    with pytest.raises(ValueError, match="out of range"):
        ring.append(NOW, forward, reverse)


@pytest.mark.parametrize("serial", ["", "x" * 17, "ｍ"])
def test_a_serial_that_cannot_be_kept_is_refused(serial: str) -> None:
    with pytest.raises(ValueError, match="1 to 16 ASCII"):
        open_ring(MemoryMedia(SIZE), serial)


def test_a_failed_append_leaves_the_slot_free() -> None:
    media = CountingMedia(SIZE)
    ring = open_ring(media)
    media.broken = True
    with pytest.raises(MeterError):
        ring.append(NOW, 1, 1)
    assert ring.get(NOW) is None
    media.broken = False
    assert ring.append(NOW, 1, 1)


def test_a_full_ring_is_recovered_quickly(tmp_path: Path) -> None:
    media = FileMedia(tmp_path / "ring", Ring.size_for(LOAD_PROFILE_DEPTH, 512))
    ring = Ring.open(media, 1800, LOAD_PROFILE_DEPTH, "A1", NOW)
    for n in range(LOAD_PROFILE_DEPTH):
        ring.append(NOW + n, n, n)
    best = 1.0
    for _ in range(3):
        began = time.perf_counter()
        recovered = Ring.open(media, 1800, LOAD_PROFILE_DEPTH, "A1", NOW)
        best = min(best, time.perf_counter() - began)
    media.close()
    assert len(recovered) == LOAD_PROFILE_DEPTH
    assert best < 0.05


class RingAgainstDictionary(RuleBasedStateMachine):
    """Appends, reopenings, unit swaps and damage, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.media = MemoryMedia(SIZE)
        self.serial = "U0"
        self.units = 0
        self.slot = NOW
        self.damaged = False
        self.true: dict[int, Record] = {}
        self.written: dict[int, Record] = {}
        """What was ever stored of this unit: when the newest record is damaged, an older one that
        had left the window may come back into it. It is true all the same."""
        self.ring = open_ring(self.media, self.serial)

    @rule(ahead=st.integers(-DEPTH - 2, DEPTH + 2), energy=st.integers(0, (1 << 40) - 1))
    def append(self, ahead: int, energy: int) -> None:
        slot = self.slot + ahead
        known = set(self.true)
        expected = slot not in known and (
            (slot >= self.ring.first_slot and slot > max(known) - DEPTH) if known else True
        )
        stored = self.ring.append(slot, energy, energy // 3)
        if not self.damaged:
            assert stored is expected
        if stored:
            self.true[slot] = self.written[slot] = Record(slot, energy, energy // 3)
            self.slot = max(self.slot, slot)
            if not self.damaged:
                oldest = max(self.true) - DEPTH + 1
                self.true = {s: r for s, r in self.true.items() if s >= oldest}

    @rule()
    def reopen(self) -> None:
        self.ring = open_ring(self.media, self.serial, self.slot)

    @rule(back=st.integers(0, 3))
    def swap_unit(self, back: int) -> None:
        self.units += 1
        self.serial = f"U{self.units}"
        self.true, self.written = {}, {}
        self.ring = open_ring(self.media, self.serial, self.slot - back)

    @precondition(lambda self: self.true)
    @rule(at=st.integers(HEADER, SIZE - 1), flip=st.integers(1, 255))
    def damage(self, at: int, flip: int) -> None:
        self.damaged = True
        self.media.write(at, bytes((self.media.read(at, 1)[0] ^ flip,)))
        self.ring = open_ring(self.media, self.serial, self.slot)

    @invariant()
    def serves_only_what_was_stored(self) -> None:
        served = {r.slot: r for r in self.ring.records()}
        for slot, record in served.items():
            assert self.written[slot] == record == self.ring.get(slot)
        if not self.damaged:
            assert served == self.true
        assert len(self.ring) == len(served) <= DEPTH
        newest, oldest = self.ring.newest(), self.ring.oldest()
        assert (newest and newest.slot) == (max(served) if served else None)
        assert (oldest and oldest.slot) == (min(served) if served else None)


TestRingAgainstDictionary = RingAgainstDictionary.TestCase
TestRingAgainstDictionary.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)


@given(st.binary(min_size=DEPTH * RECORD_SIZE, max_size=DEPTH * RECORD_SIZE))
def test_arbitrary_record_bytes_never_stop_the_ring_from_opening(raw: bytes) -> None:
    media = MemoryMedia(SIZE)
    open_ring(media)
    media.write(HEADER, raw)
    ring = open_ring(media)
    assert ring.corrupt + len(ring) <= DEPTH
