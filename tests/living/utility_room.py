"""The utility of one bench, in the test's own process: who commands its meter and hears it answer.

The control side and the New System are here one desk with the laboratory's real keys: it seals,
signs and dispatches as they do, publishes on the bench's broker, and believes what the meter's
enrolled keys verify.
"""

import asyncio
import random
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from meter_runtime.aroute import results
from meter_runtime.aroute.commands import COMMANDS, Code, parse_arguments
from meter_runtime.aroute.dispatch import Dispatch, Way, wrap
from meter_runtime.aroute.envelope import COMMAND_ID_SIZE, Command, seal
from meter_runtime.aroute.messages import Topics
from meter_runtime.aroute.results import Result
from meter_runtime.bench.laboratory import Bench
from meter_runtime.comm.mqtt import MqttBearer, MqttSettings
from meter_runtime.headend import mdms
from meter_runtime.headend.lab import MDMS, NEW_SYSTEM, SCS, Lab
from meter_runtime.headend.readings_store import FILE_NAME

from .conftest import eventually

ANSWERED_WITHIN_S = 10.0
VALID_S = 3600
PROOF_KEY = b"proof key of 16b"


def everything(topics: Topics) -> tuple[str, ...]:
    """Filters for all that crosses the broker of one meter, commands included."""
    names = ("birth", "lwt", "readings", "history", "event", "broute_status", "results", "commands")
    return tuple(getattr(topics, name) for name in names)


class Recorder:
    """What crosses the broker, by topic, oldest first."""

    def __init__(self, settings: MqttSettings, subscriptions: tuple[str, ...]) -> None:
        self.heard: dict[str, list[bytes]] = defaultdict(list)
        self.arrived = asyncio.Condition()
        self.bearer = MqttBearer(settings, subscriptions=subscriptions, rng=random.Random(1))

    async def run(self) -> None:
        """Until cancelled."""
        serving = asyncio.create_task(self.bearer.run())
        try:
            while True:
                received = await self.bearer.receive()
                async with self.arrived:
                    self.heard[received.topic].append(received.payload)
                    self.arrived.notify_all()
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


class Desk:
    """Commands ``bench``'s meter over MQTT; counters go on from ``counter``."""

    def __init__(self, bench: Bench, settings: MqttSettings, counter: int) -> None:
        self.bench = bench
        self.lab: Lab = bench.utility.lab
        self.meter_id = bench.options.meter_id
        self.topics = Topics(self.lab.utility, self.meter_id)
        self.recorder = Recorder(settings, everything(self.topics))
        self.counter = counter
        self._keys = self.lab.meter_keys(self.meter_id)

    def message(self, name: str, **arguments: Any) -> tuple[bytes, bytes]:
        """Id and message of a new command, by the issuer whose command it is."""
        parse_arguments(COMMANDS[name], arguments)
        permitted = name.startswith("broute.") and name != "broute.status"
        issuer = NEW_SYSTEM if permitted else SCS
        self.counter += 1
        now = self.bench.clock.wall()
        command = Command(
            name=name,
            meter_id=self.meter_id,
            command_id=secrets.token_bytes(COMMAND_ID_SIZE),
            issuer=issuer,
            counter=self.counter,
            not_before=int(now) - 300,
            expiry=int(now) + VALID_S,
            arguments=arguments,
            reason="",
        )
        envelope = seal(command, self.lab.issuer_key(issuer, self.meter_id), self._keys.sealing)
        dispatch = Dispatch(SCS, Way.CONTROL, now, "Abe", "", envelope)
        return command.command_id, wrap(dispatch, self.lab.signing_key(SCS))

    async def deliver(self, command_id: bytes, message: bytes) -> bytes:
        """Publish a message as it is; the signed result that answers it."""
        mark = results.answer_to(message)
        before = len(self.recorder.heard[self.topics.results])

        def answers() -> list[bytes]:
            heard = self.recorder.heard[self.topics.results][before:]
            told = [each for each in heard if results.peek(each).command_id == command_id]
            return told or [each for each in heard if results.peek(each).answer_to == mark]

        assert await self.recorder.bearer.publish(self.topics.command(command_id), message)
        async with asyncio.timeout(ANSWERED_WITHIN_S), self.recorder.arrived:
            await self.recorder.arrived.wait_for(answers)
        return answers()[0]

    def read(self, answer: bytes) -> Result:
        """The result, if the meter signed it."""
        return results.read(answer, self._keys.signing)

    async def command(self, name: str, **arguments: Any) -> Result:
        """The meter's result of a new command."""
        command_id, message = self.message(name, **arguments)
        result = self.read(await self.deliver(command_id, message))
        assert result.command_id == command_id
        return result

    async def details(self, name: str, **arguments: Any) -> Mapping[str, Any]:
        """Of a command that must end well."""
        result = await self.command(name, **arguments)
        assert result.code is Code.OK, (result.code, result.details)
        return result.details


@asynccontextmanager
async def beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """``work`` goes on until the block ends."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        done = await asyncio.gather(task, return_exceptions=True)
        if isinstance(done[0], Exception):
            raise done[0]


@asynccontextmanager
async def desk(bench: Bench, *, counter: int = 0) -> AsyncIterator[Desk]:
    """At work on ``bench``'s broker, the meter connected, too."""
    found = Desk(bench, bench.utility.lab.mqtt(SCS, "desk"), counter)
    async with beside(found.recorder.run()):
        await found.recorder.bearer.wait_connected()
        await eventually(lambda: bool(bench.status()["aroute"]["connected"]))
        yield found


@asynccontextmanager
async def collecting(bench: Bench) -> AsyncIterator[Path]:
    """A collector stores and marks what ``bench``'s meter tells; where."""
    lab = bench.utility.lab
    bearer = MqttBearer(
        lab.mqtt(MDMS, "collector"),
        subscriptions=mdms.subscriptions(lab.utility, shared=False),
        rng=random.Random(2),
    )
    store = lab.folder(MDMS) / FILE_NAME
    async with beside(mdms.Collector(bearer, store, lab.utility, "collector").run()):
        yield store


async def power_cut(bench: Bench, down_s: float) -> None:
    """Of this length, all of which passes at once."""
    stores = bench.meter.stores
    rebooting = asyncio.create_task(bench.reboot(down_s))
    await eventually(lambda: stores.closed)
    await bench.advance(down_s)
    await rebooting
