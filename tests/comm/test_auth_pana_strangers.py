"""PANA, both ends: what noise, forgeries, replays and the messages of others do to them."""

import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pana_room import (
    JOINED,
    PAA,
    PAC,
    QUIET_S,
    RENEWED,
    STORY_LENGTH,
    Crossing,
    PanaRoom,
    agree,
    deliver,
    joined,
    live,
    lose,
    only,
)

from meter_runtime.comm.auth.pana_events import (
    Rejected,
    Terminated,
)
from meter_runtime.comm.auth.pana_message import Avp, Flag, Message, Type, encode, parse


def signed(message: Message, room: PanaRoom) -> bytes:
    """By hand: an AUTH AVP at the end."""
    assert room.pac.key is not None
    blank = encode(
        Message(
            message.flags,
            message.type,
            message.session_id,
            message.sequence,
            (*message.avps, (1, bytes(16))),
        )
    )
    return blank[:-16] + hmac.digest(room.pac.key, blank, "sha256")[:16]


def test_a_ping_is_answered_at_both_ends() -> None:
    """Sent as a genuine message would be: within the sequence and under the key."""
    for sender, receiver in ((PAC, PAA), (PAA, PAC)):
        room = joined()
        last = next(
            (parse(data) for data in reversed(room.sent_by(sender)) if parse(data).is_request), None
        )
        sequence = 7 if last is None else last.sequence + 1
        ping = Message(Flag.REQUEST | Flag.PING, 4, room.pac.session_id, sequence % 2**32)
        room.receive(receiver, signed(ping, room))
        room.run(1)
        answer = parse(room.sent_by(receiver)[-1])
        assert (answer.flags, answer.type, answer.sequence) == (Flag.PING, 4, ping.sequence)


AVPS: tuple[tuple[tuple[int, bytes], ...], ...] = (
    (),
    ((Avp.RESULT_CODE, bytes(4)),),
    ((Avp.RESULT_CODE, b"\0\0\0\1"),),
    ((Avp.AUTH, bytes(16)),),
    ((Avp.KEY_ID, b"\0\0\0\2"), (Avp.RESULT_CODE, bytes(4)), (Avp.AUTH, bytes(16))),
)
UNSIGNED = [
    (Flag(flags) | Flag.REQUEST, kind, avps)
    for flags in (0, Flag.COMPLETE, Flag.REAUTHENTICATION, Flag.START, 0x3000)
    for kind in Type
    for avps in AVPS
]


@pytest.mark.parametrize("receiver", [PAC, PAA])
def test_nothing_unsigned_moves_an_open_session(receiver: str) -> None:
    """Not even with the session's number and the next number of the sequence."""
    room = joined()
    sequence = parse(room.sent_by(PAA)[-1]).sequence
    sent, before = len(room.crossings), room.pac.key
    for flags, kind, avps in UNSIGNED:
        for ahead in (1, 2):
            message = Message(flags, kind, room.pac.session_id, (sequence + ahead) % 2**32, avps)
            room.receive(receiver, encode(message))
    room.run(1)
    assert len(room.crossings) == sent
    assert room.pac.key == room.paa.key == before
    live_on(room)


def live_on(room: PanaRoom) -> None:
    """The session can still be renewed and left."""
    room.pac.reauthenticate(room.now)
    room.run(QUIET_S)
    assert agree(room)
    room.pac.terminate(room.now)
    room.run(QUIET_S)
    for name in (PAC, PAA):
        assert room.events[name] == [JOINED, RENEWED, Terminated(by_peer=name == PAA)]


@pytest.mark.parametrize("turn", range(10))
@given(noise=st.lists(st.binary(max_size=60), max_size=5))
@settings(deadline=None, max_examples=10)
def test_noise_changes_nothing(turn: int, noise: list[bytes]) -> None:
    room = PanaRoom()
    room.run(turn * 0.01 + 0.005)
    for data in noise:
        room.pac.receive(data, room.now)
        if room.has_agent:
            room.paa.receive(data, room.now)
    room.run(QUIET_S)
    live_on(room)


@settings(deadline=None)
@given(st.integers(8, STORY_LENGTH - 1), st.data())
def test_one_changed_bit_of_a_signed_datagram_is_as_good_as_its_loss(
    position: int, data: st.DataObject
) -> None:
    """From the client's first signature on; before it, anybody's refusal must be believed."""

    def flip(_: int, crossing: Crossing) -> list[tuple[float, bytes]]:
        changed = bytearray(crossing.data)
        bit = data.draw(st.integers(0, 8 * len(changed) - 1))
        changed[bit // 8] ^= 0x80 >> bit % 8
        return [(0.0, bytes(changed))]

    live(PanaRoom(meddle=only(position, flip)))


@settings(deadline=None)
@given(st.integers(0, STORY_LENGTH - 1), st.integers(0, STORY_LENGTH - 1))
def test_a_replayed_datagram_changes_nothing(old: int, later: int) -> None:
    def replay(index: int, crossing: Crossing) -> list[tuple[float, bytes]]:
        if index == max(old, later):
            earlier = ([*room.crossings, crossing])[min(old, later)]
            room.receive(PAA if earlier.sender == PAC else PAC, earlier.data)
        return deliver(index, crossing)

    room = PanaRoom(meddle=replay)
    live(room)


def test_another_sessions_datagrams_are_dropped() -> None:
    room, other = joined(seed=1), joined(seed=2)
    sent = len(room.crossings)
    for crossing in other.crossings[1:]:
        room.receive(PAA if crossing.sender == PAC else PAC, crossing.data)
    room.run(5)
    assert len(room.crossings) == sent
    live_on(room)


def test_a_joining_client_takes_nothing_but_the_first_request() -> None:
    room = PanaRoom()
    for kind in Type:
        for flags in (0, Flag.COMPLETE):
            room.receive(PAC, encode(Message(Flag(flags) | Flag.REQUEST, kind, 77, 5)))
    room.run(QUIET_S)
    live_on(room)


def test_a_client_does_not_take_up_algorithms_it_does_not_know() -> None:
    room = PanaRoom(meddle=lose)
    room.run(0.1)
    offered = ((6, bytes((0, 0, 0, 2))), (3, bytes((0, 0, 0, 7))))
    room.receive(PAC, encode(Message(Flag.REQUEST | Flag.START, 2, 9, 9, offered)))
    room.run(0.1)
    assert len(room.crossings) == 1
    assert room.pac.session_id == 0
    ours = ((6, bytes((0, 0, 0, 5))), (3, bytes((0, 0, 0, 12))))
    room.receive(PAC, encode(Message(Flag.REQUEST | Flag.START, 2, 9, 9, offered + ours)))
    room.run(0.1)
    assert len(room.crossings) == 2


def test_an_agent_takes_no_answer_of_another_kind() -> None:
    room = PanaRoom(meddle=only(2, lose))
    room.run(0.1)
    request = parse(room.crossings[1].data)
    for flags in (0, Flag.COMPLETE):
        room.receive(PAA, encode(Message(Flag(flags), 2, request.session_id, request.sequence)))
    room.run(QUIET_S)
    live_on(room)


@pytest.mark.parametrize("avps", [(), ((5, bytes(16)),), ((2, b"junk"), (5, bytes(16)))])
def test_an_answer_without_a_proof_is_rejected(avps: tuple[tuple[int, bytes], ...]) -> None:
    room = PanaRoom(meddle=only(4, lose))
    room.run(0.1)
    request = parse(room.crossings[3].data)
    room.receive(PAA, encode(Message(Flag(0), 2, request.session_id, request.sequence, avps)))
    room.run(QUIET_S)
    assert room.events == {PAC: [Rejected()], PAA: [Rejected()]}


def test_repeated_requests_between_two_readings_are_answered_once() -> None:
    room = joined()
    for _ in range(1000):
        room.pac.receive(room.sent_by(PAA)[-1], room.now)
    assert len(room.pac.take_output()) == 1
