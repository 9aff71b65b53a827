"""The load profile: what it takes, what it refuses, and what it makes of a damaged medium."""

import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import FileMedia, MemoryMedia
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import (
    FINE_DEPTHS,
    LOAD_PROFILE_DEPTH,
    RECORD_SIZE,
    Flag,
    Record,
    Ring,
)
from meter_runtime.storage.twin import Twin

DEPTH = 8
INTERVAL_S = 7200
SIZE = Ring.size_for(DEPTH, 1)
HEADER = SIZE - DEPTH * RECORD_SIZE
NOW = 248_611


def open_ring(media: MemoryMedia, serial: str = "A1", at_slot: int = NOW) -> Ring:
    return Ring.open(media, INTERVAL_S, DEPTH, serial, at_slot)


def place(slot: int) -> int:
    """Where the slot's record lies on the medium."""
    return HEADER + slot % DEPTH * RECORD_SIZE


def encoded(record: Record, epoch: int = 1) -> bytes:
    """A record, worked out from its description."""
    body = (
        (record.slot // DEPTH).to_bytes(2, "big")
        + record.forward_dwh.to_bytes(5, "big")
        + record.reverse_dwh.to_bytes(5, "big")
        + bytes(((epoch % 16) << 4 | record.flags,))
    )
    check = zlib.crc32(body, record.slot % DEPTH) % (1 << 24)
    return body + check.to_bytes(3, "big")


def flip(media: MemoryMedia, at: int, mask: int) -> None:
    media.write(at, bytes((media.read(at, 1)[0] ^ mask,)))


def run_of(first: int, count: int) -> list[Record]:
    return [Record(first + n, 1000 + n, n) for n in range(count)]


class CountingMedia(MemoryMedia):
    writes = flushes = 0
    broken = False
    flushing = True

    def write(self, offset: int, data: bytes) -> None:
        if self.broken:
            raise MeterError("card: cannot write: gone; replace it")
        self.writes += 1
        super().write(offset, data)

    def flush(self) -> None:
        if not self.flushing:
            raise MeterError("card: cannot write: gone; replace it")
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


def test_a_record_has_the_described_sixteen_bytes() -> None:
    media = MemoryMedia(SIZE)
    record = Record(NOW, 0x0102030405, 0x060708090A, Flag.COARSE)
    open_ring(media).extend([record])
    assert media.read(place(NOW), 13).hex() == "7964" + "0102030405" + "060708090a" + "14"
    assert media.read(place(NOW), RECORD_SIZE) == encoded(record)


def test_the_header_has_the_described_sixty_four_bytes() -> None:
    media = MemoryMedia(SIZE)
    open_ring(media, "A1")
    open_ring(media, "B2", NOW + 1)
    numbers = (INTERVAL_S, DEPTH, 2)
    body = (
        b"LP\x02\x34\x00\x00\x00\x03"
        + b"".join(n.to_bytes(4, "big") for n in numbers)
        + (NOW + 1).to_bytes(8, "big")
        + b"B2".ljust(16, b"\0")
        + b"A1".ljust(16, b"\0")
    )
    assert HEADER == 128
    assert media.read(64, 64) == body + zlib.crc32(body).to_bytes(4, "big")


@pytest.mark.parametrize("index", [0, 1, 2, 3, 5, 100, 1439, 2015, 12_959])
def test_an_empty_place_is_no_record_of_any_slot(index: int) -> None:
    assert zlib.crc32(bytes(13), index) % (1 << 24) != 0


def test_an_append_is_one_write_and_one_flush() -> None:
    media = CountingMedia(SIZE)
    ring = open_ring(media)
    media.writes = media.flushes = 0
    ring.append(NOW, 1, 2)
    assert (media.writes, media.flushes) == (1, 1)


def test_neighbours_are_stored_by_one_write_and_all_by_one_flush() -> None:
    media = CountingMedia(SIZE)
    first = NOW // DEPTH * DEPTH + 1
    ring = open_ring(media, at_slot=first)
    media.writes = media.flushes = 0
    batch = [*run_of(first, 3), *run_of(first + 4, 2)]
    assert ring.extend(batch) == batch
    assert (media.writes, media.flushes) == (2, 1)
    assert ring.extend(batch) == []
    assert (media.writes, media.flushes) == (2, 1)
    assert list(open_ring(media).records()) == batch


def test_the_first_snapshot_of_a_boundary_stands() -> None:
    media = CountingMedia(SIZE)
    ring = open_ring(media)
    ring.append(NOW, 1, 2)
    before = media.writes
    assert not ring.append(NOW, 5, 6)
    assert ring.extend([Record(NOW + 1, 7, 7), Record(NOW + 1, 8, 8)]) == [Record(NOW + 1, 7, 7)]
    assert media.writes == before + 1
    assert ring.get(NOW) == Record(NOW, 1, 2)
    assert ring.get(NOW + 1) == Record(NOW + 1, 7, 7)


def test_a_slot_as_old_as_the_ring_is_deep_is_refused() -> None:
    ring = open_ring(MemoryMedia(SIZE))
    ring.append(NOW + 20, 1, 1)
    assert not ring.append(NOW + 20 - DEPTH, 1, 1)
    assert ring.append(NOW + 21 - DEPTH, 1, 1)


@pytest.mark.parametrize("slot", [-1, DEPTH << 16])
def test_a_slot_that_cannot_be_counted_is_refused(slot: int) -> None:
    ring = open_ring(MemoryMedia(SIZE))
    assert not ring.append(slot, 1, 1)
    assert ring.first_slot == NOW
    with pytest.raises(ValueError, match="before 1970 or beyond"):
        open_ring(MemoryMedia(SIZE), at_slot=slot)


def test_the_last_slot_that_can_be_counted_comes_back() -> None:
    media = MemoryMedia(SIZE)
    last = (DEPTH << 16) - 1
    assert open_ring(media).append(last, 1, 1)
    assert open_ring(media).get(last) == Record(last, 1, 1)


def test_a_jump_forward_hides_what_fell_out_of_reach() -> None:
    media = MemoryMedia(SIZE)
    ring = open_ring(media)
    ring.extend(run_of(NOW, DEPTH))
    ring.append(NOW + DEPTH + 2, 1, 1)
    for view in (ring, open_ring(media)):
        assert [r.slot for r in view.records()] == [*range(NOW + 3, NOW + 8), NOW + 10]
        oldest, newest = view.oldest(), view.newest()
        assert oldest is not None
        assert newest is not None
        assert (oldest.slot, newest.slot, len(view)) == (NOW + 3, NOW + 10, 6)
        assert view.get(NOW + 1) is view.get(NOW + 9) is view.get(NOW + 11) is None


def test_what_a_wrong_newest_record_had_hidden_is_served_again_without_it() -> None:
    media = MemoryMedia(SIZE)
    ring = open_ring(media)
    true = run_of(NOW, DEPTH)
    ring.extend(true)
    ahead = NOW + 1000 * DEPTH + 3
    ring.append(ahead, 9, 9)
    assert [r.slot for r in ring.records()] == [ahead]
    assert ring.withdraw([ahead]) == [Record(ahead, 9, 9)]
    left = [r for r in true if r.slot % DEPTH != ahead % DEPTH]
    for view in (ring, open_ring(media)):
        assert list(view.records()) == left
        assert view.newest() == left[-1]
    assert ring.append(NOW + DEPTH, 5000, 5)


def test_a_withdrawn_boundary_is_absent_and_may_be_stored_again() -> None:
    media = CountingMedia(SIZE)
    ring = open_ring(media)
    ring.extend(run_of(NOW, 5))
    flushes = media.flushes
    wanted = [NOW + 4, NOW + 1, NOW + 7, NOW - DEPTH]
    assert ring.withdraw(wanted) == [Record(NOW + 1, 1001, 1), Record(NOW + 4, 1004, 4)]
    assert media.flushes == flushes + 1
    for view in (ring, open_ring(media)):
        assert [r.slot for r in view.records()] == [NOW, NOW + 2, NOW + 3]
    assert ring.append(NOW + 1, 7, 7)
    flushes = media.flushes
    assert ring.withdraw([NOW + 9]) == []
    assert media.flushes == flushes
    assert open_ring(media).get(NOW + 1) == Record(NOW + 1, 7, 7)


def test_a_withdrawn_boundary_that_was_hidden_does_not_come_back() -> None:
    media = MemoryMedia(SIZE)
    ring = open_ring(media)
    ring.extend(run_of(NOW, 3))
    ring.append(NOW + 1000, 9, 9)
    ring.withdraw([NOW + 1000, NOW + 1])
    for view in (ring, open_ring(media)):
        assert [r.slot for r in view.records()] == [
            slot for slot in (NOW, NOW + 2) if slot % DEPTH != (NOW + 1000) % DEPTH
        ]


@pytest.mark.parametrize("earlier", [False, True])
def test_a_boundary_stored_in_vain_can_be_withdrawn_all_the_same(earlier: bool) -> None:
    media = CountingMedia(SIZE)
    ring = open_ring(media)
    ahead = NOW + 1000 * DEPTH
    if earlier:
        ring.append(NOW, 1, 1)
    media.flushing = False
    with pytest.raises(MeterError):
        ring.append(ahead, 9, 9)
    assert open_ring(media).get(ahead) is not None
    media.flushing = True
    assert ring.withdraw([ahead]) == []
    assert list(open_ring(media).records()) == ([Record(NOW, 1, 1)] if earlier else [])


def test_a_vain_withdrawal_can_be_repeated() -> None:
    media = CountingMedia(SIZE)
    ring = open_ring(media)
    ring.extend(run_of(NOW, 3))
    media.flushing = False
    with pytest.raises(MeterError):
        ring.withdraw([NOW + 2])
    assert ring.get(NOW + 2) is not None
    media.flushing = True
    assert ring.withdraw([NOW + 2]) == [Record(NOW + 2, 1002, 2)]
    assert list(open_ring(media).records()) == run_of(NOW, 2)


def test_another_unit_hides_all_earlier_history() -> None:
    media = MemoryMedia(SIZE)
    ring = open_ring(media, "A1")
    assert ring.previous_serial is None
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
    assert swapped.previous_serial == again.previous_serial == "A1"
    assert list(again.records()) == [Record(NOW + 3, 9, 9)]


def test_the_first_unit_put_back_starts_anew() -> None:
    media = MemoryMedia(SIZE)
    open_ring(media, "A1").append(NOW, 1, 1)
    open_ring(media, "B2", NOW + 1)
    assert len(open_ring(media, "A1", NOW + 2)) == 0


def test_a_unit_epoch_that_records_still_bear_is_passed_over() -> None:
    media = MemoryMedia(SIZE)
    open_ring(media, "U0").append(NOW + 5, 1, 1)
    for n in range(1, 17):
        ring = open_ring(media, f"U{n}")
        assert len(ring) == 0
    assert ring.epoch == 18
    assert media.read(place(NOW + 5), RECORD_SIZE) == encoded(Record(NOW + 5, 1, 1))
    assert len(open_ring(media, "U16")) == 0


def test_where_records_bear_every_unit_epoch_the_oldest_are_erased() -> None:
    depth = 32
    media = MemoryMedia(Ring.size_for(depth, 1))
    for n in range(16):
        assert Ring.open(media, INTERVAL_S, depth, f"U{n}", NOW).append(NOW + n, n, n)
    ring = Ring.open(media, INTERVAL_S, depth, "U16", NOW)
    assert (ring.epoch, len(ring)) == (17, 0)
    again = Ring.open(media, INTERVAL_S, depth, "U16", NOW)
    assert (len(again), again.corrupt) == (0, 0)
    start = Ring.size_for(depth, 1) - depth * RECORD_SIZE
    held = [media.read(start + at * RECORD_SIZE, RECORD_SIZE) for at in range(depth)]
    assert sum(map(any, held)) == 15


def test_a_unit_fitted_under_a_wrong_clock_begins_with_its_first_record() -> None:
    media = MemoryMedia(SIZE)
    ring = open_ring(media, at_slot=2 * NOW)
    assert ring.append(NOW, 1, 1)
    assert not ring.append(NOW - 1, 1, 1)
    assert open_ring(media).first_slot == NOW


@pytest.mark.parametrize(
    ("interval_s", "depth"), [(1800, LOAD_PROFILE_DEPTH), *FINE_DEPTHS.items()]
)
def test_each_profile_counts_from_1970_to_2070(interval_s: int, depth: int) -> None:
    media = MemoryMedia(Ring.size_for(depth, 1))
    ring = Ring.open(media, interval_s, depth, "A1")
    for epoch_s in (0, 1_790_000_000, 3_155_760_000):
        assert ring.append(epoch_s // interval_s, 3, 4)
    assert Ring.open(media, interval_s, depth, "A1").get(3_155_760_000 // interval_s) is not None


@pytest.mark.parametrize(("interval_s", "least"), [(1800, 27), (60, 803), (300, 161), (1, 48_154)])
def test_a_ring_that_soon_runs_out_of_generations_is_refused(interval_s: int, least: int) -> None:
    media = MemoryMedia(Ring.size_for(least, 1))
    with pytest.raises(ValueError, match=f"hundred years from 1970: make the ring {least} deep"):
        Ring.open(media, interval_s, least - 1, "A1")
    assert not any(media.read(0, media.size))
    Ring.open(media, interval_s, least, "A1")


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
    record = media.read(place(NOW), RECORD_SIZE)
    for n in range(1, DEPTH):
        media.write(place(NOW + n), record)
    ring = open_ring(media)
    assert list(ring.records()) == [Record(NOW, 1, 1)]
    assert ring.corrupt == DEPTH - 1


@pytest.mark.parametrize("at", range(RECORD_SIZE))
def test_every_change_of_a_byte_makes_a_record_absent(at: int) -> None:
    media = MemoryMedia(SIZE)
    open_ring(media).extend(run_of(NOW, 3))
    for mask in range(1, 256):
        flip(media, place(NOW + 1) + at, mask)
        ring = open_ring(media)
        assert ring.corrupt == 1, f"xor {mask:#x}"
        assert [r.slot for r in ring.records()] == [NOW, NOW + 2]
        flip(media, place(NOW + 1) + at, mask)
    assert open_ring(media).corrupt == 0


@pytest.mark.parametrize("at", range(RECORD_SIZE))
def test_a_single_byte_in_an_empty_place_is_counted(at: int) -> None:
    media = MemoryMedia(SIZE)
    open_ring(media)
    media.write(place(NOW) + at, b"\x01")
    ring = open_ring(media)
    assert (len(ring), ring.corrupt) == (0, 1)


@pytest.mark.parametrize("kept", range(1, RECORD_SIZE))
@pytest.mark.parametrize("over", [bytes(RECORD_SIZE), bytes((255,)) * RECORD_SIZE])
def test_a_record_cut_off_at_any_byte_is_absent_and_counted(kept: int, over: bytes) -> None:
    media = MemoryMedia(SIZE)
    open_ring(media).extend([Record(NOW, 0x1122334455, 0x6677889911), Record(NOW + 1, 1, 1)])
    media.write(place(NOW) + kept, over[kept:])
    ring = open_ring(media)
    assert (list(ring.records()), ring.corrupt) == ([Record(NOW + 1, 1, 1)], 1)


@given(
    st.tuples(st.integers(0, 1 << 39), st.integers(0, 1 << 39)),
    st.tuples(st.integers(0, 1 << 39), st.integers(0, 1 << 39)),
    st.integers(0, RECORD_SIZE),
    st.booleans(),
)
def test_a_record_torn_over_another_is_the_old_one_or_the_new_one_or_none(
    old: tuple[int, int], new: tuple[int, int], cut: int, head_first: bool
) -> None:
    before, after = Record(NOW, *old), Record(NOW + DEPTH, *new)
    first, second = (encoded(before), encoded(after))[:: -1 if head_first else 1]
    media = MemoryMedia(SIZE)
    open_ring(media)
    media.write(place(NOW), first[:cut] + second[cut:])
    ring = open_ring(media)
    found = list(ring.records())
    assert found in ([before], [after], [])
    assert ring.corrupt == (not found)


def test_a_lost_header_serves_nothing_erases_nothing_and_begins_a_new_epoch() -> None:
    media = MemoryMedia(SIZE)
    open_ring(media, "A1").append(NOW, 1, 1)
    open_ring(media, "B2").extend(run_of(NOW + 1, 3))
    records = media.read(HEADER, SIZE - HEADER)
    media.write(0, b"\x55" * HEADER)
    ring = open_ring(media, "B2")
    assert ring.header_lost
    assert (len(ring), ring.epoch, ring.previous_serial, ring.replaced) == (0, 3, None, False)
    assert media.read(HEADER, SIZE - HEADER) == records
    assert ring.append(NOW + 2, 8, 8)
    again = open_ring(media, "B2")
    assert not again.header_lost
    assert list(again.records()) == [Record(NOW + 2, 8, 8)]


def test_after_a_lost_header_not_even_an_epoch_before_the_wrap_is_revived() -> None:
    media = MemoryMedia(SIZE)
    for n in range(17):
        ring = open_ring(media, f"U{n}")
        if n in (0, 14):
            ring.append(NOW + n, 1, 1)
    media.write(0, bytes(HEADER))
    ring = open_ring(media, "U16")
    assert ring.header_lost
    assert (ring.epoch, len(ring)) == (16, 0)


@pytest.mark.parametrize("lost", [b"\x55" * HEADER, bytes(HEADER)])
def test_unreadable_records_without_a_header_are_a_lost_header(lost: bytes) -> None:
    media = MemoryMedia(SIZE)
    media.write(0, lost + b"\x55" * RECORD_SIZE)
    assert open_ring(media).header_lost


def test_a_new_medium_is_not_called_damaged() -> None:
    assert not open_ring(MemoryMedia(SIZE)).header_lost


def test_a_header_torn_while_the_ring_was_made_is_not_called_lost() -> None:
    media = MemoryMedia(SIZE)
    media.write(64, b"LP\x02")
    assert not open_ring(media).header_lost


def test_a_ring_of_other_dimensions_is_an_error_and_stays_untouched() -> None:
    media = MemoryMedia(SIZE)
    open_ring(media).append(NOW, 1, 1)
    before = media.read(0, SIZE)
    with pytest.raises(MeterError, match="holds 8 values of 7200 s where 7 of 7200 s"):
        Ring.open(media, INTERVAL_S, 7, "A1")
    with pytest.raises(MeterError, match="holds 8 values of 7200 s where 8 of 7201 s"):
        Ring.open(media, INTERVAL_S + 1, DEPTH, "B2")
    assert media.read(0, SIZE) == before


def test_a_newer_format_is_an_error_and_stays_untouched() -> None:
    media = MemoryMedia(SIZE)
    open_ring(media).append(NOW, 1, 1)
    newer = Twin(media, 0, b"LP", 3, 52)
    newer.load()
    newer.save(bytes(52))
    before = media.read(0, SIZE)
    with pytest.raises(MeterError, match="newer"):
        open_ring(media)
    assert media.read(0, SIZE) == before


def test_a_medium_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="too small for 8 records"):
        open_ring(MemoryMedia(SIZE - 1))


@pytest.mark.parametrize(("forward", "reverse"), [(-1, 0), (0, -1), (1 << 40, 0), (0, 1 << 40)])
def test_a_register_out_of_range_is_refused_before_anything_is_written(
    forward: int, reverse: int
) -> None:
    media = MemoryMedia(SIZE)
    ring = open_ring(media)
    before = media.read(0, SIZE)
    with pytest.raises(ValueError, match="out of range"):
        ring.extend([Record(NOW, 1, 1), Record(NOW + 1, forward, reverse)])
    assert media.read(0, SIZE) == before


@pytest.mark.parametrize("serial", ["", "x" * 17, "ｍ", "A1\0"])
def test_a_serial_that_cannot_be_kept_is_refused(serial: str) -> None:
    with pytest.raises(ValueError, match="1 to 16 ASCII"):
        open_ring(MemoryMedia(SIZE), serial)


@pytest.mark.parametrize("failing", ["broken", "flushing"])
def test_a_failed_append_leaves_the_slot_free(failing: str) -> None:
    media = CountingMedia(SIZE)
    ring = open_ring(media)
    ring.append(NOW, 1, 1)
    setattr(media, failing, failing == "broken")
    with pytest.raises(MeterError):
        ring.extend(run_of(NOW + 1, DEPTH))
    assert list(ring.records()) == [Record(NOW, 1, 1)]
    setattr(media, failing, failing != "broken")
    assert ring.extend(run_of(NOW + 1, DEPTH)) == run_of(NOW + 1, DEPTH)


@pytest.mark.parametrize(
    ("interval_s", "depth"), [(1800, LOAD_PROFILE_DEPTH), *FINE_DEPTHS.items()]
)
def test_a_full_ring_is_recovered_quickly(tmp_path: Path, interval_s: int, depth: int) -> None:
    media = FileMedia(tmp_path / "ring", Ring.size_for(depth, 512))
    first = 1_790_000_000 // interval_s
    Ring.open(media, interval_s, depth, "A1", first).extend(run_of(first, depth))
    best = 1.0
    for _ in range(9):
        began = time.perf_counter()
        recovered = Ring.open(media, interval_s, depth, "A1", first)
        best = min(best, time.perf_counter() - began)
    media.close()
    assert len(recovered) == depth
    assert best < 0.05 * max(1.0, depth / LOAD_PROFILE_DEPTH)


@given(st.binary(min_size=DEPTH * RECORD_SIZE, max_size=DEPTH * RECORD_SIZE))
def test_arbitrary_record_bytes_never_stop_the_ring_from_opening(raw: bytes) -> None:
    media = MemoryMedia(SIZE)
    open_ring(media)
    media.write(HEADER, raw)
    ring = open_ring(media)
    assert (len(ring), ring.corrupt) == (0, slots_used(raw))


def slots_used(raw: bytes) -> int:
    chunks: Sequence[bytes] = [raw[at : at + RECORD_SIZE] for at in range(0, len(raw), RECORD_SIZE)]
    return sum(map(any, chunks))
