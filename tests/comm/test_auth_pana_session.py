"""PANA, both ends: joining, renewing and leaving, over a wire that loses, delays and doubles."""

import hmac
import itertools
import random
import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given, settings
from hypothesis import strategies as st
from pana_room import (
    ID_P,
    ID_S,
    JOINED,
    OTHER_PSK,
    PAA,
    PAC,
    PSK,
    QUIET_S,
    RENEWED,
    STORY_LENGTH,
    Crossing,
    Meddle,
    PanaRoom,
    agree,
    deliver,
    doubled,
    joined,
    late,
    live,
    lose,
    only,
)

from meter_runtime.comm.auth.paa import PaaSession
from meter_runtime.comm.auth.pac import SILENCE_S
from meter_runtime.comm.auth.pana_events import (
    Authenticated,
    Expired,
    NoAnswer,
    Rejected,
    Terminated,
)
from meter_runtime.comm.auth.pana_message import Avp, Flag, Message, Type, encode, parse


def heads(room: PanaRoom) -> list[tuple[str, int, int]]:
    """Sender, flags and type of every datagram."""
    messages = [(crossing.sender, parse(crossing.data)) for crossing in room.crossings]
    return [(sender, int(message.flags), message.type) for sender, message in messages]


def test_the_datagrams_of_a_join() -> None:
    room = joined()
    request, answer = (PAA, 0x8000, 2), (PAC, 0, 2)
    assert heads(room) == [
        (PAC, 0, 1),
        (PAA, 0xC000, 2),
        (PAC, 0x4000, 2),
        *[request, answer] * 2,
        (PAA, 0xA000, 2),
        (PAC, 0x2000, 2),
    ]
    codes = [[code for code, _ in parse(crossing.data).avps] for crossing in room.crossings]
    assert codes == [[], [6, 3], [6, 3], [5, 2], [5, 2], [2], [2], [7, 2, 4, 8, 1], [4, 1]]


def test_renewing_is_asked_for_and_signed_throughout() -> None:
    room = joined()
    room.pac.reauthenticate(room.now)
    room.run(5)
    assert heads(room)[9:13] == [
        (PAC, 0x9000, 4),
        (PAA, 0x1000, 4),
        (PAA, 0x8000, 2),
        (PAC, 0, 2),
    ]
    assert all(parse(crossing.data).get(Avp.AUTH) for crossing in room.crossings[7:])


def test_a_whole_life_has_the_datagrams_the_tests_count_with() -> None:
    room = PanaRoom()
    live(room)
    assert len(room.crossings) == STORY_LENGTH


@pytest.mark.parametrize("leave", [PAC, PAA])
@pytest.mark.parametrize("position", range(STORY_LENGTH))
@pytest.mark.parametrize(
    "fate",
    [lose, doubled(0.0), doubled(0.5), doubled(45.0), late(0.5), late(1.5), late(45.0)],
    ids=["lost", "twice", "again-soon", "again-late", "late", "after-repeat", "much-too-late"],
)
def test_no_mishap_of_one_datagram_changes_the_outcome(
    fate: Meddle, position: int, leave: str
) -> None:
    live(PanaRoom(meddle=only(position, fate)), leave)


fates = st.lists(
    st.sampled_from([deliver, lose, doubled(0.0), doubled(2.5), late(0.3), late(1.7), late(8.0)]),
    max_size=12,
)


@settings(deadline=None)
@given(fates, st.integers(0, 20), st.sampled_from([PAC, PAA]))
def test_no_run_of_mishaps_changes_the_outcome(mishaps: list[Meddle], at: int, leave: str) -> None:
    def meddle(index: int, crossing: Crossing) -> list[tuple[float, bytes]]:
        fate = mishaps[index - at] if at <= index < at + len(mishaps) else deliver
        return fate(index, crossing)

    live(PanaRoom(meddle=meddle), leave)


@pytest.mark.parametrize("seed", range(20))
def test_a_join_in_a_storm_ends_one_way_or_the_other(seed: int) -> None:
    """With nine datagrams of ten lost, both ends still come to rest."""
    storm = random.Random(seed)

    def meddle(_: int, crossing: Crossing) -> list[tuple[float, bytes]]:
        return [(storm.uniform(0, 3), crossing.data)] if storm.random() < 0.1 else []

    room = PanaRoom(meddle=meddle, seed=seed)
    room.run(2000)
    assert room.pac.is_open or room.pac.is_over
    assert not room.has_agent or room.paa.is_open or room.paa.is_over


def test_the_keys_are_those_of_a_straightforward_reading_of_the_rfcs() -> None:
    room = joined()
    _, i_par, i_pan, par, pan, _, _, complete, _ = (each.data for each in room.crossings)

    def aes(key: bytes, number: int) -> int:
        encryptor = Cipher(AES(key), ECB()).encryptor()  # noqa: S305 - the RFC's key derivation
        return int.from_bytes(encryptor.update(number.to_bytes(16, "big")), "big")

    paa_nonce, pac_nonce = par[24:40], pan[24:40]
    eap_response = pan[48:]
    rand_p = int.from_bytes(eap_response[22:38], "big")
    kdk = aes(PSK, aes(PSK, 0) ^ 2).to_bytes(16, "big")
    seed = aes(kdk, rand_p)
    msk = b"".join(aes(kdk, seed ^ counter).to_bytes(16, "big") for counter in range(2, 6))
    text = b"IETF PANA" + i_par + i_pan + pac_nonce + paa_nonce + struct.pack(">IB", 1, 1)
    key = hmac.digest(msk, text, "sha256")
    assert room.pac.key == room.paa.key == key
    assert complete[-24:-16] == bytes.fromhex("0001000000100000")
    assert complete[-16:] == hmac.digest(key, complete[:-16] + bytes(16), "sha256")[:16]


@pytest.mark.parametrize("options", [{"pac_psk": OTHER_PSK}, {"admitted": b"HEMS of another"}])
def test_who_does_not_belong_is_rejected_at_both_ends(options: dict[str, bytes]) -> None:
    room = PanaRoom(**options)  # type: ignore[arg-type]
    room.run(QUIET_S)
    assert room.events == {PAC: [Rejected()], PAA: [Rejected()]}
    assert not room.pac.is_open
    assert not room.paa.is_open
    assert room.pac.key is room.paa.key is None
    assert len(room.crossings) == 7
    assert parse(room.crossings[5].data).number(Avp.RESULT_CODE) == 1


@pytest.mark.parametrize("position", range(7))
@pytest.mark.parametrize("fate", [lose, doubled(0.5), late(1.5)], ids=["lost", "twice", "late"])
def test_a_rejection_survives_mishaps(fate: Meddle, position: int) -> None:
    room = PanaRoom(pac_psk=OTHER_PSK, meddle=only(position, fate))
    room.run(QUIET_S)
    assert room.events == {PAC: [Rejected()], PAA: [Rejected()]}


def test_an_agent_that_cannot_prove_itself_is_rejected_by_the_client() -> None:
    """The agent's proof is spoilt on the way, as one without the password would send it."""

    def spoil(_: int, crossing: Crossing) -> list[tuple[float, bytes]]:
        mac_s = 16 + 8 + 22
        data = bytearray(crossing.data)
        data[mac_s] ^= 1
        return [(0.0, bytes(data))]

    room = PanaRoom(meddle=only(5, spoil))
    room.run(QUIET_S)
    assert room.events == {PAC: [Rejected()], PAA: [Rejected()]}


def test_a_client_asks_in_vain_and_gives_up() -> None:
    room = PanaRoom(meddle=lose)
    room.run(QUIET_S)
    assert room.events[PAC] == [NoAnswer()]
    assert [round(crossing.at) for crossing in room.crossings][:3] == [0, 1, 3]
    assert len(room.crossings) == 7


@pytest.mark.parametrize("heard", range(1, 9))
def test_both_ends_give_up_where_the_other_falls_silent(heard: int) -> None:
    room = PanaRoom(meddle=lambda index, each: deliver(index, each) if index < heard else [])
    room.run(SILENCE_S + QUIET_S)
    assert room.events[PAA] == [NoAnswer()]
    assert room.events[PAC] == ([JOINED] if heard == 8 else [NoAnswer()])
    assert len(room.sent_by(PAA)) <= 10 + heard


def test_a_request_is_repeated_ten_times_with_growing_intervals() -> None:
    room = PanaRoom(meddle=lambda index, each: deliver(index, each) if index == 0 else [])
    room.run(QUIET_S)
    times = [crossing.at for crossing in room.crossings if crossing.sender == PAA]
    assert len(times) == 10
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    for gap, previous in zip(gaps[1:], gaps, strict=False):
        assert 1.9 * previous <= gap <= 2.1 * previous or 27 <= gap <= 33


def test_a_client_renews_by_itself_at_80_percent() -> None:
    room = joined(reauthenticate=True, lifetime_s=1000)
    room.run(790)
    assert len(room.events[PAC]) == 1
    room.run(20)
    again = Authenticated(1000, again=True)
    assert room.events[PAC][1:] == room.events[PAA][1:] == [again]
    room.run(20 * 1000)
    assert room.pac.is_open
    assert room.paa.is_open
    assert agree(room)


def test_a_session_that_is_not_renewed_expires_at_both_ends() -> None:
    room = joined(lifetime_s=1000)
    room.run(990)
    assert room.pac.is_open
    room.run(10)
    assert room.events[PAC][1:] == room.events[PAA][1:] == [Expired()]


def test_a_rewritten_password_ends_the_session_when_it_is_renewed() -> None:
    room = joined()
    room.paa.psk = OTHER_PSK
    room.pac.reauthenticate(room.now)
    room.run(QUIET_S)
    assert room.events == {PAC: [JOINED, Rejected()], PAA: [JOINED, Rejected()]}
    assert not room.pac.is_open
    assert not room.paa.is_open


def test_a_failed_renewal_closes_the_meter_even_if_the_client_is_never_heard_again() -> None:
    room = joined()
    room.paa.psk = OTHER_PSK
    room.pac.reauthenticate(room.now)
    room.meddle = lambda index, each: (
        [] if parse(each.data).flags & Flag.COMPLETE else [(0.0, each.data)]
    )
    room.run(5)
    assert not room.paa.is_open
    room.run(QUIET_S)
    assert room.events[PAA] == [JOINED, Rejected()]


def silence_towards(receiver: str) -> Meddle:
    return lambda _, crossing: [] if crossing.sender != receiver else [(0.0, crossing.data)]


@pytest.mark.parametrize("deaf", [lose, silence_towards(PAC), silence_towards(PAA)])
def test_an_unanswered_renewal_leaves_the_session_and_can_be_tried_again(deaf: Meddle) -> None:
    room = joined()
    before = room.pac.key
    room.meddle = deaf
    room.pac.reauthenticate(room.now)
    room.run(SILENCE_S + QUIET_S)
    assert room.pac.is_open
    assert room.paa.is_open
    assert room.pac.key == room.paa.key == before
    room.meddle = deliver
    room.pac.reauthenticate(room.now)
    room.run(QUIET_S)
    assert room.events == {PAC: [JOINED, RENEWED], PAA: [JOINED, RENEWED]}
    assert agree(room)


def test_a_lost_last_answer_of_a_renewal_ends_the_session_at_the_meter() -> None:
    """Which key the client holds is not known then; the client learns it when it asks again."""
    room = joined()
    room.meddle = lambda index, each: (
        []
        if each.sender == PAC and parse(each.data).flags & Flag.COMPLETE
        else deliver(index, each)
    )
    room.pac.reauthenticate(room.now)
    room.run(QUIET_S)
    assert room.events[PAA] == [JOINED, NoAnswer()]
    assert room.events[PAC] == [JOINED, RENEWED]


def test_a_renewal_needs_no_answer_to_its_notification() -> None:
    def without_answers(index: int, crossing: Crossing) -> list[tuple[float, bytes]]:
        message = parse(crossing.data)
        lost = message.type == Type.NOTIFICATION and not message.is_request
        return [] if lost else deliver(index, crossing)

    live(PanaRoom(meddle=without_answers))


def test_a_renewal_given_up_is_followed_when_the_agent_goes_on() -> None:
    room = joined()
    room.pac.reauthenticate(room.now)
    room.run(0.015)
    room.pac.abandon()
    room.run(QUIET_S)
    assert room.events == {PAC: [JOINED, RENEWED], PAA: [JOINED, RENEWED]}
    assert agree(room)


@pytest.mark.parametrize("after_s", [0.0, 0.015, 0.025, 0.035, 0.045, 0.055, 0.065, 0.075])
@pytest.mark.parametrize("fate", [deliver, lose, late(0.015)], ids=["heard", "lost", "late"])
def test_a_renewal_given_up_at_any_point_can_be_begun_again(fate: Meddle, after_s: float) -> None:
    room = joined()
    room.pac.reauthenticate(room.now)
    room.run(after_s)
    room.pac.abandon()
    room.meddle = only(len(room.crossings), fate)
    room.pac.reauthenticate(room.now)
    room.run(QUIET_S)
    assert room.events[PAC][-1] == room.events[PAA][-1] == RENEWED
    assert agree(room)


@pytest.mark.parametrize("leave", [PAC, PAA])
def test_a_farewell_without_an_answer_ends_all_the_same(leave: str) -> None:
    room = joined(reauthenticate=True, lifetime_s=100)
    room.run(70)
    room.meddle = lose
    (room.pac if leave == PAC else room.paa).terminate(room.now)
    (room.pac if leave == PAC else room.paa).terminate(room.now)
    room.run(20)
    assert len(room.sent_by(leave)) >= 5
    room.run(QUIET_S)
    assert isinstance(room.events[leave][-1], Terminated | Expired)
    assert room.pac.is_over
    assert room.paa.is_over


def test_an_unanswered_farewell_is_told_as_such() -> None:
    room = joined()
    room.meddle = lose
    room.paa.terminate(room.now)
    room.run(QUIET_S)
    assert room.events[PAA][-1] == Terminated(by_peer=False, answered=False)


def test_two_farewells_at_once_end_both() -> None:
    room = joined()
    room.paa.terminate(room.now)
    room.pac.terminate(room.now)
    room.run(QUIET_S)
    assert room.events[PAC][1:] == room.events[PAA][1:] == [Terminated(by_peer=True)]


def test_a_farewell_before_the_session_is_open_is_silent() -> None:
    room = PanaRoom()
    room.run(0.025)
    for end in (room.pac, room.paa):
        end.terminate(room.now)
        end.terminate(room.now)
    sent = len(room.crossings)
    room.run(QUIET_S)
    ended = Terminated(by_peer=False, answered=False)
    assert room.events == {PAC: [ended], PAA: [ended]}
    assert len(room.crossings) == sent


def test_a_lost_answer_to_a_farewell_is_given_again_by_the_ended_session() -> None:
    room = joined()
    room.pac.terminate(room.now)
    room.meddle = only(len(room.crossings) + 1, lose)
    room.run(QUIET_S)
    assert room.events[PAC][-1] == Terminated(by_peer=False)


def test_sequence_numbers_wrap_around() -> None:
    class Late(random.Random):
        def getrandbits(self, k: int, /) -> int:
            return int(2**k - 3)

    sequences = []
    paa = PaaSession(PSK, ID_S, 60, Late(1), 0.0)
    for turn in range(3):
        request = parse(paa.take_output()[0])
        sequences.append(request.sequence)
        if turn == 0:
            answer = Message(Flag.START, 2, request.session_id, request.sequence, request.avps)
            paa.receive(encode(answer), 0.0)
        else:
            paa.receive(encode(Message(Flag(0), 2, request.session_id, request.sequence)), 0.0)
    assert sequences == [2**32 - 2, 2**32 - 1, 0]


def test_identities_are_those_of_the_ends() -> None:
    room = joined()
    assert ID_S in room.crossings[3].data
    assert ID_P in room.crossings[4].data
