"""A laboratory for a test: its broker, its relay and its control side, and a meter with a gate."""

import asyncio
import contextlib
import os
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from pathlib import Path

from hand_clock import HandClock
from mosquitto_broker import MosquittoBroker
from mosquitto_broker import free_port as free_port  # noqa: PLC0414 - others take it from here

from meter_runtime.aroute.commands import Arguments, Code
from meter_runtime.aroute.dispatch import Way
from meter_runtime.aroute.envelope import Command, seal
from meter_runtime.aroute.gate import Gate, Outcome
from meter_runtime.aroute.identity import MeterIdentity, SigningKey
from meter_runtime.aroute.messages import Topics
from meter_runtime.aroute.trust import load_trust
from meter_runtime.comm.mqtt import MqttBearer, MqttSettings, TlsFiles, parse_url
from meter_runtime.errors import MeterError
from meter_runtime.headend import relay
from meter_runtime.headend.lab import NEW_SYSTEM, RELAY, SCS, Lab
from meter_runtime.headend.relay_client import BusinessSide, ControlSide
from meter_runtime.headend.relay_spool import LEASE_S, Spool
from meter_runtime.headend.scs import Pace, SupervisoryControl
from meter_runtime.headend.scs_store import ScsStore
from meter_runtime.storage.issuer_ledger import IssuerLedger
from meter_runtime.storage.journal import Journal
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.supervisor import Backoff

FAST = Pace(fetch_s=0.02, look_s=0.02, first_retry_s=0.1, last_retry_s=0.3, trouble_s=0.05)
PATIENCE_S = 30.0
_PROGRAM = (
    "import sys; from meter_runtime import cli;"
    "cli.COMMANDS.setdefault('headend', ''); sys.exit(cli.main())"
)
METER = "M-0001"
DEVICE_KEY = b"\x17" * 32


def make_lab(path: Path, *, meters: tuple[str, ...] = (METER,)) -> Lab:
    lab = Lab.create(
        path / "lab",
        broker_port=free_port(),
        business_port=free_port(),
        control_port=free_port(),
    )
    for meter_id in meters:
        lab.enroll(meter_id, identity_of(meter_id).public)
    return lab


def identity_of(meter_id: str) -> MeterIdentity:
    return MeterIdentity.from_device_key(DEVICE_KEY + meter_id.encode())


def sealed_command(
    lab: Lab,
    counter: int,
    *,
    name: str = "broute.status",
    meter_id: str = METER,
    valid_s: float = 600,
    key: SigningKey | None = None,
) -> tuple[str, bytes, int]:
    """Request id, envelope and expiry of a command of the New System."""
    now = int(time.time())
    command = Command(
        name=name,
        meter_id=meter_id,
        command_id=secrets.token_bytes(16),
        issuer=NEW_SYSTEM,
        counter=counter,
        not_before=now - 300,
        expiry=int(now + valid_s),
        arguments={},
        reason="",
    )
    key = key or lab.issuer_key(NEW_SYSTEM, meter_id)
    envelope = seal(command, key, lab.meter_keys(meter_id).sealing)
    return command.command_id.hex(), envelope, command.expiry


def bearer_of(lab: Lab, tls: TlsFiles, client_id: str, *subscriptions: str) -> MqttBearer:
    host, port, _ = parse_url(lab.broker_url)
    return MqttBearer(
        MqttSettings(host, port, client_id, tls=tls),
        subscriptions=subscriptions,
        rng=random.Random(1),
        backoff=Backoff(first_s=0.1, limit_s=0.5, healthy_s=1.0),
    )


class CountingApplier:
    """Says OK, and counts how often each command was carried out."""

    def __init__(self) -> None:
        self.applied: Counter[bytes] = Counter()

    async def apply(self, command: Command, arguments: Arguments) -> Outcome:
        self.applied[command.command_id] += 1
        return Outcome(Code.OK, {"name": command.name})

    def proof(self, arguments: Arguments) -> bytes | None:
        return None

    def settle(self, name: str, before: int, counter: int) -> Outcome:
        return Outcome(Code.STORE_FAILED)


class LabMeter:
    """The meter's half: the real gate behind the real bearer."""

    def __init__(self, lab: Lab, meter_id: str = METER) -> None:
        self.applier = CountingApplier()
        self.topics = Topics(lab.utility, meter_id)
        clock = HandClock()
        clock.offset = time.time() - clock.at
        journal = Journal.open(MemoryMedia(Journal.size_for(64, 1)))
        ledger = IssuerLedger.open(MemoryMedia(IssuerLedger.size_for(1)), DEVICE_KEY)
        self.gate = Gate(
            meter_id,
            identity_of(meter_id),
            load_trust(lab.meter(meter_id).trust),
            ledger,
            journal,
            applier=self.applier,
            clock=clock,
            credential_version=lambda: 0,
            diagnosis=lambda: None,
        )
        tls = lab.meter(meter_id).tls
        self.bearer = bearer_of(lab, tls, f"meter-{meter_id}", self.topics.commands)

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.bearer.run())
            group.create_task(self._answer())

    async def _answer(self) -> None:
        while True:
            received = await self.bearer.receive()
            if received.topic == self.topics.results:
                continue
            told = await self.gate.take(received.payload, Way.CONTROL)
            # An answer that is lost is asked for again.
            if told is not None:
                await self.bearer.publish(self.topics.results, told)


@asynccontextmanager
async def running(*coroutines: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """These run until the block ends; one that fails fails the test."""
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        for each in done:
            if isinstance(each, Exception):
                raise each


@asynccontextmanager
async def broker(lab: Lab) -> AsyncIterator[None]:
    """Mosquitto by the laboratory's own configuration."""
    with MosquittoBroker(lab.path.parent, lab=lab):
        yield


@asynccontextmanager
async def whole(lab: Lab, store: ScsStore) -> AsyncIterator[SupervisoryControl]:
    """Relay, broker and control side, all real, in this process but the broker."""
    bearer = bearer_of(lab, lab.tls(SCS), "scs", Topics(lab.utility, "+").results)
    control = SupervisoryControl(lab, ControlSide.of(lab), bearer, store, pace=FAST)
    with closing(Spool(lab.folder(RELAY) / "spool.db")) as spool:
        async with broker(lab), relay.serve(lab, spool), running(control.run()):
            yield control


async def result_of(business: BusinessSide, request_id: str) -> bytes:
    # A process that is killed between the relay's step and its own waits for the lease's end.
    async with asyncio.timeout(PATIENCE_S + LEASE_S):
        while True:
            try:
                if (found := await business.result(request_id)) is not None:
                    return found
            except MeterError:
                pass
            await asyncio.sleep(0.05)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - what is waited for is another process's doing
            await asyncio.sleep(0.01)


class Role:
    """A role of the head-end in a process of its own, which may be killed and begun again."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._argv = [sys.executable, "-c", _PROGRAM, "headend", name, "--lab", str(lab.path)]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            assert await self._process.stdout.readline()

    async def kill(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
