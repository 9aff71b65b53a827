"""Echo, grouping, pieces and noise on the UART."""

import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from module_room import HEMS_MAC, METER_IP, METER_MAC, Host, Room, send_line

from meter_runtime.bench.module.core import MAX_INPUTS
from meter_runtime.bench.module.uart import MAX_WRITES


def host(option: str = "bp35a1") -> Host:
    return Room().plug(option, HEMS_MAC)


def test_echo_and_answer_are_one_write() -> None:
    module = host()
    module.write("SKVER\r\n")
    assert module.writes() == [b"SKVER\r\nEVER 1.2.10\r\nOK\r\n"]


def test_the_echo_keeps_case_and_spacing_as_written() -> None:
    module = host()
    module.write("sksreg  s2 21\r\n")
    assert module.writes() == [b"sksreg  s2 21\r\nOK\r\n"]


def test_switching_echo_off_is_still_echoed() -> None:
    module = host()
    assert module.ask("SKSREG SFE 0") == "SKSREG SFE 0\r\nOK\r\n"
    assert module.ask("SKVER") == "EVER 1.2.10\r\nOK\r\n"
    assert module.ask("SKSREG SFE 1") == "OK\r\n"
    assert module.ask("SKVER") == "SKVER\r\nEVER 1.2.10\r\nOK\r\n"


@pytest.mark.parametrize("echo", [0, 1])
def test_reset_restores_the_echo_of_power_up(echo: int) -> None:
    module = host(f"bp35a1:echo={echo}")
    module.ask(f"SKSREG SFE {1 - echo}")
    module.ask("SKRESET")
    answer = module.ask("SKVER")
    assert answer.startswith("SKVER\r\n") == bool(echo)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_commands_end_in_cr_or_lf_or_both(end: str) -> None:
    module = host("bp35a1:echo=0")
    module.write(f"SKVER{end}SKVER{end}")
    assert module.read() == "EVER 1.2.10\r\nOK\r\n" * 2


@pytest.mark.parametrize(("echo", "answer"), [(1, "\r\n"), (0, "")])
def test_an_empty_line_is_a_blank_line_with_echo_and_nothing_without(
    echo: int, answer: str
) -> None:
    assert host(f"bp35a1:echo={echo}").ask("") == answer


def test_an_overlong_line_is_er09_and_the_next_command_works() -> None:
    module = host("bp35a1:echo=0")
    assert module.ask("A" * 5000) == "FAIL ER09\r\n"
    assert module.ask("SKVER") == "EVER 1.2.10\r\nOK\r\n"


def test_every_write_waits_the_configured_pace() -> None:
    module = host("bp35a1:pace=25ms")
    module.write("SKVER\r\n")
    assert [write.after_s for write in module.module.take_uart()] == [0.025]


@pytest.mark.parametrize(("option", "dialect"), [("bp35a1", "SE"), ("bp35c2", "DSE")])
def test_send_echoes_its_header_only(option: str, dialect: str) -> None:
    room = Room()
    _, hems = room.joined(f"{option}:echo=1,wopt=1")
    command = send_line(dialect, METER_IP, b"\x10\x81\r\n")
    hems.write(command + b"\r\n")
    side = " 0" if dialect == "DSE" else ""
    header = command[: -len(b"\x10\x81\r\n")]
    assert hems.writes() == [
        header + f"\r\nEVENT 21 {METER_IP}{side} 00\r\nOK\r\n".encode(),
        b"\r\n",
    ]


def test_without_echo_the_line_end_after_the_data_vanishes() -> None:
    room = Room()
    _, hems = room.joined()
    hems.write(send_line("SE", METER_IP, b"\x10\x81") + b"\r\n")
    assert hems.writes() == [f"EVENT 21 {METER_IP} 00\r\nOK\r\n".encode()]


@pytest.mark.parametrize(("option", "dialect"), [("bp35a1", "SE"), ("bp35c2", "DSE")])
def test_send_may_be_split_at_every_byte(option: str, dialect: str) -> None:
    room = Room()
    meter, hems = room.joined(f"{option}:echo=1,wopt=1")
    command = send_line(dialect, METER_IP, b"\r\n SKVER\r\n\x00\xff ") + b"\r\nSKVER\r\n"
    hems.write(command)
    whole, heard = hems.read(), meter.read()
    assert heard.count("ERXUDP") == 1
    for cut in range(1, len(command)):
        hems.write(command[:cut])
        room.clock.advance(0.2)
        hems.write(command[cut:])
        assert hems.read() == whole
        assert meter.read() == heard


SESSION = (
    b"SKVER\r\n\r\nSKINFO\r\nROPT\rWOPT 01\rSKSREG SFE 0\r\nSKFOO\nSKSREG S2 99\r\n"
    b"SKSREG SFE 1\r\nSKSCAN 2 FFFFFFFF 6\r\nSKTABLE E\r\nSKRESET\r\nSKDSLEEP\r\nX\r\nSKVER\r\n"
    + send_line("SE", METER_IP, b"abc\r\n", security=0)
    + b"\r\n"
)


def answers_to(pieces: list[bytes]) -> list[bytes]:
    room = Room()
    module = room.plug("bp35a1", HEMS_MAC)
    for piece in pieces:
        module.module.receive(piece, room.clock.now)
    room.air.settle()
    room.clock.advance(5)
    return module.writes()


def test_one_byte_at_a_time_is_the_same_as_whole() -> None:
    whole = answers_to([SESSION])
    assert len(whole) == 18
    assert answers_to([bytes((octet,)) for octet in SESSION]) == whole


@given(st.lists(st.integers(1, len(SESSION) - 1), max_size=20))
def test_any_pieces_are_the_same_as_whole(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(SESSION)]
    pieces = [SESSION[start:end] for start, end in itertools.pairwise(edges)]
    assert answers_to(pieces) == answers_to([SESSION])


def test_hosts_may_send_ahead_up_to_a_bound() -> None:
    room = Room()
    hems = room.hems()
    hems.write(f"SKPING {METER_IP}\r\n" + "SKVER\r\n" * (MAX_INPUTS + 5))
    assert hems.read() == ""
    room.clock.advance(5)
    answers = hems.read()
    assert answers.count("EVER") == MAX_INPUTS - 1
    assert answers.endswith("FAIL ER09\r\n")


def test_a_host_that_never_reads_costs_bounded_memory() -> None:
    module = host()
    module.write(b"SKVER\r\n" * (MAX_WRITES + 100))
    assert len(module.module.take_uart()) == MAX_WRITES
    assert module.module.uart.lost == 100


words = st.sampled_from(
    [
        b"SKSENDTO 1 ",
        METER_IP.encode() + b" ",
        b"0E1A ",
        b"1 ",
        b"0005 ",
        b"SKSCAN 2 FFFFFFFF 6",
        b"SKSREG S",
        b"SKRESET",
        b"SKSTART",
        b"SKTERM",
        b"SKDSLEEP",
        b"SKPING ",
        b"SKJOIN " + METER_IP.encode(),
        b"SKSETPWD C ABCDEFGHIJKL",
        b"SKSETRBID 0123456789ABCDEF0123456789ABCDEF",
        b"SKTABLE 2",
        b"WOPT 00\r",
        b"FFFF",
        b" ",
        b"\r\n",
    ]
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(words, st.binary(max_size=30)), max_size=60),
    st.sampled_from(["bp35a1", "bp35c2", "rl7023-ips"]),
)
def test_no_input_breaks_a_module(pieces: list[bytes], option: str) -> None:
    room = Room()
    room.meter()
    fuzzed = room.plug(option, HEMS_MAC)
    for piece in pieces:
        fuzzed.write(piece)
        room.clock.advance(0.1)
    room.clock.advance(2000)
    fuzzed.read()
    # Whatever it was in the middle of, enough line ends and one command bring it back.
    fuzzed.write(b"\r\n" * 700)
    room.clock.advance(100)
    fuzzed.ask("SKRESET")
    room.clock.advance(100)
    fuzzed.ask("SKRESET")
    assert "EVER" in fuzzed.ask("SKVER")


def test_noise_without_end_costs_bounded_memory() -> None:
    module = Room().plug("bp35a1", METER_MAC)
    noise = bytes(value for value in range(256) if value not in (0x0A, 0x0D)) * 64
    for _ in range(4):
        module.write(noise)
        module.read()
    tracemalloc.start()
    for _ in range(20):
        module.write(noise)
        module.read()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 100_000
