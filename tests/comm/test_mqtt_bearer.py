"""The bearer against real brokers: Mosquitto in every state it can be in, and the embedded one."""

import asyncio
import contextlib
import gc
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from mosquitto_broker import MosquittoBroker, free_port

from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.bench.broker import EmbeddedBroker
from meter_runtime.comm.mqtt import MqttBearer, MqttSettings, Received, TlsFiles, Will
from meter_runtime.headend.lab import Lab
from meter_runtime.secret import Secret
from meter_runtime.supervisor import Backoff

PATIENCE_S = 20.0
QUICK = Backoff(first_s=0.02, limit_s=0.2, healthy_s=0.5)

Make = Callable[..., MqttSettings]


def expired(lab: Lab) -> TlsFiles:
    """What meter m1 shows, as it would be the day after its end."""
    ours = lab.meter("m1").tls
    authority = x509.load_pem_x509_certificate(lab.ca.read_bytes())
    signer = load_pem_private_key((lab.ca.parent / "ca.key").read_bytes(), None)
    shown = x509.load_pem_x509_certificate(ours.certificate.read_bytes())
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    old = (
        x509.CertificateBuilder()
        .subject_name(shown.subject)
        .issuer_name(authority.subject)
        .public_key(shown.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now - timedelta(days=1))
        .sign(signer, hashes.SHA256())
    )
    path = ours.certificate.with_name("old.pem")
    path.write_bytes(old.public_bytes(Encoding.PEM))
    return TlsFiles(ours.ca, path, ours.key)


@contextlib.asynccontextmanager
async def running(settings: MqttSettings, *filters: str, **more: Any) -> AsyncIterator[MqttBearer]:
    """A bearer at work; its end is a clean one, in time."""
    more.setdefault("backoff", QUICK)
    bearer = MqttBearer(settings, subscriptions=filters, rng=random.Random(7), **more)
    task = asyncio.create_task(bearer.run())
    try:
        yield bearer
    finally:
        begun = time.monotonic()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert time.monotonic() - begun < 2.0


async def connected(bearer: MqttBearer) -> None:
    await asyncio.wait_for(bearer.wait_connected(), PATIENCE_S)


async def received(bearer: MqttBearer) -> Received:
    return await asyncio.wait_for(bearer.receive(), PATIENCE_S)


async def received_until(bearer: MqttBearer, last: bytes) -> list[bytes]:
    payloads = [(await received(bearer)).payload]
    while payloads[-1] != last:
        payloads.append((await received(bearer)).payload)
    return payloads


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.fixture(autouse=True)
async def _nothing_is_left() -> AsyncIterator[None]:
    """No task and no socket outlives a test; a leak is a warning, and a warning an error."""
    before = asyncio.all_tasks()
    yield
    for _ in range(5):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
    gc.collect()


@pytest.fixture(params=["mosquitto", "embedded"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    """Settings for a client of either broker."""
    if request.param == "mosquitto":
        with MosquittoBroker(tmp_path, users={"lab": "secret"}) as broker:
            yield lambda client, **more: MqttSettings(
                broker.host,
                broker.port,
                client,
                username="lab",
                password=Secret("secret"),
                **more,
            )
        return
    async with EmbeddedBroker() as embedded:
        yield lambda client, **more: MqttSettings(
            embedded.host,
            embedded.port,
            client,
            username=embedded.username,
            password=embedded.password,
            **more,
        )


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[MosquittoBroker]:
    with MosquittoBroker(tmp_path) as running_broker:
        yield running_broker


def of(broker: MosquittoBroker, client: str, **more: Any) -> MqttSettings:
    return MqttSettings(broker.host, broker.port, client, **more)


async def test_the_newest_version_that_the_broker_speaks_is_found(make: Make) -> None:
    settings = make("m")
    async with running(settings) as bearer:
        await connected(bearer)
        told = bearer.protocol
    async with EmbeddedBroker() as old:
        expected = "3.1.1" if settings.username == old.username else "5"
    assert told == expected


async def test_what_is_published_arrives_in_order(make: Make) -> None:
    async with running(make("head"), "t/+") as head, running(make("m")) as meter:
        await connected(head)
        await connected(meter)
        for number in range(50):
            assert await meter.publish("t/a", b"%d" % number)
        assert [(await received(head)).payload for _ in range(50)] == [
            b"%d" % number for number in range(50)
        ]


async def test_what_was_published_while_away_waits_at_the_broker(make: Make) -> None:
    async with running(make("meter"), "cmd/+") as meter:
        await connected(meter)
    async with running(make("head")) as head:
        await connected(head)
        for number in range(10):
            assert await head.publish(f"cmd/{number}", b"x", expiry_s=60)
    async with running(make("meter"), "cmd/+") as meter:
        assert [(await received(meter)).topic for _ in range(10)] == [
            f"cmd/{number}" for number in range(10)
        ]


async def test_a_retained_message_is_marked_as_such(make: Make) -> None:
    async with running(make("m")) as meter:
        await connected(meter)
        assert await meter.publish("birth", b"{}", retain=True)
    async with running(make("head"), "birth") as head:
        assert await received(head) == Received("birth", b"{}", retained=True)


async def test_the_farewell_is_what_stays_after_a_clean_end(make: Make) -> None:
    will = Will("lwt", b"lost")
    async with running(make("m"), will=will, farewell=b"left") as meter:
        await connected(meter)
    async with running(make("head"), "lwt") as head:
        assert await received(head) == Received("lwt", b"left", retained=True)


async def test_callers_are_told_of_each_connection_and_a_failing_one_stops_nobody(
    make: Make,
) -> None:
    told: list[str] = []

    def fails() -> None:
        raise RuntimeError("a listener's fault")

    bearer = MqttBearer(make("m"), subscriptions=(), rng=random.Random(1))
    bearer.on_connected += [fails, lambda: told.append("there")]
    task = asyncio.create_task(bearer.run())
    await connected(bearer)
    assert (told, bearer.connections, bearer.connected) == (["there"], 1, True)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not bearer.connected
    assert not await bearer.publish("t", b"too late")


async def test_a_wrong_password_is_one_line(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    good = make("m")
    bad = MqttSettings(
        good.host, good.port, "m", username=good.username, password=Secret("not-the-password")
    )
    async with running(bad) as bearer:
        await until(lambda: bearer.counters["attempts_failed"] >= 3)
    told = [line for line in lines(caplog) if "comm.mqtt" in line or "mqtt://" in line]
    assert len(told) <= 2  # one for each version that was tried
    assert "access rules" in told[-1] or "user name and password" in told[-1]
    assert "not-the-password" not in caplog.text


async def test_the_will_is_published_when_the_meter_is_lost(broker: MosquittoBroker) -> None:
    async with running(of(broker, "head"), "lwt") as head:
        await connected(head)
        will = Will("lwt", b"lost")
        bearer = MqttBearer(of(broker, "m"), subscriptions=(), will=will, rng=random.Random(1))
        task = asyncio.create_task(bearer.run())
        await connected(bearer)
        assert bearer._link is not None
        bearer._link._shut()  # the cable is cut: no farewell, no DISCONNECT
        assert (await received(head)).payload == b"lost"
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_an_expired_message_is_not_delivered(broker: MosquittoBroker) -> None:
    async with running(of(broker, "meter"), "cmd/+") as meter:
        await connected(meter)
    async with running(of(broker, "head")) as head:
        await connected(head)
        assert await head.publish("cmd/old", b"x", expiry_s=1)
        assert await head.publish("cmd/new", b"x", expiry_s=60)
        await asyncio.sleep(2.1)  # the broker counts in whole seconds of its own clock
    async with running(of(broker, "meter"), "cmd/+") as meter:
        assert (await received(meter)).topic == "cmd/new"


async def test_what_waits_unread_stays_at_the_broker_and_is_not_lost_with_us(
    broker: MosquittoBroker,
) -> None:
    settings = of(broker, "slow")
    async with running(settings, "t", max_queue=8) as slow, running(of(broker, "m")) as meter:
        await connected(slow)
        await connected(meter)
        for number in range(40):
            assert await meter.publish("t", b"%d" % number)
        first = [(await received(slow)).payload for _ in range(5)]
        assert slow.counters["dropped"] == 0
    async with running(settings, "t", max_queue=8) as again:
        rest = await received_until(again, b"39")
    # The last acknowledgements may have been lost with the connection.
    assert list(dict.fromkeys(first + rest)) == [b"%d" % number for number in range(40)]


async def test_more_than_fits_is_fetched_again_in_order_once_there_is_room(
    broker: MosquittoBroker, caplog: pytest.LogCaptureFixture
) -> None:
    settings = of(broker, "slow", protocol="3.1.1")
    async with running(settings, "t", max_queue=4) as slow, running(of(broker, "m")) as meter:
        await connected(slow)
        await connected(meter)
        for number in range(10):
            assert await meter.publish("t", b"%d" % number)
        await until(lambda: slow.counters["dropped"] == 6)
        seen = await received_until(slow, b"9")
        assert list(dict.fromkeys(seen)) == [b"%d" % number for number in range(10)]
        await until(lambda: slow.connections > 1)
    assert len([line for line in lines(caplog) if "wait to be received" in line]) == 1


async def test_nothing_is_lost_or_disordered_over_twenty_restarts(tmp_path: Path) -> None:
    rng = random.Random(20)
    broker = MosquittoBroker(tmp_path)
    with broker:
        async with running(of(broker, "head"), "t") as head, running(of(broker, "m")) as meter:
            await connected(head)
            seen: list[int] = []

            async def collect() -> None:
                while len(set(seen)) < 1_000:
                    seen.append(int((await head.receive()).payload))

            async def publish() -> None:
                for number in range(1_000):
                    while not await meter.publish("t", b"%d" % number, timeout_s=2.0):
                        await meter.wait_connected()

            async def disturb() -> None:
                for _ in range(20):
                    await asyncio.sleep(rng.uniform(0.0, 0.2))
                    await asyncio.to_thread(broker.restart)

            async with asyncio.timeout(90), asyncio.TaskGroup() as group:
                for work in (collect, publish, disturb):
                    group.create_task(work())
    assert list(dict.fromkeys(seen)) == list(range(1_000))
    assert meter.connections > 10


async def test_what_a_killed_broker_forgot_arrives_once_it_is_sent_again(tmp_path: Path) -> None:
    """A broker's acknowledgement is not storage: here the reader's answer is what counts."""
    rng = random.Random(21)
    broker = MosquittoBroker(tmp_path)
    with broker:
        async with running(of(broker, "head"), "t") as head, running(of(broker, "m")) as meter:
            seen: set[int] = set()

            async def collect() -> None:
                while len(seen) < 1_000:
                    seen.add(int((await head.receive()).payload))

            async def publish() -> None:
                while missing := [number for number in range(1_000) if number not in seen]:
                    for number in missing:
                        while not await meter.publish("t", b"%d" % number, timeout_s=2.0):
                            await meter.wait_connected()
                    await asyncio.sleep(0.1)

            async def disturb() -> None:
                for _ in range(20):
                    await asyncio.sleep(rng.uniform(0.0, 0.2))
                    await asyncio.to_thread(broker.kill)
                    await asyncio.to_thread(broker.start)

            async with asyncio.timeout(90), asyncio.TaskGroup() as group:
                for work in (collect, publish, disturb):
                    group.create_task(work())
    assert seen == set(range(1_000))


async def test_a_frozen_broker_is_noticed_and_publishing_does_not_hang(
    broker: MosquittoBroker,
) -> None:
    async with running(of(broker, "m", keepalive_s=1)) as meter:
        await connected(meter)
        broker.freeze()
        begun = time.monotonic()
        assert not await meter.publish("t", b"x", timeout_s=0.3)
        assert time.monotonic() - begun < 1.0
        await until(lambda: not meter.connected)
        assert time.monotonic() - begun < 6.0
        broker.thaw()
        await connected(meter)
        assert await meter.publish("t", b"x")


async def test_publishing_ends_with_the_connection(broker: MosquittoBroker) -> None:
    async with running(of(broker, "m")) as meter:
        await connected(meter)
        broker.freeze()
        waiting = [asyncio.create_task(meter.publish("t", b"x", timeout_s=30)) for _ in range(30)]
        await asyncio.sleep(0.05)
        broker.kill()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 5.0) == [False] * 30
        assert meter.counters["unpublished"] == 30
        broker.start()
        await connected(meter)


async def test_an_end_while_the_broker_is_frozen_is_quick(broker: MosquittoBroker) -> None:
    will = Will("lwt", b"lost")
    async with running(of(broker, "m"), will=will, farewell=b"left") as meter:
        await connected(meter)
        broker.freeze()


async def test_an_end_while_connecting_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as mute:
        port = mute.getsockname()[1]
        async with running(MqttSettings("127.0.0.1", port, "m")) as bearer:
            await asyncio.sleep(0.1)
            assert not bearer.connected
    lab = Lab.create(tmp_path / "lab")
    with socket.create_server(("127.0.0.1", 0), backlog=1) as mute:
        port = mute.getsockname()[1]
        async with running(MqttSettings("127.0.0.1", port, "m", tls=lab.tls("mdms"))):
            await asyncio.sleep(0.1)
    # The thread in the TLS handshake still waits for its own bound; it leaves nothing either.


async def test_a_version_that_the_broker_does_not_speak_is_given_up_for_the_older() -> None:
    greetings: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = await reader.read(64)
        greetings.append(greeting[8])
        writer.write(bytes([0x20, 2, 0, 1 if greeting[8] == 5 else 0]))
        await reader.read(64)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(MqttSettings("127.0.0.1", port, "m")) as bearer:
        await connected(bearer)
        assert bearer.protocol == "3.1.1"
    server.close()
    assert greetings == [5, 4]


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[Lab, MosquittoBroker]]:
    lab = Lab.create(tmp_path / "lab", broker_port=free_port())
    for meter in ("m1", "m2"):
        lab.enroll(meter, MeterIdentity.from_device_key(meter.encode() * 16).public)
    with MosquittoBroker(tmp_path, lab=lab) as broker:
        yield lab, broker


def of_meter(lab: Lab, broker: MosquittoBroker, meter: str) -> MqttSettings:
    return of(broker, meter, tls=lab.meter(meter).tls)


async def test_with_certificates_a_meter_speaks_and_hears_under_its_own_id_only(
    secured: tuple[Lab, MosquittoBroker], caplog: pytest.LogCaptureFixture
) -> None:
    lab, broker = secured
    head = of(broker, "scs", tls=lab.tls("scs"))
    head.check(time.time())
    async with (
        running(of_meter(lab, broker, "m1"), "ar/v1/kansai/m1/cmd/+") as first,
        running(of_meter(lab, broker, "m2"), "ar/v1/kansai/+/cmd/+") as second,
        running(head, "ar/v1/kansai/+/birth") as scs,
    ):
        for each in (first, second, scs):
            await connected(each)
        assert await first.publish("ar/v1/kansai/m1/birth", b"one")
        assert not await second.publish("ar/v1/kansai/m1/birth", b"two says it is one")
        assert second.counters["publish_refused"] == 1
        assert await second.publish("ar/v1/kansai/m2/birth", b"two")
        assert [(await received(scs)).payload for _ in range(2)] == [b"one", b"two"]
        assert await scs.publish("ar/v1/kansai/m1/cmd/01", b"for one")
        assert await scs.publish("ar/v1/kansai/m2/cmd/02", b"for two")
        assert (await received(first)).payload == b"for one"
        assert (await received(second)).payload == b"for two"
    assert [line for line in lines(caplog) if "m1/birth" in line and "access rules" in line]


async def refusal(settings: MqttSettings, caplog: pytest.LogCaptureFixture) -> str:
    """The one line that several failed attempts leave."""
    async with running(settings) as bearer:
        await until(lambda: bearer.counters["attempts_failed"] >= 3)
        assert not bearer.connected
    told = lines(caplog)
    assert len(told) == 1, told
    return told[0]


async def test_a_broker_that_is_not_there_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    told = await refusal(MqttSettings("127.0.0.1", free_port(), "m"), caplog)
    assert "refuses connections: is the broker running" in told


async def test_a_name_that_is_not_known_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    told = await refusal(MqttSettings("no-such-broker.invalid", 1883, "m"), caplog)
    assert "cannot be found" in told


async def test_a_broker_of_another_authority_is_one_line(
    secured: tuple[Lab, MosquittoBroker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lab, broker = secured
    ours = lab.meter("m1").tls
    other = Lab.create(tmp_path / "other").ca
    told = await refusal(of(broker, "m1", tls=TlsFiles(other, ours.certificate, ours.key)), caplog)
    assert f"a certificate that {other} did not issue" in told


async def test_a_broker_by_another_name_is_one_line(
    secured: tuple[Lab, MosquittoBroker], caplog: pytest.LogCaptureFixture
) -> None:
    lab, broker = secured
    # The resolver takes 127.1 for 127.0.0.1; no certificate does.
    settings = MqttSettings("127.1", broker.port, "m1", tls=lab.meter("m1").tls)
    assert "for another name" in await refusal(settings, caplog)


async def test_a_certificate_that_has_expired_is_one_line(
    secured: tuple[Lab, MosquittoBroker], caplog: pytest.LogCaptureFixture
) -> None:
    lab, broker = secured
    tls = expired(lab)
    told = await refusal(of(broker, "m1", tls=tls), caplog)
    assert f"says that the certificate {tls.certificate} has expired" in told


async def test_a_certificate_of_another_authority_is_one_line(
    secured: tuple[Lab, MosquittoBroker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lab, broker = secured
    stranger = Lab.create(tmp_path / "other").tls("mdms")
    tls = TlsFiles(lab.ca, stranger.certificate, stranger.key)
    told = await refusal(of(broker, "mdms", tls=tls), caplog)
    assert "does not know who issued" in told


async def test_tls_to_a_port_without_it_is_one_line(
    tmp_path: Path, broker: MosquittoBroker, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab.create(tmp_path / "lab")
    told = await refusal(of(broker, "mdms", tls=lab.tls("mdms")), caplog)
    assert "TLS" in told
