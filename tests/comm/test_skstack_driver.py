"""The story of a meter and its module, told over every kind of module and wire."""

import itertools
import random

import pytest
from scripted_module import CREDENTIALS, HOME, OTHER_HOME, OWN, PASSWORD, Line, ScriptedModule

from meter_runtime.comm.contracts import (
    ALL_NODES,
    AuthFailed,
    AuthOk,
    LinkCredentials,
    LinkStarted,
    LinkStartFailed,
    PeerJoining,
    PeerLeft,
    SessionExpired,
    TxReleased,
    TxRestricted,
)
from meter_runtime.comm.skstack.dialects import DSE, SE, Dialect
from meter_runtime.comm.skstack.driver import MeterDriver, Phase
from meter_runtime.comm.skstack.outbox import MAX_WAITING, SendDone
from meter_runtime.comm.skstack.replies import EnergyReport
from meter_runtime.comm.skstack.scripts import choose_channel, free_pan_id
from meter_runtime.comm.skstack.session import Received
from meter_runtime.secret import Secret

BINARY = bytes(range(256)) + b"\r\nERXUDP OK\r\n"


def line(module: ScriptedModule, dialect: Dialect | None = None, **wire: object) -> Line:
    driver = MeterDriver(dialect, random.Random(1))
    return Line(driver, module, **wire)  # type: ignore[arg-type]


def joined(dialect: Dialect = DSE) -> Line:
    wire = line(ScriptedModule(dialect))
    wire.start()
    wire.hear(wire.module.event(0x25))
    wire.told()
    return wire


VARIANTS = list(
    itertools.product((SE, DSE), (False, True), (False, True), (None, 1, 7), (0.0, 1.5))
)


@pytest.mark.parametrize(("dialect", "hex_data", "echo", "cut", "delay_s"), VARIANTS)
def test_the_whole_story_on_every_module_and_wire(
    dialect: Dialect, hex_data: bool, echo: bool, cut: int | None, delay_s: float
) -> None:
    module = ScriptedModule(dialect, hex_data=hex_data, echo=echo)
    wire = line(module, cut=cut, delay_s=delay_s)
    wire.start()
    network = wire.driver.network
    assert network is not None
    assert wire.told() == [LinkStarted(OWN, f"channel {network.channel}, PAN 5678")]

    wire.hear(module.datagram(b"\x00" * 24, port=716, secured=False))
    wire.hear(module.event(0x21, HOME, 0))
    wire.hear(module.datagram(b"\x00" * 24, port=716, secured=False))
    wire.hear(module.event(0x25))
    assert wire.told() == [PeerJoining(HOME), AuthOk(HOME, 86_400)]

    wire.hear(module.datagram(BINARY))
    wire.hear(module.datagram(b"\x10\x81", destination=ALL_NODES))
    rssi = 0.275 * 0xDD - 104.27 if dialect.prints_rssi else None
    assert wire.told() == [
        Received(BINARY, HOME, rssi, multicast=False),
        Received(b"\x10\x81", HOME, rssi, multicast=True),
    ]

    sent = [wire.send(BINARY, HOME), wire.send(b"\x01", ALL_NODES)]
    assert wire.told() == [SendDone(number, ok=True) for number in sent]
    assert module.sent == [(HOME, BINARY), (ALL_NODES, b"\x01")]
    assert module.secured == ["1", "1"]

    wire.hear(module.event(0x26))
    assert wire.told() == [PeerLeft(HOME)]
    wire.driver.stop(wire.now)
    wire.settle()
    assert wire.driver.phase is Phase.STOPPED
    assert module.registers["S15"] == "0"
    assert wire.driver.counters["noise"] == 0
    assert wire.driver.counters["retries"] == 0


def test_a_start_says_these_lines_and_writes_nothing_to_flash() -> None:
    module = ScriptedModule(DSE)
    wire = line(module)
    wire.start()
    network = wire.driver.network
    assert network is not None
    assert module.heard == [
        "SKINFO",
        "ROPT",
        "SKRESET",
        "SKSREG SFE 0",
        "SKVER",
        "SKAPPVER",
        "SKSREG SF0 0",
        "SKSREG SA2 1",
        f"SKSETPWD C {PASSWORD}",
        f"SKSETRBID {CREDENTIALS.route_b_id}",
        "SKSCAN 0 FFFFFFFF 4 0",
        f"SKSREG S2 {network.channel:X}",
        "SKSCAN 3 FFFFFFFF 6 0",
        "SKSREG S3 5678",
        "SKSREG S16 15180",
        "SKINFO",
        "SKSREG SFB",
        "SKSTART",
        "SKSREG S15",
    ]
    assert network.version == "1.2.10 rev26e"


def test_single_stack_commands_have_no_side() -> None:
    module = ScriptedModule(SE)
    line(module).start()
    assert "SKSCAN 0 FFFFFFFF 4" in module.heard
    assert not any("SF0" in said or "SA2" in said for said in module.heard)


def test_old_firmware_without_option_bytes_is_served_in_either_form() -> None:
    for hex_data, dialect in itertools.product((False, True), (SE, DSE)):
        module = ScriptedModule(dialect, hex_data=hex_data, has_options=False)
        wire = line(module, cut=1)
        wire.start()
        wire.hear(module.event(0x25))
        wire.told()
        wire.hear(module.datagram(BINARY) + module.datagram(b"0A"))
        assert [event.payload for event in wire.told() if isinstance(event, Received)] == [
            BINARY,
            b"0A",
        ]


def test_a_module_silent_on_the_option_query_is_served_too() -> None:
    module = ScriptedModule(SE, deaf_to={"ROPT"})
    wire = line(module)
    wire.start()
    wire.wait(3.0)
    assert wire.driver.phase is Phase.SERVING


@pytest.mark.parametrize(("dialect", "count"), [(SE, 4), (DSE, 3)])
def test_firmware_that_wants_the_other_number_of_scan_arguments_gets_it(
    dialect: Dialect, count: int
) -> None:
    wire = line(ScriptedModule(dialect, scan_arguments=count))
    wire.start()
    assert wire.driver.phase is Phase.SERVING


@pytest.mark.parametrize(("said", "spoken"), [(SE, DSE), (DSE, SE)])
def test_a_module_of_the_other_dialect_is_named_before_anything_else_is_said(
    said: Dialect, spoken: Dialect
) -> None:
    module = ScriptedModule(spoken)
    wire = line(module, said)
    wire.start()
    (failure,) = wire.told()
    assert isinstance(failure, LinkStartFailed)
    assert failure.reason == (
        f"the module speaks the {spoken.name} dialect, not {said.name} as configured; "
        "name the profile of the module that is plugged in"
    )
    assert module.heard == ["SKINFO"]


def test_a_quiet_odd_channel_is_chosen_and_a_tie_falls_by_chance() -> None:
    quiet_ones = (0x23, 0x31)
    module = ScriptedModule(SE, loud=tuple(n for n in range(0x21, 0x3D) if n not in quiet_ones))
    wire = line(module)
    wire.start()
    assert wire.driver.network is not None
    assert wire.driver.network.channel in quiet_ones
    report = EnergyReport(tuple((n, 0x20 - n % 2) for n in range(0x21, 0x3D)))
    chosen = {choose_channel(report, random.Random(seed)) for seed in range(200)}
    assert chosen == set(range(0x21, 0x3D, 2))


def test_an_odd_channel_is_chosen_even_where_only_even_ones_were_measured() -> None:
    assert choose_channel(EnergyReport(((0x22, 0),)), random.Random(1)) % 2 == 1


def test_the_channel_of_before_is_kept_unless_it_became_clearly_louder() -> None:
    def chosen(level: int) -> int:
        report = EnergyReport(((0x21, 4), (0x23, level), (0x25, 4)))
        return choose_channel(report, random.Random(1), before=0x23)

    assert chosen(4) == 0x23
    assert chosen(4 + 0x18) == 0x23
    assert chosen(4 + 0x19) in (0x21, 0x25)
    assert choose_channel(EnergyReport(((0x21, 4),)), random.Random(1), before=0x23) == 0x21


def test_pan_ids_in_use_and_reserved_ones_are_avoided() -> None:
    module = ScriptedModule(SE, neighbours=(0x5678, 0x5679))
    wire = line(module)
    wire.start()
    assert wire.driver.network is not None
    assert wire.driver.network.pan_id == 0x567A
    assert free_pan_id(b"\xff\xfe", ()) == 0x0001


def test_an_attempt_to_join_is_told_once() -> None:
    wire = line(ScriptedModule(SE))
    wire.start()
    wire.told()
    message = wire.module.datagram(b"\x00" * 24, port=716, secured=False)
    for _ in range(5):
        wire.hear(message)
    assert wire.told() == [PeerJoining(HOME)]
    wire.hear(wire.module.event(0x24))
    wire.hear(message)
    assert wire.told() == [AuthFailed(HOME), PeerJoining(HOME)]
    wire.wait(61.0)
    wire.hear(message)
    assert wire.told() == [PeerJoining(HOME)]


def test_many_knocking_homes_cost_no_memory() -> None:
    wire = line(ScriptedModule(SE))
    wire.start()
    for number in range(1_000):
        source = f"FE80:0000:0000:0000:0000:0000:0000:{number:04X}"
        wire.hear(wire.module.datagram(b"\x00", source=source, port=716, secured=False))
    assert len(wire.driver._session._knocking) == 8


def test_a_second_home_that_fails_leaves_the_first_alone() -> None:
    wire = joined()
    module = wire.module
    wire.hear(module.datagram(b"\x00", source=OTHER_HOME, port=716, secured=False))
    wire.hear(module.event(0x24, OTHER_HOME))
    assert wire.told() == [PeerJoining(OTHER_HOME), AuthFailed(OTHER_HOME)]
    assert wire.driver.joined == HOME


def test_a_second_home_that_succeeds_takes_the_place() -> None:
    wire = joined()
    wire.hear(wire.module.event(0x25, OTHER_HOME))
    assert wire.told() == [PeerLeft(HOME), AuthOk(OTHER_HOME, 86_400)]


def test_reauthentication_is_told_and_sends_wait_for_it() -> None:
    wire = joined()
    module = wire.module
    wire.hear(module.datagram(b"\x00", port=716, secured=False))
    number = wire.send(b"\x01", HOME)
    assert not module.sent
    wire.hear(module.event(0x25))
    assert wire.told() == [AuthOk(HOME, 86_400), SendDone(number, ok=True)]


def test_a_renewal_that_leads_nowhere_holds_sends_only_briefly() -> None:
    wire = joined()
    wire.hear(wire.module.datagram(b"\x00", port=716, secured=False))
    number = wire.send(b"\x01", HOME)
    wire.wait(2.9)
    assert wire.told() == []
    wire.wait(0.2)
    assert wire.told() == [SendDone(number, ok=True)]


def test_a_renewal_that_fails_lets_sends_go_on_at_once() -> None:
    wire = joined()
    wire.hear(wire.module.datagram(b"\x00", port=716, secured=False))
    number = wire.send(b"\x01", HOME)
    wire.hear(wire.module.event(0x24))
    assert wire.told() == [AuthFailed(HOME), SendDone(number, ok=True)]


def test_what_strangers_are_said_to_have_done_does_not_end_the_session() -> None:
    wire = joined()
    for number in (0x26, 0x27, 0x29):
        wire.hear(wire.module.event(number, OTHER_HOME))
    assert wire.told() == []
    assert wire.driver.joined == HOME


def test_a_report_on_another_datagram_is_not_taken_for_ours() -> None:
    wire = joined()
    wire.module.send_outcomes.append((2,))
    number = wire.send(b"\x01", HOME)
    wire.hear(wire.module.event(0x21, OTHER_HOME, 0))
    assert wire.told() == []
    wire.hear(wire.module.event(0x21, HOME, 0))
    assert wire.told() == [SendDone(number, ok=True)]


def test_after_expiry_nothing_is_sent_until_the_home_is_back() -> None:
    wire = joined()
    module = wire.module
    wire.hear(module.event(0x29))
    number = wire.send(b"\x01", HOME)
    assert wire.told() == [SessionExpired(HOME), SendDone(number, ok=False)]
    assert not module.sent
    wire.hear(module.event(0x25))
    assert wire.told() == [AuthOk(HOME, 86_400)]


def test_a_lost_join_event_is_made_up_for_by_secured_data() -> None:
    wire = line(ScriptedModule(SE))
    wire.start()
    wire.told()
    wire.hear(wire.module.datagram(b"\x10\x81"))
    assert wire.told() == [AuthOk(HOME, 86_400), Received(b"\x10\x81", HOME, None, False)]


def test_plaintext_and_strange_ports_are_dropped_and_counted() -> None:
    wire = joined()
    wire.hear(wire.module.datagram(b"\x01", secured=False))
    wire.hear(wire.module.datagram(b"\x01", port=0x1234))
    assert wire.told() == []
    assert wire.driver.counters["rx_plaintext"] == 1
    assert wire.driver.counters["rx_other_port"] == 1


def test_the_home_networks_side_is_not_ours() -> None:
    wire = joined(DSE)
    wire.hear(wire.module.event(0x26).replace(b" 0\r\n", b" 1\r\n"))
    wire.hear(wire.module.datagram(b"\x01").replace(b" 1 0 0001", b" 1 1 0001"))
    assert wire.told() == []


@pytest.mark.parametrize("outcomes", [(0,), (2, 0)])
def test_a_send_is_done_when_the_module_says_so(outcomes: tuple[int, ...]) -> None:
    wire = joined()
    wire.module.send_outcomes.append(outcomes)
    assert wire.told() == []
    number = wire.send(b"\x01", HOME)
    assert wire.told() == [SendDone(number, ok=True)]


@pytest.mark.parametrize("outcomes", [(1,), (2, 1)])
def test_a_send_that_failed_on_the_air_is_told(outcomes: tuple[int, ...]) -> None:
    wire = joined()
    wire.module.send_outcomes.append(outcomes)
    number = wire.send(b"\x01", HOME)
    assert wire.told() == [SendDone(number, ok=False)]
    assert wire.driver.counters["tx_failed"] == 1


def test_one_datagram_is_at_the_module_at_a_time_and_the_queue_is_bounded() -> None:
    wire = joined()
    wire.module.send_outcomes.append((2,))
    numbers = [wire.send(bytes((n,)), HOME) for n in range(MAX_WAITING + 2)]
    assert len(wire.module.sent) == 1
    assert wire.told() == [SendDone(numbers[-1], ok=False)]
    assert wire.driver.counters["tx_dropped"] == 1
    wire.hear(wire.module.event(0x21, HOME, 0))
    assert wire.told() == [SendDone(number, ok=True) for number in numbers[:-1]]
    assert [payload for _, payload in wire.module.sent] == [bytes((n,)) for n in range(17)]


def test_sends_without_a_joined_home_or_with_nothing_in_them_are_refused() -> None:
    wire = line(ScriptedModule(SE))
    early = wire.send(b"\x01", ALL_NODES)
    wire.start()
    alone = wire.send(b"\x01", ALL_NODES)
    wire.hear(wire.module.event(0x25))
    bad = [wire.send(b"", HOME), wire.send(bytes(1233), HOME), wire.send(b"\x01", OTHER_HOME)]
    done = [event for event in wire.told() if isinstance(event, SendDone)]
    assert done == [SendDone(number, ok=False) for number in (early, alone, *bad)]
    assert not wire.module.sent


def test_the_send_limit_stops_sends_until_released() -> None:
    wire = joined()
    module = wire.module
    module.send_outcomes.append((2,))
    flying, waiting = wire.send(b"\x01", HOME), wire.send(b"\x02", HOME)
    wire.hear(module.event(0x32, OWN))
    wire.hear(module.event(0x32, OWN))
    wire.hear(module.event(0x21, HOME, 1))
    refused = wire.send(b"\x03", HOME)
    wire.hear(module.event(0x33, OWN))
    assert wire.told() == [
        TxRestricted(),
        SendDone(waiting, ok=False),
        SendDone(flying, ok=False),
        SendDone(refused, ok=False),
        TxReleased(),
    ]
    assert len(module.sent) == 1


def test_a_limit_that_outlives_a_restart_is_seen_and_its_end_as_well() -> None:
    module = ScriptedModule(SE)
    wire = line(module)
    wire.on_write = lambda data: module.registers.update(SFB="1") if b"SFB" in data else None
    wire.start()
    assert wire.told()[1:] == [TxRestricted()]
    wire.on_write = None
    module.registers["SFB"] = "0"
    wire.wait(61.0)
    assert wire.told() == [TxReleased()]


def test_stop_ends_the_session_and_answers_no_join() -> None:
    wire = joined()
    number = wire.send(b"\x01", HOME)
    wire.module.deaf_to.add("SKSENDTO")
    hanging = wire.send(b"\x02", HOME)
    wire.driver.stop(wire.now)
    wire.settle()
    assert wire.told() == [SendDone(number, True), SendDone(hanging, False), PeerLeft(HOME)]
    assert wire.module.heard[-2:] == ["SKTERM", "SKRESET"]
    assert wire.driver.phase is Phase.STOPPED
    assert wire.driver.next_deadline() is None


def test_stop_is_bounded_when_the_module_is_mute() -> None:
    wire = joined()
    wire.module.silent = True
    wire.driver.stop(wire.now)
    wire.wait(60.0)
    assert wire.driver.phase is Phase.STOPPED
    assert wire.told() == [PeerLeft(HOME)]


def test_stop_during_a_start_resets_the_module_at_once() -> None:
    module = ScriptedModule(SE, deaf_to={"SKSCAN"})
    wire = line(module)
    wire.start()
    wire.driver.stop(wire.now)
    wire.settle()
    assert wire.driver.phase is Phase.STOPPED
    assert module.heard[-1] == "SKRESET"


NEW = LinkCredentials("FF112233445566778899AABBCCDDEEFF", Secret("NEWPASSWORD1"))


def test_new_credentials_end_the_session_and_start_over() -> None:
    wire = joined()
    wire.module.heard.clear()
    wire.driver.set_credentials(NEW, wire.now)
    wire.settle()
    left, started = wire.told()
    assert left == PeerLeft(HOME)
    assert isinstance(started, LinkStarted)
    assert wire.module.heard[0] == "SKTERM"
    assert "SKSETPWD C NEWPASSWORD1" in wire.module.heard


def test_a_session_is_ended_whose_event_is_still_on_the_line() -> None:
    wire = line(ScriptedModule(SE))
    wire.start()
    wire.module.heard.clear()
    wire.driver.set_credentials(NEW, wire.now)
    wire.settle()
    assert wire.module.heard[0] == "SKTERM"
    assert wire.driver.phase is Phase.SERVING


def test_new_credentials_during_a_scan_wait_for_its_end() -> None:
    module = ScriptedModule(SE, deaf_to={"SKSCAN"})
    wire = line(module)
    wire.start()
    wire.driver.set_credentials(NEW, wire.now)
    wire.settle()
    assert module.heard[-1].startswith("SKSCAN 0")
    assert module.heard.count("SKINFO") == 1
    module.deaf_to.clear()
    wire.hear(module.encode(EnergyReport(((0x21, 0),))) + b"OK\r\n" + module.event(0x1F, OWN))
    assert wire.driver.phase is Phase.SERVING
    assert f"SKSETPWD C {PASSWORD}" in module.heard[:10]
    assert "SKSETPWD C NEWPASSWORD1" in module.heard[10:]
    assert sum(isinstance(event, LinkStarted) for event in wire.told()) == 1


def test_a_start_while_stopping_comes_after_the_stop() -> None:
    wire = joined()
    wire.module.silent = True
    wire.driver.stop(wire.now)
    wire.settle()
    wire.module.silent = False
    wire.driver.start(NEW, wire.now)
    wire.wait(40.0)
    assert wire.driver.phase is Phase.SERVING
    assert "SKSETPWD C NEWPASSWORD1" in wire.module.heard


def test_credentials_appear_in_no_event_and_no_repr() -> None:
    module = ScriptedModule(SE, refuses={"SKSETPWD": 6})
    wire = line(module)
    wire.start()
    wire.wait(300.0)
    assert module.heard.count(f"SKSETPWD C {PASSWORD}") > 2
    assert PASSWORD not in repr(wire.told())
    assert PASSWORD not in repr(wire.driver._dialogue._ask)
