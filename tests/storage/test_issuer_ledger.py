"""An issuer's counter never goes back, and its key is the one that it was given last."""

import pytest
from cut_medium import FailingMedia, after_cuts
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_runtime.errors import MeterError
from meter_runtime.storage.issuer_ledger import MAX_COUNTER, MAX_ISSUERS, IssuerLedger
from meter_runtime.storage.media import Media, MemoryMedia
from meter_runtime.storage.twin import Twin

KEY = bytes(range(32))
ANOTHER_KEY = bytes(range(1, 33))
FIRST, SECOND, NEXT, OTHER = (bytes((n,)) * 32 for n in (1, 2, 3, 4))
FILE = {"new-system": FIRST, "scs": SECOND}
FULL = {f"issuer-{n}": bytes((n + 10,)) * 32 for n in range(MAX_ISSUERS)}


def blank(write_unit: int = 1) -> MemoryMedia:
    return MemoryMedia(IssuerLedger.size_for(write_unit), "issuers.twin", write_unit)


def opened(
    media: Media,
    configured: dict[str, bytes] | None = None,
    reached: dict[str, int] | None = None,
    key: bytes = KEY,
) -> IssuerLedger:
    ledger = IssuerLedger.open(media, key)
    ledger.enroll(FILE if configured is None else configured, reached or {})
    return ledger


def test_a_new_issuer_begins_at_nothing_with_the_key_of_the_file() -> None:
    ledger = opened(blank())
    assert (ledger.counter("scs"), ledger.public_key("scs")) == (0, SECOND)
    assert ledger.damaged == 0


@pytest.mark.parametrize("write_unit", [1, 512])
def test_what_was_reached_is_there_after_a_restart(write_unit: int) -> None:
    media = blank(write_unit)
    ledger = opened(media)
    ledger.advance("new-system", 5)
    ledger.advance("scs", MAX_COUNTER)
    ledger.rotate("new-system", NEXT)
    for _ in range(2):
        ledger = opened(media)
        assert (ledger.counter("new-system"), ledger.public_key("new-system")) == (5, NEXT)
        assert (ledger.counter("scs"), ledger.public_key("scs")) == (MAX_COUNTER, SECOND)


def test_a_lower_counter_changes_nothing() -> None:
    media = blank()
    ledger = opened(media)
    ledger.advance("scs", 5)
    before = media.read(0, media.size)
    for counter in (0, 4, 5):
        ledger.advance("scs", counter)
    assert ledger.counter("scs") == 5
    assert media.read(0, media.size) == before


def test_what_is_known_from_elsewhere_raises_and_never_lowers() -> None:
    media = blank()
    opened(media, reached={"scs": 9})
    assert opened(media).counter("scs") == 9
    assert opened(media, reached={"scs": 4, "new-system": 2}).counter("scs") == 9
    assert opened(media).counter("new-system") == 2


def test_a_start_that_brings_no_news_writes_nothing() -> None:
    media = blank()
    opened(media).advance("scs", 3)
    before = media.read(0, media.size)
    opened(media)
    assert media.read(0, media.size) == before


def test_the_files_key_counts_again_once_it_was_edited() -> None:
    media = blank()
    ledger = opened(media)
    ledger.advance("scs", 5)
    ledger.rotate("scs", NEXT)
    assert opened(media).public_key("scs") == NEXT
    edited = {**FILE, "scs": OTHER}
    assert opened(media, edited).public_key("scs") == OTHER
    assert opened(media, edited).counter("scs") == 5
    assert opened(media).public_key("scs") == SECOND, "edited back: not the key rotated to"


def test_an_issuer_that_left_and_came_back_goes_on() -> None:
    media = blank()
    opened(media).advance("scs", 5)
    opened(media, {"new-system": FIRST})
    assert opened(media).counter("scs") == 5


def test_eight_issuers_have_a_place_and_a_ninth_is_the_callers_mistake() -> None:
    media = blank()
    ledger = opened(media, FULL)
    for n, name in enumerate(FULL):
        ledger.advance(name, 100 + n)
    again = opened(media, FULL)
    assert [again.counter(name) for name in FULL] == list(range(100, 108))
    with pytest.raises(ValueError, match="holds 8 issuers, not 9"):
        opened(media, {**FULL, "ninth": FIRST})


def test_an_issuer_that_has_left_gives_way_when_the_place_is_needed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    media = blank()
    for name in FULL:
        opened(media, FULL).advance(name, 5)
    changed = {name: key for name, key in FULL.items() if name != "issuer-3"} | {"new": FIRST}
    ledger = opened(media, changed)
    assert "issuer-3 is no issuer any more and gives way" in caplog.text
    assert (ledger.counter("new"), ledger.public_key("new")) == (0, FIRST)
    again = opened(media, changed)
    assert [again.counter(name) for name in changed] == [*[5] * 7, 0]


def test_a_damaged_place_goes_on_from_what_is_known_and_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    media = blank()
    opened(media).advance("new-system", 5)
    opened(media).advance("scs", 7)
    place = media.size // MAX_ISSUERS
    media.write(place, b"\x55" * place)
    ledger = IssuerLedger.open(media, KEY)
    assert ledger.damaged == 1
    ledger.enroll(FILE, {"scs": 6})
    assert "issuers.twin: damaged" in caplog.text
    assert ledger.counter("new-system") == 5
    assert (ledger.counter("scs"), ledger.public_key("scs")) == (6, SECOND)
    again = opened(media)
    assert (again.counter("scs"), again.damaged) == (6, 0)


def test_all_places_are_found_again_when_every_one_was_damaged() -> None:
    media = blank()
    media.write(0, b"\x55" * media.size)
    ledger = IssuerLedger.open(media, KEY)
    assert ledger.damaged == MAX_ISSUERS
    ledger.enroll(FULL, {})
    again = opened(media, FULL)
    assert again.damaged == 0
    assert again.public_key("issuer-7") == FULL["issuer-7"]


def test_under_another_device_key_nothing_is_believed() -> None:
    media = blank()
    opened(media).rotate("scs", NEXT)
    ledger = IssuerLedger.open(media, ANOTHER_KEY)
    assert ledger.damaged == 2
    ledger.enroll(FILE, {})
    assert ledger.public_key("scs") == SECOND


@given(st.integers(0, 95), st.integers(1, 255))
def test_nobody_gives_himself_a_key_by_writing_the_file(at: int, bits: int) -> None:
    media = blank()
    opened(media).advance("new-system", 5)
    forger = Twin(media, 0, b"Is", 1, 80)
    payload = bytearray(forger.load() or b"")
    payload[at % 80] ^= bits
    forger.save(bytes(payload))
    forger.save(bytes(payload))
    ledger = IssuerLedger.open(media, KEY)
    assert ledger.damaged == 1
    ledger.enroll(FILE, {"new-system": 5})
    assert (ledger.counter("new-system"), ledger.public_key("new-system")) == (5, FIRST)


def test_a_record_moved_to_another_place_is_not_believed() -> None:
    media = blank()
    opened(media).advance("new-system", 5)
    place = media.size // MAX_ISSUERS
    media.write(7 * place, media.read(0, place))
    assert IssuerLedger.open(media, KEY).damaged == 1


@given(st.binary(max_size=200), st.integers(0, 1500))
def test_noise_is_not_believed(noise: bytes, at: int) -> None:
    media = blank()
    media.write(at % (media.size - len(noise)), noise)
    ledger = opened(media)
    assert (ledger.counter("scs"), ledger.public_key("scs")) == (0, SECOND)


def test_a_newer_format_is_refused_untouched() -> None:
    media = blank()
    Twin(media, 0, b"Is", 2, 80).save(bytes(80))
    before = media.read(0, media.size)
    with pytest.raises(MeterError, match=r"newer meter-runtime \(format 2, this one reads 1\)"):
        IssuerLedger.open(media, KEY)
    assert media.read(0, media.size) == before


def test_a_key_whose_storing_failed_does_not_count_now_or_later() -> None:
    media = FailingMedia(IssuerLedger.size_for(1), "issuers.twin")
    ledger = opened(media)
    for working in (0, 1):
        media.working, media.heals = working, True
        with pytest.raises(MeterError, match="no space left"):
            ledger.rotate("scs", NEXT)
        assert ledger.public_key("scs") == SECOND
        assert opened(media).public_key("scs") == SECOND


def test_a_counter_whose_storing_failed_is_not_used_again_until_the_next_start() -> None:
    media = FailingMedia(IssuerLedger.size_for(1), "issuers.twin")
    ledger = opened(media)
    media.working = 0
    with pytest.raises(MeterError, match="no space left"):
        ledger.advance("scs", 5)
    assert ledger.counter("scs") == 5


def test_a_medium_that_fails_at_the_start_hinders_nobody(caplog: pytest.LogCaptureFixture) -> None:
    media = FailingMedia(IssuerLedger.size_for(1), "issuers.twin")
    media.working = 0
    ledger = opened(media, reached={"scs": 4})
    assert ledger.counter("scs") == 4
    assert "no space left" in caplog.text


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(FILE)), st.integers(1, 50)), max_size=8))
def test_counters_are_the_highest_ever_reached(advances: list[tuple[str, int]]) -> None:
    media = blank()
    for name, counter in advances:
        opened(media).advance(name, counter)
    ledger = opened(media)
    for name in FILE:
        assert ledger.counter(name) == max((n for who, n in advances if who == name), default=0)


@pytest.mark.parametrize("write_unit", [1, 512])
def test_a_cut_leaves_the_counter_before_or_after_and_the_other_issuer_alone(
    write_unit: int,
) -> None:
    media = blank(write_unit)
    ledger = opened(media)
    ledger.advance("scs", 3)
    ledger.advance("new-system", 5)

    def advance(medium: Media) -> None:
        opened(medium).advance("new-system", 6)

    seen = set()
    for content in after_cuts(media.read(0, media.size), write_unit, advance):
        survivor = blank(write_unit)
        survivor.write(0, content)
        again = opened(survivor)
        assert again.damaged == 0
        assert (again.counter("scs"), again.public_key("scs")) == (3, SECOND)
        seen.add(again.counter("new-system"))
    assert seen == {5, 6}


@pytest.mark.parametrize("write_unit", [1, 512])
def test_a_cut_leaves_the_key_before_or_after(write_unit: int) -> None:
    media = blank(write_unit)
    opened(media).advance("scs", 3)

    def rotate(medium: Media) -> None:
        opened(medium).rotate("scs", NEXT)

    seen = set()
    for content in after_cuts(media.read(0, media.size), write_unit, rotate):
        survivor = blank(write_unit)
        survivor.write(0, content)
        again = opened(survivor)
        assert again.counter("scs") == 3
        seen.add(again.public_key("scs"))
    assert seen == {SECOND, NEXT}
