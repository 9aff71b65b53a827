"""What needs no broker: addresses, files, the inbox."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.comm.mqtt import MqttSettings, Received, TlsFiles, parse_url
from meter_runtime.comm.mqtt.inbox import Inbox
from meter_runtime.errors import UsageError
from meter_runtime.headend.lab import Lab
from meter_runtime.secret import Secret


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.create(tmp_path_factory.mktemp("bearer") / "lab")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt://broker", ("broker", 1883, False)),
        ("mqtts://broker", ("broker", 8883, True)),
        ("mqtts://broker.example:443/", ("broker.example", 443, True)),
        ("mqtt://[::1]:1234", ("::1", 1234, False)),
    ],
)
def test_a_url_names_host_port_and_whether_it_is_tls(
    text: str, expected: tuple[str, int, bool]
) -> None:
    assert parse_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "broker",
        "broker:1883",
        "http://broker",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://broker:0",
        "mqtt://broker:99999",
        "mqtt://broker:x",
        "mqtt://broker/path",
        "mqtt://broker?q",
        "mqtt://[::1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_url(text)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as wrong:
        parse_url("mqtt://me:hunter2@broker")
    assert "hunter2" not in str(wrong.value)


@given(st.text(max_size=60))
def test_no_text_breaks_the_url_parser(text: str) -> None:
    try:
        host, port, _ = parse_url(text)
    except UsageError:
        return
    assert host
    assert 1 <= port <= 65_535


def test_settings_do_not_show_the_password() -> None:
    settings = MqttSettings("b", 1883, "m", username="u", password=Secret("hunter2"))
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(UsageError):
        MqttSettings("b", port, "m")


def test_right_files_pass(lab: Lab) -> None:
    lab.tls("mdms").check(time.time())


@pytest.mark.parametrize("missing", ["ca", "certificate", "key"])
def test_a_missing_file_is_named(lab: Lab, missing: str) -> None:
    good = lab.tls("mdms")
    paths = {name: getattr(good, name) for name in ("ca", "certificate", "key")}
    paths[missing] = Path("/nowhere/file.pem")
    with pytest.raises(UsageError, match=r"/nowhere/file\.pem: the .* cannot be read"):
        TlsFiles(**paths).check()


@pytest.mark.parametrize("spoilt", ["ca", "certificate", "key"])
def test_a_file_that_is_no_pem_is_named(lab: Lab, tmp_path: Path, spoilt: str) -> None:
    good = lab.tls("mdms")
    paths = {name: getattr(good, name) for name in ("ca", "certificate", "key")}
    paths[spoilt] = tmp_path / "spoilt.pem"
    paths[spoilt].write_text("no PEM")
    with pytest.raises(UsageError, match=r"spoilt\.pem"):
        TlsFiles(**paths).check()


def test_a_key_of_another_certificate_is_told_from_a_spoilt_one(lab: Lab) -> None:
    good, other = lab.tls("mdms"), lab.tls("scs")
    with pytest.raises(UsageError, match="does not belong to"):
        TlsFiles(good.ca, good.certificate, other.key).check()


def test_the_dates_count_only_where_there_is_a_clock(lab: Lab) -> None:
    tls = lab.tls("mdms")
    with pytest.raises(UsageError, match=r"tls\.pem: the certificate expired on 20"):
        tls.check(time.time() + 20 * 365 * 86_400)
    with pytest.raises(UsageError, match="is the clock right"):
        tls.check(0.0)
    tls.check(None)


def message(number: int) -> Received:
    return Received("t", b"%d" % number, retained=False)


def test_a_message_that_comes_again_while_it_waits_is_not_queued_twice() -> None:
    inbox = Inbox(4)
    assert inbox.put(message(1), 1, connection=1)
    assert inbox.put(message(2), 2, connection=1)
    assert inbox.put(message(1), 1, connection=2)
    assert inbox.put(message(2), 2, connection=2)
    taken = [inbox.take() for _ in range(len(inbox))]
    assert [(each.message, each.connection) for each in taken] == [(message(1), 2), (message(2), 2)]


def test_the_same_again_on_the_same_connection_is_another_message() -> None:
    inbox = Inbox(4)
    assert inbox.put(message(1), 1, connection=1)
    assert inbox.put(message(1), 1, connection=1)
    assert len(inbox) == 2


@given(
    st.integers(2, 6),
    st.lists(st.sampled_from(["send", "take", "reconnect"]), max_size=80),
)
def test_over_any_connections_everything_comes_in_order_and_within_the_bound(
    limit: int, steps: list[str]
) -> None:
    """The broker's side: it sends what is unacknowledged again, in order, under its identifier."""
    inbox = Inbox(limit)
    unacknowledged: list[int] = []
    connection, sent = 1, 0
    seen: list[int] = []
    for step in [*steps, *["take"] * limit]:
        match step:
            case "send" if len(unacknowledged) < limit:
                assert inbox.put(message(sent), sent + 1, connection)
                unacknowledged.append(sent)
                sent += 1
            case "take" if len(inbox):
                waiting = inbox.take()
                number = int(waiting.message.payload)
                seen.append(number)
                assert waiting.connection == connection
                unacknowledged.remove(number)
            case "reconnect":
                connection += 1
                for number in unacknowledged:
                    assert inbox.put(message(number), number + 1, connection)
        assert len(inbox) <= limit
    assert seen == list(range(sent))
