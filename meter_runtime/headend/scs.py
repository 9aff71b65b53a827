"""The Supervisory Control System: brings sealed commands to meters, and their results back.

It picks requests up at the relay, puts its own dispatch signature around each sealed envelope,
publishes it to the meter, and takes the meter's signed result back to the relay. It can read none
of them. The control side's own commands (:mod:`~meter_runtime.headend.scs_send`) go the same way.

A command is sent again, the same bytes, with growing pauses until a result is there or it has
expired; the meter carries it out once and answers a repetition with the same result. Everything
that matters is in the store before the next step, so that the process may die between any two.
The head-end lives in real time: what waits here waits for other machines.
"""

import asyncio
import contextlib
import logging
import math
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol

from meter_runtime.aroute import dispatch, results
from meter_runtime.aroute.cbor import MalformedError
from meter_runtime.aroute.dispatch import Dispatch, Way
from meter_runtime.aroute.messages import Topics, meter_of
from meter_runtime.comm.mqtt import Received
from meter_runtime.errors import MeterError
from meter_runtime.headend.lab import SCS, Lab
from meter_runtime.headend.relay_client import RelayRefusedError
from meter_runtime.headend.relay_spool import MAX_FETCH, Request
from meter_runtime.headend.scs_store import Recorded, ScsStore, Task

log = logging.getLogger(__name__)

_AT_ONCE = 16
"""Messages that are under way to the broker at the same time."""
_PURGE_S = 3600.0
_SETTLED = frozenset({404, 409})
"""The relay has another result already, or has forgotten the request: there is nobody to tell."""


class Relay(Protocol):
    """The control side's way to the relay."""

    async def fetch(self, limit: int) -> list[Request]: ...

    async def answer(self, request_id: str, result: bytes) -> None: ...


class Bearer(Protocol):
    """The way to the meters."""

    @property
    def connected(self) -> bool: ...

    async def run(self) -> None: ...

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expiry_s: int | None = None,
        timeout_s: float = 10,
    ) -> bool: ...

    async def receive(self) -> Received: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How often, in seconds."""

    fetch_s: float = 1.0
    look_s: float = 0.5
    """At the store, for what another process has put there."""
    first_retry_s: float = 10.0
    last_retry_s: float = 600.0
    """Pauses between sendings double from the one to the other."""
    trouble_s: float = 5.0
    """After a failure of the relay or the broker."""


class SupervisoryControl:
    """The sending loop over one store."""

    def __init__(
        self,
        lab: Lab,
        relay: Relay,
        bearer: Bearer,
        store: ScsStore,
        *,
        pace: Pace | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._lab = lab
        self._relay = relay
        self._bearer = bearer
        self._store = store
        self._pace = pace or Pace()
        self._rng = rng or random.Random()
        self._key = lab.signing_key(SCS)
        self._answered = asyncio.Event()
        self._last_trouble: dict[str, str] = {}
        self.counters: Counter[str] = Counter()

    async def run(self) -> NoReturn:
        """Serve until cancelled; the world's failures are logged and outlived."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bearer.run())
            group.create_task(self._again("relay", self._fetch, self._pace.fetch_s))
            group.create_task(self._again("send", self._send, self._pace.look_s))
            group.create_task(self._again("results", self._listen, 0))
            group.create_task(self._again("answer", self._answer, 0))
            group.create_task(self._again("purge", self._purge, _PURGE_S))
        raise AssertionError("the loops have no end")

    async def _again(self, name: str, step: Callable[[], Awaitable[None]], rest_s: float) -> None:
        """One step after another; a reason for trouble is told once, not at every attempt."""
        while True:
            try:
                await step()
            except (MeterError, sqlite3.Error) as failure:
                self.counters[f"{name}_failed"] += 1
                self._tell(name, str(failure))
                await asyncio.sleep(self._jittered(self._pace.trouble_s))
            else:
                if self._last_trouble.pop(name, None) is not None:
                    log.warning("%s: well again", name)
                await asyncio.sleep(rest_s)

    async def _fetch(self) -> None:
        """Take what waits at the relay, as far as there is room."""
        while self._store.has_room(time.time()):
            requests = await self._relay.fetch(MAX_FETCH)
            for request in requests:
                try:
                    self._store.fetched(request, time.time())
                except MalformedError as wrong:
                    self.counters["malformed"] += 1
                    log.warning("relay: request %s is no envelope: %s", request.request_id, wrong)
            self.counters["fetched"] += len(requests)
            if len(requests) < MAX_FETCH:
                return

    async def _purge(self) -> None:
        self._store.purge(time.time())

    async def _send(self) -> None:
        """Send what is due; without a connection it stays due."""
        while self._bearer.connected:
            due = self._store.due(_AT_ONCE, time.time())
            if not due:
                return
            await asyncio.gather(*map(self._send_one, due))

    async def _send_one(self, task: Task) -> None:
        now = time.time()
        try:
            self._lab.meter(task.meter_id)
            message = task.message or self._wrapped(task, now)
        except (MeterError, ValueError) as wrong:
            self.counters["unsendable"] += 1
            log.warning("%s cannot be sent to its meter: %s", task.request_id, wrong)
            self._store.sent(task, taken=False, next_at=now + self._pace.last_retry_s)
            return
        pause = min(self._pace.first_retry_s * 2 ** min(task.sent, 16), self._pace.last_retry_s)
        pause = self._jittered(pause)
        # The broker keeps a copy for a meter that is away, until the next one is sent.
        expiry_s = max(1, math.ceil(min(pause, task.expiry - now)))
        topic = Topics(self._lab.utility, task.meter_id).command(task.command_id)
        taken = await self._bearer.publish(topic, message, expiry_s=expiry_s)
        self.counters["sent" if taken else "not_taken"] += 1
        pause = pause if taken else self._jittered(self._pace.trouble_s)
        self._store.sent(task, taken=taken, next_at=time.time() + pause)

    def _wrapped(self, task: Task, now: float) -> bytes:
        note = task.note or task.request_id
        around = Dispatch(SCS, Way.CONTROL, now, task.operator, note, task.envelope)
        message = dispatch.wrap(around, self._key)
        self._store.sending(task, message, results.answer_to(message))
        return message

    async def _listen(self) -> None:
        """Take one result; whatever does not verify is counted and changes nothing."""
        received = await self._bearer.receive()
        try:
            meter_id = meter_of(received.topic)
            if received.topic != Topics(self._lab.utility, meter_id).results:
                return
            keys = self._lab.meter_keys(meter_id)
            result = results.read(received.payload, keys.signing)
            if result.meter_id != meter_id:
                raise MeterError("a result in another meter's name")
        except MeterError as wrong:
            self.counters["unverified"] += 1
            self._tell("unverified", f"a result that does not verify is ignored: {wrong}")
            return
        recorded = self._store.record(result, received.payload, time.time())
        self.counters[f"{recorded.value}_results"] += 1
        if recorded is Recorded.NEW:
            self._answered.set()

    async def _answer(self) -> None:
        """Tell the relay what is known; wakes at once when a result came."""
        self._answered.clear()
        untold = self._store.untold(_AT_ONCE, time.time())
        for task in untold:
            try:
                await self._relay.answer(task.request_id, task.result or b"")
            except RelayRefusedError as refused:
                if refused.status not in _SETTLED:
                    self._store.tell_later(task, time.time() + self._pace.trouble_s)
                    raise
                self.counters["told_before"] += 1
            self._store.told(task)
            self.counters["answered"] += 1
        if len(untold) == _AT_ONCE:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.look_s):
                await self._answered.wait()

    def _tell(self, name: str, trouble: str) -> None:
        if self._last_trouble.get(name) != trouble:
            self._last_trouble[name] = trouble
            log.warning("%s: %s", name, trouble)

    def _jittered(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.75, 1.25)
