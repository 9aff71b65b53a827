"""A value kept twice survives the loss of either copy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.twin import Twin


def twin_on(media: MemoryMedia, version: int = 1, payload_size: int = 4) -> Twin:
    return Twin(media, 0, b"Test", version, payload_size)


class SectorMedia(MemoryMedia):
    write_unit = 512


def test_a_blank_medium_holds_nothing() -> None:
    twin = twin_on(MemoryMedia(64))
    assert twin.load() is None
    assert twin.damaged == 0


def test_the_copies_lie_in_separate_write_units() -> None:
    media = SectorMedia(Twin.size_for(4, 512))
    twin = twin_on(media)
    twin.save(b"aaaa")
    twin.save(b"bbbb")
    assert media.size == 1024
    assert any(media.read(0, 512))
    assert any(media.read(512, 512))


@given(st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=9))
def test_the_last_saved_payload_is_loaded(payloads: list[bytes]) -> None:
    media = MemoryMedia(64)
    for payload in payloads:
        twin = twin_on(media)
        twin.load()
        twin.save(payload)
    assert twin_on(media).load() == payloads[-1]


@given(st.integers(1, 6), st.integers(0, 63), st.integers(1, 255))
def test_one_damaged_byte_costs_at_most_the_last_save(saves: int, at: int, flip: int) -> None:
    media = MemoryMedia(64)
    twin = twin_on(media)
    for n in range(saves):
        twin.save(bytes(3) + bytes((n,)))
    media.write(at, bytes((media.read(at, 1)[0] ^ flip,)))
    again = twin_on(media)
    loaded = again.load()
    expected = {bytes(3) + bytes((n,)) for n in (saves - 1, saves - 2) if n >= 0}
    assert loaded in expected or (loaded is None and saves == 1)


@given(st.integers(0, 24))
def test_a_save_cut_at_any_byte_leaves_the_one_before(cut: int) -> None:
    media = MemoryMedia(64)
    twin = twin_on(media)
    for payload in (b"aaaa", b"bbbb"):
        twin.save(payload)
    before = media.read(0, 64)
    twin.save(b"cccc")
    after = media.read(0, 64)
    start = next(i for i in range(64) if before[i] != after[i]) // 32 * 32
    media.write(start + cut, before[start + cut : start + 32])
    assert twin_on(media).load() in ((b"bbbb", b"cccc") if cut >= 23 else (b"bbbb",))


def test_a_newer_format_is_an_error_and_stays_untouched() -> None:
    media = MemoryMedia(128)
    twin_on(media, 1).save(b"old.")
    newer = Twin(media, 0, b"Test", 2, 4)
    newer.load()
    newer.save(b"new.")
    before = media.read(0, 128)
    with pytest.raises(MeterError, match=r"newer meter-runtime \(format 2, this one reads 1\)"):
        twin_on(media, 1).load()
    assert media.read(0, 128) == before


@given(st.binary(min_size=64, max_size=64))
def test_arbitrary_bytes_are_never_believed(raw: bytes) -> None:
    media = MemoryMedia(64)
    media.write(0, raw)
    twin = twin_on(media)
    assert twin.load() is None
    assert twin.damaged == any(raw[:32]) + any(raw[32:])
