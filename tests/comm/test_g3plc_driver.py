"""The driver on a virtual modem: start, join, datagrams, rewrite, watchdog and recovery."""

import random

import pytest
from plc_room import CREDENTIALS, HOME, METER, OTHER, OTHERS, PlcRoom

from meter_runtime.bench.plc.adapter import Adapter
from meter_runtime.bench.plc.adapter import Phase as HomePhase
from meter_runtime.comm.auth.pana_events import psk_of, server_id
from meter_runtime.comm.contracts import (
    ALL_NODES,
    AuthFailed,
    AuthOk,
    LinkStarted,
    LinkStartFailed,
    PeerJoining,
    PeerLeft,
    SessionExpired,
    UnitFault,
)
from meter_runtime.comm.g3plc import ipv6, scripts
from meter_runtime.comm.g3plc import messages as m
from meter_runtime.comm.g3plc.driver import Phase
from meter_runtime.comm.g3plc.session import JOIN_TIMEOUT_S, MAX_ATTEMPTS, Received
from meter_runtime.comm.skstack.outbox import SendDone


def test_a_start_is_said_in_its_order() -> None:
    room = PlcRoom().serve()
    assert [m.command_of(message) for message in room.asked] == [16, 10, 23, 60, 60, 60, 60, 13]
    sets = {message.attribute: message.value for message in room.said(m.LbpSet)}
    assert sets[m.LbpAttribute.ID_S] == server_id(CREDENTIALS)
    assert len(sets[m.LbpAttribute.ID_S]) == 34
    assert sets[m.LbpAttribute.PSK] == psk_of(CREDENTIALS.password)
    assert len(sets[m.LbpAttribute.GMK]) == 16
    (started,) = room.told(LinkStarted)
    pan_id = room.said(m.NetworkStart)[0].pan_id
    assert pan_id & ~scripts.PAN_MASK == 0
    assert (started.address, room.driver.phase) == (ipv6.link_local(pan_id, 0), Phase.SERVING)
    assert room.driver.network is not None
    assert room.driver.network.mac == METER


def test_a_home_joins_and_is_told_of_twice() -> None:
    room = PlcRoom().serve()
    room.join()
    peer = ipv6.link_local(room.modem.state.pan_id or 0, 1)
    assert room.events[1:] == [PeerJoining(peer), AuthOk(peer, 86_400)]
    assert room.peer == peer
    assert room.home.phase is HomePhase.JOINED


def test_a_join_that_is_not_completed_in_time_has_failed_once() -> None:
    room = PlcRoom().serve()
    room.join(OTHERS)
    assert room.home.phase is HomePhase.REFUSED
    room.pass_time(JOIN_TIMEOUT_S - 1)
    assert room.told(AuthFailed) == []
    room.pass_time(2)
    room.pass_time(2 * JOIN_TIMEOUT_S)
    assert len(room.told(AuthFailed)) == 1
    assert not room.driver._session.joining
    assert room.peer is None


def test_a_second_request_says_that_the_first_has_failed() -> None:
    room = PlcRoom().serve()
    room.join(OTHERS)
    room.pass_time(5)
    room.join()
    assert [type(event) for event in room.events[1:]] == [
        PeerJoining,
        AuthFailed,
        PeerJoining,
        AuthOk,
    ]


def test_a_request_that_is_repeated_at_once_is_one() -> None:
    room = PlcRoom().serve()
    for _ in range(3):
        room.say(m.JoinRequestIndication(OTHER))
    assert len(room.told(PeerJoining)) == 1
    assert [each.short for each in room.said(m.ShortAddressAssign)] == [1, 1, 1]


def test_who_repeats_a_request_for_ever_fails_in_time_all_the_same() -> None:
    room = PlcRoom().serve()
    for _ in range(JOIN_TIMEOUT_S // 2 + 1):
        room.say(m.JoinRequestIndication(OTHER))
        room.pass_time(2)
    told = [type(event) for event in room.events[1:]]
    assert told == [PeerJoining, AuthFailed, PeerJoining]


@pytest.mark.parametrize("seed", range(20))
def test_a_join_over_a_bad_line_is_no_failure(seed: int) -> None:
    room = PlcRoom().serve()
    room.line._rng.seed(seed)
    room.line.packet_error_rate = 0.5
    room.join()
    room.pass_time(JOIN_TIMEOUT_S - 1)
    assert [type(event) for event in room.events[1:]] == [PeerJoining, AuthOk]


def test_a_join_that_is_completed_late_counts() -> None:
    room = PlcRoom().serve()
    room.say(m.JoinRequestIndication(OTHER))
    room.pass_time(JOIN_TIMEOUT_S + 1)
    room.say(m.JoinCompleteIndication(OTHER, 1))
    assert [type(event) for event in room.events[1:]] == [PeerJoining, AuthFailed, AuthOk]


def test_only_so_many_may_join_at_once() -> None:
    room = PlcRoom().serve()
    for number in range(MAX_ATTEMPTS + 1):
        room.say(m.JoinRequestIndication(bytes(7) + bytes((number,))))
    shorts = [each.short for each in room.said(m.ShortAddressAssign)]
    assert shorts == [*range(1, MAX_ATTEMPTS + 1), m.REJECTED]
    assert room.driver.counters["joins_refused"] == 1
    room.pass_time(JOIN_TIMEOUT_S + 1)
    room.say(m.JoinRequestIndication(OTHER))
    assert room.said(m.ShortAddressAssign)[-1].short == 1


def test_who_completes_a_join_that_nobody_began_is_kicked() -> None:
    room = PlcRoom().serve()
    room.say(m.JoinCompleteIndication(OTHER, 7))
    assert room.told(AuthOk) == []
    assert room.said(m.Kick) == [m.Kick(7, OTHER)]


def test_another_home_takes_the_place_of_the_first() -> None:
    room = PlcRoom().serve()
    room.join()
    other = Adapter(OTHER, random.Random(6))
    room.line.attach(other)
    room.join(home=other)
    assert [type(event) for event in room.events[3:]] == [PeerJoining, PeerLeft, AuthOk]
    assert room.said(m.Kick) == [m.Kick(1, HOME)]
    assert (room.home.phase, other.phase) == (HomePhase.KICKED, HomePhase.JOINED)


def test_datagrams_go_both_ways() -> None:
    room = PlcRoom().serve()
    room.join()
    room.home.send(b"\x10\x81ask")
    room.settle()
    peer = room.peer or ""
    assert room.told(Received) == [Received(b"\x10\x81ask", peer)]
    for destination in (peer, ALL_NODES):
        sent = room.driver.send(b"\x10\x81" + bytes(1230), destination, room.clock.now)
        room.settle()
        assert room.events[-1] == SendDone(sent, ok=True)
    assert list(room.home.received) == [b"\x10\x81" + bytes(1230)] * 2


@pytest.mark.parametrize("payload", [b"", bytes(1233)])
def test_what_does_not_fit_is_refused(payload: bytes) -> None:
    room = PlcRoom().serve()
    room.join()
    sent = room.driver.send(payload, room.peer or "", room.clock.now)
    room.settle()
    assert room.events[-1] == SendDone(sent, ok=False)
    assert room.said(m.DataRequest) == []


def packet(room: PlcRoom, source: int, *, port: int = 3610, target: str | None = None) -> bytes:
    pan_id = room.modem.state.pan_id or 0
    own = ipv6.link_local(pan_id, 0)
    return ipv6.encode(
        ipv6.UdpPacket(ipv6.link_local(pan_id, source), target or own, port, port, b"\x10\x81")
    )


def test_only_the_homes_echonet_lite_to_this_meter_is_heard() -> None:
    room = PlcRoom().serve()
    room.join()
    pan_id = room.modem.state.pan_id or 0
    for unwanted in (
        packet(room, 2),
        packet(room, 1, port=716),
        packet(room, 1, target=ipv6.link_local(pan_id, 9)),
        packet(room, 1)[:-1] + b"\xff",
        b"",
    ):
        room.say(m.DataIndication(160, unwanted))
    assert room.told(Received) == []
    counters = room.driver.counters
    assert {name: counters[name] for name in counters if name.startswith("rx")} == {
        "rx": 0,
        "rx_stranger": 1,
        "rx_other_port": 1,
        "rx_other_address": 1,
        "rx_malformed": 2,
    }
    room.say(m.DataIndication(160, packet(room, 1)))
    assert len(room.told(Received)) == 1


def test_a_home_that_acknowledges_nothing_is_lost_and_comes_back_when_it_speaks() -> None:
    room = PlcRoom().serve()
    room.join()
    peer = room.peer or ""
    room.line.set_attenuation(HOME, 60)
    for _ in range(3):
        assert room.told(SessionExpired) == []
        room.driver.send(b"\x10\x81", peer, room.clock.now)
        room.settle()
    assert room.told(SessionExpired) == [SessionExpired(peer)]
    assert room.peer is None
    room.line.set_attenuation(HOME, 0)
    room.home.send(b"\x10\x81")
    room.settle()
    assert [type(event) for event in room.events[-2:]] == [AuthOk, Received]
    assert room.peer == peer


def test_a_home_that_is_heard_in_between_is_not_lost() -> None:
    room = PlcRoom().serve()
    room.join()
    for _ in range(3):
        room.line.set_attenuation(HOME, 60)
        for _ in range(2):
            room.driver.send(b"\x10\x81", room.peer or "", room.clock.now)
            room.settle()
        room.line.set_attenuation(HOME, 0)
        room.home.send(b"\x10\x81")
        room.settle()
    assert room.told(SessionExpired) == []


def test_what_is_for_everybody_says_nothing_of_the_home() -> None:
    room = PlcRoom().serve()
    room.join()
    room.mute = True
    for handle in range(1, 5):
        room.driver.send(b"\x10\x81", ALL_NODES, room.clock.now)
        room.settle()
        room.say(m.DataConfirm(0xE9, handle))
    assert [done.ok for done in room.told(SendDone)] == [False] * 4
    assert room.told(SessionExpired) == []


def test_a_home_that_leaves_is_told() -> None:
    room = PlcRoom().serve()
    room.join()
    peer = room.peer or ""
    room.home.leave()
    room.settle()
    assert room.events[-1] == PeerLeft(peer)


def test_a_rewrite_sets_the_keys_and_kicks_the_home() -> None:
    room = PlcRoom().serve()
    room.join()
    before = room.modem.state.gmk
    room.asked.clear()
    room.driver.set_credentials(OTHERS, room.clock.now)
    room.settle()
    assert [m.command_of(message) for message in room.asked] == [62, 60, 60, 60]
    assert room.modem.state.psk == psk_of(OTHERS.password)
    assert room.modem.state.gmk != before
    assert [type(event) for event in room.events[-2:]] == [PeerLeft, LinkStarted]
    phases = [room.home.phase]
    for credentials in (CREDENTIALS, OTHERS):
        room.join(credentials)
        phases.append(room.home.phase)
        room.pass_time(5)
    assert phases == [HomePhase.KICKED, HomePhase.REFUSED, HomePhase.JOINED]


def test_a_home_that_does_not_hear_the_kick_can_neither_speak_nor_listen() -> None:
    room = PlcRoom().serve()
    room.join()
    room.line.set_attenuation(HOME, 60)
    room.driver.set_credentials(OTHERS, room.clock.now)
    room.settle()
    room.line.set_attenuation(HOME, 0)
    assert room.home.phase is HomePhase.JOINED
    room.home.send(b"\x10\x81")
    room.settle()
    assert room.told(Received) == []


def test_who_is_joining_with_the_former_password_never_gets_the_new_key() -> None:
    room = PlcRoom().serve()
    room.join()
    room.say(m.JoinRequestIndication(OTHER))
    room.asked.clear()
    room.driver.set_credentials(OTHERS, room.clock.now)
    room.pass_time(1)
    said = [m.command_of(message) for message in room.asked]
    assert said == [62, 16, 16, 10, 23, 60, 60, 60, 60, 13]
    assert [type(event) for event in room.events[-2:]] == [PeerLeft, LinkStarted]
    room.say(m.JoinCompleteIndication(OTHER, 1))
    assert len(room.told(AuthOk)) == 1
    assert room.said(m.Kick)[-1] == m.Kick(1, OTHER)


def test_who_asks_to_join_during_a_rewrite_is_refused() -> None:
    room = PlcRoom().serve()
    room.driver.set_credentials(OTHERS, room.clock.now)
    room.say(m.JoinRequestIndication(HOME))
    assert room.said(m.ShortAddressAssign) == [m.ShortAddressAssign(HOME, m.REJECTED)]


def test_a_modem_that_restarted_by_itself_is_noticed_and_started_again() -> None:
    room = PlcRoom().serve()
    room.join()
    pan_id = room.modem.state.pan_id
    room.modem.lose_power()
    room.pass_time(61)
    assert len(room.told(UnitFault)) == 1
    assert [type(event) for event in room.events[-2:]] != [UnitFault, UnitFault]
    room.pass_time(2)
    assert len(room.told(LinkStarted)) == 2
    assert room.modem.state.pan_id == pan_id


def test_a_modem_that_coordinates_another_pan_is_started_again() -> None:
    room = PlcRoom().serve()
    room.modem.state.pan_id = 0x0001
    room.pass_time(61)
    assert len(room.told(UnitFault)) == 1


def test_an_answer_that_was_lost_is_asked_for_again() -> None:
    room = PlcRoom()
    room.mute = True
    room.serve()
    room.mute = False
    room.pass_time(scripts.RESET_BOUND_S)
    assert room.driver.phase is Phase.SERVING
    assert room.driver.counters["retries"] == 1


def test_half_a_frame_of_a_port_that_was_lost_is_forgotten() -> None:
    room = PlcRoom().serve()
    room.driver.receive(b"\x7e\x00\xe5", room.clock.now)
    room.driver.port_lost("gone", room.clock.now)
    room.pass_time(2)
    room.driver.port_opened(room.clock.now)
    room.settle()
    assert room.driver.phase is Phase.SERVING
    assert room.driver.counters["damaged"] == 0


def test_a_modem_that_says_nothing_is_started_again_with_growing_pauses() -> None:
    room = PlcRoom().serve()
    room.mute = True
    room.pass_time(70)
    (fault,) = room.told(UnitFault)
    assert "does not answer MAC GET PAN ID" in fault.reason
    room.pass_time(120)
    pauses = [event.retry_in_s for event in room.told(LinkStartFailed)]
    assert pauses[:4] == [2.0, 4.0, 8.0, 16.0]
    room.mute = False
    room.pass_time(60)
    assert room.driver.phase is Phase.SERVING


def test_a_modem_that_cannot_start_its_pan_tries_another_one() -> None:
    room = PlcRoom()
    room.driver.start(CREDENTIALS, room.clock.now)
    room.driver.port_opened(room.clock.now)
    room.mute = True
    room.settle()
    answers: list[m.Message] = [
        m.ResetConfirm(0),
        m.Status(0, m.Command.INITIALIZE),
        m.Status(m.StatusCode.UNKNOWN_COMMAND, m.Command.MAC_GET),
        *(m.LbpSetConfirm(0, attribute, 0) for attribute in (0, 2, 3)),
        m.LbpSetConfirm(2, 6, 0),
        m.StartConfirm(1),
    ]
    for answer in answers:
        room.say(answer)
    (failed,) = room.told(LinkStartFailed)
    assert "cannot start PAN" in failed.reason
    room.mute = False
    room.pass_time(2)
    first, second = (each.pan_id for each in room.said(m.NetworkStart))
    assert first != second
    assert room.driver.phase is Phase.SERVING


def test_a_key_that_the_modem_does_not_take_is_told_without_it() -> None:
    room = PlcRoom()
    room.driver.start(CREDENTIALS, room.clock.now)
    room.driver.port_opened(room.clock.now)
    room.mute = True
    room.settle()
    for answer in (
        m.ResetConfirm(0),
        m.Status(0, m.Command.INITIALIZE),
        m.MacGetConfirm(0, m.MacAttribute.EXTENDED_ADDRESS, 0, METER[::-1]),
        m.LbpSetConfirm(4, m.LbpAttribute.ID_S, 0),
    ):
        room.say(answer)
    (failed,) = room.told(LinkStartFailed)
    assert failed.reason == "the modem does not take ID_S (status 4)"


def test_stopping_kicks_the_home_and_leaves_a_modem_that_admits_nobody() -> None:
    room = PlcRoom().serve()
    room.join()
    room.driver.stop(room.clock.now)
    room.pass_time(1)
    assert room.driver.phase is Phase.STOPPED
    assert room.home.phase is HomePhase.KICKED
    assert (room.modem.state.pan_id, room.modem.state.psk) == (None, None)
    assert isinstance(room.events[-1], PeerLeft)
    assert room.driver.next_deadline() is None


def test_a_mute_modem_does_not_keep_it_from_stopping() -> None:
    room = PlcRoom().serve()
    room.mute = True
    room.driver.stop(room.clock.now)
    room.pass_time(10)
    assert room.driver.phase is Phase.STOPPED


@pytest.mark.parametrize("was_serving", [True, False])
def test_vacating_has_the_modem_forget(was_serving: bool) -> None:
    room = PlcRoom()
    if was_serving:
        room.serve()
        room.driver = PlcRoom().driver  # another program's life
    room.driver.vacate(room.clock.now)
    room.driver.port_opened(room.clock.now)
    room.settle()
    assert room.driver.phase is Phase.STOPPED
    assert room.modem.state.psk is None
    assert room.driver.counters["vacated"] == 1
    room.driver.vacate(room.clock.now)
    room.settle()
    assert room.driver.phase is Phase.STOPPED


def test_octets_that_mean_nothing_are_counted_and_change_nothing() -> None:
    room = PlcRoom().serve()
    room.driver.receive(b"~garbage~~\x00~", room.clock.now)
    room.say(m.Other(99, b""))
    room.driver.receive(bytes.fromhex("7E"), room.clock.now)
    assert room.driver.phase is Phase.SERVING
    assert room.driver.counters["damaged"] == 2
    assert room.driver.counters["noise"] == 1
