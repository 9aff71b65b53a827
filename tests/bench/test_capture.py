"""The capture: packets that other programs understand, whole at every instant, without secrets."""

import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from visitor import visit

from meter_runtime.bench.air import Crossing
from meter_runtime.bench.air.frames import Beacon, Frame, UdpDatagram
from meter_runtime.bench.capture import Capture, ipv6_udp
from meter_runtime.bench.happenings import Happening
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.errors import MeterError

MAC = bytes.fromhex("001D129012345678")
METER = "FE80:0000:0000:0000:C2F9:4500:4058:B5FB"
PACKET, STATISTICS = 6, 5
NO_TSHARK = "needs tshark: apt-get install -y tshark"

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason=NO_TSHARK)


def crossing(payload: bytes, *, received: bool = True) -> Crossing:
    body = UdpDatagram(METER, 3610, 3610, payload)
    frame = Frame(channel=33, pan_id=1, source=MAC, destination=MAC, body=body)
    return Crossing(at=0.0, frame=frame, received=received, lqi=161)


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each block; what stands around a body must agree."""
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        yield kind, data[at + 8 : at + length - 4]
        at += length


def tshark(path: Path, *options: str) -> list[list[str]]:
    """The wanted fields of each packet."""
    done = subprocess.run(  # noqa: S603
        ["tshark", "-r", str(path), "-T", "fields", *options],  # noqa: S607
        capture_output=True,
        check=True,
        text=True,
    )
    return [line.split("\t") for line in done.stdout.splitlines()]


def words(data: bytes) -> int:
    """The one's complement sum that a receiver forms."""
    data += bytes(len(data) % 2)
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.binary(max_size=1232), st.binary(min_size=16, max_size=16), st.integers(1, 65535))
def test_a_receiver_finds_the_checksum_right(payload: bytes, address: bytes, port: int) -> None:
    packet = ipv6_udp(address, address[::-1], port, 3610, payload)
    assert packet[:4] == b"\x60\0\0\0"
    length = len(payload) + 8
    assert struct.unpack_from(">HB", packet, 4) == (length, 17)
    assert len(packet) == 40 + length
    pseudo = packet[8:40] + struct.pack(">II", length, 17)
    assert words(pseudo + packet[40:]) == 0xFFFF
    assert packet[46:48] != b"\0\0"


def test_what_happened_comments_the_packet_after_it(tmp_path: Path) -> None:
    path = tmp_path / "air.pcapng"
    capture = Capture(path)
    capture.crossed(crossing(b"one"), 1.5)
    capture.happened(Happening(0.0, 1.6, "fault", {"name": "loss"}))
    capture.happened(Happening(0.0, 1.7, "request", {"codes": "E7"}))
    capture.crossed(crossing(b"two", received=False), 2.5)
    capture.crossed(crossing(b"three"), 3.5)
    capture.happened(Happening(0.0, 4.0, "expired", {"peer": "hems0"}))
    capture.close()
    *_, one, two, three, end = list(blocks(path.read_bytes()))
    assert [kind for kind, _ in (one, two, three, end)] == [PACKET, PACKET, PACKET, STATISTICS]
    assert b"fault name=loss" in two[1]
    assert b"nobody received it" in two[1]
    assert b"request" not in two[1]
    assert b"fault" not in one[1] + three[1]
    assert b"expired peer=hems0" in end[1]
    assert struct.unpack_from("<III", two[1]) == (0, 0, 2_500_000)


def test_only_datagrams_are_captured(tmp_path: Path) -> None:
    path = tmp_path / "air.pcapng"
    capture = Capture(path)
    beacon = Frame(channel=33, pan_id=None, source=MAC, destination=None, body=Beacon(1, None))
    capture.crossed(Crossing(0.0, beacon, received=True, lqi=161), 1.0)
    capture.close()
    assert len(list(blocks(path.read_bytes()))) == 2


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "air.pcapng"
    program = (
        "import sys; sys.path[:0] = [sys.argv[2]]\n"
        "from pathlib import Path\n"
        "from test_capture import Capture, crossing\n"
        "capture = Capture(Path(sys.argv[1]))\n"
        "for number in range(10**9):\n"
        "    capture.crossed(crossing(bytes(100)), number)\n"
        "    if number == 50: print('written', flush=True)\n"
    )
    writer = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", program, str(path), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
    assert sum(kind == PACKET for kind, _ in blocks(path.read_bytes())) > 50


def test_a_full_disk_ends_the_capture_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    capture = Capture(Path("/dev/full")) if Path("/dev/full").exists() else None
    if capture is None:
        pytest.skip("needs /dev/full")
    for _ in range(3):
        capture.crossed(crossing(b"one"), 1.0)
    capture.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left" in caplog.text


def test_a_file_that_cannot_be_made_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="cannot be written: No such file or directory"):
        Capture(tmp_path / "nowhere" / "air.pcapng")


@needs_tshark
async def test_wireshark_understands_a_whole_visit(tmp_path: Path) -> None:
    path = tmp_path / "air.pcapng"
    start = datetime.fromisoformat("2026-11-22T23:58:00+09:00")
    async with Bench(BenchOptions(capture=path, start=start)) as bench:
        assert await visit(bench, "--reads", "2") == 0
        password = bench.password
    wrong = "_ws.malformed || udp.checksum.status == 0"
    assert tshark(path, "-Y", wrong, "-e", "frame.number") == []
    checked = tshark(
        path, "-o", "udp.check_checksum:TRUE", "-e", "udp.checksum.status", "-e", "udp.dstport",
        "-e", "frame.time_epoch", "-e", "frame.comment",
    )  # fmt: skip
    assert {status for status, *_ in checked} == {"1"}
    ports = [port for _, port, *_ in checked]
    assert ports.count("3610") >= 4  # two requests, two answers
    assert abs(float(checked[0][2]) - start.timestamp()) < 60
    assert "joined peer=hems0 lifetime_s=86400" in {comment for *_, comment in checked}
    # EAP-PSK: what the modules said to join is what it looks like to others.
    assert ports.count("716") >= 9
    pana = tshark(path, "-Y", "pana", "-e", "pana.type", "-e", "pana.flags")
    assert len(pana) == ports.count("716")
    assert len(tshark(path, "-Y", "eap", "-e", "eap.code")) >= 5
    assert password.encode() not in path.read_bytes()
