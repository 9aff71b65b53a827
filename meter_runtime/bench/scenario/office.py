"""The utility in a scenario: the diagnosis as its operator sees it, and the commands he sends.

From afar he sees what the bench's broker keeps on ``status/broute``; on site, what the meter's
local port tells his hand-held terminal. Both are noted when they become another. They are watched
in real time, whatever becomes of the bench's clock: neither a broker nor a person moves with it.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from meter_runtime.aroute import results
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.dispatch import Dispatch, Way, wrap
from meter_runtime.aroute.envelope import COMMAND_ID_SIZE, Command, seal
from meter_runtime.aroute.local_port import MAX_ASKED_PER_SESSION
from meter_runtime.aroute.messages import BRouteStatus, Topics, decode
from meter_runtime.bench.laboratory import Bench
from meter_runtime.comm.mqtt import MqttBearer
from meter_runtime.errors import MeterError
from meter_runtime.headend.handheld_link import connect
from meter_runtime.headend.lab import NEW_SYSTEM, SCS

REMOTE = "diagnosis-remote"
ON_SITE = "diagnosis-on-site"
SEEN = (REMOTE, ON_SITE)
"""The happenings that come from here."""

READ_EVERY_S = 0.1
CONNECT_S = 10.0
ANSWER_S = 10.0
_VALID_S = 3600
_EARLY_S = 300
_OPERATOR = "scenario"
_READS_ONLY = "broute.status"
"""The command of the B-route that is the control system's own."""


class Office:
    """At work on ``bench``'s broker and at its meter; made by :func:`at_work`."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._lab = bench.utility.lab
        self._meter_id = bench.options.meter_id
        self._topics = Topics(self._lab.utility, self._meter_id)
        self._bearer = MqttBearer(
            self._lab.mqtt(SCS, "operator"),
            subscriptions=(self._topics.broute_status, self._topics.results),
            rng=random.Random("operator"),
        )
        self._counter = 0
        self._shown: dict[str, dict[str, Any]] = {}
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}

    async def command(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Send it, and wait for the meter's signed result; MeterError where that is not OK."""
        issued = self._bench.clock.wall()
        control_systems = not name.startswith("broute.") or name == _READS_ONLY
        issuer = SCS if control_systems else NEW_SYSTEM
        # Above all that this issuer used in an earlier run on a kept state.
        self._counter = max(int(issued), self._counter + 1)
        command = Command(
            name=name,
            meter_id=self._meter_id,
            command_id=secrets.token_bytes(COMMAND_ID_SIZE),
            issuer=issuer,
            counter=self._counter,
            not_before=int(issued) - _EARLY_S,
            expiry=int(issued) + _VALID_S,
            arguments=arguments,
            reason="",
        )
        keys = self._lab.meter_keys(self._meter_id)
        sealed = seal(command, self._lab.issuer_key(issuer, self._meter_id), keys.sealing)
        dispatch = Dispatch(SCS, Way.CONTROL, issued, _OPERATOR, "", sealed)
        message = wrap(dispatch, self._lab.signing_key(SCS))
        answer = await self._answer_to(command.command_id, message)
        result = results.read(answer, keys.signing)
        if result.code is not Code.OK:
            raise MeterError(f"the meter answered {result.code.value}: {result.code.means}")

    async def _answer_to(self, command_id: bytes, message: bytes) -> bytes:
        mark = results.answer_to(message)
        waited: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[mark] = waited
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._bearer.publish(self._topics.command(command_id), message)
                return await waited
        except TimeoutError:
            raise MeterError(f"the meter did not answer the command in {ANSWER_S:g} s") from None
        finally:
            del self._waiting[mark]

    async def keep_connected(self) -> None:
        """Until cancelled."""
        await self._bearer.run()

    async def connected(self) -> None:
        """MeterError where the bench's broker does not let it in."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._bearer.wait_connected()
        except TimeoutError:
            raise MeterError("the scenario's operator does not reach the bench's broker") from None

    async def watch_from_afar(self) -> None:
        """Until cancelled."""
        while True:
            received = await self._bearer.receive()
            if received.topic == self._topics.broute_status:
                if received.payload:
                    self._see(REMOTE, decode(received.payload, BRouteStatus).report)
                continue
            waited = self._waiting.get(results.peek(received.payload).answer_to)
            if waited is not None and not waited.done():
                waited.set_result(received.payload)

    async def watch_on_site(self) -> None:
        """With a terminal that is plugged in again and again, until cancelled."""
        terminal = self._lab.tls(f"terminals/{self._lab.terminals()[0]}")
        while True:
            port = self._bench.meter.local_port
            if port is not None and port.address is not None:
                # A meter that loses its power answers nobody; it is asked again.
                with contextlib.suppress(MeterError):
                    async with connect(port.address, terminal, self._meter_id) as meter:
                        for _ in range(MAX_ASKED_PER_SESSION):
                            self._see(ON_SITE, (await meter.status())["broute"])
                            await asyncio.sleep(READ_EVERY_S)
            await asyncio.sleep(READ_EVERY_S)

    def _see(self, kind: str, report: Mapping[str, Any]) -> None:
        told = seen(report)
        if self._shown.get(kind) != told:
            self._shown[kind] = told
            self._bench.chronicle.note(kind, **told)


def seen(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a person takes from a diagnosis, in plain values; ``-`` for nothing.

    ``items`` are startup, authentication, connection, communication unit; ``why`` is why an alarm
    is excused, or why nobody is served.
    """
    items = report["items"] or {}
    why_not = report.get("why_not")
    return {
        "message": report["message"],
        "alarm": report["alarm"],
        "why": why_not["code"] if why_not else report.get("expected_because") or "-",
        "causes": " ".join(cause["code"] for cause in report["causes"]) or "-",
        "items": " ".join(items.values()) or "-",
    }


@asynccontextmanager
async def at_work(bench: Bench) -> AsyncIterator[Office]:
    """An office that watches until the block ends."""
    office = Office(bench)
    work = (office.keep_connected(), office.watch_from_afar(), office.watch_on_site())
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await office.connected()
        yield office
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for failure in ends:
            if isinstance(failure, Exception):
                raise failure
