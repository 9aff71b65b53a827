"""The HEMS of a scenario on a PLC adapter: it joins, reads, and begins anew as a good one should.

Its adapter is the bench's, in the same process; what it says is as brief as a program's output.
"""

import asyncio

from meter_runtime.bench.happenings import Chronicle
from meter_runtime.bench.plc import JoinFailed, NoAnswer, PlcHems, PlcHouse
from meter_runtime.bench.plc.adapter import Phase
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import MeterError

POWER = 0xE7
READ_EVERY_S = 0.3
"""In real time, as a program's."""
RETRY_S = 0.5
TRIES = 3
"""Of a request, before the session counts as lost; and of a refused password."""
REFUSED = 3
"""Its exit status."""


class SocketHems:
    """One life of it; ``house`` is None where the bench's B-route is on the radio."""

    def __init__(
        self, house: PlcHouse | None, believes: LinkCredentials, chronicle: Chronicle
    ) -> None:
        self._house = house
        self._believes = believes
        self._chronicle = chronicle

    async def run(self) -> None:
        """Until it is refused too often."""
        if self._house is None:
            raise MeterError('[hems] kind = "plc" needs [bench] units with a PLC unit')
        self._chronicle.note("hems-started", command="plc")
        status = 0
        try:
            await self._live(self._house.hems)
            status = REFUSED
        finally:
            if self._house.hems.joined:
                self._house.hems.leave()
            self._chronicle.note("hems-ended", status=status)

    async def _live(self, hems: PlcHems) -> None:
        refused = 0
        while refused < TRIES:
            try:
                await hems.join(self._believes.route_b_id, self._believes.password.reveal())
            except JoinFailed as failed:
                refused += failed.phase is Phase.REFUSED
                self._say(failed.phase.value)
                await asyncio.sleep(RETRY_S)
                continue
            refused = 0
            self._say("joined")
            await self._read_on(hems)
            self._say("session lost")
        self._say("gave up: check the password")

    async def _read_on(self, hems: PlcHems) -> None:
        """Until the session is over, or seems so."""
        silent = 0
        while hems.joined and silent < TRIES:
            try:
                found = await hems.get(POWER)
            except NoAnswer:
                silent += 1
                self._say("no answer")
                continue
            silent = 0
            self._say(f"read E7={found[POWER].hex().upper() or 'refused'}")
            await asyncio.sleep(READ_EVERY_S)

    def _say(self, text: str) -> None:
        self._chronicle.note("hems-said", text=text)
