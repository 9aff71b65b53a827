"""Whatever is not in order is refused, in one order, and nothing comes of it.

:data:`FAULTS` has a row for each check, in the order of the checks. A message with two faults is
answered as one that has the earlier alone.
"""

import itertools
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from gate_room import (
    METER,
    NOW,
    PASSWORD,
    TRUST,
    Room,
    carried,
    command,
    key_of,
    message,
    opening,
    reading,
    result_in,
    sealed,
)

from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.cose import MAX_MESSAGE_BYTES
from meter_runtime.aroute.dispatch import Way
from meter_runtime.aroute.envelope import Command
from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.aroute.refusals import BURST, REFILL_S
from meter_runtime.aroute.results import peek
from meter_runtime.clock import Trust as ClockTrust

ANOTHER_METER = MeterIdentity.from_device_key(bytes(32)).public.sealing
STRANGER = key_of("stranger")
DONE = 5
"""The counter of the command that was carried out before."""


@dataclass(slots=True)
class Attempt:
    """A command and how it is sent; each fault changes one thing."""

    command: Command
    issuer_key: Any = None
    to: bytes = METER.public.sealing
    carrier: str = "scs"
    carrier_key: Any = None
    way: Way = Way.CONTROL
    mangle: Callable[[bytes], bytes] = bytes

    def message(self) -> bytes:
        envelope = sealed(self.command, by=self.issuer_key, to=self.to)
        carried_ = carried(envelope, carrier=self.carrier, way=self.way, by=self.carrier_key)
        return self.mangle(carried_)


def change(attempt: Attempt, **fields: Any) -> None:
    attempt.command = replace(attempt.command, **fields)


def oversized(attempt: Attempt) -> None:
    attempt.mangle = lambda whole: whole.ljust(MAX_MESSAGE_BYTES + 1, b"\0")


def cut_short(attempt: Attempt) -> None:
    mangle = attempt.mangle
    attempt.mangle = lambda whole: mangle(whole[:-1])


def unknown_carrier(attempt: Attempt) -> None:
    attempt.carrier = "ferryman"


def carrier_of_the_other_way(attempt: Attempt) -> None:
    attempt.carrier, attempt.carrier_key = "handy-7", None


def wrong_way(attempt: Attempt) -> None:
    attempt.way = Way.TERMINAL


def forged_carrier(attempt: Attempt) -> None:
    attempt.carrier_key = STRANGER


def sealed_to_another(attempt: Attempt) -> None:
    attempt.to = ANOTHER_METER


def unknown_issuer(attempt: Attempt) -> None:
    attempt.issuer_key = attempt.issuer_key or key_of(attempt.command.issuer)
    change(attempt, issuer="nobody")


def forged_issuer(attempt: Attempt) -> None:
    attempt.issuer_key = STRANGER


def another_meters_id(attempt: Attempt) -> None:
    change(attempt, meter_id="K5-A2C60-000124")


def id_of_another_command(attempt: Attempt) -> None:
    change(attempt, command_id=command(DONE).command_id, reason="another one")


def stale(attempt: Attempt) -> None:
    change(attempt, counter=DONE)


def early(attempt: Attempt) -> None:
    change(attempt, not_before=int(NOW) + 1)


def expired(attempt: Attempt) -> None:
    change(attempt, expiry=int(NOW) - 1)


def unknown_command(attempt: Attempt) -> None:
    change(attempt, name="broute.rewrite_pasword")


def wrong_arguments(attempt: Attempt) -> None:
    change(attempt, arguments={**attempt.command.arguments, "id": PASSWORD})


def not_permitted(attempt: Attempt) -> None:
    name = "self_test" if attempt.command.name != "broute.rewrite_pasword" else "self_tests"
    arguments = {} if "id" not in attempt.command.arguments else attempt.command.arguments
    change(attempt, name=name, arguments=arguments)


FAULTS: tuple[tuple[Callable[[Attempt], None], Code], ...] = (
    (oversized, Code.REJECTED),
    (cut_short, Code.REJECTED),
    (unknown_carrier, Code.REJECTED),
    (carrier_of_the_other_way, Code.REJECTED),
    (wrong_way, Code.REJECTED),
    (forged_carrier, Code.REJECTED),
    (sealed_to_another, Code.REJECTED),
    (unknown_issuer, Code.REJECTED),
    (forged_issuer, Code.REJECTED),
    (another_meters_id, Code.WRONG_METER),
    (id_of_another_command, Code.DUPLICATE),
    (stale, Code.STALE_COUNTER),
    (early, Code.NOT_YET),
    (expired, Code.EXPIRED),
    (unknown_command, Code.BAD_FORMAT),
    (wrong_arguments, Code.BAD_FORMAT),
    (not_permitted, Code.NOT_PERMITTED),
)
CODES = dict(FAULTS)
KEPT = (Code.EXPIRED, Code.BAD_FORMAT, Code.NOT_PERMITTED)
"""These take the counter."""


def named(faults: object) -> str:
    return getattr(faults, "__name__", str(faults))


async def room_with_a_past() -> Room:
    room = Room()
    assert await room.code(command(DONE)) is Code.OK
    room.hands.applied.clear()
    return room


async def answer(room: Room, attempt: Attempt) -> Code:
    return result_in(await room.gate.take(attempt.message(), Way.CONTROL)).code


async def test_the_attempt_without_a_fault_is_obeyed() -> None:
    room = await room_with_a_past()
    assert await answer(room, Attempt(command(DONE + 1))) is Code.OK
    assert len(room.hands.applied) == 1


@pytest.mark.parametrize(("fault", "code"), FAULTS, ids=named)
async def test_each_fault_has_its_answer_and_nothing_is_done(
    fault: Callable[[Attempt], None], code: Code, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    room = await room_with_a_past()
    attempt = Attempt(command(DONE + 1))
    fault(attempt)
    before = room.kept
    sent = attempt.message()
    told = await room.gate.take(sent, Way.CONTROL)
    assert told is not None
    assert result_in(told).code is code
    assert room.hands.applied == []
    assert (room.kept == before) is (code not in KEPT)
    assert PASSWORD not in caplog.text
    assert PASSWORD.encode() not in told
    assert PASSWORD.encode() not in room.kept
    for secret in (sent.hex(), attempt.command.command_id.hex(), "ferryman", "nobody"):
        assert secret not in caplog.text


PAIRS = list(itertools.combinations(CODES, 2))


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=named)
async def test_of_two_faults_the_earlier_check_answers(
    first: Callable[[Attempt], None], second: Callable[[Attempt], None]
) -> None:
    room = await room_with_a_past()
    attempt = Attempt(command(DONE + 1))
    for fault in (first, second):
        fault(attempt)
    assert await answer(room, attempt) is CODES[first]
    assert room.hands.applied == []


async def test_every_rejection_looks_the_same() -> None:
    shapes = set()
    for fault, code in FAULTS:
        if code is not Code.REJECTED:
            continue
        room = await room_with_a_past()
        attempt = Attempt(command(DONE + 1))
        fault(attempt)
        sent = attempt.message()
        told = await room.gate.take(sent, Way.CONTROL)
        assert told is not None
        result = peek(told)
        shapes.add((len(told), repr(replace(result, answer_to=bytes(16)))))
    assert len(shapes) == 1
    assert "command_id=None" in next(iter(shapes))[1]


async def test_whatever_bytes_come_the_answer_is_a_rejection_or_silence() -> None:
    room = Room()
    rng = random.Random(1)
    real = message(command())
    for n in range(300):
        noise = rng.randbytes(rng.randrange(200))
        if n % 2:
            at = rng.randrange(len(real))
            noise = real[:at] + bytes((real[at] ^ 1 << rng.randrange(8),)) + real[at + 1 :]
        for way in Way:
            told = await room.gate.take(noise, way)
            assert told is None or result_in(told).code is Code.REJECTED
    assert room.hands.applied == []
    assert set(room.gate.counters) == {"REJECTED", "silent"}


async def test_a_message_cut_at_any_byte_is_rejected() -> None:
    room = Room()
    real = message(command())
    for size in range(len(real)):
        room.clock.at += REFILL_S
        told = await room.gate.take(real[:size], Way.CONTROL)
        assert result_in(told).code is Code.REJECTED
    assert await room.code(command(expiry=2**32)) is Code.OK


async def test_rejections_are_limited_and_the_limit_heals() -> None:
    room = Room()

    async def answered(tries: int, way: Way = Way.CONTROL) -> int:
        told = [await room.gate.take(b"noise", way) for _ in range(tries)]
        return sum(one is not None for one in told)

    assert await answered(20) == BURST
    assert room.gate.counters == {"REJECTED": BURST, "silent": 20 - BURST}
    assert await room.code(command()) is Code.OK, "who is known is answered"
    assert await answered(1, Way.TERMINAL) == 1, "the other way has a limit of its own"
    await room.clock.advance(REFILL_S - 0.5)
    assert await answered(3) == 0
    await room.clock.advance(0.5)
    assert await answered(3) == 1
    await room.clock.advance(1000 * REFILL_S)
    assert await answered(20) == BURST


async def test_a_flood_of_noise_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    room = Room()
    for _ in range(100):
        await room.gate.take(b"noise", Way.CONTROL)
    assert len(caplog.records) == BURST


async def test_a_recorded_command_does_nothing_a_second_time() -> None:
    room = Room()
    recorded = [message(command(n)) for n in (1, 2)]
    told = [await room.gate.take(one, Way.CONTROL) for one in recorded]
    for _ in range(2):
        assert [await room.gate.take(one, Way.CONTROL) for one in recorded] == told
        room.reboot()
    assert len(room.hands.applied) == 2


async def test_a_recorded_command_whose_result_has_given_way_is_stale() -> None:
    room = Room()
    recorded = message(command(1))
    await room.gate.take(recorded, Way.CONTROL)
    for n in range(2, 70):
        assert await room.code(command(n)) is Code.OK
    assert result_in(await room.gate.take(recorded, Way.CONTROL)).code is Code.STALE_COUNTER
    assert len(room.hands.applied) == 69


async def test_an_envelope_recorded_on_one_way_is_not_taken_on_the_other() -> None:
    room = Room()
    from_control = message(command(1))
    assert result_in(await room.gate.take(from_control, Way.TERMINAL)).code is Code.REJECTED
    assert room.hands.applied == []


async def test_issuers_count_for_themselves() -> None:
    room = Room()
    for told, code in [
        (command(100), Code.OK),
        (reading(1), Code.OK),
        (reading(1, command_id=bytes(16)), Code.STALE_COUNTER),
        (command(99), Code.STALE_COUNTER),
        (reading(2), Code.OK),
        (command(101), Code.OK),
    ]:
        assert await room.code(told) is code


async def test_an_issuer_may_use_its_last_counter_and_then_no_more() -> None:
    room = Room()
    assert await room.code(command(2**64 - 1, command_id=bytes(15) + b"z")) is Code.OK
    for _ in range(2):
        again = command(2**64 - 1, command_id=bytes(16))
        assert await room.code(again) is Code.STALE_COUNTER
        assert await room.code(reading(1, command_id=bytes(15) + b"y")) is Code.OK
        room.reboot()


async def test_another_issuers_command_under_a_known_id_gets_no_result_of_it() -> None:
    room = Room()
    first = command(5)
    await room.tell(first)
    assert await room.code(reading(1, command_id=first.command_id)) is Code.DUPLICATE
    assert await room.code(reading(1)) is Code.OK, "its counter is not taken"


async def test_what_only_another_issuer_may_is_not_permitted() -> None:
    room = Room()
    assert await room.code(reading(1, issuer="new-system")) is Code.NOT_PERMITTED
    assert await room.code(command(2, issuer="control-room")) is Code.NOT_PERMITTED
    assert await room.code(opening(3, issuer="control-room")) is Code.OK


async def test_an_issuer_who_is_also_a_carrier_needs_both_keys() -> None:
    room = Room()
    envelope = sealed(command(1))
    by_issuer = carried(envelope, carrier="new-system")
    assert result_in(await room.gate.take(by_issuer, Way.CONTROL)).code is Code.REJECTED
    by_carrier = carried(sealed(command(1, issuer="scs")))
    assert result_in(await room.gate.take(by_carrier, Way.CONTROL)).code is Code.REJECTED
    assert "scs" in TRUST.carriers
    assert room.hands.applied == []


async def test_an_untrusted_clock_refuses_before_the_arguments_are_looked_at() -> None:
    room = Room()
    room.clock.trust = ClockTrust.COARSE
    assert await room.code(opening(1, arguments={"id": 1})) is Code.CLOCK_UNTRUSTED
