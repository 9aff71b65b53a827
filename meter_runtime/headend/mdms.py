"""The collector of the metering data management system: from the broker into the store.

What it receives it stores, batch by batch, and only then answers with the meter's mark. A message
that is lost with the collector, or for want of disk, is therefore sent again by its meter: nothing
else makes up for it, and nothing else is needed.

Several collectors share the meters by the broker's shared subscriptions (MQTT 5, 4.8.2; Mosquitto
has them in 3.1.1, too), and share one store. Two of them may answer one meter in the wrong order;
a meter takes only the mark that bears its last message's sequence, and sends again without it.

The head-end lives in real time: what waits here waits for other machines.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from meter_runtime.aroute.messages import Mark, Readings, Topics, encode, meter_of
from meter_runtime.comm.mqtt import Received
from meter_runtime.errors import MeterError
from meter_runtime.headend import collector_intake
from meter_runtime.headend.readings_store import ReadingsStore, StoredEvent

log = logging.getLogger(__name__)

T = TypeVar("T")

SHARE = "$share/mdms/"
MAX_BATCH = 256
"""Messages of one transaction."""
MAX_WAITING = 2048
"""Messages that wait for a transaction. Of a district that speaks all at once as many must fit:
Mosquitto 2.0 sends more than the Receive Maximum when it is acknowledged slowly."""
_MAX_NOTED = 10_000
"""Meters of which something is remembered here."""


class Bearer(Protocol):
    """The way from the meters, and back."""

    async def run(self) -> None: ...

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool: ...

    async def receive(self) -> Received: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How often, in seconds."""

    resend_s: float = 5.0
    """A meter is asked for what is missing not more often than this, or up to twice as long."""
    trouble_s: float = 2.0
    """After a failure of the store."""
    complaint_s: float = 60.0
    """One line of the log per meter that sends nonsense."""


def subscriptions(utility: str, *, shared: bool) -> tuple[str, ...]:
    """What a collector subscribes to; ``shared`` with the others of its group."""
    every = Topics(utility, "+")
    prefix = SHARE if shared else ""
    return tuple(prefix + each for each in (every.readings, every.history, every.event))


class Collector:
    """One collector, ``name``, which writes into the store at ``path``."""

    def __init__(
        self,
        bearer: Bearer,
        path: Path,
        utility: str,
        name: str,
        *,
        pace: Pace | None = None,
        rng: random.Random | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._bearer = bearer
        self._path = path
        self._utility = utility
        self._name = name
        self._pace = pace or Pace()
        self._rng = rng or random.Random()
        self._wall = wall
        self._waiting: asyncio.Queue[Readings | StoredEvent] = asyncio.Queue(MAX_WAITING)
        self._asked = _Rests()
        self._complained = _Rests()
        self._failing = False
        self.counters = dict.fromkeys(
            (
                "received",
                "bad",
                "stored",
                "batches",
                "store_failures",
                "unstored",
                "marks",
                "marks_unpublished",
                "resends",
                "resends_held",
            ),
            0,
        )

    async def run(self) -> None:
        """Serve until cancelled; raises MeterError where the store cannot be opened."""
        loop = asyncio.get_running_loop()
        # SQLite waits for a lock without the loop, and a connection stays with its thread.
        with ThreadPoolExecutor(1, "store") as thread:

            async def in_thread(call: Callable[[], T]) -> T:
                return await loop.run_in_executor(thread, call)

            store = await in_thread(partial(ReadingsStore, self._path))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._bearer.run())
                    group.create_task(self._receive())
                    while True:
                        batch = await self._next_batch()
                        marks = await in_thread(partial(self._store, store, batch))
                        if marks is None:
                            await asyncio.sleep(self._pace.trouble_s)
                        else:
                            await self._answer(marks)
            finally:
                await in_thread(store.close)

    async def _receive(self) -> NoReturn:
        while True:
            received = await self._bearer.receive()
            self.counters["received"] += 1
            try:
                message = collector_intake.read(received, self._utility)
            except MeterError as wrong:
                self.counters["bad"] += 1
                self._complain(received.topic, wrong)
            else:
                await self._waiting.put(message)

    async def _next_batch(self) -> list[Readings | StoredEvent]:
        """What waits, once something does."""
        batch = [await self._waiting.get()]
        while len(batch) < MAX_BATCH and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        return batch

    def _store(
        self, store: ReadingsStore, batch: Sequence[Readings | StoredEvent]
    ) -> dict[str, Mark] | None:
        """The last mark of each meter once all is stored; None: nothing was."""
        try:
            marks = store.take(batch, self._name, self._wall())
        except MeterError as failure:
            self.counters["store_failures"] += 1
            self.counters["unstored"] += len(batch)
            if not self._failing:
                log.error("%s: %s; until then the meters keep what they have", self._path, failure)
            self._failing = True
            return None
        if self._failing:
            log.warning("%s: it can be written again", self._path)
        self._failing = False
        self.counters["stored"] += len(batch)
        self.counters["batches"] += 1
        return dict(marks)

    async def _answer(self, marks: dict[str, Mark]) -> None:
        due = [(meter, mark) for meter, mark in marks.items() if self._may_answer(meter, mark)]
        answered = await asyncio.gather(
            *(
                self._bearer.publish(Topics(self._utility, meter).mark, encode(mark), retain=True)
                for meter, mark in due
            )
        )
        self.counters["marks"] += sum(answered)
        self.counters["marks_unpublished"] += len(answered) - sum(answered)

    def _may_answer(self, meter: str, mark: Mark) -> bool:
        """A meter that is asked for more than it can send would answer for ever."""
        if not mark.resend:
            return True
        rest_s = self._pace.resend_s * self._rng.uniform(1, 2)
        allowed = self._asked.over(meter, rest_s)
        self.counters["resends" if allowed else "resends_held"] += 1
        return allowed

    def _complain(self, topic: str, wrong: MeterError) -> None:
        try:
            meter = meter_of(topic)
        except MeterError:
            meter = ""
        if self._complained.over(meter, self._pace.complaint_s):
            log.warning("meter %r: a message is not stored: %s", meter, wrong)


class _Rests:
    """Who rests, each until an instant of its own; of a bounded number."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def over(self, who: str, rest_s: float) -> bool:
        """Whether its rest is over; then the next one, of ``rest_s``, begins."""
        now = time.monotonic()
        if self._until.get(who, now) > now:
            return False
        if len(self._until) >= _MAX_NOTED:
            self._until.clear()
        self._until[who] = now + rest_s
        return True
