"""Every command of the table: its answer, and its refusals."""

import pytest
from module_room import HEMS_IP, HEMS_MAC, METER_IP, OTHER_MAC, Host, Room, send_line

from meter_runtime.bench.module.commands import COMMANDS
from meter_runtime.bench.module.profiles import PROFILES

KEY = "00112233445566778899AABBCCDDEEFF"


def host(option: str = "bp35a1:echo=0") -> Host:
    return Room().plug(option, HEMS_MAC)


def test_the_table_holds_the_whole_command_set() -> None:
    names = (
        "SKSREG SKINFO SKSTART SKJOIN SKREJOIN SKTERM SKSENDTO SKPING SKSCAN SKREGDEV SKRMDEV "
        "SKSETKEY SKRMKEY SKSECENABLE SKSETPSK SKSETPWD SKSETRBID SKADDNBR SKUDPPORT SKSAVE "
        "SKLOAD SKERASE SKVER SKAPPVER SKRESET SKTABLE SKDSLEEP SKRFLO SKLL64 WOPT ROPT WUART "
        "RUART"
    )
    assert " ".join(COMMANDS) == names


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("SKVER", "EVER 1.2.10\r\nOK\r\n"),
        ("skver", "EVER 1.2.10\r\nOK\r\n"),
        ("SKAPPVER", "EAPPVER rev26e\r\nOK\r\n"),
        ("SKINFO", f"EINFO {HEMS_IP} 001D129012345678 21 FFFF FFFE\r\nOK\r\n"),
        ("SKLL64 C0F945004058B5FB", f"{METER_IP}\r\n"),
        ("SKLL64 c0f945004058b5fb", f"{METER_IP}\r\n"),
        ("SKTABLE 1", f"EADDR\r\n{HEMS_IP}\r\nOK\r\n"),
        ("SKTABLE 2", "ENEIGHBOR\r\nOK\r\n"),
        (
            "SKTABLE e",
            "EPORT\r\n3610\r\n716\r\n0\r\n0\r\n0\r\n0\r\n\r\n3610\r\n0\r\n0\r\n0\r\nOK\r\n",
        ),
        ("SKRFLO 1", "OK\r\n"),
        ("SKRESET", "OK\r\n"),
        ("SKSAVE", "OK\r\n"),
        ("SKERASE", "OK\r\n"),
        ("SKUDPPORT 3 0E1B", "OK\r\n"),
        (f"SKADDNBR {METER_IP} C0F945004058B5FB", "OK\r\n"),
        (f"SKSETPSK 10 {KEY}", "OK\r\n"),
        (f"SKSETKEY 1 {KEY}", "OK\r\n"),
        (f"SKREGDEV {METER_IP}", "OK\r\n"),
        (f"SKSECENABLE 1 {METER_IP} C0F945004058B5FB", "OK\r\n"),
        ("SKSETPWD C ABCDEFGHIJKL", "OK\r\n"),
        (f"SKSETRBID {KEY}", "OK\r\n"),
    ],
)
def test_a_command_answers_byte_exactly(line: str, answer: str) -> None:
    assert host().ask(line) == answer


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("SKVER", "EVER 1.5.2\r\nOK\r\n"),
        ("SKINFO", f"EINFO {HEMS_IP} 001D129012345678 21 FFFF 0\r\nOK\r\n"),
        ("SKTABLE E", "EPORT\r\n3610\r\n716\r\n0\r\n0\r\n0\r\n0\r\nOK\r\n"),
    ],
)
def test_the_dual_stack_answers_byte_exactly(line: str, answer: str) -> None:
    assert host("rs-wsuha-p:echo=0").ask(line) == answer


@pytest.mark.parametrize("line", ["SKFOO", "HELLO WORLD", "SK", "sksendt", "\x00\xff", "OK"])
def test_an_unknown_command_is_er04(line: str) -> None:
    assert host().ask(line) == "FAIL ER04\r\n"


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"SKSENDTO"}))
def test_too_many_arguments_are_er05(profile: str, name: str) -> None:
    answer = host(f"{profile}:echo=0").ask(name + " 1" * 9)
    unsupported = name in ("ROPT", "WOPT", "RUART", "WUART", "SKAPPVER")
    code = "04" if profile == "rl7023-ips" and unsupported else "05"
    end = "\r" if name in ("ROPT", "WOPT", "RUART", "WUART") and code == "05" else "\r\n"
    assert answer == f"FAIL ER{code}{end}"


@pytest.mark.parametrize(
    "name",
    [
        "SKJOIN",
        "SKSENDTO",
        "SKPING",
        "SKSCAN",
        "SKREGDEV",
        "SKSETKEY",
        "SKSECENABLE",
        "SKSETPWD",
        "SKSETRBID",
        "SKTABLE",
        "SKLL64",
        "SKRFLO",
    ],
)
def test_too_few_arguments_are_er05(name: str) -> None:
    assert host().ask(name) == "FAIL ER05\r\n"


@pytest.mark.parametrize(
    "line",
    [
        "SKSETPWD D ABCDEFGHIJKL",
        "SKSETPWD 0 ",
        "SKSETPWD X ABCDEFGHIJKL",
        "SKSETRBID 0123",
        f"SKSETPSK 20 {KEY}",
        "SKSETPSK 10 0011",
        "SKSETKEY 1 00",
        "SKLL64 C0F945004058B5",
        "SKJOIN FE80::1",
        f"SKJOIN {METER_IP}0",
        "SKREGDEV nobody",
        f"SKADDNBR {METER_IP} 00",
        "SKUDPPORT 0 0E1A",
        "SKUDPPORT 7 0E1A",
        "SKUDPPORT 3 10000",
        "SKTABLE 9",
        "SKSCAN 1 FFFFFFFF 6",
        "SKSCAN 2 1FFFFFFFF 6",
        "SKSCAN 2 FFFFFFFF F",
        "SKSCAN 2 FFFFFFFF 6x",
        "SKRFLO 2",
        f"SKSENDTO 1 {METER_IP} 0E1A 1 04D1",
        f"SKSENDTO 1 {METER_IP} 0E1A 1 0000",
    ],
)
def test_a_wrong_format_or_range_is_refused(line: str) -> None:
    expected = "FAIL ER05\r\n" if line.endswith(" ") else "FAIL ER06\r\n"
    assert host().ask(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "SKREJOIN",
        "SKTERM",
        "SKLOAD",
        "SKSTART",
        f"SKJOIN {METER_IP}",
        "SKRMKEY 1",
        f"SKRMDEV {METER_IP}",
    ],
)
def test_what_cannot_be_done_now_is_er10(line: str) -> None:
    assert host().ask(line) == "FAIL ER10\r\n"


def test_keys_and_devices_can_be_removed_once() -> None:
    module = host()
    module.ask(f"SKSETKEY 1 {KEY}")
    module.ask(f"SKREGDEV {METER_IP}")
    assert module.ask("SKRMKEY 1") == "OK\r\n"
    assert module.ask("SKRMKEY 1") == "FAIL ER10\r\n"
    assert module.ask(f"SKRMDEV {METER_IP}") == "OK\r\n"
    assert module.ask(f"SKRMDEV {METER_IP}") == "FAIL ER10\r\n"


def test_scans_take_the_sides_argument_only_on_the_dual_stack() -> None:
    assert host().ask("SKSCAN 2 FFFFFFFF 6 0") == "FAIL ER05\r\n"
    assert host("bp35c2:echo=0").ask("SKSCAN 2 FFFFFFFF 6") == "FAIL ER05\r\n"
    assert host("rl7023-ips:echo=0,scan=4").ask("SKSCAN 2 FFFFFFFF 6 0").startswith("OK\r\n")


def test_the_home_side_of_a_dual_stack_cannot_be_executed() -> None:
    assert host("bp35c2:echo=0").ask("SKSCAN 2 FFFFFFFF 6 1") == "FAIL ER10\r\n"
    assert host("bp35c2:echo=0").ask("SKSCAN 2 FFFFFFFF 6 2") == "FAIL ER06\r\n"


def test_sending_from_an_unused_handle_is_er10() -> None:
    module = host()
    module.write(send_line("SE", METER_IP, b"x", handle=3))
    assert module.read() == "FAIL ER10\r\n"
    module.ask("SKUDPPORT 3 0E1B")
    module.write(send_line("SE", METER_IP, b"x", handle=3, security=0))
    assert module.read() != "FAIL ER10\r\n"


def test_option_commands_begin_and_end_in_a_lone_cr() -> None:
    module = host("bp35a1:echo=1,wopt=0")
    for line, answer in [
        (b"ROPT\r", b"ROPT\rOK 00\r"),
        (b"WOPT 01\r", b"WOPT 01\rOK\r"),
        (b"ROPT\r", b"ROPT\rOK 01\r"),
        (b"ROPT\r\n", b"ROPT\rOK 01\r"),
        (b"RUART\r", b"RUART\rOK 00\r"),
        (b"WUART 12\r", b"WUART 12\rOK\r"),
        (b"RUART\r", b"RUART\rOK 12\r"),
        (b"WOPT 100\r", b"WOPT 100\rFAIL ER06\r"),
        (b"WOPT\r", b"WOPT\rFAIL ER05\r"),
    ]:
        module.write(line)
        assert module.writes() == [answer]


def test_option_bytes_survive_a_reset() -> None:
    module = host("bp35a1:echo=0,wopt=0")
    module.ask("WOPT 01")
    module.ask("WUART 05")
    module.ask("SKRESET")
    assert module.ask("ROPT") == "OK 01\r"
    assert module.ask("RUART") == "OK 05\r"


@pytest.mark.parametrize("line", ["ROPT", "WOPT 01", "SKAPPVER"])
def test_older_firmware_does_not_know_the_option_commands(line: str) -> None:
    assert host("rl7023-ips:echo=0").ask(line) == "FAIL ER04\r\n"


def test_the_neighbor_cache_shows_and_forgets() -> None:
    module = host()
    module.ask(f"SKADDNBR {METER_IP.lower()} C0F945004058B5FB")
    assert module.ask("SKTABLE 2") == f"ENEIGHBOR\r\n{METER_IP} C0F945004058B5FB FFFF\r\nOK\r\n"
    module.ask("SKRESET")
    assert module.ask("SKTABLE 2") == "ENEIGHBOR\r\nOK\r\n"


def test_the_neighbor_cache_is_bounded() -> None:
    module = host()
    for number in range(200):
        assert (
            module.ask(f"SKADDNBR FE80:0000:0000:0000:0000:0000:0000:{number:04X} {number:016X}")
            == "OK\r\n"
        )
    assert len(module.ask("SKTABLE 2").split("\r\n")) == 32 + 3


@pytest.mark.parametrize(("option", "eponge"), [("bp35a1", ""), ("bp35c2", " 0")])
def test_a_ping_comes_back(option: str, eponge: str) -> None:
    room = Room()
    meter, hems = room.meter(), room.hems(f"{option}:echo=0")
    line = f"SKPING {'0 ' if eponge else ''}{METER_IP}"
    assert hems.ask(line).endswith(f"EPONG {METER_IP}{eponge}\r\nOK\r\n")
    assert f"EVENT 05 {HEMS_IP}\r\n" in meter.read()


def test_a_ping_to_nobody_fails_in_time_and_the_next_command_goes_on() -> None:
    room = Room()
    hems = room.hems()
    hems.write(f"SKPING {METER_IP}\r\nSKVER\r\n")
    assert hems.read() == ""
    room.clock.advance(5)
    assert hems.read() == "FAIL ER10\r\nEVER 1.2.10\r\nOK\r\n"


def test_a_sleeping_module_is_deaf_until_its_host_writes() -> None:
    room = Room()
    meter = room.meter()
    assert meter.ask("SKDSLEEP") == "OK\r\n"
    other = room.hems(mac=OTHER_MAC)
    assert "EPANDESC" not in other.ask("SKSCAN 3 FFFFFFFF 6")
    assert meter.ask("") == ""
    assert meter.ask("X") == "EVENT C0\r\n"
    assert meter.ask("SKVER") == "EVER 1.2.10\r\nOK\r\n"
    assert "EPANDESC" in other.ask("SKSCAN 3 FFFFFFFF 6")


def test_manual_keys_secure_datagrams_without_a_session() -> None:
    room = Room()
    one, two = room.hems(), room.hems(mac=OTHER_MAC)
    two_ip = "FE80:0000:0000:0000:021D:1290:AAAA:AAAA"
    for module, peer, mac in ((one, two_ip, OTHER_MAC), (two, HEMS_IP, HEMS_MAC)):
        module.ask(f"SKSETKEY 1 {KEY}")
        module.ask(f"SKSECENABLE 1 {peer} {mac.hex()}")
    one.write(send_line("SE", two_ip, b"\x01"))
    assert one.read() == f"EVENT 21 {two_ip} 00\r\nOK\r\n"
    assert two.read().endswith("001D129012345678 1 0001 01\r\n")
    two.ask(f"SKSETKEY 2 {KEY[::-1]}")
    one.write(send_line("SE", two_ip, b"\x02"))
    assert two.read() == ""
