"""The configuration file: what is accepted, and that every mistake is one useful line."""

import contextlib
import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meter_runtime.config import BRoute, Config, Meter, load
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.secret import Secret

EXAMPLE = Path(__file__).parents[1] / "hw" / "meter.toml"
ID = "00112233445566778899AABBCCDDEEFF"
PASSWORD = "0123456789AB"
METER = '[meter]\nid = "M-1"\n'

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Puts the text into meter.toml of the working directory, as a private file."""
    monkeypatch.chdir(tmp_path)

    def put(text: str) -> Path:
        path = Path("meter.toml")
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        return path

    return put


def mistake(path: Path) -> str:
    with pytest.raises(UsageError) as told:
        load(path)
    message = str(told.value)
    assert "\n" not in message
    return message


def test_the_example_loads_and_shows_the_defaults(write: Write) -> None:
    config = load(write(EXAMPLE.read_text(encoding="utf-8")))
    expected = Config(
        meter=Meter(id="M-0001"), broute=BRoute(id=ID, password=Secret("0123456789AB"))
    )
    assert config == expected


def test_the_example_names_every_key() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")

    def names(kind: type[msgspec.Struct]) -> set[str]:
        found: set[str] = set()
        for field in msgspec.structs.fields(kind):
            found.add(field.name)
            if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
                found |= names(field.type)
        return found

    assert not [name for name in names(Config) if name not in text]


def test_a_meter_without_credentials_is_a_meter(write: Write) -> None:
    config = load(write(METER))
    assert (config.meter.id, config.broute.id, config.broute.password) == ("M-1", None, None)


def test_every_key_is_read(write: Write) -> None:
    config = load(
        write(
            METER
            + 'utility = "elsewhere"\n'
            + '[storage]\nstate_dir = "state"\n[control]\npath = "c.sock"\n'
            + '[units.metering]\ndriver = "ade7953"\noptions = {bus = 1, gain = 0.5, ct = true}\n'
            + '[units.communication]\nport = "tcp:radio:4000"\n'
            + f'[broute]\nid = "{ID}"\npassword = "{PASSWORD}"\nprofile = "kansai"\n'
            + "effective_digits = 6\nenergy_unit = 1\ncoefficient = 40\n"
            + 'notification = "infc"\naccepted_on = 2026-04-01\nfeed_in_as_forward = true\n'
            + '[log]\nlevel = "debug"\n'
        )
    )
    assert config.meter.utility == "elsewhere"
    assert config.storage.state_dir == Path("state")
    assert config.control.path == Path("c.sock")
    assert config.units.metering.driver == "ade7953"
    assert config.units.metering.options == {"bus": 1, "gain": 0.5, "ct": True}
    assert config.units.communication.driver == "skstack"
    assert config.units.communication.port == "tcp:radio:4000"
    assert config.broute == BRoute(
        id=ID,
        password=Secret(PASSWORD),
        profile="kansai",
        effective_digits=6,
        energy_unit=1.0,
        coefficient=40,
        notification="infc",
        accepted_on=datetime.date(2026, 4, 1),
        feed_in_as_forward=True,
    )
    assert config.log.level == "debug"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file lacks the section [meter]; add it"),
        ("[meter]\n", '[meter] lacks the key "id"; add it'),
        (METER + "[brout]\n", 'the file has no key "brout"; did you mean "broute"?'),
        (
            METER + '[broute]\npasword = "x"\n',
            '[broute] has no key "pasword"; did you mean "password"?',
        ),
        (
            METER + '[units.communication]\nprot = "x"\n',
            '[units.communication] has no key "prot"; did you mean "port"?',
        ),
        (METER + "[log]\nzzz = 1\n", '[log] has no key "zzz"; known: level'),
        (METER + "[storage]\nstate_dir = 3\n", "[storage] state_dir: expected str, got int"),
        (METER + "storage = 3\n", '[meter] has no key "storage"; known: id, utility'),
        ("storage = 3\n" + METER, "[storage]: expected object, got int"),
        (
            METER + "[broute]\neffective_digits = 9\n",
            "[broute] effective_digits: expected int <= 8",
        ),
        (METER + "[broute]\ncoefficient = 0\n", "[broute] coefficient: expected int >= 1"),
        (
            METER + "[broute]\nenergy_unit = 0.3\n",
            "[broute] energy_unit: 0.3 kWh is no power of ten from 0.0001 to 10000",
        ),
        (
            METER + '[broute]\nnotification = "infx"\n',
            '[broute] notification: "infx" is not one of its values; did you mean "inf"?',
        ),
        (
            METER + '[broute]\nprofile = "tokyo"\n',
            '[broute] profile: "tokyo" is not one of its values; known: aif-1.01, aif-1.10, kansai',
        ),
        (
            METER + '[broute]\naccepted_on = "soon"\n',
            "[broute] accepted_on: invalid RFC3339 encoded date",
        ),
        (
            METER + "[units.metering.options]\nbus = [1]\n",
            "[units.metering] options: expected bool | int | float | str, got array",
        ),
        (
            METER + f'[broute]\nid = "{ID}"\n',
            "[broute] has an id but no password; add password or password_file",
        ),
        (METER + '[broute]\npassword = "x"\n', "[broute] has a password but no id; add id"),
        (
            METER + '[broute]\npassword = "x"\npassword_file = "y"\n',
            "[broute] has both password and password_file; keep one",
        ),
        (
            METER + f'[broute]\nid = "{ID}"\npassword_file = "none"\n',
            "[broute] password_file: none: No such file or directory",
        ),
        ("[meter]\nid = \n", "not TOML: Invalid value (at line 2, column 6)"),
    ],
)
def test_a_mistake_names_its_place_and_the_way_out(write: Write, text: str, message: str) -> None:
    assert mistake(write(text)) == f"meter.toml: {message}"


def test_a_file_that_is_not_there_or_not_text_is_named(write: Write) -> None:
    path = write(METER)
    path.write_bytes(b"[meter]\nid = '\xff'\n")
    assert mistake(path) == "meter.toml: not UTF-8 text at byte 14"
    assert mistake(Path("none.toml")) == "none.toml: no such file; name one with --config FILE"
    with pytest.raises(MeterError, match="cannot be read: Is a directory"):
        load(Path())


def test_the_password_is_never_shown(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    good = write(METER + f'[broute]\nid = "{ID}"\npassword = "{PASSWORD}"\n')
    good.chmod(0o644)
    assert PASSWORD not in repr(load(good))
    broken = [
        "password = 123456789012",
        f'password = ["{PASSWORD}"]',
        f'password = "{PASSWORD}"\nid = 3',
        f'password = "{PASSWORD}"\npassword = "{PASSWORD}"',
        f'password = "{PASSWORD}',
        f"password = {PASSWORD}",
    ]
    for line in broken:
        message = mistake(write(METER + f"[broute]\n{line}\n"))
        assert PASSWORD not in message
        assert "123456789012" not in message
    assert PASSWORD not in caplog.text


def test_the_password_may_lie_in_a_file_beside(write: Write) -> None:
    path = write(METER + f'[broute]\nid = "{ID}"\npassword_file = "letter"\n')
    Path("letter").write_text(PASSWORD + "\n", encoding="ascii")
    assert load(path).broute.password == Secret(PASSWORD)
    Path("letter").write_text("\n", encoding="ascii")
    assert "letter is empty" in mistake(path)
    Path("letter").write_bytes(b"\xff")
    assert "letter is not ASCII text" in mistake(path)


@pytest.mark.parametrize(
    ("inline", "mode", "warned"),
    [(True, 0o600, False), (True, 0o640, True), (True, 0o604, True), (False, 0o644, False)],
)
def test_a_readable_file_that_holds_a_password_is_warned_of(
    write: Write, caplog: pytest.LogCaptureFixture, inline: bool, mode: int, warned: bool
) -> None:
    key = f'password = "{PASSWORD}"' if inline else 'password_file = "letter"'
    path = write(METER + f'[broute]\nid = "{ID}"\n{key}\n')
    Path("letter").write_text(PASSWORD, encoding="ascii")
    Path("letter").chmod(0o440)
    path.chmod(mode)
    load(path)
    assert ("chmod 600" in caplog.text) is warned


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
keys = st.sampled_from(["meter", "broute", "units", "metering", "options", "id", "password"])
tables = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner), max_leaves=8
)


@given(text=st.text(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_configuration_or_a_mistake(write: Write, text: str) -> None:
    with contextlib.suppress(UsageError):
        load(write(text))


def toml(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{ord(char):08X}" for char in value) + '"'
        case None:
            return '""'
    return str(value)


@given(table=st.dictionaries(keys, tables, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shape_is_a_configuration_or_a_mistake(write: Write, table: dict[str, Any]) -> None:
    text = "".join(f"{key} = {toml(item)}\n" for key, item in table.items())
    with contextlib.suppress(UsageError):
        load(write(text))


def test_root_or_not_an_unreadable_file_is_named(write: Write) -> None:
    path = write(METER)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(MeterError, match="cannot be read: Permission denied"):
        load(path)


A_ROUTE = '[aroute]\nurl = "mqtts://broker.example"\nca = "ca.pem"\ntrust = "trust.toml"\n'


def test_files_of_the_way_to_the_utility_are_relative_to_the_configuration(write: Write) -> None:
    path = write(METER + A_ROUTE + 'certificate = "tls.pem"\nkey = "/etc/tls.key"\n')
    aroute = load(path).aroute
    assert aroute.ca == path.parent / "ca.pem"
    assert aroute.trust == path.parent / "trust.toml"
    assert aroute.certificate == path.parent / "tls.pem"
    assert aroute.key == Path("/etc/tls.key")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('[aroute]\nurl = "mqtt://b"\n', "[aroute] has a url but no trust"),
        ('[aroute]\nurl = "mqtts://b"\ntrust = "t"\n', "[aroute] mqtts needs ca"),
        (A_ROUTE + 'key = "k"\n', "[aroute] certificate and key come together"),
        (A_ROUTE + 'password = "p"\npassword_file = "f"\n', "keep one"),
        (A_ROUTE + "jitter_s = 901\n", "[aroute] jitter_s"),
        (A_ROUTE + 'protocol = "4"\n', '[aroute] protocol: "4" is not one of its values'),
    ],
)
def test_what_does_not_go_together_on_the_way_to_the_utility_is_told(
    write: Write, section: str, said: str
) -> None:
    assert said in mistake(write(METER + section))


def test_the_password_of_the_broker_may_lie_in_a_file(write: Write) -> None:
    path = write(METER + A_ROUTE + 'password_file = "broker-password"\n')
    Path("broker-password").write_text(PASSWORD + "\n", encoding="ascii")
    assert load(path).aroute.password == Secret(PASSWORD)
