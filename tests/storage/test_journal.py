"""The journal never loses a command that was begun, nor tells an outcome that was not."""

import logging
import zlib
from pathlib import Path

import pytest
from cut_medium import CutMedium, FailingMedia, after_cuts
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from meter_runtime.errors import MeterError
from meter_runtime.storage.journal import (
    JOURNAL_DEPTH,
    MAX_PAYLOAD,
    Entry,
    Journal,
    JournalFullError,
    State,
)
from meter_runtime.storage.media import FileMedia, MemoryMedia

ENTRY = 2048
payloads = st.binary(max_size=MAX_PAYLOAD)


def key_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def blank(depth: int) -> MemoryMedia:
    return MemoryMedia(Journal.size_for(depth, 1), "journal.log")


def with_bytes(content: bytes) -> MemoryMedia:
    media = MemoryMedia(len(content), "journal.log")
    media.write(0, content)
    return media


def reopened(journal_media: MemoryMedia) -> Journal:
    return Journal.open(with_bytes(journal_media.read(0, journal_media.size)))


def told(entry: Entry | None) -> tuple[State, bytes] | None:
    return None if entry is None else (entry.state, entry.payload)


def carry_out(journal: Journal, numbers: range) -> None:
    for number in numbers:
        journal.begin(key_of(number), b"do %d" % number)
        journal.finish(key_of(number), b"did %d" % number)


def test_a_blank_medium_knows_no_command() -> None:
    journal = Journal.open(blank(4))
    assert journal.pending() == ()
    assert journal.find(key_of(1)) is None
    assert journal.corrupt == 0


def test_a_meters_journal_is_a_small_file(tmp_path: Path) -> None:
    size = Journal.size_for(JOURNAL_DEPTH, FileMedia.write_unit)
    assert size == 131072
    media = FileMedia(tmp_path / "journal.log", size)
    journal = Journal.open(media)
    assert journal.depth == 64
    journal.begin(key_of(1), b"set")
    media.close()
    again = FileMedia(tmp_path / "journal.log", size)
    assert [entry.payload for entry in Journal.open(again).pending()] == [b"set"]
    again.close()


@given(payloads, payloads)
def test_intent_and_outcome_are_found_again_as_given(intent: bytes, outcome: bytes) -> None:
    media = blank(3)
    journal = Journal.open(media)
    journal.begin(key_of(7), intent)
    assert told(reopened(media).find(key_of(7))) == (State.PENDING, intent)
    journal.finish(key_of(7), outcome)
    assert told(reopened(media).find(key_of(7))) == (State.DONE, outcome)
    assert reopened(media).pending() == ()


def test_pending_commands_come_in_the_order_of_their_beginning() -> None:
    media = blank(8)
    journal = Journal.open(media)
    carry_out(journal, range(3))
    for number in (9, 4, 6):
        journal.begin(key_of(number), b"")
    order = [key_of(9), key_of(4), key_of(6)]
    assert [entry.key for entry in journal.pending()] == order
    assert [entry.key for entry in reopened(media).pending()] == order


def test_everything_known_is_told_in_the_order_of_its_writing() -> None:
    media = blank(8)
    journal = Journal.open(media)
    journal.begin(key_of(9), b"long")
    carry_out(journal, range(2))
    journal.begin(key_of(4), b"")
    journal.finish(key_of(9), b"at last")
    for one in (journal, reopened(media)):
        assert [entry.key for entry in one.entries()] == [key_of(n) for n in (0, 1, 4, 9)]
        assert one.entries()[-1].payload == b"at last"


def test_a_key_is_begun_once() -> None:
    journal = Journal.open(blank(4))
    journal.begin(key_of(1), b"a")
    with pytest.raises(ValueError, match="begun already"):
        journal.begin(key_of(1), b"a")
    journal.finish(key_of(1), b"b")
    with pytest.raises(ValueError, match="begun already"):
        journal.begin(key_of(1), b"a")


def test_only_a_pending_command_can_be_finished() -> None:
    journal = Journal.open(blank(4))
    with pytest.raises(ValueError, match="not pending"):
        journal.finish(key_of(1), b"")
    journal.begin(key_of(1), b"")
    journal.finish(key_of(1), b"one")
    with pytest.raises(ValueError, match="not pending"):
        journal.finish(key_of(1), b"two")
    assert told(journal.find(key_of(1))) == (State.DONE, b"one")


@pytest.mark.parametrize("key", [b"", bytes(15), bytes(17)])
def test_a_key_has_sixteen_bytes(key: bytes) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Journal.open(blank(4)).begin(key, b"")


def test_what_is_too_long_is_refused_and_changes_nothing() -> None:
    media = blank(4)
    journal = Journal.open(media)
    with pytest.raises(ValueError, match="2014 bytes, not 2015"):
        journal.begin(key_of(1), bytes(MAX_PAYLOAD + 1))
    assert not any(media.read(0, media.size))
    journal.begin(key_of(1), b"")
    with pytest.raises(ValueError, match="2014 bytes, not 2015"):
        journal.finish(key_of(1), bytes(MAX_PAYLOAD + 1))
    assert told(reopened(media).find(key_of(1))) == (State.PENDING, b"")


def test_the_oldest_outcome_gives_way_and_a_pending_command_never_does() -> None:
    media = blank(4)
    journal = Journal.open(media)
    journal.begin(key_of(100), b"long")
    carry_out(journal, range(10))
    again = reopened(media)
    assert told(again.find(key_of(100))) == (State.PENDING, b"long")
    for number in (8, 9):
        assert told(again.find(key_of(number))) == (State.DONE, b"did %d" % number)
    assert again.find(key_of(6)) is None


def test_after_a_restart_the_order_goes_on() -> None:
    media = blank(4)
    carry_out(Journal.open(media), range(3))
    journal = Journal.open(media)
    journal.begin(key_of(8), b"")
    again = Journal.open(media)
    again.begin(key_of(9), b"")
    assert [entry.key for entry in reopened(media).pending()] == [key_of(8), key_of(9)]
    again.finish(key_of(9), b"latest")
    carry_out(again, range(10, 11))
    assert told(reopened(media).find(key_of(9))) == (State.DONE, b"latest")


def test_a_full_journal_is_busy_until_a_command_has_ended() -> None:
    media = blank(4)
    journal = Journal.open(media)
    for number in range(3):
        journal.begin(key_of(number), b"")
    before = media.read(0, media.size)
    with pytest.raises(JournalFullError, match=r"^journal\.log: 3 commands are pending"):
        journal.begin(key_of(3), b"")
    assert media.read(0, media.size) == before
    journal.finish(key_of(1), b"")
    journal.begin(key_of(3), b"")
    assert len(reopened(media).pending()) == 3


def test_a_forgotten_command_may_be_begun_again_and_is_then_pending() -> None:
    media = blank(2)
    journal = Journal.open(media)
    carry_out(journal, range(4))
    journal.begin(key_of(0), b"again")
    assert told(reopened(media).find(key_of(0))) == (State.PENDING, b"again")


def test_what_was_finished_leaves_no_intent_on_the_medium() -> None:
    media = blank(4)
    journal = Journal.open(media)
    journal.begin(key_of(1), b"the intent")
    journal.finish(key_of(1), b"the outcome")
    content = media.read(0, media.size)
    assert b"the intent" not in content
    assert b"the outcome" in content


def test_a_medium_too_small_or_too_coarse_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least 2 entries"):
        Journal.open(MemoryMedia(4095))
    coarse = blank(4)
    coarse.write_unit = 4096
    with pytest.raises(ValueError, match="share a write unit"):
        Journal.open(coarse)
    with pytest.raises(ValueError, match="do not fit units of 4096"):
        Journal.size_for(4, 4096)


def test_a_newer_format_is_refused_and_stays_untouched() -> None:
    media = blank(4)
    Journal.open(media).begin(key_of(1), b"intent")
    media.write(0, with_version(media.read(0, ENTRY), 3))
    before = media.read(0, media.size)
    with pytest.raises(MeterError, match=r"newer meter-runtime \(format 3, this one reads 2\)"):
        Journal.open(media)
    assert media.read(0, media.size) == before


@given(st.integers(0, ENTRY - 1), st.integers(1, 255))
def test_a_damaged_byte_costs_its_own_entry_at_most(at: int, bits: int) -> None:
    media = blank(4)
    journal = Journal.open(media)
    carry_out(journal, range(2))
    journal.begin(key_of(5), b"pending")
    places = {media.read(slot * ENTRY + 12, 16): slot for slot in range(4)}
    offset = places[key_of(5)] * ENTRY + at
    media.write(offset, bytes((media.read(offset, 1)[0] ^ bits,)))
    again = Journal.open(media)
    in_entry = at < 30 + len(b"pending") + 4
    assert again.corrupt == in_entry
    assert told(again.find(key_of(5))) == (None if in_entry else (State.PENDING, b"pending"))
    assert told(again.find(key_of(0))) == (State.DONE, b"did 0")
    assert told(again.find(key_of(1))) == (State.DONE, b"did 1")


@given(st.integers(1, 30 + MAX_PAYLOAD + 3))
def test_a_truncated_entry_is_counted_and_not_found(length: int) -> None:
    media = blank(2)
    Journal.open(media).begin(key_of(1), b"\xff" * MAX_PAYLOAD)
    whole = media.read(0, ENTRY)
    media.write(0, whole[:length].ljust(ENTRY, b"\0"))
    again = Journal.open(media)
    if media.read(0, ENTRY) != whole:  # unless the last bytes were zero
        assert again.corrupt == 1
        assert again.find(key_of(1)) is None


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_arbitrary_bytes_are_never_believed(first: bytes, second: bytes) -> None:
    raw = first.ljust(ENTRY, b"\0") + second.ljust(ENTRY, b"\0")
    journal = Journal.open(with_bytes(raw))
    assert journal.pending() == ()
    assert journal.corrupt == any(raw[:ENTRY]) + any(raw[ENTRY:])
    journal.begin(key_of(1), b"")


def test_a_corrupt_place_is_used_before_an_outcome_gives_way() -> None:
    media = blank(3)
    carry_out(Journal.open(media), range(2))
    free = next(s for s in range(3) if not any(media.read(s * ENTRY, ENTRY)))
    media.write(free * ENTRY, b"\xff" * ENTRY)
    journal = Journal.open(media)
    journal.begin(key_of(9), b"")
    again = reopened(media)
    assert again.corrupt == 0
    assert all(again.find(key_of(number)) for number in (0, 1, 9))


def test_an_unfinishable_journal_says_so() -> None:
    media = blank(2)
    Journal.open(media).begin(key_of(1), b"")
    other = blank(2)
    Journal.open(other).begin(key_of(2), b"")
    media.write(ENTRY, other.read(0, ENTRY))
    with pytest.raises(JournalFullError):
        Journal.open(media).finish(key_of(1), b"")


SETTINGS = [(2, 0), (3, 1), (4, 2), (4, 3), (4, 9)]
"""Depth, and how many commands were carried out before."""


@pytest.mark.parametrize("write_unit", [1, 512])
@pytest.mark.parametrize(("depth", "before"), SETTINGS)
def test_a_cut_while_beginning_loses_no_outcome_that_is_owed(
    write_unit: int, depth: int, before: int
) -> None:
    media = blank(depth)
    carry_out(Journal.open(media), range(before))

    def begin(medium: CutMedium) -> None:
        Journal.open(medium).begin(key_of(50), b"new")

    seen: set[tuple[State, bytes] | None] = set()
    for content in after_cuts(media.read(0, media.size), write_unit, begin):
        journal = Journal.open(with_bytes(content))
        for number in range(max(0, before - (depth - 1)), before):
            assert told(journal.find(key_of(number))) == (State.DONE, b"did %d" % number)
        seen.add(told(journal.find(key_of(50))))
    assert seen == {None, (State.PENDING, b"new")}


@pytest.mark.parametrize("write_unit", [1, 512])
@pytest.mark.parametrize(("depth", "before"), SETTINGS)
def test_a_cut_while_finishing_leaves_the_command_pending_or_done(
    write_unit: int, depth: int, before: int
) -> None:
    media = blank(depth)
    journal = Journal.open(media)
    carry_out(journal, range(before))
    journal.begin(key_of(50), b"intent")

    def finish(medium: CutMedium) -> None:
        Journal.open(medium).finish(key_of(50), b"outcome")

    seen: set[tuple[State, bytes] | None] = set()
    for content in after_cuts(media.read(0, media.size), write_unit, finish):
        once = with_bytes(content)
        journal = Journal.open(once)
        for number in range(max(0, before - (depth - 2)), before):
            assert told(journal.find(key_of(number))) == (State.DONE, b"did %d" % number)
        state = told(journal.find(key_of(50)))
        seen.add(state)
        assert told(reopened(once).find(key_of(50))) == state
    assert seen == {(State.PENDING, b"intent"), (State.DONE, b"outcome")}


def test_a_second_cut_while_recovering_or_finishing_again_is_no_worse() -> None:
    media = blank(3)
    journal = Journal.open(media)
    carry_out(journal, range(4))
    journal.begin(key_of(50), b"intent")

    def finish(medium: CutMedium) -> None:
        journal = Journal.open(medium)
        if journal.pending():
            journal.finish(key_of(50), b"outcome")

    for once in set(after_cuts(media.read(0, media.size), 512, finish)):
        was = told(Journal.open(with_bytes(once)).find(key_of(50)))
        for twice in after_cuts(once, 1, finish):
            state = told(Journal.open(with_bytes(twice)).find(key_of(50)))
            assert state in (was, (State.DONE, b"outcome"))
            assert Journal.open(with_bytes(twice)).find(key_of(3)) is not None


@pytest.mark.parametrize("working", [0, 1])
def test_what_the_medium_refused_was_not_begun(working: int) -> None:
    media = FailingMedia(4 * ENTRY)
    journal = Journal.open(media)
    media.working = working
    with pytest.raises(MeterError, match="no space left"):
        journal.begin(key_of(1), b"")
    assert journal.find(key_of(1)) is None
    media.working = None
    journal.begin(key_of(1), b"second try")
    assert told(Journal.open(media).find(key_of(1))) == (State.PENDING, b"second try")


@pytest.mark.parametrize("working", [0, 1])
def test_what_the_medium_refused_was_not_finished(working: int) -> None:
    media = FailingMedia(4 * ENTRY)
    journal = Journal.open(media)
    journal.begin(key_of(1), b"intent")
    media.working = working
    with pytest.raises(MeterError, match="no space left"):
        journal.finish(key_of(1), b"first try")
    assert told(journal.find(key_of(1))) == (State.PENDING, b"intent")
    media.working = None
    journal.finish(key_of(1), b"second try")
    assert told(Journal.open(media).find(key_of(1))) == (State.DONE, b"second try")


def test_what_failed_once_is_not_found_later() -> None:
    media = FailingMedia(4 * ENTRY)
    journal = Journal.open(media)
    media.working, media.heals = 1, True
    with pytest.raises(MeterError):
        journal.begin(key_of(1), b"intent")
    assert Journal.open(media).pending() == ()


def test_that_the_intent_cannot_be_erased_undoes_no_outcome(
    caplog: pytest.LogCaptureFixture,
) -> None:
    media = FailingMedia(4 * ENTRY)
    journal = Journal.open(media)
    journal.begin(key_of(1), b"the intent")
    media.working = 2
    journal.finish(key_of(1), b"done")
    assert "not erased yet" in caplog.text
    media.working = None
    again = Journal.open(media)
    assert told(again.find(key_of(1))) == (State.DONE, b"done")
    assert b"the intent" not in media.read(0, media.size)


def test_no_text_shows_a_payload(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    media = FailingMedia(2 * ENTRY)
    journal = Journal.open(media)
    journal.begin(key_of(1), b"the intent")
    with pytest.raises(JournalFullError) as full:
        journal.begin(key_of(2), b"the intent")
    media.working = 0
    with pytest.raises(MeterError) as failed:
        journal.finish(key_of(1), b"the intent")
    texts = (repr(journal.pending()), str(full.value), str(failed.value), caplog.text)
    assert not [text for text in texts if "the intent" in text]


class JournalModel(RuleBasedStateMachine):
    """Any course of commands and restarts, against what a reader was told."""

    DEPTH = 5

    @initialize()
    def start(self) -> None:
        self.media = blank(self.DEPTH)
        self.journal = Journal.open(self.media)
        self.running: dict[bytes, bytes] = {}
        self.ended: dict[bytes, bytes] = {}
        self.next_key = 0

    @rule(intent=payloads)
    def begin(self, intent: bytes) -> None:
        self.next_key += 1
        key = key_of(self.next_key)
        if len(self.running) == self.DEPTH - 1:
            with pytest.raises(JournalFullError):
                self.journal.begin(key, intent)
            return
        self.journal.begin(key, intent)
        self.running[key] = intent

    @precondition(lambda self: self.running)
    @rule(outcome=payloads, which=st.integers(0, DEPTH))
    def finish(self, outcome: bytes, which: int) -> None:
        key = sorted(self.running)[which % len(self.running)]
        self.journal.finish(key, outcome)
        del self.running[key]
        self.ended[key] = outcome

    @rule()
    def restart(self) -> None:
        self.journal = Journal.open(self.media)

    @rule(slot=st.integers(0, DEPTH - 1))
    def damage_a_place_that_holds_nothing(self, slot: int) -> None:
        if not any(self.media.read(slot * ENTRY, ENTRY)):
            self.media.write(slot * ENTRY, b"junk")

    @invariant()
    def what_is_pending_is_known(self) -> None:
        found = {entry.key: entry.payload for entry in self.journal.pending()}
        assert found == self.running

    @invariant()
    def the_last_outcomes_are_found(self) -> None:
        owed = self.DEPTH - 1 - len(self.running)
        for key, outcome in list(self.ended.items())[-owed:] if owed else ():
            assert told(self.journal.find(key)) == (State.DONE, outcome)

    @invariant()
    def no_other_outcome_is_found(self) -> None:
        for key, outcome in self.ended.items():
            assert told(self.journal.find(key)) in (None, (State.DONE, outcome))


JournalModel.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestJournalModel = JournalModel.TestCase


def with_version(entry: bytes, version: int) -> bytes:
    """The entry as another format version would have written it, with its CRC."""
    end = 30 + int.from_bytes(entry[28:30], "big")
    body = entry[:2] + bytes((version,)) + entry[3:end]
    return (body + zlib.crc32(body).to_bytes(4, "big")).ljust(ENTRY, b"\0")
