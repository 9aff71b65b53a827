"""Datagrams: security, multicast, addresses, formats of ERXUDP, the send-time limit."""

import pytest
from module_room import ALL_NODES, HEMS_IP, METER_IP, METER_MAC, OTHER_MAC, Room, send_line

from meter_runtime.bench.module.sending import SendTime
from meter_runtime.comm.contracts import MAX_PAYLOAD

DATA = b"\x10\x81\x00\x01\x05\xff\x01\r\n \x00"


@pytest.mark.parametrize("size", [1, 185, 186, MAX_PAYLOAD])
def test_payloads_of_every_size_arrive(size: int) -> None:
    room = Room()
    meter, hems = room.joined()
    data = bytes(index % 256 for index in range(size))
    hems.write(send_line("SE", METER_IP, data))
    assert meter.read() == (
        f"ERXUDP {HEMS_IP} {METER_IP} 0E1A 0E1A 001D129012345678 1 {size:04X} "
        f"{data.hex().upper()}\r\n"
    )


@pytest.mark.parametrize(
    ("option", "fields"),
    [
        ("bp35a1:echo=0,wopt=1", "C0F945004058B5FB 1 000B "),
        ("bp35c2:echo=0,wopt=1", "C0F945004058B5FB 1 0 000B "),
    ],
)
def test_received_payloads_are_hex_or_raw_as_wopt_says(option: str, fields: str) -> None:
    room = Room()
    meter, hems = room.joined(option)
    head = f"ERXUDP {METER_IP} {HEMS_IP} 0E1A 0E1A {fields}".encode()
    meter.write(send_line("SE", HEMS_IP, DATA))
    assert hems.writes() == [head + DATA.hex().upper().encode() + b"\r\n"]
    hems.ask("WOPT 00")
    meter.write(send_line("SE", HEMS_IP, DATA))
    assert hems.writes() == [head + DATA + b"\r\n"]


def test_rssi_is_printed_by_the_dual_stack_when_asked_for() -> None:
    room = Room()
    meter, hems = room.joined("bp35c2:echo=0,wopt=1")
    hems.ask("SKSREG SA2 1")
    room.air.set_link(METER_MAC, hems.module.mac, 0xDD)
    meter.write(send_line("SE", HEMS_IP, b"\x01"))
    assert " C0F945004058B5FB DD 1 0 0001 01\r\n" in hems.read()


def test_rssi_is_never_printed_by_the_single_stack() -> None:
    room = Room()
    meter, hems = room.joined()
    hems.ask("SKSREG SA2 1")
    meter.write(send_line("SE", HEMS_IP, b"\x01"))
    assert " C0F945004058B5FB 1 0001 01\r\n" in hems.read()


def test_each_received_datagram_is_a_write_of_its_own() -> None:
    room = Room()
    meter, hems = room.joined()
    for number in range(3):
        hems.write(send_line("SE", METER_IP, bytes((number,))))
    assert len(meter.writes()) == 3


def test_a_multicast_reaches_every_station_of_the_pan_that_can_read_it() -> None:
    room = Room()
    meter, hems = room.joined()
    stranger = room.hems(mac=OTHER_MAC)
    stranger.read()
    meter.write(send_line("SE", ALL_NODES, b"\x01"))
    assert meter.read() == f"EVENT 21 {ALL_NODES} 00\r\nOK\r\n"
    assert f"ERXUDP {METER_IP} {ALL_NODES} 0E1A 0E1A C0F945004058B5FB 1 " in hems.read()
    assert stranger.read() == ""
    meter.write(send_line("SE", ALL_NODES, b"\x01", security=0))
    assert "C0F945004058B5FB 0 0001" in hems.read()
    assert "C0F945004058B5FB 0 0001" in stranger.read()


def test_security_1_sends_nothing_without_a_session() -> None:
    room = Room()
    room.meter()
    hems = room.hems()
    hems.write(send_line("SE", METER_IP, b"x", security=1))
    assert hems.read() == f"EVENT 21 {METER_IP} 01\r\nOK\r\n"
    assert room.datagrams() == []


@pytest.mark.parametrize("security", [0, 2])
def test_plaintext_arrives_unsecured_after_address_resolution(security: int) -> None:
    room = Room()
    meter, hems = room.meter(), room.hems()
    hems.read(), meter.read()
    hems.write(send_line("SE", METER_IP, b"x", security=security))
    assert hems.writes() == [
        f"EVENT 21 {METER_IP} 02\r\n".encode(),
        f"EVENT 02 {METER_IP}\r\n".encode(),
        f"EVENT 21 {METER_IP} 00\r\nOK\r\n".encode(),
    ]
    assert meter.lines() == [
        f"EVENT 01 {HEMS_IP}",
        f"ERXUDP {HEMS_IP} {METER_IP} 0E1A 0E1A 001D129012345678 0 0001 78",
    ]


def test_an_unknown_neighbor_fails_the_datagram() -> None:
    room = Room()
    hems = room.hems("bp35a1:echo=1")
    hems.read()
    line = send_line("SE", METER_IP, b"x", security=0)
    hems.write(line)
    room.clock.advance(5)
    assert hems.writes() == [
        line[:-1] + f"\r\nEVENT 21 {METER_IP} 02\r\n".encode(),
        f"EVENT 21 {METER_IP} 01\r\nOK\r\n".encode(),
    ]


def test_an_address_off_the_link_fails_at_once() -> None:
    room = Room()
    hems = room.hems()
    far = "2001:0DB8:0000:0000:0000:0000:0000:0001"
    hems.write(send_line("SE", far, b"x", security=0))
    assert hems.read() == f"EVENT 21 {far} 01\r\nOK\r\n"


def test_a_peer_that_went_away_is_reported() -> None:
    room = Room()
    meter, hems = room.joined()
    room.air.detach(meter.module)
    hems.write(send_line("SE", METER_IP, b"x"))
    assert hems.read() == f"EVENT 21 {METER_IP} 01\r\nOK\r\n"


def test_another_channel_or_pan_hears_nothing() -> None:
    for line in ("SKSREG S2 23", "SKSREG S3 1234"):
        room = Room()
        meter, hems = room.joined()
        meter.ask(line)
        hems.write(send_line("SE", METER_IP, b"x"))
        assert hems.read() == f"EVENT 21 {METER_IP} 01\r\nOK\r\n"
        assert meter.read() == ""


def test_a_session_that_one_end_lost_is_unreadable_to_it() -> None:
    room = Room()
    meter, hems = room.joined()
    meter.ask("SKRESET")
    for line in ("SKSREG S2 21", "SKSREG S3 B5FB"):
        meter.ask(line)
    hems.write(send_line("SE", METER_IP, b"x"))
    assert hems.read() == f"EVENT 21 {METER_IP} 00\r\nOK\r\n"
    assert meter.read() == ""


def test_only_open_ports_are_printed() -> None:
    room = Room()
    meter, hems = room.joined()
    meter.ask("SKUDPPORT 1 0")
    hems.write(send_line("SE", METER_IP, b"x"))
    assert meter.read() == ""
    meter.ask("SKUDPPORT 4 0E1A")
    hems.write(send_line("SE", METER_IP, b"x"))
    assert "ERXUDP" in meter.read()


def test_the_frame_counter_counts_secured_frames() -> None:
    room = Room()
    _, hems = room.joined()
    before = int(hems.ask("SKSREG S07").split()[1], 16)
    for _ in range(3):
        hems.write(send_line("SE", METER_IP, b"x"))
    assert int(hems.ask("SKSREG S07").split()[1], 16) == before + 3


def test_the_legal_send_time_stops_sending_until_it_is_over() -> None:
    room = Room()
    _, hems = room.joined()
    hems.ask("SKSREG S17 0")
    line = send_line("SE", METER_IP, bytes(MAX_PAYLOAD))
    answers = ""
    for _ in range(5000):
        hems.write(line)
        answers = hems.read()
        if "EVENT 32" in answers:
            break
    own = "FE80:0000:0000:0000:021D:1290:1234:5678"
    assert f"EVENT 32 {own}\r\n" in answers
    assert hems.ask("SKSREG SFB") == "ESREG 1\r\nOK\r\n"
    sent_ms = int(hems.ask("SKSREG SFD").split()[1], 16)
    assert sent_ms == pytest.approx(360_000, rel=0.01)
    hems.write(line)
    assert hems.read() == f"EVENT 21 {METER_IP} 01\r\nOK\r\n"
    assert hems.ask("SKSREG SFD 0") == "OK\r\n"
    assert hems.ask("SKSREG SFD") == "ESREG 0000000000000000\r\nOK\r\n"
    room.clock.advance(3700)
    assert f"EVENT 33 {own}\r\n" in hems.read()
    assert hems.ask("SKSREG SFB") == "ESREG 0\r\nOK\r\n"
    assert "EVENT 25" in hems.ask(f"SKJOIN {METER_IP}")


def test_the_send_time_account_slides_and_stays_small() -> None:
    account = SendTime()
    for minute in range(100_000):
        assert not account.add(5.9, minute * 60.0)
    assert account.total_ms == 100_000 * 5900
    assert account.add(10.0, 100_000 * 60.0)
    assert account.deadline is not None
    assert account.tick(account.deadline)
