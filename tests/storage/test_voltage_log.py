"""Half-hours of voltage are found as they were stored, or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.twin import Twin
from meter_runtime.storage.voltage_log import (
    RECORD_SIZE,
    VOLTAGE_LOG_DEPTH,
    LineVoltage,
    VoltageLog,
    VoltageRecord,
    decode,
    encode,
)

DEPTH = 8
VOLTS = st.integers(0, 65_535)
LINE = st.none() | st.builds(LineVoltage, VOLTS, VOLTS, VOLTS, st.integers(1, 65_535))
RECORD = st.builds(VoltageRecord, st.integers(0, (1 << 32) - 1), LINE, LINE, LINE)


def medium(write_unit: int = 1) -> MemoryMedia:
    return MemoryMedia(VoltageLog.size_for(DEPTH, write_unit), write_unit=write_unit)


def record(slot: int, readings: int = 1800) -> VoltageRecord:
    line = LineVoltage(10_100 + slot % 7, 9_950, 10_250, readings)
    return VoltageRecord(slot, line, None, line)


def test_a_log_of_42_days_is_64_512_bytes_of_records() -> None:
    assert VOLTAGE_LOG_DEPTH * RECORD_SIZE == 64_512


@given(RECORD)
def test_a_record_is_decoded_as_it_was_encoded(record: VoltageRecord) -> None:
    assert len(encode(record)) == RECORD_SIZE
    assert decode(encode(record)) == record


@given(st.binary(max_size=40))
def test_noise_is_no_record(noise: bytes) -> None:
    assert decode(noise) is None


@given(RECORD, st.integers(0, 8 * RECORD_SIZE - 1))
def test_every_single_bit_is_watched(record: VoltageRecord, bit: int) -> None:
    raw = bytearray(encode(record))
    raw[bit // 8] ^= 1 << bit % 8
    assert decode(bytes(raw)) is None


def test_a_voltage_that_does_not_fit_is_refused() -> None:
    line = LineVoltage(65_536, 0, 0, 1)
    with pytest.raises(ValueError, match="out of range"):
        encode(VoltageRecord(1, line, None, None))


def test_a_slot_before_1970_is_refused() -> None:
    with pytest.raises(ValueError, match="1970"):
        VoltageLog.open(medium(), DEPTH).store(record(-1))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), max_size=40))
def test_it_keeps_what_a_dictionary_would(course: list[tuple[int, int]]) -> None:
    media = medium()
    log = VoltageLog.open(media, DEPTH)
    places: dict[int, VoltageRecord] = {}
    for slot, readings in course:
        each = record(slot, readings)
        there = places.get(slot % DEPTH)
        fuller = there is not None and there.slot == slot and there.readings > each.readings
        assert log.store(each) is not fuller
        if not fuller:
            places[slot % DEPTH] = each
    again = VoltageLog.open(media, DEPTH)
    for first, last in ((0, 40), (10, 20), (39, 3)):
        expected = [each for each in places.values() if first <= each.slot <= last]
        assert again.records(first, last) == sorted(expected, key=lambda each: each.slot)
    for slot in range(41):
        there = places.get(slot % DEPTH)
        assert again.get(slot) == (there if there is not None and there.slot == slot else None)


def test_a_record_in_anothers_place_is_none() -> None:
    media = medium()
    log = VoltageLog.open(media, DEPTH)
    log.store(record(3))
    start = media.size - DEPTH * RECORD_SIZE
    media.write(start + 4 * RECORD_SIZE, media.read(start + 3 * RECORD_SIZE, RECORD_SIZE))
    assert log.records(0, 100) == [record(3)]


def test_what_a_wrong_clock_left_hides_nothing() -> None:
    log = VoltageLog.open(medium(), DEPTH)
    log.store(record(1_000_003))
    for slot in range(5):
        assert log.store(record(slot))
    assert log.records(0, 100) == [record(slot) for slot in range(5)]


@pytest.mark.parametrize("write_unit", [1, 512])
def test_a_cut_write_costs_no_other_half_hour(write_unit: int) -> None:
    media = medium(write_unit)
    log = VoltageLog.open(media, DEPTH)
    for slot in range(DEPTH):
        log.store(record(slot))
    before = media.read(0, media.size)
    log.store(record(DEPTH + 3))
    after = media.read(0, media.size)
    start = media.size - (DEPTH - 3) * RECORD_SIZE
    others = [record(slot) for slot in range(DEPTH) if slot != 3]
    for kept in range(RECORD_SIZE + 1):
        for torn in (
            before[: start + kept] + after[start + kept :],
            after[: start + kept] + before[start + kept :],
        ):
            cut = MemoryMedia(len(torn), write_unit=write_unit)
            cut.write(0, torn)
            found = VoltageLog.open(cut, DEPTH).records(0, 100)
            assert [each for each in found if each.slot % DEPTH != 3] == others
            there = [each for each in found if each.slot % DEPTH == 3]
            assert there in ([], [record(3)], [record(DEPTH + 3)])


def test_the_loss_of_the_header_costs_nothing() -> None:
    media = medium()
    log = VoltageLog.open(media, DEPTH)
    log.store(record(5))
    media.write(0, bytes(media.size - DEPTH * RECORD_SIZE))
    assert VoltageLog.open(media, DEPTH).records(0, 9) == [record(5)]


def test_another_depth_is_refused() -> None:
    media = medium()
    VoltageLog.open(media, DEPTH)
    with pytest.raises(MeterError, match="8 half-hours of voltage where 4 are configured"):
        VoltageLog.open(media, DEPTH // 2)


def test_a_newer_programs_log_is_left_alone() -> None:
    media = medium()
    newer = Twin(media, 0, b"VL", 2, 4)
    newer.load()
    newer.save(bytes(4))
    before = media.read(0, media.size)
    with pytest.raises(MeterError, match="newer meter-runtime"):
        VoltageLog.open(media, DEPTH)
    assert media.read(0, media.size) == before


def test_a_medium_that_is_too_small_is_the_programmers_mistake() -> None:
    with pytest.raises(ValueError, match="too small"):
        VoltageLog.open(medium(), DEPTH + 1)
