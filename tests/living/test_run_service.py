"""`meter-runtime run`: the firmware service, in its own process, on a module's serial device."""

import asyncio
import contextlib
import csv
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meter_runtime import control
from meter_runtime.comm.ports import open_port
from meter_runtime.errors import MeterError

from .program import Program, command, program
from .radio_room import RadioRoom, radio_room
from .terminal import Terminal

ROUTE_B_ID = "00112233445566778899AABBCCDDEEFF"
PASSWORD = "SecretPass12"
POWER_W = 750
ENDS_WITHIN_S = 5.0
COMES_UP_WITHIN_S = 15.0


@pytest.fixture
async def room(folder: Path) -> AsyncIterator[RadioRoom]:
    async with radio_room(folder) as room:
        yield room


def configured(folder: Path, name: str = "meter", **changes: str) -> Path:
    """A configuration file; ``changes`` are its state_dir, its control path and its port."""
    values = {
        "state_dir": str(folder / "state"),
        "control": str(folder / "control.sock"),
        "port": f"serial:{folder / 'meter-module'}",
    } | changes
    path = folder / f"{name}.toml"
    path.touch(mode=0o600)
    path.write_text(
        f"""
        [meter]
        id = "M-0001"
        [storage]
        state_dir = "{values["state_dir"]}"
        device_key_file = "device.key"
        [clock]
        rtc = "none"
        [control]
        path = "{values["control"]}"
        [units.metering]
        driver = "simulated"
        [units.metering.options]
        power_w = {POWER_W}
        [units.communication]
        port = "{values["port"]}"
        [broute]
        id = "{ROUTE_B_ID}"
        password = "{PASSWORD}"
        """
    )
    return path


@asynccontextmanager
async def service(folder: Path) -> AsyncIterator[Program]:
    """The service on the room's module, its link up."""
    async with program("run", "--config", configured(folder)) as started:
        await link_is(folder, "active")
        yield started


async def status(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = await control.request(folder / "control.sock", "status")
    return found


async def comes_to(folder: Path, seen: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first status of the meter in which this is seen."""
    async with asyncio.timeout(COMES_UP_WITHIN_S):
        while True:
            with contextlib.suppress(MeterError):  # it does not answer yet
                found = await status(folder)
                if seen(found):
                    return found
            await asyncio.sleep(0.05)


async def link_is(folder: Path, state: str) -> None:
    await comes_to(folder, lambda found: bool(found["units"]["communication"]["state"] == state))


async def ends_well(meter: Program, folder: Path) -> None:
    ended = await meter.end(signal.SIGTERM, ENDS_WITHIN_S)
    assert (ended.status, ended.out) == (0, "")
    assert "Traceback" not in ended.err
    assert PASSWORD not in ended.err
    assert not (folder / "control.sock").exists()


async def test_a_home_joins_and_reads_it_and_sigterm_ends_it(folder: Path, room: RadioRoom) -> None:
    async with service(folder) as meter, Terminal(str(room.hems.tty)).opened() as hems:
        await hems.join(ROUTE_B_ID, PASSWORD)
        assert await hems.power() == POWER_W
        assert (await status(folder))["broute"]["message"] == 1
        await ends_well(meter, folder)
        await hems.told("EVENT 26 ")


async def test_it_answers_its_operator(folder: Path, room: RadioRoom) -> None:
    picture = folder / "day.png"
    at = ("--control", folder / "control.sock")
    async with service(folder) as meter:
        shown, as_json, as_csv, as_picture = await asyncio.gather(
            command("status", "--json", *at),
            command("history", "--json", *at),
            command("history", "--csv", *at),
            command("history", "--plot", picture, *at),
        )
        for answer in (shown, as_json, as_csv, as_picture):
            assert (answer.status, answer.err) == (0, "")
        document = json.loads(shown.out)
        assert document["meter_id"] == "M-0001"
        assert document["registers"]["power_w"] == POWER_W
        assert len(json.loads(as_json.out)["values_wh"]) == 48
        assert len(list(csv.DictReader(as_csv.out.splitlines()))) == 48
        assert picture.read_bytes().startswith(b"\x89PNG")
        await ends_well(meter, folder)


async def test_the_service_manager_is_told(folder: Path, room: RadioRoom) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    manager.bind(str(folder / "notify"))
    loop = asyncio.get_running_loop()
    env = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "200000"}

    async def hears(word: bytes) -> None:
        async with asyncio.timeout(COMES_UP_WITHIN_S):
            while not (await loop.sock_recv(manager, 4096)).startswith(word):
                pass

    with manager:
        async with program("run", "--config", configured(folder), env=env) as meter:
            await hears(b"READY=1")
            await hears(b"WATCHDOG=1")
            await hears(b"WATCHDOG=1")
            await link_is(folder, "active")
            await ends_well(meter, folder)
            await hears(b"STOPPING=1")


async def test_its_registers_outlive_it_stopped_or_killed(folder: Path, room: RadioRoom) -> None:
    async with Terminal(str(room.hems.tty)).opened() as hems:
        async with service(folder) as meter:
            first = await measured_wh(folder)
            await ends_well(meter, folder)

        async with service(folder) as meter:
            second = await measured_wh(folder)
            assert second >= first > 0
            await hems.join(ROUTE_B_ID, PASSWORD)
            assert (await meter.end(signal.SIGKILL)).status == -signal.SIGKILL
            assert (folder / "control.sock").exists()

        async with service(folder) as meter:
            assert await measured_wh(folder) >= second
            await hems.join(ROUTE_B_ID, PASSWORD)
            assert await hems.power() == POWER_W
            await ends_well(meter, folder)


async def measured_wh(folder: Path) -> float:
    """The forward register, known at once: a restart takes nothing away."""
    found = (await status(folder))["registers"]["forward_wh"]
    assert isinstance(found, float)
    return found


async def test_sigterm_ends_it_while_its_module_is_gone(folder: Path, room: RadioRoom) -> None:
    async with service(folder) as meter:
        await room.meter.pull()
        await link_is(folder, "faulted")
        await ends_well(meter, folder)


async def test_sigterm_ends_it_while_its_module_is_silent(folder: Path, room: RadioRoom) -> None:
    port = await open_port(f"pty:{folder / 'silent-module'}")
    try:
        settings = configured(folder, port=f"serial:{folder / 'silent-module'}")
        async with program("run", "--config", settings) as meter:
            await link_is(folder, "starting")
            await ends_well(meter, folder)
    finally:
        await port.close()


@pytest.mark.parametrize(
    ("apart", "said"),
    [
        ([], "port in use by another program; end it or name another port"),
        (["port"], "another meter uses this file; stop it or use another directory"),
        (["port", "state_dir"], "a meter is already running here; stop it or choose another path"),
    ],
)
async def test_a_second_one_is_refused_in_one_line(
    folder: Path, room: RadioRoom, apart: list[str], said: str
) -> None:
    others = {"port": f"serial:{room.hems.tty}", "state_dir": str(folder / "other")}
    second = configured(folder, "second", **{key: others[key] for key in apart})
    async with service(folder) as first:
        refused = await command("run", "--config", second)
        assert (refused.status, refused.out) == (1, "")
        (told,) = [line for line in refused.err.splitlines() if not line.startswith("INFO ")]
        assert told.startswith("meter-runtime: ")
        assert said in told
        # The first one has noticed nothing.
        assert (await status(folder))["units"]["communication"]["state"] == "active"
        await ends_well(first, folder)
