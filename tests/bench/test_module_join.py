"""Joining, refusal, session life, re-authentication and its end, between two modules."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from module_room import (
    ALL_NODES,
    HEMS_IP,
    HEMS_MAC,
    METER_IP,
    METER_MAC,
    OTHER_MAC,
    PASSWORD,
    Host,
    Room,
    send_line,
)

from meter_runtime.bench.air import FAST, REAL, AirPace, Fate, Frame, Impairment, UdpDatagram
from meter_runtime.bench.module.join import Credentials
from meter_runtime.bench.module.session import MAX_WAITING_MESSAGES
from meter_runtime.bench.module.uart import MAX_WRITES
from meter_runtime.comm.auth.pana_events import psk_of
from meter_runtime.comm.auth.pana_message import (
    PANA_PORT,
    Avp,
    Flag,
    Message,
    ResultCode,
    Type,
    encode,
    parse,
    u32,
)
from meter_runtime.comm.contracts import MAX_PAYLOAD
from meter_runtime.secret import Secret

PSK = psk_of(Secret(PASSWORD))
LIFETIME_S = 900


def heads(host: Host) -> list[str]:
    """Each write without addresses and payloads."""
    return [_head(write.decode("latin-1")) for write in host.writes()]


def _head(text: str) -> str:
    words = text.split()
    match words[0]:
        case "EVENT" if words[1] == "21":
            return f"EVENT 21 {words[-1]}"
        case "EVENT":
            return f"EVENT {words[1]}"
        case "ERXUDP":
            return f"ERXUDP {words[4]}"
        case other:
            return other


def test_the_story_of_a_join_at_both_ends() -> None:
    room = Room()
    meter, hems = room.meter(), room.hems()
    meter.writes()
    hems.write(f"SKJOIN {METER_IP}\r\n")
    assert heads(hems) == [
        "OK",
        "EVENT 21 02",
        "EVENT 02",
        "EVENT 21 00",
        *["ERXUDP 02CC", "EVENT 21 00"] * 4,
        "EVENT 25",
    ]
    assert heads(meter) == [
        "EVENT 01",
        *["ERXUDP 02CC", "EVENT 21 00"] * 4,
        "ERXUDP 02CC",
        "EVENT 25",
    ]


def test_a_join_is_pana_as_real_meters_speak_it() -> None:
    room = Room()
    room.meter()
    room.hems().ask(f"SKJOIN {METER_IP}")
    told = [parse(datagram.payload) for datagram in room.datagrams()]
    request, answer = Flag.REQUEST, Flag(0)
    assert [(message.type, message.flags) for message in told] == [
        (Type.CLIENT_INITIATION, answer),
        *[(Type.AUTHENTICATION, kind | Flag.START) for kind in (request, answer)],
        *[(Type.AUTHENTICATION, kind) for kind in (request, answer) * 2],
        *[(Type.AUTHENTICATION, kind | Flag.COMPLETE) for kind in (request, answer)],
    ]
    eap = [payload for message in told if (payload := message.get(Avp.EAP_PAYLOAD)) is not None]
    assert [(packet[4], packet[5]) for packet in eap[:4]] == [
        (0x2F, 0x00),
        (0x2F, 0x40),
        (0x2F, 0x80),
        (0x2F, 0xC0),
    ]
    assert eap[0].endswith(b"SM" + b"0123456789ABCDEF" * 2)
    assert eap[1].endswith(b"HEMS" + b"0123456789ABCDEF" * 2)
    assert told[-2].number(Avp.RESULT_CODE) == ResultCode.SUCCESS
    assert told[-2].number(Avp.SESSION_LIFETIME) == LIFETIME_S
    assert not any(crossing.frame.secured for crossing in room.crossings)


def test_a_second_join_needs_no_address_resolution() -> None:
    room = Room()
    _, hems = room.joined()
    hems.write(f"SKJOIN {METER_IP}\r\n")
    written = heads(hems)
    assert written[:2] == ["OK", "EVENT 21 00"]
    assert written[-1] == "EVENT 25"


@pytest.mark.parametrize("seed", range(8))
def test_a_true_join_takes_three_to_ten_seconds(seed: int) -> None:
    room = Room(REAL, seed)
    room.meter()
    hems = room.hems()
    hems.ask(f"SKJOIN {METER_IP}")
    room.clock.advance(3.0)
    assert "EVENT 25" not in hems.read()
    room.clock.advance(7.0)
    assert "EVENT 25" in hems.read()


def test_fast_and_true_air_carry_the_same_messages_in_the_same_order() -> None:
    stories = []
    for pace in (FAST, REAL):
        room = Room(pace)
        room.meter()
        hems = room.hems()
        hems.write("SKSCAN 2 FFFFFFFF 6\r\n")
        room.clock.advance(60)
        hems.write(f"SKJOIN {METER_IP}\r\n")
        room.clock.advance(60)
        hems.write(send_line("SE", METER_IP, b"\x10\x81"))
        room.clock.advance(1)
        frames = [(type(c.frame.body), c.frame.source, c.frame.secured) for c in room.crossings]
        stories.append((heads(hems), frames))
    assert stories[0] == stories[1]


@pytest.mark.parametrize("option", ["bp35a1", "bp35c2"])
def test_a_wrong_password_fails_the_authentication_at_both_ends(option: str) -> None:
    room = Room()
    meter, hems = room.meter(), room.hems(f"{option}:echo=0", password="WRONGWRONG12")
    hems.write(f"SKJOIN {METER_IP}\r\n")
    side = " 0" if option == "bp35c2" else ""
    assert hems.lines()[-1] == f"EVENT 24 {METER_IP}{side}"
    assert meter.lines()[-1] == f"EVENT 24 {HEMS_IP}"
    assert hems.ask("SKTERM") == "FAIL ER10\r\n"
    hems.ask("SKSETPWD C ABCDEFGHIJ12")
    assert "EVENT 25" in hems.ask(f"SKJOIN {METER_IP}")


def test_a_wrong_id_fails_the_authentication_where_the_network_was_found_otherwise() -> None:
    room = Room()
    room.meter()
    hems = room.hems(route_b_id="F" * 32)
    assert "EVENT 24" in hems.ask(f"SKJOIN {METER_IP}")


def test_a_pre_shared_key_may_be_set_instead_of_the_password() -> None:
    room = Room()
    room.meter()
    hems = room.hems(password="WRONGWRONG12")
    assert hems.ask(f"SKSETPSK 10 {PSK.hex()}") == "OK\r\n"
    assert "EVENT 25" in hems.ask(f"SKJOIN {METER_IP}")


def test_a_join_with_nobody_there_fails_in_time() -> None:
    room = Room()
    hems = room.hems()
    hems.write(f"SKJOIN {METER_IP}\r\n")
    assert hems.ask(f"SKJOIN {METER_IP}") == "FAIL ER10\r\n"
    room.clock.advance(6)
    told = heads(hems)
    assert told[:2] == ["EVENT 21 01", "EVENT 21 02"]
    assert set(told[:-1]) == {"EVENT 21 01", "EVENT 21 02"}
    assert told[-1] == "EVENT 24"


def test_a_true_join_is_given_up_after_38_seconds() -> None:
    room = Room(REAL)
    hems = room.hems()
    hems.ask(f"SKJOIN {METER_IP}")
    room.clock.advance(37.5)
    assert "EVENT 24" not in hems.read()
    room.clock.advance(1)
    assert "EVENT 24" in hems.read()
    assert "FAIL" not in hems.ask(f"SKJOIN {METER_IP}")


def test_a_module_that_was_not_started_admits_nobody() -> None:
    room = Room()
    meter, hems = room.meter(), room.hems()
    meter.ask("SKRESET")
    for line in ("SKSREG S2 21", "SKSREG S3 B5FB"):
        meter.ask(line)
    hems.write(f"SKJOIN {METER_IP}\r\n")
    room.clock.advance(5.1)
    assert hems.lines()[-1] == f"EVENT 24 {METER_IP}"


def test_a_second_hems_is_refused_by_silence_while_one_is_joined() -> None:
    room = Room()
    meter, hems = room.joined()
    second = room.hems(mac=OTHER_MAC)
    second.ask(f"SKJOIN {METER_IP}")
    room.clock.advance(5.1)
    told = second.lines()
    assert told[-1] == f"EVENT 24 {METER_IP}"
    assert not any(line.startswith("ERXUDP") for line in told)
    assert "EVENT 24" not in meter.read()
    hems.write(send_line("SE", METER_IP, b"\x01"))
    assert "ERXUDP" in meter.read()
    assert "EVENT 27" in hems.ask("SKTERM")
    assert "EVENT 25" in second.ask(f"SKJOIN {METER_IP}")


def test_a_second_hems_is_admitted_when_the_first_leaves_in_time() -> None:
    room = Room(REAL)
    _, hems = room.joined()
    second = room.hems(mac=OTHER_MAC)
    second.ask(f"SKJOIN {METER_IP}")
    room.clock.advance(5)
    hems.ask("SKTERM")
    room.clock.advance(25)
    assert "EVENT 25" in second.read()


def test_the_same_hems_may_join_again_after_a_reset() -> None:
    room = Room()
    meter, hems = room.joined()
    hems.ask("SKRESET")
    for line in (
        "SKSETPWD C ABCDEFGHIJ12",
        "SKSETRBID 0123456789ABCDEF0123456789ABCDEF",
        "SKSREG S2 21",
        "SKSREG S3 B5FB",
    ):
        hems.ask(line)
    assert "EVENT 25" in hems.ask(f"SKJOIN {METER_IP}")
    assert f"EVENT 25 {HEMS_IP}" in meter.read()


def test_a_hems_leaves() -> None:
    room = Room()
    meter, hems = room.joined()
    hems.write("SKTERM\r\n")
    assert heads(hems) == ["OK", "EVENT 21 00", "ERXUDP 02CC", "EVENT 27"]
    assert heads(meter) == ["ERXUDP 02CC", "EVENT 21 00", "EVENT 26"]
    assert hems.ask("SKTERM") == "FAIL ER10\r\n"
    assert meter.ask("SKTERM") == "FAIL ER10\r\n"


def test_a_meter_ends_the_session() -> None:
    room = Room()
    meter, hems = room.joined()
    meter.write("SKTERM\r\n")
    assert heads(meter) == ["OK", "EVENT 21 00", "ERXUDP 02CC", "EVENT 27"]
    assert heads(hems)[-1] == "EVENT 26"
    assert "EVENT 25" in hems.ask(f"SKJOIN {METER_IP}")


def test_leaving_in_the_middle_of_a_re_authentication_ends_the_session() -> None:
    room = Room(REAL)
    meter, hems = room.joined()
    hems.write("SKREJOIN\r\n")
    room.clock.advance(3)
    hems.write("SKTERM\r\n")
    room.clock.advance(15)
    assert hems.lines()[-1] == f"EVENT 27 {METER_IP}"
    assert meter.lines()[-1] == f"EVENT 26 {HEMS_IP}"


def test_leaving_a_dead_peer_times_out() -> None:
    room = Room()
    meter, hems = room.joined()
    meter.ask("SKRESET")
    hems.write("SKTERM\r\n")
    room.clock.advance(5)
    assert heads(hems) == ["OK", "EVENT 21 01", "EVENT 21 01", "EVENT 28"]


def test_a_session_expires_at_both_ends_and_nothing_is_sent_until_the_next() -> None:
    room = Room()
    meter, hems = room.joined()
    hems.ask("SKSREG S17 0")
    room.clock.advance(LIFETIME_S - 1)
    assert hems.read() == ""
    room.clock.advance(2)
    assert hems.read() == f"EVENT 29 {METER_IP}\r\n"
    assert meter.read() == f"EVENT 29 {HEMS_IP}\r\n"
    for host, peer in ((hems, METER_IP), (meter, HEMS_IP), (meter, ALL_NODES)):
        for security in (0, 1, 2):
            host.write(send_line("SE", peer, b"x", security=security))
            assert host.read() == f"EVENT 21 {peer} 01\r\nOK\r\n"
    assert "EVENT 25" in hems.ask(f"SKJOIN {METER_IP}")
    meter.read()
    hems.write(send_line("SE", METER_IP, b"x"))
    assert hems.read() == f"EVENT 21 {METER_IP} 00\r\nOK\r\n"


def test_a_hems_reauthenticates_at_80_percent() -> None:
    room = Room()
    meter, hems = room.joined()
    room.clock.advance(0.8 * LIFETIME_S - 1)
    assert hems.read() == ""
    room.clock.advance(2)
    assert f"EVENT 25 {METER_IP}\r\n" in hems.read()
    assert f"EVENT 25 {HEMS_IP}\r\n" in meter.read()
    room.clock.advance(0.7 * LIFETIME_S)
    assert hems.read() == ""
    assert meter.read() == ""


def test_sessions_live_on_over_a_leap_of_the_clock() -> None:
    room = Room()
    meter, hems = room.joined()
    room.clock.now += 10 * LIFETIME_S
    room.air.settle()
    assert "EVENT 29" not in hems.read() + meter.read()
    assert len(room.datagrams()) > 10 * 8


def test_reauthentication_changes_the_key() -> None:
    room = Room()
    _, hems = room.joined()
    keys = []
    for _ in range(2):
        hems.write(send_line("SE", METER_IP, b"x"))
        keys.append(room.crossings[-1].frame.key_id)
        assert "EVENT 25" in hems.ask("SKREJOIN")
    assert None not in keys
    assert keys[0] != keys[1]


def test_a_hems_sends_nothing_while_it_reauthenticates() -> None:
    room = Room(REAL)
    _, hems = room.joined()
    hems.ask("SKREJOIN")
    hems.write(send_line("SE", METER_IP, b"x"))
    assert hems.read() == f"EVENT 21 {METER_IP} 01\r\nOK\r\n"
    room.clock.advance(20)
    hems.read()
    hems.write(send_line("SE", METER_IP, b"x"))
    room.clock.advance(1)
    assert hems.read() == f"EVENT 21 {METER_IP} 00\r\nOK\r\n"


def test_a_rewritten_password_ends_the_session_at_reauthentication() -> None:
    room = Room()
    meter, hems = room.joined()
    meter.ask("SKSETPWD C NEWPASSWORD1")
    assert hems.ask("SKREJOIN").endswith(f"EVENT 24 {METER_IP}\r\n")
    assert meter.lines()[-1] == f"EVENT 24 {HEMS_IP}"
    assert hems.ask("SKTERM") == "FAIL ER10\r\n"
    assert meter.ask("SKTERM") == "FAIL ER10\r\n"


def test_a_lost_meter_fails_the_reauthentication_and_then_expires() -> None:
    room = Room()
    meter, hems = room.joined()
    room.air.detach(meter.module)
    room.clock.advance(LIFETIME_S + 1)
    told = [line.split()[1] for line in hems.lines()]
    assert [number for number, _ in itertools.groupby(told)] == ["21", "24", "29"]
    assert len(told) < 8


def test_the_lifetime_is_the_meters() -> None:
    room = Room()
    meter, hems = room.meter(), room.hems()
    meter.ask("SKSREG S16 3C")
    hems.ask("SKSREG S17 0")
    hems.ask(f"SKJOIN {METER_IP}")
    room.clock.advance(61)
    assert "EVENT 29" in hems.read()


def test_a_meter_cannot_join_and_a_hems_cannot_serve() -> None:
    room = Room()
    meter, hems = room.joined()
    assert meter.ask(f"SKJOIN {HEMS_IP}") == "FAIL ER10\r\n"
    assert meter.ask("SKREJOIN") == "FAIL ER10\r\n"
    assert hems.ask("SKSTART") == "FAIL ER10\r\n"


def test_passwords_never_cross_the_air_or_the_repr() -> None:
    room = Room()
    meter, hems = room.meter(), room.hems()
    hems.write(f"SKJOIN {METER_IP}\r\n")
    meter.read()
    for datagram in room.datagrams():
        assert b"ABCDEFGHIJ12" not in datagram.payload
        assert PSK not in datagram.payload
    for text in (repr(Credentials("0" * 32, PSK)), repr(hems.module.session.current)):
        assert PSK.hex() not in text
        assert repr(PSK) not in text


def lose_nth_pana(position: int, towards: bytes) -> Impairment:
    """Lose the PANA datagram of this position, of those to this receiver."""
    seen = itertools.count()

    def impairment(frame: Frame, receiver: bytes | None, _: random.Random) -> Fate:
        pana = isinstance(frame.body, UdpDatagram) and frame.body.destination_port == PANA_PORT
        return Fate(lost=pana and receiver == towards and next(seen) == position)

    return impairment


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("towards", [METER_MAC, HEMS_MAC])
@pytest.mark.parametrize("pace", [FAST, REAL])
def test_a_join_survives_the_loss_of_any_one_message(
    position: int, towards: bytes, pace: AirPace
) -> None:
    room = Room(pace)
    meter, hems = room.meter(), room.hems()
    room.air.impairments.append(lose_nth_pana(position, towards))
    hems.write(f"SKJOIN {METER_IP}\r\n")
    room.clock.advance(15 if pace.waits else 3)
    assert "EVENT 25" in hems.read()
    told = meter.read()
    assert told.count("EVENT 25") == 1
    assert "EVENT 24" not in told
    assert hems.module.session.key_for(METER_IP) == meter.module.session.key_for(HEMS_IP)


def test_a_lost_last_answer_is_given_again_by_who_has_already_finished() -> None:
    room = Room()
    meter, hems = room.meter(), room.hems(password="WRONGWRONG12")
    room.air.impairments.append(lose_nth_pana(3, METER_MAC))
    hems.write(f"SKJOIN {METER_IP}\r\n")
    assert "EVENT 24" in hems.read()
    assert "EVENT 24" not in meter.read()
    room.clock.advance(1.5)
    assert "EVENT 24" in meter.read()


def test_a_lost_goodbye_is_said_again() -> None:
    room = Room()
    meter, hems = room.joined()
    room.air.impairments.append(lose_nth_pana(0, HEMS_MAC))
    hems.write("SKTERM\r\n")
    assert "EVENT 26" in meter.read()
    room.clock.advance(1.2)
    assert "EVENT 27" in hems.read()


def test_a_flood_of_replayed_messages_is_bounded_and_harmless() -> None:
    room = Room(REAL)
    meter, hems = room.meter(), room.hems()
    meter.ask("SKUDPPORT 3 02CC")
    hems.write(f"SKJOIN {METER_IP}\r\n")
    room.clock.advance(2)
    payload = next(d.payload for d in reversed(room.datagrams()) if d.destination == HEMS_IP)
    room.air.impairments.append(lambda *_: Fate(copies=MAX_WAITING_MESSAGES))
    for _ in range(3):
        meter.write(f"SKSENDTO 3 {HEMS_IP} 02CC 0 {len(payload):04X} ".encode() + payload)
        room.clock.advance(0.05)
    assert len(hems.module.session._inbox) == MAX_WAITING_MESSAGES
    room.air.impairments.clear()
    room.clock.advance(36)
    assert "EVENT 25" in hems.read()


def test_every_message_twice_and_late_joins_once() -> None:
    room = Room()
    meter, hems = room.meter(), room.hems()
    hems.ask(send_line("SE", METER_IP, b"x", security=0).decode())  # addresses are resolved
    room.air.impairments.append(lambda *_: Fate(copies=2, delay_s=0.05))
    hems.write(f"SKJOIN {METER_IP}\r\n")
    room.clock.advance(60)
    assert hems.read().count("EVENT 25") == meter.read().count("EVENT 25") == 1


def test_a_straggling_question_is_no_failed_authentication() -> None:
    room = Room()
    meter, hems = room.joined()
    question = encode(Message(Flag(0), Type.CLIENT_INITIATION, 0, 0))
    hems.ask("SKUDPPORT 3 02CC")
    hems.write(f"SKSENDTO 3 {METER_IP} 02CC 0 {len(question):04X} ".encode() + question)
    room.clock.advance(60)
    told = meter.read()
    assert "EVENT 21" in told
    assert "EVENT 24" not in told
    assert "EVENT 25" not in told
    hems.write(send_line("SE", METER_IP, b"x"))
    assert "ERXUDP" in meter.read()


def test_a_forged_refusal_ends_neither_join_nor_session() -> None:
    room = Room(REAL)
    meter, hems = room.meter(), room.hems()
    stranger = room.hems(mac=OTHER_MAC)
    hems.ask(f"SKJOIN {METER_IP}")
    stranger.ask("SKUDPPORT 3 02CC")
    refusal = ((int(Avp.RESULT_CODE), u32(ResultCode.AUTHENTICATION_REJECTED)),)
    for kind in (Type.AUTHENTICATION, Type.TERMINATION):
        flags = Flag.REQUEST | Flag.COMPLETE
        data = encode(Message(flags, kind, 0, 1, refusal))
        stranger.write(f"SKSENDTO 3 {HEMS_IP} 02CC 0 {len(data):04X} ".encode() + data)
        room.clock.advance(1)
    room.clock.advance(15)
    assert "EVENT 25" in hems.read()
    assert "EVENT 25" in meter.read()


def test_an_expired_hems_is_not_served_by_the_old_key() -> None:
    room = Room()
    meter, hems = room.joined()
    hems.ask("SKSREG S17 0")
    old = hems.module.session.key_for(METER_IP)
    room.clock.advance(LIFETIME_S + 1)
    meter.read()
    assert "EVENT 25" in hems.ask(f"SKJOIN {METER_IP}")
    assert old not in (None, hems.module.session.key_for(METER_IP))


def test_a_restarted_hems_is_admitted_in_the_middle_of_its_own_join() -> None:
    room = Room(REAL)
    room.meter()
    hems = room.hems()
    hems.ask(f"SKJOIN {METER_IP}")
    room.clock.advance(2)
    hems.ask("SKRESET")
    for line in (f"SKSETPWD C {PASSWORD}", f"SKSETRBID {'0123456789ABCDEF' * 2}"):
        hems.ask(line)
    for line in ("SKSREG S2 21", "SKSREG S3 B5FB", f"SKJOIN {METER_IP}"):
        hems.ask(line)
    room.clock.advance(20)
    assert "EVENT 25" in hems.read()


def test_at_80_percent_the_messages_are_pana_s_re_authentication() -> None:
    room = Room()
    room.joined()
    room.clock.advance(0.8 * LIFETIME_S + 1)
    told = [parse(datagram.payload) for datagram in room.datagrams()]
    assert [message.type for message in told[:2]] == [Type.NOTIFICATION] * 2
    assert told[0].flags == Flag.REQUEST | Flag.REAUTHENTICATION
    assert {message.session_id for message in told} == {told[0].session_id}
    assert told[0].get(Avp.AUTH) is not None


PANA_LIKE = st.one_of(
    st.binary(min_size=1, max_size=200),
    st.builds(
        lambda flags, kind, session_id, sequence, avps: encode(
            Message(Flag(flags), kind, session_id, sequence, tuple(avps))
        ),
        st.sampled_from([0, 0x8000, 0xC000, 0xA000, 0x9000, 0x2000, 0x1000]),
        st.integers(0, 5),
        st.sampled_from([0, 1, 2**31, 2**32 - 1]),
        st.integers(0, 2**32 - 1),
        st.lists(st.tuples(st.integers(0, 10), st.binary(max_size=64)), max_size=4),
    ),
)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), PANA_LIKE), max_size=12))
def test_whatever_comes_on_the_pana_port_breaks_no_session_of_either_role(
    datagrams: list[tuple[bool, bool, bytes]],
) -> None:
    room = Room()
    meter, hems = room.joined()
    stranger = room.hems(mac=OTHER_MAC)
    for host in (stranger, hems, meter):
        host.ask("SKUDPPORT 3 02CC")
    for to_meter, from_outside, payload in datagrams:
        # From a stranger, or forged in the name of the very peer.
        sender = stranger if from_outside else hems if to_meter else meter
        address = METER_IP if to_meter else HEMS_IP
        sender.write(f"SKSENDTO 3 {address} 02CC 0 {len(payload):04X} ".encode() + payload)
    room.clock.advance(60)
    meter.read()
    hems.write(send_line("SE", METER_IP, b"still here"))
    assert "EVENT 21" in hems.read()
    assert "ERXUDP" in meter.read()


@given(st.data())
def test_noise_in_a_join_never_admits_and_never_grows(data: st.DataObject) -> None:
    room = Room(REAL)
    meter, hems = room.meter(), room.hems(password="WRONGWRONG12")
    for host in (meter, hems):
        host.ask("SKUDPPORT 3 02CC")
    hems.ask(f"SKJOIN {METER_IP}")
    for _ in range(data.draw(st.integers(0, 12))):
        payload = data.draw(PANA_LIKE)
        host, address = data.draw(st.sampled_from([(meter, HEMS_IP), (hems, METER_IP)]))
        for _ in range(data.draw(st.sampled_from([1, 1, 40]))):
            host.write(f"SKSENDTO 3 {address} 02CC 0 {len(payload):04X} ".encode() + payload)
        room.clock.advance(data.draw(st.floats(0, 3)))
        for module in (meter.module, hems.module):
            assert len(module.session._inbox) <= MAX_WAITING_MESSAGES
    room.clock.advance(60)
    told = meter.read() + hems.read()
    assert "EVENT 25" not in told
    assert "EVENT 24" in told


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["meter", "hems"]),
            st.one_of(
                st.binary(max_size=80),
                st.sampled_from(
                    [
                        f"SKJOIN {METER_IP}\r\n".encode(),
                        b"SKREJOIN\r\n",
                        b"SKTERM\r\n",
                        b"SKRESET\r\n",
                        b"SKSTART\r\n",
                        b"SKSCAN 2 FFFFFFFF 6\r\n",
                        f"SKPING {METER_IP}\r\n".encode(),
                        b"SKDSLEEP\r\n",
                        b"SKSETPWD C ABCDEFGHIJ12\r\n",
                        send_line("SE", METER_IP, b"data"),
                        f"SKSENDTO 1 {METER_IP} 0E1A 1 04D0 ".encode(),
                    ]
                ),
            ),
            st.floats(0, 5),
        ),
        max_size=25,
    )
)
def test_arbitrary_octets_on_either_uart_at_any_time_are_survived(
    story: list[tuple[str, bytes, float]],
) -> None:
    room = Room(REAL)
    hosts = {"meter": room.meter(), "hems": room.hems()}
    hosts["hems"].write(f"SKJOIN {METER_IP}\r\n")
    for name, octets, seconds in story:
        hosts[name].write(octets)
        room.clock.advance(seconds)
        assert len(hosts[name].writes()) <= MAX_WRITES
    room.clock.advance(120)
    for host in hosts.values():
        host.write(bytes(MAX_PAYLOAD))  # whatever SKSENDTO waits for
        host.write(b"\r\n\r\n")
        room.clock.advance(120)
        assert host.ask("SKVER").endswith("OK\r\n")


def test_seeds_repeat_and_differ() -> None:
    def payloads(seed: int) -> list[bytes]:
        room = Room(seed=seed)
        room.meter()
        room.hems().ask(f"SKJOIN {METER_IP}")
        return [datagram.payload for datagram in room.datagrams()]

    assert payloads(1) == payloads(1)
    assert all(
        one != other for one, other in itertools.pairwise([payloads(1), payloads(2), payloads(3)])
    )
