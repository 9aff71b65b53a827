"""Joining, refusal, session life, re-authentication and its end, between two modules."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from module_room import (
    ALL_NODES,
    HEMS_IP,
    METER_IP,
    OTHER_MAC,
    Host,
    Room,
    send_line,
)

from meter_runtime.bench.air import FAST, REAL
from meter_runtime.bench.module.join import (
    Admitted,
    Authenticator,
    Credentials,
    Kind,
    Message,
    Rejected,
    Step,
    Supplicant,
    decode,
    psk_from_password,
)

OTHER_IP = "FE80:0000:0000:0000:021D:1290:AAAA:AAAA"
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
    key = psk_from_password("ABCDEFGHIJ12").hex()
    assert hems.ask(f"SKSETPSK 10 {key}") == "OK\r\n"
    assert "EVENT 25" in hems.ask(f"SKJOIN {METER_IP}")


def test_a_join_with_nobody_there_fails_in_time() -> None:
    room = Room()
    hems = room.hems()
    hems.write(f"SKJOIN {METER_IP}\r\n")
    assert hems.ask(f"SKJOIN {METER_IP}") == "FAIL ER10\r\n"
    room.clock.advance(5)
    assert heads(hems) == ["EVENT 21 01", "EVENT 24"]


def test_a_module_that_was_not_started_admits_nobody() -> None:
    room = Room()
    meter, hems = room.meter(), room.hems()
    meter.ask("SKRESET")
    for line in ("SKSREG S2 21", "SKSREG S3 B5FB"):
        meter.ask(line)
    hems.write(f"SKJOIN {METER_IP}\r\n")
    room.clock.advance(5)
    assert hems.lines()[-1] == f"EVENT 24 {METER_IP}"


def test_a_second_hems_is_refused_while_one_is_joined() -> None:
    room = Room()
    meter, hems = room.joined()
    second = room.hems(mac=OTHER_MAC)
    assert second.ask(f"SKJOIN {METER_IP}").endswith(f"EVENT 24 {METER_IP}\r\n")
    assert "EVENT 24" not in meter.read()
    hems.write(send_line("SE", METER_IP, b"\x01"))
    assert "ERXUDP" in meter.read()
    assert "EVENT 27" in hems.ask("SKTERM")
    assert "EVENT 25" in second.ask(f"SKJOIN {METER_IP}")


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


def test_leaving_a_dead_peer_times_out() -> None:
    room = Room()
    meter, hems = room.joined()
    meter.ask("SKRESET")
    hems.write("SKTERM\r\n")
    room.clock.advance(5)
    assert heads(hems) == ["OK", "EVENT 21 01", "EVENT 28"]


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
    assert [line.split()[1] for line in hems.lines()] == ["21", "24", "29"]


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
    psk = psk_from_password("ABCDEFGHIJ12")
    for datagram in room.datagrams():
        assert b"ABCDEFGHIJ12" not in datagram.payload
        assert psk not in datagram.payload
    assert psk.hex() not in repr(Credentials("0" * 32, psk))
    assert repr(psk) not in repr(Credentials("0" * 32, psk))


GOOD = Credentials("A" * 32, psk_from_password("ABCDEFGHIJ12"))


WRONG = Credentials("A" * 32, psk_from_password("WRONGWRONG12"))


def exchange(client: Supplicant, agent: Authenticator) -> list[tuple[str, Kind, Step]]:
    """Every message, who received it, and what that led to."""
    taken: list[tuple[str, Kind, Step]] = []
    message: Message | None = client.begin()
    for name in itertools.cycle(("agent", "client")):
        if message is None:
            break
        step = agent.receive(message) if name == "agent" else client.receive(message)
        taken.append((name, message.kind, step))
        message = step.answer
    return taken


def test_both_ends_of_an_exchange_agree_on_the_session() -> None:
    rng = random.Random(3)
    taken = exchange(Supplicant(GOOD, rng), Authenticator(GOOD, rng, 900))
    assert [kind for _, kind, _ in taken] == list(Kind)[:9]
    of_client, of_agent = taken[-2][2].outcome, taken[-1][2].outcome
    assert isinstance(of_client, Admitted)
    assert of_client.lifetime_s == 900
    assert of_client == of_agent


def test_the_agent_rejects_a_client_without_the_password() -> None:
    rng = random.Random(3)
    taken = exchange(Supplicant(WRONG, rng), Authenticator(GOOD, rng, 900))
    assert [(name, kind) for name, kind, step in taken if step.outcome == Rejected()] == [
        ("agent", Kind.PROOF_OF_CLIENT),
        ("client", Kind.REFUSE),
    ]


def test_the_client_rejects_an_agent_without_the_password() -> None:
    client = Supplicant(GOOD, random.Random(3))
    client.receive(Message(Kind.OFFER, 7))
    client.receive(Message(Kind.CHALLENGE, 7, bytes(16)))
    step = client.receive(Message(Kind.PROOF_OF_AGENT, 7, bytes(16)))
    assert step == Step(Message(Kind.REFUSE, 7), Rejected())


@given(st.binary(max_size=64))
def test_any_payload_is_a_message_or_nothing(payload: bytes) -> None:
    message = decode(payload)
    assert message is None or message.encode() == payload


@given(st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=40)), max_size=20))
def test_no_message_admits_without_the_password(messages: list[tuple[Kind, bytes]]) -> None:
    client = Supplicant(GOOD, random.Random(1))
    agent = Authenticator(GOOD, random.Random(2), 900)
    for machine in (client, agent):
        for kind, body in messages:
            outcome = machine.receive(Message(kind, 7, body)).outcome
            assert outcome is None or isinstance(outcome, Rejected)


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=8))
def test_noise_on_the_pana_port_breaks_no_session(payloads: list[bytes]) -> None:
    room = Room()
    meter, hems = room.joined()
    stranger = room.hems(mac=OTHER_MAC)
    stranger.ask("SKUDPPORT 3 02CC")
    for payload in payloads:
        stranger.write(f"SKSENDTO 3 {METER_IP} 02CC 0 {len(payload):04X} ".encode() + payload)
    room.clock.advance(60)
    meter.read()
    hems.write(send_line("SE", METER_IP, b"still here"))
    assert "EVENT 21" in hems.read()
    assert "ERXUDP" in meter.read()


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
