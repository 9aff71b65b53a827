"""The whole rewrite as the example plays it: every role a process, the password in one place."""

import asyncio
import base64
import dataclasses
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from mosquitto_broker import mosquitto

from meter_runtime.aroute.messages import Topics
from meter_runtime.errors import MeterError
from meter_runtime.headend.lab import MDMS, SCS, Lab

from .utility_room import Recorder, beside

EXAMPLE = Path(__file__).parents[2] / "examples" / "utility" / "rewrite_from_afar.py"
METER_ID = "BENCH-1"
ENDS_WITHIN_S = 110.0
LOOK_S = 0.02

HEARS = {
    MDMS: ("readings", "history", "birth", "lwt", "event"),
    SCS: ("results", "broute_status", "event", "birth", "lwt"),
    METER_ID: ("commands", "mark"),
}
"""Which topics the access rules let whose certificate hear: together, all of them."""


def forms(password: str) -> list[bytes]:
    """How the password could stand somewhere: plain, in fours, in hex, in base64 at any offset."""
    plain = password.encode()
    fours = " ".join(password[at : at + 4] for at in range(0, 12, 4)).encode()
    found = [plain, fours, plain.hex().encode(), plain.hex(" ").encode()]
    found.append(password.encode("utf-16-le"))
    for offset in range(3):
        # Of what stands around it only the bits that the password alone fills count.
        told = base64.b64encode(b"\0" * offset + plain)
        found.append(told[-(-offset * 8 // 6) : (offset + len(plain)) * 8 // 6])
    return [form.lower() for form in found]


def shows(password: str, data: bytes) -> bool:
    low = data.lower()
    return any(form in low for form in forms(password))


def test_every_form_of_a_password_is_recognized() -> None:
    password = "Q7XK2M9RTB4C"
    for before in (b"", b"a", b"ab", b"abc"):
        told = before + password.encode() + b"rest"
        for form in (told, told.lower(), told.hex().encode(), base64.b64encode(told)):
            assert shows(password, form)
    assert shows(password, b"Password  Q7XK 2M9R TB4C\n")
    assert not shows(password, b"Q7XK2M9RTB4" + base64.b64encode(b"Q7XK2M9RTB4D"))


class Onlooker:
    """Whatever processes of the machine let everybody see: arguments, and our own's environment."""

    def __init__(self, folder: Path) -> None:
        self._ours = str(folder).encode()
        self.seen: set[bytes] = set()
        self.programs: set[str] = set()

    async def look_on(self) -> None:
        while True:
            for arguments, environment in _processes():
                self.seen.add(arguments)
                if self._ours in arguments or b"hems.py" in arguments:
                    self.seen.add(environment)
                    self.programs.update(re.findall(r"[\w.-]+", arguments.decode(errors="replace")))
            await asyncio.sleep(LOOK_S)


def _processes() -> Iterator[tuple[bytes, bytes]]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield (process / "cmdline").read_bytes(), (process / "environ").read_bytes()


@asynccontextmanager
async def recorders(lab: Lab) -> AsyncIterator[list[Recorder]]:
    """Hear everything of the meter that the broker lets anybody hear."""
    topics = Topics(lab.utility, METER_ID)
    async with AsyncExitStack() as stack:
        found = []
        for role, names in HEARS.items():
            tls = lab.meter(METER_ID).tls if role == METER_ID else lab.tls(role)
            settings = dataclasses.replace(lab.mqtt(MDMS, f"recorder-{role}"), tls=tls)
            recorder = Recorder(settings, tuple(getattr(topics, name) for name in names))
            await stack.enter_async_context(beside(recorder.run()))
            found.append(recorder)
        yield found


async def made(path: Path, *, unless: asyncio.Task[tuple[bytes, bytes]]) -> Lab | None:
    """The laboratory, once the meter is in it; None where the play was over before."""
    while not unless.done():
        with suppress(MeterError):
            lab = Lab.open(path)
            if METER_ID in lab.meters():
                return lab
        await asyncio.sleep(LOOK_S)
    return None


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's /proc")
async def test_a_password_rewritten_from_afar_is_seen_by_the_meter_and_in_the_letter_alone(
    folder: Path,
) -> None:
    mosquitto()
    onlooker = Onlooker(folder)
    played = await asyncio.create_subprocess_exec(
        *(sys.executable, EXAMPLE, folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        async with asyncio.timeout(ENDS_WITHIN_S), beside(onlooker.look_on()):
            play = asyncio.create_task(played.communicate())
            lab = await made(folder / "lab", unless=play)
            assert lab is not None, (await play)[0].decode()
            async with recorders(lab) as heard:
                output, _ = await play
    finally:
        if played.returncode is None:
            played.terminate()
            await played.wait()
    told = output.decode()
    assert played.returncode == 0, told
    _check_story(told, folder)

    letter = folder / "letter.txt"
    (line,) = (line for line in letter.read_text().splitlines() if line.startswith("Password"))
    password = "".join(line.split()[1:])
    assert re.fullmatch("[0-9A-Z]{12}", password)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path for path in files if shows(password, path.read_bytes())] == [letter]
    assert letter.stat().st_mode & 0o777 == 0o600
    assert not shows(password, output)

    assert {"relay", "scs", "mdms", "bench", "mosquitto", "hems.py", "letter"} <= onlooker.programs
    assert not [each for each in onlooker.seen if shows(password, each)]

    crossed = [heard_on for each in heard for heard_on in each.heard.items()]
    names = {topic.removeprefix(f"ar/v1/{lab.utility}/{METER_ID}/") for topic, _ in crossed}
    assert {"birth", "reading/30m", "event", "status/broute", "cmd/ack", "mark"} <= names
    assert len([name for name in names if name.startswith("cmd/")]) == 2
    for _, payloads in crossed:
        assert not [each for each in payloads if shows(password, each)]


def _check_story(told: str, folder: Path) -> None:
    """What the example says of itself."""
    assert "the meter said OK" in told
    let_in = re.findall(r"^HEMS: (.*)$", told, re.MULTILINE)
    assert [answer.endswith(" W") for answer in let_in] == [True, False, True]
    assert re.search(r"^\d{4}-\d\d-\d\d: \d+\.\d kWh from the grid$", told, re.MULTILINE)
    assert told.rstrip().endswith(f"everything is in {folder}")
    # A bench that has ended takes its ready file along, and with it the old password.
    assert not (folder / "ready.json").exists()
