"""Modules on an air as it is: how long things take, what is lost, and what the law costs."""

import pytest
from module_room import ALL_NODES, HEMS_IP, HEMS_MAC, METER_IP, METER_MAC, OTHER_MAC, Host, Room
from module_room import send_line as line

from meter_runtime.bench.air import FAST, REAL, AirPace, Fate, UdpDatagram
from meter_runtime.bench.air.frames import BeaconRequest, NeighborSolicitation
from meter_runtime.bench.module.core import MAX_UNREAD

SEEDS = pytest.mark.parametrize("seed", range(6))


def seconds_until(room: Room, host: Host, text: str, at_most_s: float = 120.0) -> float:
    start, told = room.clock.now, host.read()
    while text not in told:
        room.clock.advance(0.005)
        told += host.read()
        assert room.clock.now - start < at_most_s, told
    return room.clock.now - start


@SEEDS
def test_a_true_scan_join_and_get_take_what_real_meters_take(seed: int) -> None:
    room = Room(REAL, seed)
    meter, hems = room.meter(), room.hems()
    hems.read(), meter.read()
    hems.write("SKSCAN 2 FFFFFFFF 6\r\n")
    assert seconds_until(room, hems, "EVENT 22") == pytest.approx(17.5, rel=0.05)
    hems.write(f"SKJOIN {METER_IP}\r\n")
    assert 3.0 <= seconds_until(room, hems, "EVENT 25") <= 10.0
    meter.read()
    for _ in range(5):
        hems.write(line("SE", METER_IP, b"\x10\x81 a request"))
        asked_s = seconds_until(room, meter, "ERXUDP")
        meter.write(line("SE", HEMS_IP, b"\x10\x81 an answer"))
        told_s = seconds_until(room, hems, "ERXUDP")
        # Each of four writes on the serial lines takes 10 ms more.
        assert 0.2 <= asked_s + told_s + 0.04 <= 1.3
        room.clock.advance(10)
        meter.read()


def test_only_what_is_for_the_meter_waits_for_it_and_only_on_the_true_air() -> None:
    room = Room(REAL)
    meter, hems = room.joined()
    meter.write(line("SE", HEMS_IP, b"x"))
    assert seconds_until(room, hems, "ERXUDP") < 0.1
    fast = Room(FAST)
    meter, hems = fast.joined()
    hems.write(line("SE", METER_IP, b"x"))
    assert "ERXUDP" in meter.read()


def test_requests_are_turned_to_in_their_order_and_not_without_end() -> None:
    room = Room(REAL)
    meter, _ = room.joined()
    hems = room.hems(mac=OTHER_MAC)
    hems.write(line("SE", METER_IP, b"first", security=0))
    room.clock.advance(2)
    meter.read()
    for number in range(2 * MAX_UNREAD):
        hems.write(line("SE", METER_IP, bytes((number,)), security=0))
        room.clock.advance(0.012)
    room.clock.advance(60)
    heard = [text.split()[-1] for text in meter.lines() if text.startswith("ERXUDP")]
    assert heard == sorted(heard)
    assert MAX_UNREAD <= len(heard) < 2 * MAX_UNREAD


def test_a_module_reset_forgets_what_it_has_not_turned_to() -> None:
    room = Room(REAL)
    meter, hems = room.joined()
    hems.write(line("SE", METER_IP, b"x"))
    room.clock.advance(0.1)
    meter.ask("SKRESET")
    room.clock.advance(10)
    assert "ERXUDP" not in meter.read()


@pytest.mark.parametrize("pace", [FAST, REAL], ids=["fast", "real"])
def test_event_21_01_says_that_the_mac_gave_up(pace: AirPace) -> None:
    room = Room(pace)
    _, hems = room.joined()
    room.air.set_attenuation(METER_MAC, HEMS_MAC, 60)
    before = int(hems.ask("SKSREG SFD").split()[1], 16)
    hems.write(line("SE", METER_IP, bytes(100)))
    room.clock.advance(1)
    assert hems.read() == f"EVENT 21 {METER_IP} 01\r\nOK\r\n"
    datagram = room.crossings[-1].frame
    sent_ms = int(hems.ask("SKSREG SFD").split()[1], 16) - before
    assert sent_ms == pytest.approx(4000 * datagram.airtime_s, abs=2)
    room.air.set_attenuation(METER_MAC, HEMS_MAC, 0)
    hems.write(line("SE", METER_IP, b"x"))
    room.clock.advance(1)
    assert f"EVENT 21 {METER_IP} 00\r\nOK\r\n" in hems.read()


def test_the_beacon_tells_how_well_the_meter_is_heard() -> None:
    room = Room()
    room.meter()
    hems = room.hems()
    room.air.set_attenuation(METER_MAC, HEMS_MAC, 20)
    assert "  LQI:58\r\n" in hems.ask("SKSCAN 2 FFFFFFFF 6")


def test_a_lost_neighbor_solicitation_is_repeated_before_the_datagram_fails() -> None:
    room = Room(REAL)
    room.meter()
    hems = room.hems()
    hems.read()
    left = [2]

    def impairment(frame: object, *_: object) -> Fate:
        left[0] -= 1
        return Fate(lost=left[0] >= 0)

    room.air.impairments.append(impairment)
    hems.write(line("SE", METER_IP, b"x", security=0))
    room.clock.advance(5)
    assert [text.split()[-1] for text in hems.lines()] == ["02", METER_IP, "00", "OK"]
    asked = [c for c in room.crossings if isinstance(c.frame.body, NeighborSolicitation)]
    assert [crossing.received for crossing in asked] == [False, False, True]


def test_a_module_at_its_legal_limit_says_nothing_at_all() -> None:
    room = Room()
    meter, hems = room.joined()
    meter.module.send_time.add(360.0, room.clock.now)
    meter.module.send_time.limited = True
    room.crossings.clear()
    assert "EPANDESC" not in room.plug("bp35a1:echo=0", OTHER_MAC).ask("SKSCAN 3 FFFFFFFF 6")
    hems.write(f"SKPING {METER_IP}\r\n")
    for address in (HEMS_IP, ALL_NODES):
        meter.write(line("SE", address, b"x"))
        assert meter.lines()[-2:] == [f"EVENT 21 {address} 01", "OK"]
    meter.ask("SKSCAN 3 FFFFFFFF 6")
    assert not [c for c in room.crossings if c.frame.source == METER_MAC]
    assert [c for c in room.crossings if isinstance(c.frame.body, BeaconRequest)]


def test_two_homes_on_one_channel_share_it() -> None:
    """Two meters and two HEMSs on channel 33, all talking at once: all are understood."""
    room = Room(REAL)
    meter, hems = room.meter(), room.hems()
    other_mac, guest_mac = bytes.fromhex("001D1290BBBBBBBB"), bytes.fromhex("001D1290CCCCCCCC")
    other_ip = "FE80:0000:0000:0000:021D:1290:BBBB:BBBB"
    other, guest = room.hems(mac=other_mac), room.hems(mac=guest_mac)
    for host in (other, guest):
        host.ask("SKSREG S3 1234")
    other.ask("SKSTART")
    hems.write(f"SKJOIN {METER_IP}\r\n")
    guest.write(f"SKJOIN {other_ip}\r\n")
    room.clock.advance(20)
    assert "EVENT 25" in hems.read()
    assert "EVENT 25" in guest.read()
    room.crossings.clear()
    for _ in range(20):
        hems.write(line("SE", METER_IP, bytes(400)))
        guest.write(line("SE", other_ip, bytes(400)))
        room.clock.advance(2)
    assert hems.read().count(f"EVENT 21 {METER_IP} 00") == 20
    assert guest.read().count(f"EVENT 21 {other_ip} 00") == 20
    assert meter.read().count(" 1 0190 ") == other.read().count(" 1 0190 ") == 20
    sent = [c for c in room.crossings if isinstance(c.frame.body, UdpDatagram)]
    assert len(sent) == 40
    # One PAN never hears the other's.
    assert all(crossing.received for crossing in sent)
