"""Byte ports: URIs, serial devices, TCP, and the pseudo-terminal that stands in for a module."""

import asyncio
import os
import select
import termios
from pathlib import Path

import pytest
import serialx
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.comm import streams
from meter_runtime.comm.ports import BytePort, PortUri, open_port, parse_port
from meter_runtime.comm.pty import PtyPort
from meter_runtime.comm.streams import PortClosed, StreamPort
from meter_runtime.errors import MeterError, UsageError


@pytest.mark.parametrize(
    ("uri", "port"),
    [
        ("serial:/dev/ttyUSB0", PortUri("serial", "/dev/ttyUSB0", 115_200)),
        ("serial:/dev/ttyAMA0?baudrate=9600", PortUri("serial", "/dev/ttyAMA0", 9_600)),
        ("tcp:localhost:2000", PortUri("tcp", "localhost", 2_000)),
        ("tcp:[::1]:2000", PortUri("tcp", "::1", 2_000)),
        ("pty:/tmp/meter tty", PortUri("pty", "/tmp/meter tty")),
    ],
)
def test_a_uri_names_a_port(uri: str, port: PortUri) -> None:
    assert parse_port(uri) == port


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("/dev/ttyUSB0", "did you mean serial:/dev/ttyUSB0?"),
        ("serail:/dev/ttyUSB0", "did you mean serial:?"),
        ("http://x", "known: serial, tcp, pty"),
        ("serial", "did you mean serial:?"),
        ("serial:", "write for example serial:/dev/ttyUSB0?baudrate=115200"),
        ("serial:/dev/ttyUSB0?baud=1", "did you mean 'baudrate'?"),
        ("serial:/dev/ttyUSB0?baudrate=115201", "115201 is no baud rate"),
        ("serial:/dev/ttyUSB0?baudrate=0", "0 is no baud rate"),
        ("tcp:localhost", "needs a host and a port number"),
        ("tcp:localhost:70000", "needs a host and a port number"),
        ("pty:/tmp/x?mode=1", "has no option 'mode'; known: none"),
    ],
)
def test_a_wrong_uri_is_told_with_the_nearest_right_one(uri: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_port(uri)
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


@given(st.text(max_size=40))
def test_any_uri_is_a_port_or_a_usage_error(uri: str) -> None:
    try:
        parse_port(uri)
    except UsageError:
        return


@pytest.mark.parametrize(
    ("device", "hint"),
    [
        ("/dev/ttyUSB99", "no such port; plug the module in or name another one (ports here: "),
        ("/dev/null", "not a serial port"),
    ],
)
async def test_a_device_that_cannot_be_had_says_why(device: str, hint: str) -> None:
    with pytest.raises(MeterError) as error:
        await open_port(f"serial:{device}")
    assert str(error.value).startswith(f"serial:{device}: {hint}")
    assert not isinstance(error.value, UsageError)


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        (PermissionError(13, "Permission denied"), "the group dialout"),
        (OSError(16, "Device or resource busy"), "port in use by another program"),
        (OSError(5, "Input/output error"), "check the cable"),
    ],
)
async def test_system_errors_come_with_their_remedy(
    reason: OSError, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise reason

    monkeypatch.setattr(serialx, "create_serial_connection", refuse)
    with pytest.raises(MeterError, match=hint):
        await open_port("serial:/dev/ttyUSB0")


async def test_a_serial_port_is_locked_against_a_second_program(tmp_path: Path) -> None:
    far = PtyPort(str(tmp_path / "tty"))
    near = await open_port(f"serial:{tmp_path / 'tty'}")
    with pytest.raises(MeterError, match="port in use by another program"):
        await open_port(f"serial:{tmp_path / 'tty'}")
    await near.close()
    await (await open_port(f"serial:{tmp_path / 'tty'}")).close()
    await far.close()


async def test_a_rate_the_uart_cannot_do_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = PtyPort(str(tmp_path / "tty"))
    real = termios.tcgetattr

    def stubborn(descriptor: int) -> list[object]:
        attributes: list[object] = list(real(descriptor))
        attributes[5] = termios.B9600
        return attributes

    monkeypatch.setattr(termios, "tcgetattr", stubborn)
    with pytest.raises(MeterError, match="cannot do 115200 baud"):
        await open_port(f"serial:{tmp_path / 'tty'}")
    monkeypatch.undo()
    await (await open_port(f"serial:{tmp_path / 'tty'}")).close()
    await far.close()


async def test_octets_pass_both_ways_unchanged_however_often_the_far_end_is_reopened(
    tmp_path: Path,
) -> None:
    far = PtyPort(str(tmp_path / "tty"))
    every = bytes(range(256))
    for _ in range(3):
        near = await open_port(f"serial:{tmp_path / 'tty'}")
        near.write(every)
        assert await gather(far, 256) == every
        far.write(every)
        assert await gather(near, 256) == every
        await near.close()
        with pytest.raises(PortClosed):
            await near.read()
        with pytest.raises(PortClosed):
            near.write(b"x")
    assert far.dropped == 0
    await far.close()


async def gather(port: BytePort, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await port.read()
    return data


async def test_what_is_written_while_nobody_has_it_open_is_lost_and_counted(
    tmp_path: Path,
) -> None:
    far = PtyPort(str(tmp_path / "tty"))
    assert not far.opened
    far.write(b"nobody hears")
    assert far.dropped == 12
    for _ in range(200):
        near = os.open(tmp_path / "tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        select.select([near], [], [], 0.001)
        far.write(b"fresh")
        select.select([near], [], [], 5.0)
        assert os.read(near, 100) == b"fresh"
        far.write(b"unread" * 2_000)  # more than the far end's own queue of 4 KiB
        os.close(near)
        far.write(b"nobody hears")
    assert not far.opened
    assert far.dropped >= 12 * 201
    await far.close()


async def test_a_program_that_never_reads_costs_octets_and_no_time(tmp_path: Path) -> None:
    far = PtyPort(str(tmp_path / "tty"))
    near = os.open(tmp_path / "tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    for _ in range(50):
        far.write(b"x" * 10_000)
    assert far.dropped > 300_000
    os.close(near)
    await far.close()


async def test_a_flood_from_the_far_end_is_held_back_by_the_kernel(tmp_path: Path) -> None:
    far = PtyPort(str(tmp_path / "tty"))
    near = os.open(tmp_path / "tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    written = 0
    for _ in range(200):
        try:
            written += os.write(near, b"y" * 4_096)
        except BlockingIOError:
            await asyncio.sleep(0)
    assert len(far._received) < streams.READ_LIMIT + 4_097
    assert await gather(far, written) == b"y" * written
    os.close(near)
    await far.close()


async def test_closing_with_unread_output_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CLOSE_BOUND_S", 0.05)
    far = PtyPort(str(tmp_path / "tty"))
    near = await open_port(f"serial:{tmp_path / 'tty'}")
    far._loop.remove_reader(far._master)
    for _ in range(100):
        near.write(b"z" * 4_096)
    assert near.dropped > 0
    async with asyncio.timeout(5.0):
        await near.close()
    await (await open_port(f"serial:{tmp_path / 'tty'}")).close()
    await far.close()


async def test_a_port_whose_other_side_goes_away_tells_its_reader(tmp_path: Path) -> None:
    far = PtyPort(str(tmp_path / "tty"))
    near = await open_port(f"serial:{tmp_path / 'tty'}")
    reading = asyncio.create_task(near.read())
    await asyncio.sleep(0)
    await far.close()
    with pytest.raises(PortClosed):
        await reading
    await near.close()
    with pytest.raises(PortClosed):
        await far.read()
    with pytest.raises(PortClosed):
        far.write(b"x")
    await far.close()


async def test_the_link_goes_away_with_its_port_and_comes_back(tmp_path: Path) -> None:
    link = tmp_path / "tty"
    for _ in range(2):
        far = PtyPort(str(link))
        assert link.is_symlink()
        await far.close()
        assert list(tmp_path.iterdir()) == []


async def test_a_link_of_a_dead_port_is_taken_over(tmp_path: Path) -> None:
    link = tmp_path / "tty"
    link.symlink_to("/dev/pts/4711")
    (tmp_path / ".tty.lock").touch()
    far = PtyPort(str(link))
    assert str(link.readlink()) == far.device
    await far.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_live_ports_link_a_file_and_a_foreign_link_are_left_alone(tmp_path: Path) -> None:
    link = tmp_path / "tty"
    far = PtyPort(str(link))
    with pytest.raises(MeterError, match="in use by another port that is alive"):
        await open_port(f"pty:{link}")
    assert str(link.readlink()) == far.device
    await far.close()

    link.write_text("precious")
    with pytest.raises(MeterError, match="is a file and is left alone"):
        await open_port(f"pty:{link}")
    assert link.read_text() == "precious"
    link.unlink()

    link.symlink_to("/dev/ttyUSB0")
    with pytest.raises(MeterError, match="is a foreign link"):
        await open_port(f"pty:{link}")
    assert str(link.readlink()) == "/dev/ttyUSB0"

    with pytest.raises(MeterError, match="name a path in a directory"):
        await open_port(f"pty:{tmp_path}/none/tty")


async def test_a_link_that_somebody_changed_is_not_removed_at_close(tmp_path: Path) -> None:
    link = tmp_path / "tty"
    far = PtyPort(str(link))
    link.unlink()
    link.write_text("precious")
    await far.close()
    assert link.read_text() == "precious"


async def test_tcp_carries_octets_and_tells_when_it_is_gone() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    number = server.sockets[0].getsockname()[1]
    port = await open_port(f"tcp:127.0.0.1:{number}")
    port.write(b"SKVER\r\n")
    assert await gather(port, 7) == b"SKVER\r\n"
    with pytest.raises(PortClosed, match="the other side hung up"):
        await port.read()
    await port.close()
    server.close()
    await server.wait_closed()
    with pytest.raises(MeterError, match="check that the other side is listening"):
        await open_port(f"tcp:127.0.0.1:{number}")


async def test_reading_slowly_pauses_the_transport() -> None:
    class Transport(asyncio.Transport):
        paused = False

        def pause_reading(self) -> None:
            self.paused = True

        def resume_reading(self) -> None:
            self.paused = False

    transport = Transport()
    port = StreamPort("test:")
    port.connection_made(transport)
    port.data_received(b"x" * (streams.READ_LIMIT + 1))
    assert transport.paused
    assert len(await port.read()) == streams.READ_LIMIT + 1
    assert not transport.paused
