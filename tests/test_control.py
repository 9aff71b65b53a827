"""The control socket: the wire, its bounds, and who owns the file."""

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meter_runtime.control import (
    MAX_CONNECTIONS,
    MAX_REQUEST,
    ControlServer,
    Handler,
    is_live,
    request,
)
from meter_runtime.errors import MeterError, UsageError

Line = dict[str, Any]


async def echo(arguments: Line) -> object:
    return arguments


async def refuse(arguments: Line) -> object:
    raise MeterError("the ring cannot be read; check the disk")


async def misuse(arguments: Line) -> object:
    raise UsageError("a day is 0 to 99")


async def crash(arguments: Line) -> object:
    raise KeyError("hunter2")


async def unsayable(arguments: Line) -> object:
    return float("nan")


async def hang(arguments: Line) -> object:
    await asyncio.Event().wait()
    return None


HANDLERS: dict[str, Handler] = {
    "echo": echo,
    "refuse": refuse,
    "misuse": misuse,
    "crash": crash,
    "unsayable": unsayable,
    "hang": hang,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
async def server(path: Path) -> AsyncIterator[ControlServer]:
    serving = ControlServer(path, HANDLERS)
    await serving.start()
    yield serving
    await serving.close()


async def raw(path: Path, data: bytes) -> Line:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(data)
        answer: Line = json.loads(await reader.readline())
        return answer
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_request_returns_what_its_handler_returned(
    server: ControlServer, path: Path
) -> None:
    assert await request(path, "echo", day=3, reverse=True) == {"day": 3, "reverse": True}


async def test_one_connection_takes_several_turns(server: ControlServer, path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    for turn in range(3):
        writer.write(json.dumps({"do": "echo", "turn": turn}).encode() + b"\n")
        assert json.loads(await reader.readline()) == {"ok": True, "result": {"turn": turn}}
    writer.close()
    await writer.wait_closed()


async def test_a_request_may_arrive_byte_by_byte(server: ControlServer, path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    for byte in b'{"do":"echo"}\n':
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    assert json.loads(await reader.readline())["ok"] is True
    writer.close()
    await writer.wait_closed()


async def test_what_the_handler_refuses_keeps_its_family(server: ControlServer, path: Path) -> None:
    with pytest.raises(MeterError, match="the ring cannot be read") as failed:
        await request(path, "refuse")
    assert not isinstance(failed.value, UsageError)
    with pytest.raises(UsageError, match="a day is 0 to 99"):
        await request(path, "misuse")


async def test_an_unknown_request_names_the_nearest(server: ControlServer, path: Path) -> None:
    with pytest.raises(UsageError, match='no request "ecko"; did you mean "echo"'):
        await request(path, "ecko")


@pytest.mark.parametrize("do", ["crash", "unsayable"])
async def test_a_crashing_handler_is_logged_here_and_tells_nothing(
    server: ControlServer, path: Path, do: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(MeterError, match=r"^internal error; the meter's log has the details$"):
        await request(path, do)
    assert "a control request failed" in caplog.text
    assert await request(path, "echo") == {}


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"{}\n", b'{"do":1}\n', b"\xff\xfe\n"])
async def test_what_is_no_request_is_answered_as_misuse(
    server: ControlServer, path: Path, line: bytes
) -> None:
    answer = await raw(path, line)
    assert (answer["ok"], answer["usage"]) == (False, True)


@given(junk=st.binary(max_size=300))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_junk_never_stops_the_server(server: ControlServer, path: Path, junk: bytes) -> None:
    answer = await raw(path, junk.replace(b"\n", b" ") + b"\n")
    assert answer["ok"] is False
    assert await request(path, "echo") == {}


async def test_an_endless_line_is_refused_and_the_connection_closed(
    server: ControlServer, path: Path
) -> None:
    answer = await raw(path, b"x" * (2 * MAX_REQUEST + 2))
    assert "at most 65536 bytes" in answer["error"]


async def test_connections_beyond_the_bound_are_told_so(server: ControlServer, path: Path) -> None:
    held = [await asyncio.open_unix_connection(str(path)) for _ in range(MAX_CONNECTIONS)]
    with pytest.raises(MeterError, match="too many connections"):
        await request(path, "echo")
    for _, writer in held:
        writer.close()
        await writer.wait_closed()
    await eventually(lambda: not server.connections)
    assert await request(path, "echo") == {}


async def test_a_silent_connection_is_closed(path: Path) -> None:
    serving = ControlServer(path, HANDLERS, idle_s=0.02)
    await serving.start()
    reader, writer = await asyncio.open_unix_connection(str(path))
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await serving.close()


async def test_the_client_gives_up_in_time(server: ControlServer, path: Path) -> None:
    with pytest.raises(MeterError, match=r"no answer to hang within 0\.02 s"):
        await request(path, "hang", timeout_s=0.02)


async def test_closing_ends_a_running_request(path: Path) -> None:
    serving = ControlServer(path, HANDLERS)
    await serving.start()
    waiting = asyncio.ensure_future(request(path, "hang"))
    await eventually(lambda: serving.connections == 1)
    await serving.close()
    with pytest.raises(MeterError, match="closed the connection without an answer"):
        await waiting


async def test_the_socket_is_for_owner_and_group_and_goes_at_close(path: Path) -> None:
    serving = ControlServer(path, HANDLERS)
    await serving.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    await serving.close()
    assert not path.exists()


async def test_a_dead_meters_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert not is_live(path)
    serving = ControlServer(path, HANDLERS)
    await serving.start()
    assert await request(path, "echo") == {}
    await serving.close()


async def test_a_live_meters_socket_is_left_alone(server: ControlServer, path: Path) -> None:
    with pytest.raises(MeterError, match="already running here"):
        await ControlServer(path, HANDLERS).start()
    assert await request(path, "echo") == {}


async def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(MeterError, match="not a socket"):
        await ControlServer(path, HANDLERS).start()
    assert path.read_text() == "precious"


async def test_closing_leaves_a_successors_socket(path: Path) -> None:
    first = ControlServer(path, HANDLERS)
    await first.start()
    path.unlink()
    second = ControlServer(path, HANDLERS)
    await second.start()
    await first.close()
    assert await request(path, "echo") == {}
    await second.close()


async def test_a_missing_folder_and_a_long_path_are_named(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="No such file or directory"):
        await ControlServer(tmp_path / "no" / "c.sock", HANDLERS).start()
    with pytest.raises(UsageError, match="at most 107 bytes"):
        await ControlServer(tmp_path / ("n" * 108), HANDLERS).start()


async def test_the_client_says_what_is_wrong_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="no meter runs here"):
        await request(tmp_path / "none.sock", "status")
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(dead))
    with pytest.raises(MeterError, match="left by a meter that has ended"):
        await request(dead, "status")


@pytest.mark.parametrize("answer", [b"hello\n", b"[]\n", b'{"ok":true}\n', b"\xff\n"])
async def test_an_answer_that_is_not_ours_is_named(path: Path, answer: bytes) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    listener = await asyncio.start_unix_server(other, str(path))
    with pytest.raises(MeterError, match="not the meter's protocol"):
        await request(path, "status")
    listener.close()
    await listener.wait_closed()


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - the server's inside has no event to wait for
            await asyncio.sleep(0)
