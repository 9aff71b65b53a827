"""Ring and registers on an FRAM over a bus that fails: old or new, never invented."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.bench.board.bus import VirtualI2C
from meter_runtime.bench.board.mb85rc256v import SIZE, Mb85rc256v
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.i2c import BusStuckError
from meter_runtime.metrology.events import BoundaryStored, Snapshot, StorageFailed, StorageHealed
from meter_runtime.metrology.recorder import Recorder
from meter_runtime.storage.fram import CHUNK, FRAM_ADDRESS, WRITE_TRIES, FramMedia
from meter_runtime.storage.media import Slice
from meter_runtime.storage.registers import Checkpoint, RegisterStore, unit_mark
from meter_runtime.storage.ring import LOAD_PROFILE_DEPTH, RECORD_SIZE, Flag, Record, Ring

SLOT = 994_000
MARK = unit_mark("M0000001")


class Lab:
    """One chip on one bus, and what the meter keeps on it."""

    def __init__(self) -> None:
        self.chip = Mb85rc256v()
        self.bus = VirtualI2C("i2c-1", {FRAM_ADDRESS: self.chip})
        self.media = FramMedia(self.bus)

    def ring(self) -> Ring:
        size = Ring.size_for(LOAD_PROFILE_DEPTH, 1)
        return Ring.open(
            Slice(self.media, 0, size, "ring"), 1800, LOAD_PROFILE_DEPTH, "M0000001", SLOT
        )

    def registers(self) -> RegisterStore:
        size = RegisterStore.size_for(1)
        return RegisterStore(Slice(self.media, SIZE - size, size, "registers"))


def checkpoint(n: int) -> Checkpoint:
    return Checkpoint(n * 1000, n, n * 1000 + 7, n, MARK, 1_789_200_000.0 + n)


def energies(slot: int) -> tuple[int, int]:
    return (slot - SLOT) * 2500 + 12_345, (slot - SLOT) * 17


def test_what_is_written_anywhere_is_read_back() -> None:
    lab = Lab()
    data = bytes(n % 251 for n in range(SIZE))
    lab.media.write(0, data)
    lab.media.flush()
    assert lab.media.read(0, SIZE) == data
    assert lab.media.read(SIZE - 3, 3) == data[-3:]
    assert bytes(lab.chip.content) == data


@given(st.integers(0, SIZE - 1), st.binary(max_size=3 * CHUNK))
def test_a_write_changes_its_range_and_nothing_else(offset: int, data: bytes) -> None:
    data = data[: SIZE - offset]
    lab = Lab()
    lab.chip.content[:] = b"\xa5" * SIZE
    lab.media.write(offset, data)
    assert bytes(lab.chip.content) == b"\xa5" * offset + data + b"\xa5" * (
        SIZE - offset - len(data)
    )
    assert lab.media.read(offset, len(data)) == data


def test_no_transaction_is_longer_than_every_adapter_takes() -> None:
    lab = Lab()
    data = bytes(n % 251 for n in range(1000))
    lab.media.write(5, data)
    assert lab.media.read(5, 1000) == data
    assert max(len(t.written) + len(t.read) for t in lab.bus.transactions) == CHUNK + 2


@pytest.mark.parametrize(("offset", "n"), [(-1, 1), (0, SIZE + 1), (SIZE, 1), (5, -1)])
def test_a_range_outside_is_refused_before_the_chip_wraps(offset: int, n: int) -> None:
    lab = Lab()
    with pytest.raises(ValueError, match="outside"):
        lab.media.read(offset, n)
    if n > 0:
        with pytest.raises(ValueError, match="outside"):
            lab.media.write(offset, bytes(n))
    assert not lab.bus.transactions


def test_more_than_two_address_bytes_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="65536"):
        FramMedia(Lab().bus, size=65537)


def test_every_flipped_bit_of_a_written_record_is_caught_and_mended() -> None:
    for at in range(2, 2 + RECORD_SIZE):
        for bit in range(8):
            lab = Lab()
            lab.bus.flip(at, bit)
            lab.media.write(64, bytes(range(RECORD_SIZE)))
            assert lab.chip.content[64 : 64 + RECORD_SIZE] == bytes(range(RECORD_SIZE))


def test_a_flipped_bit_of_the_comparison_costs_one_more_try() -> None:
    lab = Lab()
    lab.bus.flip(2 + RECORD_SIZE + 2 + 3, 5)
    lab.media.write(64, bytes(range(RECORD_SIZE)))
    assert lab.chip.stored == 2 * RECORD_SIZE


def test_a_chip_that_does_not_keep_what_it_is_told_is_told_with_advice() -> None:
    lab = Lab()
    lab.chip.write_protected = True
    with pytest.raises(
        MeterError, match=r"address 0x50: 4 bytes at 0x0040 read back otherwise .*WP to ground"
    ):
        lab.media.write(64, b"data")
    assert len(lab.bus.transactions) == 2 * WRITE_TRIES


def test_refusals_within_the_bound_are_healed_and_beyond_it_told() -> None:
    lab = Lab()
    lab.bus.nak(FRAM_ADDRESS, WRITE_TRIES - 1)
    lab.media.write(0, b"data")
    lab.bus.nak(FRAM_ADDRESS, 1)
    assert lab.media.read(0, 4) == b"data"
    lab.bus.nak(FRAM_ADDRESS, WRITE_TRIES)
    with pytest.raises(MeterError, match="i2c-1 address 0x50: Remote I/O error; check that"):
        lab.media.write(0, b"more")
    lab.bus.nak(FRAM_ADDRESS, 2)
    with pytest.raises(MeterError, match="Remote I/O error"):
        lab.media.read(0, 4)
    assert lab.media.read(0, 4) == b"data"


def test_a_stuck_bus_costs_one_time_out() -> None:
    lab = Lab()
    lab.bus.stuck = True
    with pytest.raises(BusStuckError):
        lab.media.write(0, b"data")
    with pytest.raises(BusStuckError):
        lab.media.read(0, SIZE)
    assert len(lab.bus.transactions) == 2


def test_closing_releases_the_bus() -> None:
    lab = Lab()
    lab.media.close()
    lab.media.close()
    with pytest.raises(MeterError, match="it was closed already"):
        lab.media.read(0, 1)


def test_power_cut_after_any_byte_of_an_append_leaves_the_record_or_none() -> None:
    seen = set()
    for cut in range(RECORD_SIZE + 1):
        lab = Lab()
        ring = lab.ring()
        for slot in range(SLOT, SLOT + 3):
            ring.append(slot, *energies(slot))
        lab.chip.power_off_after(cut)
        with pytest.raises(MeterError):
            ring.append(SLOT + 3, *energies(SLOT + 3), Flag.ADJUSTED)
        assert ring.get(SLOT + 3) is None
        lab.chip.power_on()
        again = list(lab.ring().records())
        old = [Record(slot, *energies(slot)) for slot in range(SLOT, SLOT + 3)]
        assert again in (old, [*old, Record(SLOT + 3, *energies(SLOT + 3), Flag.ADJUSTED)])
        seen.add(len(again))
    assert seen == {3, 4}


def test_power_cut_while_the_oldest_record_is_replaced_costs_only_that_one() -> None:
    newest = SLOT + LOAD_PROFILE_DEPTH
    for cut in range(RECORD_SIZE + 1):
        lab = Lab()
        ring = lab.ring()
        ring.append(SLOT, *energies(SLOT))
        ring.append(SLOT + 1, *energies(SLOT + 1))
        lab.chip.power_off_after(cut)
        with pytest.raises(MeterError):
            ring.append(newest, *energies(newest))
        lab.chip.power_on()
        found = {record.slot: record for record in lab.ring().records()}
        assert found[SLOT + 1] == Record(SLOT + 1, *energies(SLOT + 1))
        assert all(record == Record(slot, *energies(slot)) for slot, record in found.items())


def test_power_cut_after_any_byte_of_a_checkpoint_leaves_the_old_or_the_new() -> None:
    copy = RegisterStore.size_for(1) // 2
    seen = set()
    for before in (1, 2):
        for cut in range(copy + 1):
            lab = Lab()
            store = lab.registers()
            for n in range(before):
                store.save(checkpoint(n))
            lab.chip.power_off_after(cut)
            with pytest.raises(MeterError):
                store.save(checkpoint(before))
            lab.chip.power_on()
            found = lab.registers().load()
            assert found in (checkpoint(before - 1), checkpoint(before))
            seen.add((before, found == checkpoint(before)))
    assert seen == {(1, False), (1, True), (2, False), (2, True)}


def full_of(lab: Lab, n: int) -> Ring:
    """A ring with the records of ``n`` slots from ``SLOT``, put on the chip as they would lie."""
    ring = lab.ring()
    ring.extend([Record(slot, *energies(slot)) for slot in range(SLOT, SLOT + n)])
    return ring


def test_any_one_flipped_bit_of_an_append_loses_one_other_record_at_worst() -> None:
    """Address bytes too: a record that strays over another one must not be believed there."""
    template = Lab()
    full_of(template, 40)
    lost = 0
    for nth in range(2 * (2 + RECORD_SIZE)):
        for bit in range(8):
            lab = Lab()
            lab.chip.content[:] = template.chip.content
            ring = lab.ring()
            lab.bus.flip(nth, bit)
            assert ring.append(SLOT + 40, *energies(SLOT + 40))
            again = list(lab.ring().records())
            assert again[-1] == Record(SLOT + 40, *energies(SLOT + 40))
            assert all(record == Record(record.slot, *energies(record.slot)) for record in again)
            assert len(again) >= 40
            lost += 41 - len(again)
    assert 0 < lost < 16


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 7)), min_size=2, max_size=8))
def test_many_flipped_bits_invent_nothing(flips: list[tuple[int, int]]) -> None:
    lab = Lab()
    ring = full_of(lab, 40)
    for nth, bit in flips:
        lab.bus.flip(nth, bit)
    with contextlib.suppress(MeterError):
        ring.append(SLOT + 40, *energies(SLOT + 40))
    for record in lab.ring().records():
        assert record == Record(record.slot, *energies(record.slot))
        assert SLOT <= record.slot <= SLOT + 40


@pytest.mark.parametrize("bit", range(4, 15))
def test_a_record_written_to_another_ones_place_is_not_believed_there(bit: int) -> None:
    lab = Lab()
    ring = full_of(lab, LOAD_PROFILE_DEPTH)
    newest = SLOT + LOAD_PROFILE_DEPTH
    lab.bus.flip(*((0, bit - 8) if bit >= 8 else (1, bit)))
    ring.append(newest, *energies(newest))
    again = lab.ring()
    assert again.get(newest) == Record(newest, *energies(newest))
    assert all(r == Record(r.slot, *energies(r.slot)) for r in again.records())
    assert len(again) >= LOAD_PROFILE_DEPTH - 1


@pytest.mark.parametrize("bit", range(4, 15))
def test_records_read_from_the_wrong_place_are_not_believed(bit: int) -> None:
    lab = Lab()
    full_of(lab, LOAD_PROFILE_DEPTH)
    lab.bus.transactions.clear()
    assert len(lab.ring()) == LOAD_PROFILE_DEPTH
    crossed = sum(len(t.written) + len(t.read) for t in list(lab.bus.transactions)[:20])
    lab.bus.flip(*((crossed, bit - 8) if bit >= 8 else (crossed + 1, bit)))
    disturbed = lab.ring()
    assert all(r == Record(r.slot, *energies(r.slot)) for r in disturbed.records())
    assert len(disturbed) < LOAD_PROFILE_DEPTH
    assert len(lab.ring()) == LOAD_PROFILE_DEPTH


def test_what_a_factory_left_on_the_chip_is_no_history() -> None:
    for fill in (b"\x00", b"\xff", b"\xa5", b"\x5a\xa5"):
        lab = Lab()
        lab.chip.content[:] = (fill * SIZE)[:SIZE]
        ring = lab.ring()
        assert len(ring) == 0
        assert lab.registers().load() is None
        assert ring.append(SLOT, *energies(SLOT))
        assert list(lab.ring().records()) == [Record(SLOT, *energies(SLOT))]


def test_the_recorder_catches_up_when_the_chip_answers_again() -> None:
    lab = Lab()
    bus = EventBus()
    told: list[object] = []
    for kind in (BoundaryStored, StorageFailed, StorageHealed):
        bus.subscribe(kind, told.append)
    recorder = Recorder(lab.ring(), lab.registers(), bus)
    lab.chip.power_off_after(0)
    for slot in range(SLOT, SLOT + 3):
        recorder.keep(Snapshot(slot, *energies(slot), Flag.NONE))
        recorder.checkpoint(checkpoint(slot - SLOT))
    assert recorder.pending == 3
    assert [type(event) for event in told] == [StorageFailed]
    lab.chip.power_on()
    recorder.checkpoint(checkpoint(3))
    assert [type(event) for event in told[1:]] == [BoundaryStored] * 3 + [StorageHealed]
    assert list(lab.ring().records()) == [
        Record(slot, *energies(slot)) for slot in range(SLOT, SLOT + 3)
    ]
    assert lab.registers().load() == checkpoint(3)


def test_a_year_of_half_hours_stores_64_bytes_each() -> None:
    lab = Lab()
    recorder = Recorder(lab.ring(), lab.registers(), EventBus())
    year = 365 * 48
    recorder.checkpoint(checkpoint(0))
    before = lab.chip.stored
    for slot in range(SLOT, SLOT + year):
        recorder.keep(Snapshot(slot, *energies(slot), Flag.NONE))
        recorder.checkpoint(checkpoint(slot - SLOT))
    assert lab.chip.stored - before == 64 * year
    again = lab.ring()
    assert len(again) == LOAD_PROFILE_DEPTH
    assert again.newest() == Record(SLOT + year - 1, *energies(SLOT + year - 1))
    assert again.corrupt == 0
