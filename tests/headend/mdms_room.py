"""Meters with the real uplink and bearer, living a hundred times faster; collectors to kill."""

import asyncio
import contextlib
import os
import random
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from meter_runtime.aroute.messages import Mark, Readings, Topics, decode, encode
from meter_runtime.aroute.uplink import Uplink
from meter_runtime.comm.mqtt import MqttBearer
from meter_runtime.headend.lab import Lab
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.ring import Record
from meter_runtime.storage.uplink_state import UplinkStateStore

FIRST = 990_000
SPEED = 100.0
PATIENCE_S = 60.0
_LOOK_S = 0.02
_PROGRAM = (
    "import sys; from meter_runtime import cli; cli.COMMANDS.setdefault('headend', '');"
    " sys.exit(cli.main())"
)


class Profile:
    """A load profile in memory: what is in it is true."""

    two_way: bool | None = True
    reach = FIRST

    def __init__(self, serial: str) -> None:
        self.serial: str | None = serial
        self._held: dict[int, Record] = {}
        self._value = 1000

    @property
    def newest(self) -> int | None:
        return max(self._held, default=None)

    def record(self, slot: int) -> Record | None:
        return self._held.get(slot)

    @property
    def values(self) -> dict[int, int]:
        return {slot: record.forward_dwh for slot, record in self._held.items()}

    def store(self, slot: int) -> None:
        self._value += 1
        self._held[slot] = Record(slot, self._value, 0)

    def withdraw(self, slots: tuple[int, ...]) -> None:
        for slot in slots:
            del self._held[slot]


class ModelMeter:
    """``marked`` is called with each message of its own that a mark answers."""

    def __init__(
        self,
        meter_id: str,
        utility: str,
        bearer: MqttBearer,
        rng: random.Random,
        marked: Callable[[Readings], None],
    ) -> None:
        self.meter_id = meter_id
        self.profile = Profile(f"U-{meter_id}")
        self.marks = 0
        self._topics = Topics(utility, meter_id)
        self._bearer = bearer
        self._rng = rng
        self._marked = marked
        self._media = MemoryMedia(UplinkStateStore.size_for(1))
        self._published: dict[int, Readings] = {}
        self.uplink = self._boot()
        bearer.on_connected.append(lambda: self.uplink.connected(self._now()))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bearer.run())
            group.create_task(self._hear())
            while True:
                await self._speak()
                await asyncio.sleep(_LOOK_S)

    def restart(self) -> None:
        """Forget what is not kept, as in a power cut."""
        self.uplink = self._boot()
        if self._bearer.connected:
            self.uplink.connected(self._now())

    def live(self) -> None:
        """The next boundary, or an unusual one."""
        newest = self.profile.newest or FIRST
        match self._rng.randrange(12):
            case 0:
                slots = tuple(s for s in range(newest - 3, newest + 1) if self.profile.record(s))
                self.profile.withdraw(slots)
                self.uplink.withdrawn(slots, self._now())
                for slot in slots[1:]:
                    self._store(slot)
            case 1:
                self._store(newest + self._rng.randrange(2, 20))
            case 2:
                self.restart()
            case _:
                self._store(newest + 1)

    def _store(self, slot: int) -> None:
        self.profile.store(slot)
        self.uplink.stored(slot, self._now())

    def _boot(self) -> Uplink:
        return Uplink(
            self.profile,
            UplinkStateStore(self._media),
            self.meter_id,
            jitter_s=5.0,
            rng=random.Random(self._rng.random()),
        )

    async def _speak(self) -> None:
        uplink = self.uplink
        outgoing = uplink.due(self._now(), 0.0)
        if outgoing is not None:
            self._published[outgoing.readings.sequence] = outgoing.readings
            taken = await self._bearer.publish(self._topics.readings, encode(outgoing.readings))
            uplink.sent(outgoing, taken, self._now())

    async def _hear(self) -> None:
        while True:
            received = await self._bearer.receive()
            mark = decode(received.payload, Mark)
            message = self._published.get(mark.sequence)
            if message is not None:
                self._marked(message)
                self.marks += 1
            self.uplink.mark(mark, self._now())

    def _now(self) -> float:
        return asyncio.get_running_loop().time() * SPEED


class CollectorProcess:
    """``headend mdms`` in a process of its own."""

    def __init__(self, lab: Lab, *options: str) -> None:
        self._argv = [sys.executable, "-c", _PROGRAM, "headend", "mdms"]
        self._argv += ["--lab", str(lab.path), *options]
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
        """As a power cut ends it."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """In order; its exit status."""
        assert self._process is not None
        self._process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            return await self._process.wait()


def check_stored(path: Path, message: Readings) -> None:
    """A mark answers this message: the store has it, or what was said after it."""
    with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as database:
        rows = dict(
            database.execute(
                "SELECT slot, sequence FROM reading JOIN series ON series = id"
                " WHERE meter_id = ? AND unit = ? AND slot > ? AND slot <= ?",
                (message.meter_id, message.unit, message.after, message.upto),
            )
        )
        runs = database.execute(
            "SELECT after, upto, sequence FROM silence JOIN series ON series = id"
            " WHERE meter_id = ? AND unit = ?",
            (message.meter_id, message.unit),
        ).fetchall()
    for reading in message.readings:
        said = [rows.get(reading.slot, -1)]
        said += [sequence for after, upto, sequence in runs if after < reading.slot <= upto]
        assert max(said) >= message.sequence, f"{reading.slot} was marked and is not stored"


async def until(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait for it, not for ever."""
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110 - it may lie in another process
            await asyncio.sleep(0.01)
