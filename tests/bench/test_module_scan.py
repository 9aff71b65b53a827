"""SKSCAN from both ends: who answers, what is printed, how long it takes."""

import pytest
from module_room import HEMS_IP, METER_MAC, OTHER_MAC, PASSWORD, Room, send_line

from meter_runtime.bench.air import REAL

OTHER_ID = "F" * 32


@pytest.mark.parametrize(("option", "tail", "side"), [("bp35a1", "", ""), ("bp35c2", " 0", " 0")])
def test_a_paired_scan_prints_each_beacon_in_one_write_and_the_end_apart(
    option: str, tail: str, side: str
) -> None:
    room = Room()
    room.meter()
    hems = room.hems(f"{option}:echo=0")
    hems.writes()
    hems.write(f"SKSCAN 2 FFFFFFFF 6{side}\r\n")
    side_line = "  Side:0\r\n" if tail else ""
    assert hems.writes() == [
        b"OK\r\n",
        (
            f"EVENT 20 {HEMS_IP}{tail}\r\nEPANDESC\r\n  Channel:21\r\n  Channel Page:09\r\n"
            f"  Pan ID:B5FB\r\n  Addr:C0F945004058B5FB\r\n  LQI:A1\r\n{side_line}"
            "  PairID:89ABCDEF\r\n"
        ).encode(),
        f"EVENT 22 {HEMS_IP}{tail}\r\n".encode(),
    ]


def test_an_open_scan_finds_every_meter_without_its_pairing_id() -> None:
    room = Room()
    room.meter()
    answer = room.hems(route_b_id=OTHER_ID).ask("SKSCAN 3 FFFFFFFF 6")
    assert answer.count("EPANDESC") == 1
    assert "PairID" not in answer


def test_a_wrong_id_finds_nothing() -> None:
    room = Room()
    room.meter()
    hems = room.hems(route_b_id=OTHER_ID)
    assert hems.ask("SKSCAN 2 FFFFFFFF 6") == f"OK\r\nEVENT 22 {HEMS_IP}\r\n"


def test_register_s15_decides_whether_beacons_are_answered() -> None:
    room = Room()
    meter, hems = room.meter(), room.hems()
    assert meter.ask("SKSREG S15") == "ESREG 1\r\nOK\r\n"
    meter.ask("SKSREG S15 0")
    assert "EPANDESC" not in hems.ask("SKSCAN 2 FFFFFFFF 6")
    meter.ask("SKSREG S15 1")
    assert "EPANDESC" in hems.ask("SKSCAN 2 FFFFFFFF 6")


def test_only_channels_of_the_mask_are_visited() -> None:
    room = Room()
    meter, hems = room.meter(), room.hems()
    meter.ask("SKSREG S2 3C")
    assert "EPANDESC" not in hems.ask("SKSCAN 2 07FFFFFF 6")
    assert "  Channel:3C\r\n" in hems.ask("SKSCAN 2 08000000 6")
    assert hems.ask("SKSCAN 2 0 6") == f"OK\r\nEVENT 22 {HEMS_IP}\r\n"


def test_a_meter_out_of_reach_is_not_found() -> None:
    room = Room()
    room.meter()
    hems = room.hems()
    room.air.set_link(METER_MAC, hems.module.mac, 0)
    assert "EPANDESC" not in hems.ask("SKSCAN 2 FFFFFFFF 6")


def test_an_energy_scan_lists_every_channel_after_event_1f() -> None:
    room = Room()
    hems = room.hems()
    hems.write("SKSCAN 0 FFFFFFFF 4\r\n")
    ok, report = hems.writes()
    assert ok == b"OK\r\n"
    event, head, levels = report.decode().split("\r\n")[:-1]
    assert event == f"EVENT 1F {HEMS_IP}"
    assert head == "EEDSCAN"
    assert levels.split()[::2] == [f"{channel:02X}" for channel in range(0x21, 0x3D)]


def test_two_meters_answer_one_scan() -> None:
    room = Room()
    room.meter()
    other = room.hems(mac=OTHER_MAC)
    other.ask("SKSREG S15 1")
    other.ask("SKSREG S2 23")
    answer = room.plug("bp35a1:echo=0").ask("SKSCAN 3 FFFFFFFF 6")
    assert [line for line in answer.split("\r\n") if "Channel:" in line] == [
        "  Channel:21",
        "  Channel:23",
    ]


def test_a_true_scan_dwells_17_5_seconds_at_duration_6() -> None:
    room = Room(REAL)
    room.meter()
    hems = room.hems()
    hems.writes()
    hems.write("SKSCAN 2 FFFFFFFF 6\r\n")
    assert hems.read() == "OK\r\n"
    room.clock.advance(0.5)
    assert "EPANDESC" in hems.read()
    room.clock.advance(16.9)
    assert hems.read() == ""
    room.clock.advance(0.2)
    assert hems.read() == f"EVENT 22 {HEMS_IP}\r\n"


def test_radio_commands_wait_for_the_end_of_a_scan_by_er10() -> None:
    room = Room(REAL)
    hems = room.hems()
    hems.ask("SKSCAN 2 FFFFFFFF 6")
    for line in ("SKSCAN 2 FFFFFFFF 6", "SKJOIN " + HEMS_IP, "SKPING " + HEMS_IP, "SKSTART"):
        assert hems.ask(line) == "FAIL ER10\r\n"
    assert hems.ask("SKVER") == "EVER 1.2.10\r\nOK\r\n"


def test_nothing_comes_between_a_scans_lines() -> None:
    room = Room(REAL)
    meter, hems = room.joined()
    hems.ask("SKREJOIN")
    room.clock.advance(20)
    meter.ask("SKSREG S16 3C")
    hems.ask("SKREJOIN")
    room.clock.advance(20)
    hems.read()
    # The session of 60 s expires in the middle of a scan of 69 s.
    hems.ask("SKSREG S17 0")
    hems.write("SKSCAN 3 FFFFFFFF 8\r\n")
    room.clock.advance(80)
    lines = [line[:8] for line in hems.lines() if not line.startswith("  ")]
    assert lines == ["OK", "EVENT 20", "EPANDESC", "EVENT 22", "EVENT 29"]


def test_the_send_limit_reached_by_a_scan_is_told_after_it() -> None:
    room = Room()
    hems = room.hems()
    hems.module.send_time.add(359.99, room.clock.now)
    hems.write("SKSCAN 3 FFFFFFFF 6\r\n")
    assert hems.lines() == ["OK", f"EVENT 22 {HEMS_IP}", f"EVENT 32 {HEMS_IP}"]


def test_a_scanning_module_takes_no_datagrams_even_on_its_own_channel() -> None:
    room = Room(REAL)
    meter, hems = room.joined()
    hems.write("SKSCAN 3 1 8\r\n")
    meter.write(send_line("SE", HEMS_IP, b"x"))
    room.clock.advance(1)
    assert meter.read() == f"EVENT 21 {HEMS_IP} 01\r\nOK\r\n"
    room.clock.advance(5)
    assert "ERXUDP" not in hems.read()


def test_a_reset_ends_a_scan() -> None:
    room = Room(REAL)
    hems = room.hems()
    hems.ask("SKSCAN 2 FFFFFFFF 6")
    assert hems.ask("SKRESET") == "OK\r\n"
    room.clock.advance(60)
    assert hems.read() == ""
    assert hems.ask(f"SKSETPWD C {PASSWORD}") == "OK\r\n"
