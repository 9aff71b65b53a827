"""Two whole conversations, byte for byte: a meter coming up, and a HEMS reading it."""

from module_room import ALL_NODES, HEMS_IP, METER_IP, METER_MAC, PASSWORD, ROUTE_B_ID, Host, Room

REQUEST = bytes.fromhex("1081000105FF010288016201E700")
RESPONSE = bytes.fromhex("1081000102880105FF017201E704000001F8")
ANNOUNCEMENT = bytes.fromhex("108100000EF0010EF0017301D50401028801")
BEACON = (
    f"EVENT 20 {HEMS_IP}\r\nEPANDESC\r\n  Channel:21\r\n  Channel Page:09\r\n"
    "  Pan ID:B5FB\r\n  Addr:C0F945004058B5FB\r\n  LQI:A1\r\n  PairID:89ABCDEF\r\n"
)
ANNOUNCED = (
    f"ERXUDP {METER_IP} {ALL_NODES} 0E1A 0E1A C0F945004058B5FB 1 0012 "
    f"{ANNOUNCEMENT.hex().upper()}\r\n"
)
NOISE = " ".join(f"{channel:02X} 05" for channel in range(0x21, 0x3D))


def play(host: Host, lines: list[tuple[str | bytes, list[str]]]) -> None:
    for line, expected in lines:
        host.write(line)
        assert [write.decode("latin-1") for write in host.writes()] == expected, line


def test_a_meter_comes_up() -> None:
    room = Room(noise=dict.fromkeys(range(0x21, 0x3D), 5))
    meter = room.plug("bp35c2:wopt=1", METER_MAC)
    play(
        meter,
        [
            ("SKRESET\r\n", ["SKRESET\r\nOK\r\n"]),
            ("SKSREG SFE 0\r\n", ["SKSREG SFE 0\r\nOK\r\n"]),
            ("SKINFO\r\n", [f"EINFO {METER_IP} C0F945004058B5FB 21 FFFF 0\r\nOK\r\n"]),
            ("SKVER\r\n", ["EVER 1.5.2\r\nOK\r\n"]),
            ("ROPT\r", ["OK 01\r"]),
            ("SKSREG SF0 0\r\n", ["OK\r\n"]),
            (f"SKSETPWD C {PASSWORD}\r\n", ["OK\r\n"]),
            (f"SKSETRBID {ROUTE_B_ID}\r\n", ["OK\r\n"]),
            (
                "SKSCAN 0 FFFFFFFF 4 0\r\n",
                ["OK\r\n", f"EVENT 1F {METER_IP} 0\r\nEEDSCAN\r\n{NOISE}\r\n"],
            ),
            ("SKSREG S2 21\r\n", ["OK\r\n"]),
            ("SKSCAN 3 FFFFFFFF 6 0\r\n", ["OK\r\n", f"EVENT 22 {METER_IP} 0\r\n"]),
            ("SKSREG S3 B5FB\r\n", ["OK\r\n"]),
            ("SKSREG S16 15180\r\n", ["OK\r\n"]),
            ("SKSTART\r\n", ["OK\r\n"]),
            ("SKSREG S15\r\n", ["ESREG 1\r\nOK\r\n"]),
            ("SKINFO\r\n", [f"EINFO {METER_IP} C0F945004058B5FB 21 B5FB 0\r\nOK\r\n"]),
        ],
    )


def test_a_hems_finds_joins_and_reads_the_meter() -> None:
    room = Room()
    meter = room.meter()
    hems = room.plug("bp35a1:wopt=0")
    play(
        hems,
        [
            ("SKRESET\r\n", ["SKRESET\r\nOK\r\n"]),
            ("SKSREG SFE 0\r\n", ["SKSREG SFE 0\r\nOK\r\n"]),
            ("WOPT 01\r", ["OK\r"]),
            (f"SKSETPWD C {PASSWORD}\r\n", ["OK\r\n"]),
            (f"SKSETRBID {ROUTE_B_ID}\r\n", ["OK\r\n"]),
            (
                "SKSCAN 2 FFFFFFFF 6\r\n",
                [
                    "OK\r\n",
                    BEACON,
                    f"EVENT 22 {HEMS_IP}\r\n",
                ],
            ),
            ("SKSREG S2 21\r\n", ["OK\r\n"]),
            ("SKSREG S3 B5FB\r\n", ["OK\r\n"]),
            ("SKLL64 C0F945004058B5FB\r\n", [f"{METER_IP}\r\n"]),
        ],
    )
    hems.write(f"SKJOIN {METER_IP}\r\n")
    assert hems.writes()[-1].decode() == f"EVENT 25 {METER_IP}\r\n"
    meter.read()
    meter.write(f"SKSENDTO 1 {ALL_NODES} 0E1A 1 0012 ".encode() + ANNOUNCEMENT)
    assert meter.read() == f"EVENT 21 {ALL_NODES} 00\r\nOK\r\n"
    play(
        hems,
        [
            (
                b"",
                [ANNOUNCED],
            ),
            (
                f"SKSENDTO 1 {METER_IP} 0E1A 1 000E ".encode() + REQUEST,
                [f"EVENT 21 {METER_IP} 00\r\nOK\r\n"],
            ),
        ],
    )
    assert meter.read() == (
        f"ERXUDP {HEMS_IP} {METER_IP} 0E1A 0E1A 001D129012345678 1 000E {REQUEST.hex().upper()}\r\n"
    )
    meter.write(f"SKSENDTO 1 {HEMS_IP} 0E1A 1 0012 ".encode() + RESPONSE)
    assert meter.read() == f"EVENT 21 {HEMS_IP} 00\r\nOK\r\n"
    assert hems.read() == (
        f"ERXUDP {METER_IP} {HEMS_IP} 0E1A 0E1A C0F945004058B5FB 1 0012 "
        f"{RESPONSE.hex().upper()}\r\n"
    )
