"""A broker and one collector for meters of other processes, with a laboratory's keys.

The broker is the bench's own, which speaks MQTT 3.1.1 without TLS, or Mosquitto as the laboratory
configures it: MQTT 5 and TLS with certificates on both sides. The collector stores into a file and
marks; it lives in this process, and so does the bench's broker.
"""

import asyncio
import contextlib
import random
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from meter_runtime.bench.broker import EmbeddedBroker
from meter_runtime.comm.mqtt import MqttBearer
from meter_runtime.errors import MeterError
from meter_runtime.headend.lab import BROKER, MDMS, Lab, Login
from meter_runtime.headend.mdms import MAX_BATCH, Collector, subscriptions
from meter_runtime.headend.readings_store import FILE_NAME

HOST = "localhost"
_SERVES_WITHIN_S = 10.0
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class CollectorRoom:
    """What the room has: keys, and a place for what is collected."""

    lab: Lab
    store: Path


def mosquitto() -> str | None:
    """Where Mosquitto is; None where it is not installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def collector_room(folder: Path, broker: str | None) -> AsyncIterator[CollectorRoom]:
    """``broker``: Mosquitto's program, or None for the bench's own."""
    opening = _own_broker(folder) if broker is None else _mosquitto(folder, broker)
    async with opening as lab:
        bearer = MqttBearer(
            lab.mqtt(MDMS, "mdms-benchmark"),
            subscriptions=subscriptions(lab.utility, shared=False),
            rng=random.Random(),
            max_queue=MAX_BATCH,
        )
        path = folder / FILE_NAME
        serving = asyncio.create_task(Collector(bearer, path, lab.utility, "benchmark").run())
        try:
            async with asyncio.timeout(_SERVES_WITHIN_S):
                await bearer.wait_connected()
            yield CollectorRoom(lab, path)
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


@asynccontextmanager
async def _own_broker(folder: Path) -> AsyncIterator[Lab]:
    async with EmbeddedBroker() as broker:
        login = Login(broker.username, broker.password)
        yield Lab.create(
            folder / "lab", broker_host=broker.host, broker_port=broker.port, login=login
        )


@asynccontextmanager
async def _mosquitto(folder: Path, program: str) -> AsyncIterator[Lab]:
    port = _free_port()
    lab = Lab.create(folder / "lab", broker_host=HOST, broker_port=port)
    configuration = lab.folder(BROKER) / "mosquitto.conf"
    process = await asyncio.create_subprocess_exec(
        *(program, "-c", str(configuration)), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _serving(port)
        yield lab
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _serving(port: int) -> None:
    try:
        async with asyncio.timeout(_SERVES_WITHIN_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(HOST, port)
                    writer.close()
                    return
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise MeterError("mosquitto does not serve; start it by hand to see why") from None


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
