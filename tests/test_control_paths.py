"""Finding the running meter: the directory is safe, and one live socket is enough."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from meter_runtime.control_paths import find, runtime_dir
from meter_runtime.errors import MeterError, UsageError


@pytest.fixture
def system(tmp_path: Path) -> Path:
    return tmp_path / "system" / "control.sock"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    return made


@pytest.fixture
def listen() -> Iterator["Listeners"]:
    listeners = Listeners()
    yield listeners
    listeners.close()


class Listeners:
    """Sockets that answer a probe."""

    def __init__(self) -> None:
        self._open: list[socket.socket] = []

    def at(self, path: Path) -> Path:
        path.parent.mkdir(exist_ok=True)
        live = socket.socket(socket.AF_UNIX)
        live.bind(str(path))
        live.listen(1)
        self._open.append(live)
        return path

    def close(self) -> None:
        for live in self._open:
            live.close()


def test_the_only_live_meter_is_found_among_dead_ones(
    folder: Path, system: Path, listen: Listeners
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "dead.sock"))
    alive = listen.at(folder / "bench-7.sock")
    assert find(None, folder, system) == alive


def test_the_system_meter_is_found(folder: Path, system: Path, listen: Listeners) -> None:
    listen.at(system)
    assert find(None, folder, system) == system


def test_several_meters_are_listed(folder: Path, system: Path, listen: Listeners) -> None:
    one, two = listen.at(folder / "a.sock"), listen.at(folder / "b.sock")
    with pytest.raises(UsageError, match="--control") as told:
        find(None, folder, system)
    assert str(one) in str(told.value)
    assert str(two) in str(told.value)


def test_none_says_how_to_start_one(folder: Path, system: Path) -> None:
    with pytest.raises(MeterError, match="meter-runtime bench"):
        find(None, folder, system)


def test_the_named_one_is_taken_as_it_is(folder: Path, listen: Listeners) -> None:
    listen.at(folder / "a.sock")
    assert find(Path("other.sock"), folder) == Path("other.sock")


def test_a_busy_meter_is_a_live_one(folder: Path, system: Path, listen: Listeners) -> None:
    path = listen.at(folder / "a.sock")
    waiting: list[socket.socket] = []
    try:
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            waiting.append(client)
            client.connect(str(path))
    except BlockingIOError:
        pass
    assert find(None, folder, system) == path
    for client in waiting:
        client.close()


def test_the_runtime_directory_is_the_sessions(tmp_path: Path) -> None:
    made = runtime_dir({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert made == tmp_path / "meter-runtime"
    assert made.stat().st_mode & 0o777 == 0o700
    assert runtime_dir({"XDG_RUNTIME_DIR": str(tmp_path)}) == made


@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": "/nowhere/at/all"}])
def test_without_a_session_it_is_a_private_one(tmp_path: Path, environ: dict[str, str]) -> None:
    made = runtime_dir(environ, tmp_path)
    assert made.parent == tmp_path
    assert made.stat().st_mode & 0o777 == 0o700


def test_a_planted_directory_is_refused(tmp_path: Path) -> None:
    session = {"XDG_RUNTIME_DIR": str(tmp_path)}
    folder = tmp_path / "meter-runtime"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(MeterError, match="mode 0700"):
        runtime_dir(session)
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MeterError, match="mode 0700"):
        runtime_dir(session)


async def test_probing_does_not_disturb_a_serving_loop(folder: Path, system: Path) -> None:
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        writer.close()
        served.set()

    server = await asyncio.start_unix_server(serve, str(folder / "a.sock"))
    assert find(None, folder, system) == folder / "a.sock"
    await asyncio.wait_for(served.wait(), 5)
    server.close()
    await server.wait_closed()
