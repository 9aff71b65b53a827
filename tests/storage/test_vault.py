"""The vault holds the old content or the new, and tells nobody which it is."""

import logging
import os
import traceback
import zlib
from pathlib import Path

import pytest
from cut_medium import CutMedium, FailingMedia, after_cuts
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import FileMedia, MemoryMedia
from meter_runtime.storage.vault import MAX_CONTENT, Vault

KEY = bytes(range(32))
OTHER_KEY = bytes(32)
SIZE = Vault.size_for(1)
PITCH = SIZE // 2
FRAME = 241
OLD, NEW = b"the old password", b"the new one"

contents = st.binary(max_size=MAX_CONTENT)


def holding(*stored: bytes, write_unit: int = 1) -> MemoryMedia:
    media = MemoryMedia(Vault.size_for(write_unit), "vault.bin")
    media.write_unit = write_unit
    vault = Vault.open(media, KEY)
    for content in stored:
        vault.store(content)
    return media


def bytes_of(media: MemoryMedia) -> bytes:
    return media.read(0, media.size)


def with_bytes(content: bytes) -> MemoryMedia:
    media = MemoryMedia(len(content), "vault.bin")
    media.write(0, content)
    return media


def slots_of(content: bytes) -> tuple[bytes, bytes]:
    half = len(content) // 2
    return content[:half], content[half:]


def flipped(content: bytes, at: int, bits: int) -> bytes:
    return content[:at] + bytes((content[at] ^ bits,)) + content[at + 1 :]


def test_a_blank_medium_holds_nothing() -> None:
    vault = Vault.open(MemoryMedia(SIZE), KEY)
    assert vault.load() is None
    assert vault.version == 0
    assert not vault.damaged


@given(st.lists(contents, min_size=1, max_size=5))
def test_the_last_content_is_found_again_and_the_version_counts(stored: list[bytes]) -> None:
    again = Vault.open(holding(*stored), KEY)
    assert again.load() == stored[-1]
    assert again.version == len(stored)


def test_the_longest_content_fits_and_one_byte_more_does_not() -> None:
    media = holding(bytes(MAX_CONTENT))
    vault = Vault.open(media, KEY)
    assert vault.load() == bytes(MAX_CONTENT)
    before = bytes_of(media)
    with pytest.raises(ValueError, match="holds 200 bytes, not 201"):
        vault.store(bytes(MAX_CONTENT + 1))
    assert bytes_of(media) == before


@given(st.lists(contents, min_size=1, max_size=4))
def test_at_rest_one_slot_is_sealed_and_the_other_is_zero(stored: list[bytes]) -> None:
    first, second = slots_of(bytes_of(holding(*stored)))
    assert any(first) != any(second)


def test_neither_content_nor_its_length_can_be_seen() -> None:
    short, long = bytes_of(holding(b"A")), bytes_of(holding(b"A" * MAX_CONTENT))
    assert len(short.rstrip(b"\0")) == len(long.rstrip(b"\0")) == FRAME
    assert b"AAAA" not in long
    assert short[:8] == long[:8]


def test_the_same_content_is_sealed_differently_each_time() -> None:
    assert bytes_of(holding(OLD)) != bytes_of(holding(OLD))


def test_the_slots_lie_in_separate_write_units(tmp_path: Path) -> None:
    media = FileMedia(tmp_path / "vault.bin", Vault.size_for(FileMedia.write_unit))
    assert media.size == 1024
    Vault.open(media, KEY).store(OLD)
    assert any(media.read(0, 512))
    Vault.open(media, KEY).store(NEW)
    assert not any(media.read(0, 512))
    assert any(media.read(512, 512))
    media.close()
    again = FileMedia(tmp_path / "vault.bin", 1024)
    assert Vault.open(again, KEY).load() == NEW
    again.close()


@pytest.mark.parametrize("write_unit", [1, 16, 512])
@pytest.mark.parametrize("stored", [(), (OLD,), (b"first", OLD)])
def test_a_cut_anywhere_leaves_exactly_the_old_or_exactly_the_new(
    write_unit: int, stored: tuple[bytes, ...]
) -> None:
    before = bytes_of(holding(*stored, write_unit=write_unit))
    seen: set[bytes | None] = set()
    for content in after_cuts(before, write_unit, lambda m: Vault.open(m, KEY).store(NEW)):
        media = with_bytes(content)
        media.write_unit = write_unit
        vault = Vault.open(media, KEY)
        seen.add(vault.load())
        if vault.load() is not None:
            assert not vault.damaged
            first, second = slots_of(bytes_of(media))
            assert any(first) != any(second)
    assert seen == {stored[-1] if stored else None, NEW}


@pytest.mark.parametrize("write_unit", [1, 512])
def test_a_second_cut_during_the_recovery_changes_nothing(write_unit: int) -> None:
    before = bytes_of(holding(OLD, write_unit=write_unit))

    def recover(medium: CutMedium) -> None:
        Vault.open(medium, KEY)

    for once in set(after_cuts(before, write_unit, lambda m: Vault.open(m, KEY).store(NEW))):
        media = with_bytes(once)
        media.write_unit = write_unit
        expected = Vault.open(media, KEY).load()
        assert expected in (OLD, NEW)
        for twice in after_cuts(once, write_unit, recover):
            media = with_bytes(twice)
            media.write_unit = write_unit
            assert Vault.open(media, KEY).load() == expected


def test_once_acknowledged_the_new_content_survives_any_cut() -> None:
    before = bytes_of(holding(OLD))
    acknowledged = False

    def store_and_rest(medium: CutMedium) -> None:
        nonlocal acknowledged
        acknowledged = False
        Vault.open(medium, KEY).store(NEW)
        acknowledged = True
        medium.flush()

    for content in after_cuts(before, 1, store_and_rest):
        if acknowledged:
            assert Vault.open(with_bytes(content), KEY).load() == NEW


@given(st.integers(0, FRAME - 1), st.integers(1, 255))
def test_a_damaged_byte_is_never_believed_and_never_taken_for_a_wrong_key(
    at: int, bits: int
) -> None:
    media = with_bytes(flipped(bytes_of(holding(OLD)), at, bits))
    before = bytes_of(media)
    vault = Vault.open(media, KEY)
    assert vault.load() is None
    assert vault.damaged
    assert bytes_of(media) == before


@given(st.integers(1, FRAME - 1))
def test_a_truncated_slot_is_damaged(length: int) -> None:
    whole = bytes_of(holding(OLD))
    cut = whole[:length].ljust(SIZE, b"\0")
    vault = Vault.open(with_bytes(cut), KEY)
    if cut == whole:  # the last bytes of the frame happened to be zero
        assert vault.load() == OLD
    else:
        assert vault.load() is None
        assert vault.damaged


@given(st.binary(min_size=SIZE, max_size=SIZE))
def test_arbitrary_bytes_are_never_believed_nor_erased(raw: bytes) -> None:
    media = with_bytes(raw)
    vault = Vault.open(media, KEY)
    assert vault.load() is None
    assert vault.damaged == any(raw)
    assert bytes_of(media) == raw


def test_a_damaged_vault_can_be_stored_to_and_is_clean_afterwards() -> None:
    media = with_bytes(os.urandom(SIZE))
    vault = Vault.open(media, KEY)
    damaged_before = vault.damaged
    vault.store(NEW)
    assert (damaged_before, vault.damaged) == (True, False)
    first, second = slots_of(bytes_of(media))
    assert any(first)
    assert not any(second)
    assert Vault.open(media, KEY).load() == NEW


def test_a_torn_slot_beside_the_valid_one_is_erased() -> None:
    content = bytes_of(holding(OLD))
    media = with_bytes(content[:PITCH] + os.urandom(PITCH))
    assert Vault.open(media, KEY).load() == OLD
    assert bytes_of(media) == content


def test_a_wrong_key_is_told_and_nothing_is_erased() -> None:
    media = holding(OLD)
    before = bytes_of(media)
    with pytest.raises(MeterError, match=r"^vault\.bin: sealed under another device key; put the"):
        Vault.open(media, OTHER_KEY)
    assert bytes_of(media) == before
    assert Vault.open(media, KEY).load() == OLD


def test_a_wrong_key_beside_a_torn_slot_is_a_wrong_key() -> None:
    media = with_bytes(bytes_of(holding(OLD))[:PITCH] + os.urandom(PITCH))
    before = bytes_of(media)
    with pytest.raises(MeterError, match="another device key"):
        Vault.open(media, OTHER_KEY)
    assert bytes_of(media) == before


def test_a_slot_cannot_be_moved_to_the_other_place() -> None:
    first, second = slots_of(bytes_of(holding(OLD)))
    with pytest.raises(MeterError, match="another device key"):
        Vault.open(with_bytes(second + first), KEY)


def test_an_older_slot_cannot_be_renumbered_to_be_the_newest() -> None:
    old_slot = bytes_of(holding(OLD))[:PITCH]
    media = holding(OLD, NEW)
    head = old_slot[:4] + (9).to_bytes(4, "big") + old_slot[8 : FRAME - 4]
    media.write(0, with_crc(head))
    assert Vault.open(media, KEY).load() == NEW
    assert not any(slots_of(bytes_of(media))[0])


def test_a_newer_format_is_refused_and_stays_untouched() -> None:
    media = holding(OLD)
    slot = bytes_of(media)[: FRAME - 4]
    media.write(PITCH, with_crc(slot[:2] + b"\x02" + slot[3:]))
    before = bytes_of(media)
    with pytest.raises(MeterError, match=r"newer meter-runtime \(format 2, this one reads 1\)"):
        Vault.open(media, KEY)
    assert bytes_of(media) == before


@pytest.mark.parametrize("working", [0, 1])
def test_when_storing_fails_the_old_content_stands(working: int) -> None:
    media = FailingMedia(SIZE)
    vault = Vault.open(media, KEY)
    vault.store(OLD)
    media.working = working
    with pytest.raises(MeterError, match="no space left"):
        vault.store(NEW)
    assert vault.load() == OLD
    assert vault.version == 1
    media.working = None
    vault.store(b"another")
    assert Vault.open(media, KEY).load() == b"another"


def test_a_store_that_failed_once_is_not_found_later() -> None:
    media = FailingMedia(SIZE)
    vault = Vault.open(media, KEY)
    vault.store(OLD)
    media.working, media.heals = 1, True
    with pytest.raises(MeterError):
        vault.store(NEW)
    assert Vault.open(media, KEY).load() == OLD


@pytest.mark.parametrize("working", [2, 3])
def test_when_only_the_erasing_fails_the_new_content_is_in_force(
    working: int, caplog: pytest.LogCaptureFixture
) -> None:
    media = FailingMedia(SIZE)
    vault = Vault.open(media, KEY)
    vault.store(OLD)
    media.working = working
    vault.store(NEW)
    assert vault.load() == NEW
    assert vault.unerased
    assert "not erased yet" in caplog.text
    media.working = None
    again = Vault.open(media, KEY)
    assert again.load() == NEW
    assert not again.unerased
    first, second = slots_of(media.read(0, SIZE))
    assert any(first) != any(second)


def test_a_read_only_medium_is_served() -> None:
    media = FailingMedia(SIZE)
    vault = Vault.open(media, KEY)
    vault.store(OLD)
    media.write(PITCH, b"left by a cut")
    media.working = 0
    again = Vault.open(media, KEY)
    assert again.load() == OLD
    assert again.unerased


def test_no_text_shows_the_content_or_the_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    media = FailingMedia(SIZE)
    vault = Vault.open(media, KEY)
    vault.store(OLD)
    texts = [repr(vault), repr(vars(vault))]
    media.working = 2
    vault.store(NEW)
    media.working = 0
    for content in (OLD, OLD * 20):
        with pytest.raises((MeterError, ValueError)) as failed:
            vault.store(content)
        texts.append("".join(traceback.format_exception(failed.value)))
    texts.append(caplog.text)
    shown = "\n".join(texts)
    for secret in (OLD.decode(), NEW.decode(), KEY.hex(), repr(KEY)[2:-1]):
        assert secret not in shown


def with_crc(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "big")
