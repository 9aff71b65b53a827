"""A value kept twice survives the loss of either copy."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.twin import Twin

SIZE = Twin.size_for(4, 1)
PITCH = SIZE // 2
LAST = (1 << 32) - 1


def twin_on(media: MemoryMedia, version: int = 1, payload_size: int = 4) -> Twin:
    return Twin(media, 0, b"Tt", version, payload_size)


def frame(sequence: int, payload: bytes, version: int = 1) -> bytes:
    """A copy, worked out from its description."""
    body = b"Tt" + bytes((version, len(payload))) + sequence.to_bytes(4, "big") + payload
    return body + zlib.crc32(body).to_bytes(4, "big")


def media_with(copies: dict[int, bytes], size: int = SIZE) -> MemoryMedia:
    media = MemoryMedia(size)
    for copy, content in copies.items():
        media.write(copy * (size // 2), content)
    return media


class BrittleMedia(MemoryMedia):
    failing = 0
    working = 0

    def flush(self) -> None:
        if self.working:
            self.working -= 1
        elif self.failing:
            self.failing -= 1
            raise MeterError("card: cannot write: gone; replace it")


def test_a_blank_medium_holds_nothing() -> None:
    twin = twin_on(MemoryMedia(SIZE))
    assert twin.load() is None
    assert twin.damaged == 0


def test_a_copy_is_twelve_bytes_longer_than_its_payload() -> None:
    media = MemoryMedia(SIZE)
    twin = twin_on(media)
    for payload in (b"abcd", b"efgh"):
        twin.save(payload)
    assert media.read(0, 16) == frame(2, b"abcd")
    assert media.read(16, 16) == frame(3, b"efgh")


def test_the_copies_lie_in_separate_write_units() -> None:
    media = MemoryMedia(Twin.size_for(4, 512), write_unit=512)
    twin_on(media).save(b"aaaa")
    assert media.size == 1024
    assert any(media.read(0, 512))
    assert any(media.read(512, 512))


@given(st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=9))
def test_the_last_saved_payload_is_loaded(payloads: list[bytes]) -> None:
    media = MemoryMedia(SIZE)
    for payload in payloads:
        twin = twin_on(media)
        twin.load()
        twin.save(payload)
    assert twin_on(media).load() == payloads[-1]


@given(
    st.integers(LAST - 5, LAST),
    st.lists(st.binary(min_size=4, max_size=4), min_size=9, max_size=20),
)
def test_the_sequence_wraps(start: int, payloads: list[bytes]) -> None:
    media = media_with({start % 2: frame(start, b"old.")})
    for payload in payloads:
        twin = twin_on(media)
        assert twin.load() is not None
        twin.save(payload)
        assert twin_on(media).load() == payload
    assert int.from_bytes(media.read(4, 4), "big") < 20


@pytest.mark.parametrize(
    ("later", "earlier"),
    [(2, 1), (0, LAST), (1, LAST - 1), (1 << 31, 1), ((1 << 31) + 1, 2), (2, (1 << 31) + 3)],
)
def test_the_later_number_wins_whichever_copy_has_it(later: int, earlier: int) -> None:
    if later % 2 == earlier % 2:
        earlier += 1
    copies = {later % 2: frame(later, b"new."), earlier % 2: frame(earlier, b"old.")}
    assert twin_on(media_with(copies)).load() == b"new."


@given(st.integers(1, 6), st.integers(0, SIZE - 1), st.integers(1, 255))
def test_one_damaged_byte_costs_at_most_the_last_save(saves: int, at: int, flip: int) -> None:
    media = MemoryMedia(SIZE)
    twin = twin_on(media)
    for n in range(saves):
        twin.save(bytes(3) + bytes((n,)))
    media.write(at, bytes((media.read(at, 1)[0] ^ flip,)))
    again = twin_on(media)
    assert again.load() in [bytes(3) + bytes((n,)) for n in (saves - 1, max(0, saves - 2))]
    assert again.damaged == 1


@pytest.mark.parametrize("bit", range(16 * 8))
def test_every_single_bit_is_watched(bit: int) -> None:
    content = bytearray(frame(1, b"abcd"))
    content[bit // 8] ^= 1 << bit % 8
    twin = twin_on(media_with({1: bytes(content)}))
    assert twin.load() is None
    assert twin.damaged == 1


@given(st.integers(0, 16), st.booleans())
def test_a_save_cut_at_any_byte_leaves_the_one_before(cut: int, head_first: bool) -> None:
    media = MemoryMedia(SIZE)
    twin = twin_on(media)
    for payload in (b"aaaa", b"bbbb"):
        twin.save(payload)
    before = media.read(0, SIZE)
    twin.save(b"cccc")
    after = media.read(0, SIZE)
    start = next(i for i in range(SIZE) if before[i] != after[i]) // PITCH * PITCH
    lost = range(cut, PITCH) if head_first else range(cut)
    for at in lost:
        media.write(start + at, before[start + at : start + at + 1])
    whole = media.read(0, SIZE) == after
    assert twin_on(media).load() == (b"cccc" if whole else b"bbbb")


def test_a_save_repairs_what_it_replaces() -> None:
    media = media_with({0: b"\x55" * 16, 1: frame(1, b"good")})
    twin = twin_on(media)
    assert (twin.load(), twin.damaged) == (b"good", 1)
    twin.save(b"next")
    assert (twin.load(), twin.damaged) == (b"next", 0)


def test_an_unreadable_copy_that_comes_back_is_older_than_what_was_saved_since() -> None:
    media = media_with({0: frame(8, b"old."), 1: frame(7, b"olde")})
    for at in (9, PITCH + 9):
        media.write(at, b"\xff")
    twin = twin_on(media)
    assert (twin.load(), twin.damaged) == (None, 2)
    twin.save(b"new.")
    assert media.read(0, 16) == frame(2, b"new.")
    assert media.read(PITCH, 16) == frame(1, b"new.")


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_failed_save_can_be_repeated(failures: int) -> None:
    media = BrittleMedia(SIZE)
    twin = twin_on(media)
    twin.save(b"aaaa")
    media.failing = failures
    for _ in range(failures):
        with pytest.raises(MeterError):
            twin.save(b"bbbb")
        other = twin_on(media)
        assert other.load() in {b"aaaa", b"bbbb"}
        assert other.damaged == 0
    twin.save(b"cccc")
    twin.save(b"dddd")
    assert media.read(0, PITCH) == frame(4, b"dddd")
    assert media.read(PITCH, PITCH) == frame(3, b"cccc")


def test_a_first_save_that_fails_halfway_is_repeated_in_full() -> None:
    media = BrittleMedia(SIZE)
    twin = twin_on(media)
    media.working, media.failing = 1, 1
    with pytest.raises(MeterError):
        twin.save(b"aaaa")
    twin.save(b"bbbb")
    assert media.read(0, PITCH)[8:12] == media.read(PITCH, PITCH)[8:12] == b"bbbb"


def test_a_copy_in_the_others_place_is_not_believed() -> None:
    twin = twin_on(media_with({0: frame(3, b"abcd")}))
    assert (twin.load(), twin.damaged) == (None, 1)


@pytest.mark.parametrize("payload", [b"new.", b"longer than ours by far"])
def test_a_newer_format_is_an_error_and_stays_untouched(payload: bytes) -> None:
    media = MemoryMedia(128)
    media.write(0, frame(2, payload, version=2))
    media.write(Twin.size_for(len(payload), 1) // 2, frame(1, bytes(len(payload)), version=2))
    before = media.read(0, 128)
    newer = r"memory: written by a newer meter-runtime \(format 2, this one reads 1\); install"
    with pytest.raises(MeterError, match=newer):
        twin_on(media, version=1).load()
    assert media.read(0, 128) == before


def test_one_newer_copy_is_enough_to_refuse() -> None:
    media = media_with({0: frame(2, b"old."), 1: frame(1, b"new.", version=2)})
    with pytest.raises(MeterError, match="newer"):
        twin_on(media, version=1).load()


@pytest.mark.parametrize("payload", [b"abc", b"abcde", b""])
def test_a_payload_of_another_length_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="a payload has 4 bytes"):
        twin_on(MemoryMedia(SIZE)).save(payload)


@given(st.binary(min_size=SIZE, max_size=SIZE))
def test_arbitrary_bytes_are_never_believed(raw: bytes) -> None:
    twin = twin_on(media_with({0: raw}))
    assert twin.load() is None
    assert twin.damaged == any(raw[:PITCH]) + any(raw[PITCH:])


@given(st.integers(0, 15), st.integers(0, LAST))
def test_a_copy_cut_off_at_any_byte_is_not_believed(length: int, sequence: int) -> None:
    content = frame(sequence, b"abcd")
    blank_rest = content[:length] + bytes(16 - length)
    expected = b"abcd" if blank_rest == content else None
    assert twin_on(media_with({sequence % 2: blank_rest})).load() == expected


class DisturbedMedia(MemoryMedia):
    """Its next reading is not what it holds."""

    disturbed = False

    def read(self, offset: int, n: int) -> bytes:
        content = super().read(offset, n)
        if not self.disturbed:
            return content
        self.disturbed = False
        return bytes((content[0] ^ 1,)) + content[1:]


def test_one_disturbed_reading_does_not_let_the_older_copy_count() -> None:
    media = DisturbedMedia(SIZE)
    twin = twin_on(media)
    for payload in (b"aaaa", b"bbbb", b"cccc"):
        twin.save(payload)
    # The newest copy is the one that is read first.
    assert media.read(8, 4) == b"cccc"
    media.disturbed = True
    reread = twin_on(media)
    assert reread.load() == b"cccc"
    assert reread.damaged == 0
