"""What a person or the world gets wrong: one line that says so, the right status, no debris."""

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from .program import Ended, command

WRONG_USE, FAILED = 2, 1
ROUTE_B_ID = "00112233445566778899AABBCCDDEEFF"
PASSWORD = "SecretPass12"
SHORT_PASSWORD = "SecretPass1"


class Person:
    """Somebody who runs commands in a directory of their own, and looks at what is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private = folder / "private"
        self.private.mkdir()
        (folder / "device.key").touch(mode=0o600)
        (folder / "device.key").write_text("5A" * 32)

    async def types(self, *argv: str | Path) -> Ended:
        env = {"XDG_RUNTIME_DIR": str(self.private), "TMPDIR": str(self.private)}
        return await command(*argv, env=env)

    def writes(self, text: str) -> Path:
        path = self.folder / "meter.toml"
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def left_behind(self) -> list[Path]:
        """Files, links and sockets; the directory of this user's sockets may stay."""
        return [path for path in self.private.rglob("*") if path.is_symlink() or path.is_file()]


@pytest.fixture
def person(folder: Path) -> Person:
    return Person(folder)


@pytest.fixture
def module(folder: Path) -> Iterator[Path]:
    """The serial device of a module that never answers."""
    near, far = os.openpty()
    device = Path(os.ttyname(far))
    link = folder / "module"
    link.symlink_to(device)
    yield link
    os.close(near)
    os.close(far)


def configuration(folder: Path, **changes: str) -> str:
    """A right configuration; ``changes`` are whole sections that take a right one's place.

    ``$folder`` in them is the folder.
    """
    sections = {
        "meter": 'id = "M-1"',
        "storage": 'state_dir = "$folder/state"',
        "control": 'path = "$folder/control.sock"',
        "units.metering": 'driver = "simulated"',
        "units.communication": 'port = "serial:$folder/module"',
        "broute": f'id = "{ROUTE_B_ID}"\npassword = "{PASSWORD}"',
    } | {name.replace("__", "."): lines for name, lines in changes.items()}
    sections["storage"] += '\ndevice_key_file = "$folder/device.key"'
    text = "".join(f"[{name}]\n{lines}\n" for name, lines in sections.items())
    return text.replace("$folder", str(folder))


def is_one_line(ended: Ended, status: int, *said: str) -> None:
    assert ended.status == status, ended.err
    assert ended.out == ""
    (told,) = [line for line in ended.err.splitlines() if not line.startswith("INFO ")]
    assert told.startswith("meter-runtime: ")
    assert "Traceback" not in ended.err
    for words in said:
        assert words in told
    for secret in (PASSWORD, SHORT_PASSWORD):
        assert secret not in ended.err


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (["benhc"], WRONG_USE, 'no command "benhc"; did you mean "bench"?'),
        (["bench", "--sede", "1"], WRONG_USE, '"--sede" is not an option here'),
        (["bench", "--history", "99"], WRONG_USE, "--history 99: give 0 to 41 days"),
        (["bench", "--history", "some"], WRONG_USE, "argument --history: invalid int value"),
        (["bench", "--pv-kw", "nan"], WRONG_USE, "--pv-kw nan: give 0 to 100 kW"),
        (["bench", "--air", "thick"], WRONG_USE, "argument --air: invalid choice"),
        (["bench", "--rbid", "42"], WRONG_USE, "a B-route ID has 32 characters"),
        (["bench", "--password", SHORT_PASSWORD], WRONG_USE, "a B-route password has 12 letters"),
        (["bench", f"--pasword={SHORT_PASSWORD}"], WRONG_USE, '"--pasword" is not an option here'),
        (["bench", "--hems-module", "wsr35a2"], WRONG_USE, "did you mean 'wsr35a1'?"),
        (["bench", "--meter-module", "j11"], WRONG_USE, "there are bp35a1, wsr35a1, rl7023-ips"),
        (["bench", "--hems-module", "bp35a1:ehco=1"], WRONG_USE, "did you mean 'echo'?"),
        (["bench", "--hems-module", "bp35a1:echo=2"], WRONG_USE, "write echo=0 or echo=1"),
        (["bench", "--hems-module", "bp35a1:echo"], WRONG_USE, "'echo' has no value"),
        (["bench", "--hems-module", "bp35a1:tty=/proc/module"], FAILED, "pty:/proc/module"),
        (["bench", "--load", "/nowhere/load.csv"], WRONG_USE, "/nowhere/load.csv: cannot read the"),
        (["bench", "--state", "/proc/nowhere"], FAILED, "/proc/nowhere: cannot be made"),
        (["bench", "--state", "/proc"], FAILED, "/proc/"),
        (["bench", "--tty-dir", "/dev/null/ttys"], FAILED, "/dev/null/ttys: cannot be made"),
        (["run", "--config", "/nowhere/meter.toml"], WRONG_USE, "no such file; name one with"),
        (["run", "--config", "/dev"], FAILED, "/dev: cannot be read: Is a directory"),
        (["status", "--control", "/nowhere/control.sock"], FAILED, "no meter runs here"),
        (["status"], FAILED, "no meter is running; start one with 'meter-runtime bench'"),
        (["history", "--day", "100"], WRONG_USE, "a day is 0 (today) to 99 days ago"),
        (["advance", "soon"], WRONG_USE, '"soon" is no duration'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_a_wrong_command_line_is_one_line(
    person: Person, argv: list[str], status: int, said: str
) -> None:
    is_one_line(await person.types(*argv), status, said)
    assert person.left_behind() == []


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        (
            {"meter": 'id = "M-1"\nutilty = "kansai"'},
            WRONG_USE,
            '[meter] has no key "utilty"; did you mean "utility"?',
        ),
        ({"meters": ""}, WRONG_USE, 'the file has no key "meters"; did you mean "meter"?'),
        ({"meter": ""}, WRONG_USE, '[meter] lacks the key "id"; add it'),
        ({"meter": "id = M-1"}, WRONG_USE, "not TOML"),
        ({"broute": "energy_unit = 0.2"}, WRONG_USE, "[broute] energy_unit"),
        (
            {"broute": f'id = "{ROUTE_B_ID}"\npassword = "{SHORT_PASSWORD}"'},
            WRONG_USE,
            "a B-route password has 12 letters and digits, this one has 11 characters",
        ),
        (
            {"broute": f'id = "{ROUTE_B_ID}"\npassword_file = "missing"'},
            WRONG_USE,
            "[broute] password_file",
        ),
        (
            {"units__communication": 'driver = "skstak"\nport = "serial:$folder/module"'},
            WRONG_USE,
            'no communication driver is called "skstak"; did you mean "skstack"?',
        ),
        (
            {"units__communication": 'port = "/dev/ttyUSB0"'},
            WRONG_USE,
            "did you mean serial:/dev/ttyUSB0?",
        ),
        (
            {"units__communication": 'port = "serial:/dev/nowhere"'},
            FAILED,
            "serial:/dev/nowhere: no such port; plug the module in or name another one",
        ),
        (
            {"units__communication": 'port = "serial:/dev/null"'},
            FAILED,
            "serial:/dev/null: not a serial port; name the module's device",
        ),
        (
            {"units__communication.options": 'profle = "bp35a1"'},
            WRONG_USE,
            "has no option 'profle'; did you mean 'profile'?",
        ),
        (
            {"units__communication.options": 'profile = "wsr35a2"'},
            WRONG_USE,
            "no module is called 'wsr35a2'; did you mean 'wsr35a1'?",
        ),
        (
            {"units__communication.options": "look_every_s = 0"},
            WRONG_USE,
            "look_every_s is a number of seconds, at least 0.1, not 0",
        ),
        (
            {"units__metering": 'driver = "simulate"'},
            WRONG_USE,
            'no metering driver is called "simulate"; did you mean "simulated"?',
        ),
        (
            {"units__metering.options": "power = 5"},
            WRONG_USE,
            'has no option "power"; did you mean "power_w"?',
        ),
        (
            {"storage": 'state_dir = "/dev/null/state"'},
            FAILED,
            "/dev/null/state: the state directory cannot be made",
        ),
        ({"storage": 'state_dir = "/proc"'}, FAILED, "/proc/load-profile.ring: cannot open"),
        (
            {"control": 'path = "/nowhere/control.sock"'},
            FAILED,
            "/nowhere/control.sock: the control socket cannot be made",
        ),
    ],
)
async def test_a_wrong_configuration_is_one_line(
    person: Person, module: Path, changes: dict[str, str], status: int, said: str
) -> None:
    path = person.writes(configuration(person.folder, **changes))
    is_one_line(await person.types("run", "--config", path), status, said)
    assert not (person.folder / "control.sock").exists()
    assert person.left_behind() == []


async def test_a_port_that_another_program_holds_is_one_line(person: Person, module: Path) -> None:
    path = person.writes(configuration(person.folder))
    holder = os.open(module, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        refused = await person.types("run", "--config", path)
    finally:
        os.close(holder)
    is_one_line(refused, FAILED, f"serial:{module}: port in use by another program; end it")
    assert not (person.folder / "state").exists()


async def test_a_state_directory_of_another_bench_is_one_line(person: Person, module: Path) -> None:
    state = person.folder / "state"
    state.mkdir()
    ring = state / "load-profile.ring"
    ring.write_bytes(b"not a ring")
    path = person.writes(configuration(person.folder))
    is_one_line(await person.types("run", "--config", path), FAILED, str(ring))
    assert ring.read_bytes() == b"not a ring"


async def test_a_control_socket_of_nobody_is_one_line(person: Person) -> None:
    dead = person.folder / "control.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(dead))
    is_one_line(
        await person.types("status", "--control", dead), FAILED, "left by a meter that has ended"
    )
    file = person.folder / "file"
    file.touch()
    refused = await person.types("bench", "--no-ui", "--control", file)
    assert refused.status == FAILED
    assert refused.err.splitlines()[-1].startswith(f"meter-runtime: {file}: is there and is not")
    assert person.left_behind() == []
