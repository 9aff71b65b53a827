"""The gate obeys once, tells what it did, and knows it after any interruption."""

import asyncio
import logging

import pytest
from gate_room import (
    METER,
    METER_ID,
    NEW_SYSTEM,
    NOW,
    PASSWORD,
    PROOF,
    SCS,
    TRUST,
    Room,
    carried,
    command,
    key_of,
    message,
    opening,
    reading,
    result_in,
    rotation,
    sealed,
)

from meter_runtime.aroute.commands import BadArgumentsError, Code
from meter_runtime.aroute.dispatch import Way
from meter_runtime.aroute.gate import MAX_WAITING, Outcome
from meter_runtime.aroute.results import Diagnosis, answer_to
from meter_runtime.aroute.trust import Trust
from meter_runtime.clock import Trust as ClockTrust
from meter_runtime.errors import MeterError
from meter_runtime.storage.journal import Journal, State
from meter_runtime.storage.media import MemoryMedia


class FailingMedium(MemoryMedia):
    """Refuses every write while it is told to."""

    fails = False

    def write(self, offset: int, data: bytes) -> None:
        if self.fails:
            raise MeterError(f"{self.name}: cannot write: no space left; free some")
        super().write(offset, data)


def journal_medium(depth: int = 64) -> FailingMedium:
    return FailingMedium(Journal.size_for(depth, 1), "journal")


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_command_is_carried_out_and_its_result_says_all() -> None:
    room = Room()
    room.hands.outcome = Outcome(Code.OK, {"tried": 1})
    sent = message(command(7))
    result = result_in(await room.gate.take(sent, Way.CONTROL))
    assert [told.counter for told in room.hands.applied] == [7]
    assert result.meter_id == METER_ID
    assert result.command_id == command(7).command_id
    assert (result.counter, result.code, result.credential_version) == (7, Code.OK, 3)
    assert (result.proof, result.applied_at) == (PROOF, NOW)
    assert (result.clock_trust, result.diagnosis) == ("synced", Diagnosis(1, 15))
    assert (result.details, result.answer_to) == ({"tried": 1}, answer_to(sent))
    assert room.gate.counters == {"OK": 1}


async def test_a_command_from_a_terminal_is_taken_at_the_local_port() -> None:
    room = Room()
    sent = carried(sealed(command()), carrier="handy-7", way=Way.TERMINAL)
    assert result_in(await room.gate.take(sent, Way.TERMINAL)).code is Code.OK


async def test_a_retry_is_answered_byte_for_byte_and_not_carried_out_again() -> None:
    room = Room()
    first = await room.gate.take(message(command()), Way.CONTROL)
    room.clock.offset += 10_000
    room.version = 9
    for _ in range(2):
        assert await room.gate.take(message(command()), Way.CONTROL) == first
        room.reboot()
    assert len(room.hands.applied) == 1


async def test_before_anything_is_done_it_is_written_down_and_the_counter_is_taken() -> None:
    room = Room()

    def look() -> None:
        entry = Journal.open(room.journal_medium).find(command().command_id)
        assert entry is not None
        assert entry.state is State.PENDING
        assert room.ledger.counter("new-system") == 7

    room.hands.before_end = look
    assert await room.code(command()) is Code.OK


async def test_nothing_that_is_kept_tells_the_password() -> None:
    room = Room()
    seen = []
    room.hands.before_end = lambda: seen.append(room.kept)
    await room.tell(command())
    for kept in (*seen, room.kept):
        assert PASSWORD.encode() not in kept


async def test_what_an_error_says_is_told_and_nothing_else() -> None:
    room = Room()
    room.hands.raises = MeterError("vault.bin: cannot write: no space left; free some" + 300 * "x")
    result = await room.tell(command(1))
    assert result.code is Code.STORE_FAILED
    assert result.details["reason"].startswith("vault.bin: cannot write")
    assert len(result.details["reason"]) == 200
    room.hands.raises = BadArgumentsError("the password is not one")
    assert await room.code(command(2)) is Code.BAD_FORMAT


async def test_a_handler_that_crashes_leaves_a_result_and_no_argument_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    room = Room()
    room.hands.raises = RuntimeError(f"cannot use {PASSWORD}")
    result = await room.tell(command())
    assert (result.code, result.details) == (Code.STORE_FAILED, {"reason": "internal"})
    assert "RuntimeError" in caplog.text
    assert "gate_room.py" in caplog.text
    assert PASSWORD not in caplog.text


async def test_details_too_long_for_a_result_are_left_out() -> None:
    room = Room()
    room.hands.outcome = Outcome(Code.OK, {"much": "x" * 1500})
    result = await room.tell(command())
    assert (result.code, result.details) == (Code.OK, {"reason": "too long"})


async def test_the_longest_result_fits_the_journal() -> None:
    room = Room()
    room.hands.outcome = Outcome(Code.OK, {"much": b"x" * 1390})
    first = await room.gate.take(message(command(2**64 - 1)), Way.CONTROL)
    assert len(result_in(first).details["much"]) == 1390
    room.reboot()
    assert await room.gate.take(message(command(2**64 - 1)), Way.CONTROL) == first


async def test_commands_are_carried_out_one_at_a_time_in_the_order_of_arrival() -> None:
    room = Room()
    room.hands.hold = asyncio.Event()
    tasks = [asyncio.create_task(room.tell(command(n))) for n in (1, 2, 3)]
    await turns()
    assert len(room.hands.applied) == 1
    room.hands.hold.set()
    results = await asyncio.gather(*tasks)
    assert [told.counter for told in room.hands.applied] == [1, 2, 3]
    assert {result.code for result in results} == {Code.OK}


async def test_who_comes_with_a_lower_counter_while_another_is_under_way_is_stale() -> None:
    room = Room()
    room.hands.hold = asyncio.Event()
    tasks = [asyncio.create_task(room.code(command(n))) for n in (5, 4)]
    await turns()
    room.hands.hold.set()
    assert await asyncio.gather(*tasks) == [Code.OK, Code.STALE_COUNTER]


async def test_what_expires_while_it_waits_is_not_carried_out() -> None:
    room = Room()
    room.hands.hold = asyncio.Event()
    tasks = [asyncio.create_task(room.code(command(n))) for n in (1, 2)]
    await turns()
    room.clock.offset += 3601
    room.hands.hold.set()
    assert await asyncio.gather(*tasks) == [Code.OK, Code.EXPIRED]


async def test_only_so_many_wait_and_those_turned_away_may_come_again() -> None:
    room = Room()
    room.hands.hold = asyncio.Event()
    tasks = [asyncio.create_task(room.code(command(n))) for n in range(1, MAX_WAITING + 2)]
    await turns()
    late = command(MAX_WAITING + 2)
    assert await room.code(late) is Code.BUSY
    room.hands.hold.set()
    assert set(await asyncio.gather(*tasks)) == {Code.OK}
    assert await room.code(late) is Code.OK


async def test_the_unknown_and_the_repeated_take_no_place_among_those_who_wait() -> None:
    room = Room()
    room.hands.hold = asyncio.Event()
    first = asyncio.create_task(room.code(command(1)))
    await turns()
    for _ in range(3 * MAX_WAITING):
        await room.gate.take(b"noise", Way.CONTROL)
        assert await room.gate.take(message(command(1)), Way.CONTROL) is None
    assert room.gate.counters["in_hand"] == 3 * MAX_WAITING
    second = asyncio.create_task(room.code(command(2)))
    await turns()
    room.hands.hold.set()
    assert [await first, await second] == [Code.OK, Code.OK]
    assert len(room.hands.applied) == 2


async def test_a_cancelled_call_leaves_the_command_to_be_settled() -> None:
    room = Room()
    room.hands.hold = asyncio.Event()
    task = asyncio.create_task(room.tell(command(5)))
    await turns()
    assert room.gate.settle() == [], "it is still under way"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (told,) = room.gate.settle()
    result = result_in(told)
    assert (result.code, result.details) == (Code.STORE_FAILED, {"reason": "interrupted"})
    assert (result.command_id, result.counter) == (command(5).command_id, 5)
    assert room.hands.settled == [("broute.rewrite_password", 3, 5)]
    assert room.gate.settle() == []
    assert await room.gate.take(message(command(5)), Way.CONTROL) == told


async def test_what_a_restart_cut_off_is_settled_when_it_comes_again() -> None:
    room = Room()
    room.hands.hold = asyncio.Event()
    task = asyncio.create_task(room.tell(command(5)))
    await turns()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    room.reboot()
    room.hands.hold = None
    assert await room.code(command(5)) is Code.STORE_FAILED
    assert await room.code(command(5, command_id=bytes(16))) is Code.STALE_COUNTER
    assert len(room.hands.applied) == 1


async def test_a_settled_result_answers_the_message_that_was_cut_off() -> None:
    room = Room()
    room.hands.raises = asyncio.CancelledError()
    sent = message(command(5))
    with pytest.raises(asyncio.CancelledError):
        await room.gate.take(sent, Way.CONTROL)
    (told,) = room.reboot().settle()
    assert result_in(told).answer_to == answer_to(sent)


async def test_a_settling_that_crashes_still_has_an_end(caplog: pytest.LogCaptureFixture) -> None:
    room = Room()
    room.hands.raises = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await room.tell(command(5))

    def crash(name: str, before: int, counter: int) -> Outcome:
        raise RuntimeError(PASSWORD)

    room.hands.settle = crash  # type: ignore[method-assign]
    (told,) = room.reboot().settle()
    assert result_in(told).code is Code.STORE_FAILED
    assert PASSWORD not in caplog.text


async def test_a_refusal_takes_its_counter_and_stays_refused() -> None:
    room = Room()
    late = command(5, expiry=int(NOW) - 1)
    first = await room.gate.take(message(late), Way.CONTROL)
    assert result_in(first).code is Code.EXPIRED
    room.clock.offset -= 3600
    assert await room.gate.take(message(late), Way.CONTROL) == first
    assert await room.code(command(5, command_id=bytes(16))) is Code.STALE_COUNTER
    assert room.hands.applied == []


async def test_what_may_come_again_takes_nothing() -> None:
    room = Room()
    early = command(5, not_before=int(NOW) + 60)
    before = room.kept
    for told, code in [
        (early, Code.NOT_YET),
        (command(5, meter_id="ANOTHER"), Code.WRONG_METER),
    ]:
        assert await room.code(told) is code
    assert room.kept == before
    room.clock.offset += 60
    assert await room.code(early) is Code.OK


async def test_the_clock_counts_only_when_it_is_synced() -> None:
    for trust in (ClockTrust.UNSET, ClockTrust.COARSE):
        room = Room()
        room.clock.trust = trust
        assert await room.code(command(1, expiry=int(NOW) - 9)) is Code.OK
        assert await room.code(command(2, not_before=int(NOW) + 9)) is Code.OK
        assert await room.code(opening(3)) is Code.CLOCK_UNTRUSTED
        room.clock.trust = ClockTrust.SYNCED
        assert await room.code(opening(3)) is Code.CLOCK_UNTRUSTED, "told is told"
        assert await room.code(opening(4)) is Code.OK


async def test_a_rotated_key_counts_from_then_on_also_after_a_restart() -> None:
    room = Room()
    new = key_of("new-system, next")
    rotate = rotation(5, new)
    first = await room.gate.take(message(rotate), Way.CONTROL)
    assert result_in(first).code is Code.OK
    for n in (6, 8):
        assert await room.code(command(n)) is Code.REJECTED
        sent = message(command(n + 1), by=new)
        assert result_in(await room.gate.take(sent, Way.CONTROL)).code is Code.OK
        assert await room.gate.take(message(rotate), Way.CONTROL) == first, "its result was lost"
        room.reboot()
    assert await room.code(reading(1)) is Code.OK, "the other issuer's key is as it was"


@pytest.mark.parametrize("rotated", [False, True])
async def test_a_rotation_that_was_cut_off_says_which_key_counts(rotated: bool) -> None:
    room = Room()
    new = key_of("next")

    def cut(name: str, public_key: bytes) -> None:
        if rotated:
            rotate(name, public_key)
        raise asyncio.CancelledError

    rotate = room.ledger.rotate
    room.ledger.rotate = cut  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await room.tell(rotation(5, new))
    (told,) = room.reboot().settle()
    assert result_in(told).code is (Code.OK if rotated else Code.STORE_FAILED)
    sent = message(command(6), by=new if rotated else None)
    assert result_in(await room.gate.take(sent, Way.CONTROL)).code is Code.OK
    assert room.hands.settled == []


async def test_a_refusal_that_was_cut_off_is_still_one() -> None:
    room = Room()
    told = opening(5)
    room.clock.trust = ClockTrust.UNSET

    def cut(name: str, counter: int) -> None:
        raise asyncio.CancelledError

    room.ledger.advance = cut  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await room.tell(told)
    (answer,) = room.reboot().settle()
    assert result_in(answer).code is Code.CLOCK_UNTRUSTED
    assert room.ledger.counter("new-system") == 5
    assert room.hands.settled == []


async def test_a_full_journal_is_busy_and_the_command_may_come_again() -> None:
    room = Room(journal=journal_medium(2))
    room.journal.begin(bytes(15) + b"x", b"")
    assert await room.code(command()) is Code.BUSY
    assert room.ledger.counter("new-system") == 0
    room.journal.finish(bytes(15) + b"x", b"")
    assert await room.code(command()) is Code.OK


async def test_what_cannot_be_written_down_is_not_done_and_may_come_again() -> None:
    medium = journal_medium()
    room = Room(journal=medium)
    medium.fails = True
    result = await room.tell(command())
    assert (result.code, result.details) == (Code.STORE_FAILED, {"reason": "journal"})
    assert room.hands.applied == []
    medium.fails = False
    assert await room.code(command()) is Code.OK


async def test_a_result_that_cannot_be_kept_is_told_once_it_can_be() -> None:
    medium = journal_medium()
    room = Room(journal=medium)
    room.hands.outcome = Outcome(Code.OK, {"tried": 1})

    def fail() -> None:
        medium.fails = True

    room.hands.before_end = fail
    assert await room.code(command()) is Code.BUSY
    assert await room.code(command()) is Code.BUSY
    assert room.gate.settle() == []
    medium.fails = False
    assert (await room.tell(command())).details == {"tried": 1}
    assert len(room.hands.applied) == 1
    assert room.hands.settled == []


async def test_without_its_counter_kept_a_command_is_not_carried_out() -> None:
    room = Room()

    def fail(name: str, counter: int) -> None:
        raise MeterError("issuers.twin: cannot write: no space left; free some")

    room.ledger.advance = fail  # type: ignore[method-assign]
    assert await room.code(command()) is Code.STORE_FAILED
    assert room.hands.applied == []
    room.reboot()
    assert room.ledger.counter("new-system") == 7, "the journal knew it"
    assert await room.code(command()) is Code.STORE_FAILED


async def test_a_lost_ledger_goes_on_from_what_the_journal_knows() -> None:
    room = Room()
    for told in (command(40), command(41), reading(12)):
        await room.tell(told)
    room.ledger_medium.write(0, b"\x55" * room.ledger_medium.size)
    room.reboot()
    assert room.ledger.damaged
    assert await room.code(command(41, command_id=bytes(16))) is Code.STALE_COUNTER
    assert await room.code(reading(12, command_id=bytes(16))) is Code.STALE_COUNTER
    assert await room.code(command(42)) is Code.OK


async def test_a_journal_entry_of_another_program_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    room = Room()
    room.journal.begin(command(5).command_id, b"junk")
    room.reboot()
    assert room.gate.settle() == []
    assert "makes no sense" in caplog.text
    assert await room.code(command(5)) is Code.DUPLICATE
    assert await room.code(command(6)) is Code.OK


async def test_an_issuer_that_is_no_longer_trusted_is_settled_and_obeyed_no_more() -> None:
    room = Room()
    room.hands.raises = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await room.tell(reading(5))
    room.trust = Trust({NEW_SYSTEM.name: NEW_SYSTEM}, {SCS.name: SCS})
    assert len(room.reboot().settle()) == 1
    assert await room.code(reading(6)) is Code.REJECTED
    room.trust = TRUST
    room.reboot()
    assert room.ledger.counter("control-room") == 5


async def test_the_log_shows_no_secret_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    room = Room()
    await room.tell(command(5))
    await room.tell(command(6, arguments={"password": [PASSWORD]}))
    await room.tell(command(7, arguments={PASSWORD[:4]: PASSWORD}))
    assert PASSWORD not in caplog.text
    assert PASSWORD not in repr(room.hands.applied)
    assert METER.public.signing.hex() not in caplog.text
