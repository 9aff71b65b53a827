"""The broker inside the bench, as a client of another make sees it."""

import asyncio
import logging
import time

import aiomqtt
import pytest

from meter_runtime.bench.broker import EmbeddedBroker


def client(broker: EmbeddedBroker, name: str, password: str | None = None) -> aiomqtt.Client:
    return aiomqtt.Client(
        broker.host,
        broker.port,
        identifier=name,
        username=broker.username,
        password=broker.password.reveal() if password is None else password,
        clean_session=False,
        timeout=5,
    )


async def test_it_starts_quickly_on_a_free_port_and_lets_go_of_it() -> None:
    begun = time.monotonic()
    async with EmbeddedBroker() as first, EmbeddedBroker() as second:
        assert time.monotonic() - begun < 1.0
        assert first.port != second.port
        assert first.url == f"mqtt://127.0.0.1:{first.port}"
        assert first.password != second.password
    begun = time.monotonic()
    async with EmbeddedBroker(first.port) as again:
        assert again.port == first.port
    assert time.monotonic() - begun < 2.0


async def test_what_is_published_while_a_known_client_is_away_waits_for_it() -> None:
    async with EmbeddedBroker() as broker:
        async with client(broker, "meter") as meter:
            await meter.subscribe("cmd/#", qos=1)
        async with client(broker, "head") as head:
            await head.publish("cmd/1", b"x", qos=1)
        async with client(broker, "meter") as meter:
            got = await asyncio.wait_for(anext(meter.messages), 5)
            assert (got.topic.value, got.payload) == ("cmd/1", b"x")


async def test_a_wrong_password_is_refused_and_none_is_a_passing_guest() -> None:
    async with EmbeddedBroker() as broker:
        with pytest.raises(aiomqtt.MqttError):
            async with client(broker, "meter", "wrong"):
                pass
        async with aiomqtt.Client(broker.host, broker.port, identifier="guest", timeout=5) as guest:
            await guest.publish("t", b"x", qos=1)


async def test_it_ends_while_clients_are_connected_and_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = asyncio.all_tasks()
    with caplog.at_level(logging.INFO):
        async with EmbeddedBroker() as broker:
            _, writer = await asyncio.open_connection(broker.host, broker.port)
            begun = time.monotonic()
        assert time.monotonic() - begun < 2.5
        writer.close()
        for _ in range(10):
            await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == before
    assert [each for each in caplog.records if each.name.startswith("amqtt")] == []


def test_the_password_is_not_shown() -> None:
    broker = EmbeddedBroker()
    assert broker.password.reveal() not in repr(vars(broker))
