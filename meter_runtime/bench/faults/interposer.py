"""What stands between the B-route and what it serves: datagrams, data and settings may be changed.

With nothing registered everything passes as it is. It outlives the meter: a meter that is started
again finds the same faults.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

from meter_runtime.bench.faults.overlay import Overlay
from meter_runtime.broute.echonet.data import MeterData, MeterSettings
from meter_runtime.comm.contracts import (
    CommunicationUnit,
    Datagram,
    LinkCredentials,
    LinkEvent,
)
from meter_runtime.units.contracts import Nameplate

Incoming = Callable[[Datagram], Awaitable[Datagram | None]]
"""A datagram of the home, to the one the meter gets; None is none."""
Outgoing = Callable[[bytes, str], list[bytes]]
"""A datagram of the meter and its destination, to those that are sent instead, in order."""
Change = Callable[[MeterSettings], MeterSettings]


class Interposer:
    """Implements :class:`meter_runtime.runtime.Interposition` for one bench."""

    def __init__(self) -> None:
        self.incoming: list[Incoming] = []
        self.outgoing: list[Outgoing] = []
        self.changes: list[Change] = []
        """What the faults make of the meter's settings, in the order they were begun."""
        self.overlay = Overlay()
        self._own: MeterSettings | None = None

    def link(self, unit: CommunicationUnit) -> CommunicationUnit:
        return _Unit(unit, self)

    def data(self, data: MeterData) -> MeterData:
        return self.overlay.over(data)

    def settings(self, settings: MeterSettings) -> MeterSettings:
        self._own = settings
        return self.changed()

    def changed(self) -> MeterSettings:
        """The meter's settings as they are to be shown now; :meth:`settings` came before."""
        if self._own is None:
            raise RuntimeError("no meter has been built")
        shown = self._own
        for change in self.changes:
            shown = change(shown)
        return shown


class _Unit:
    """A communication unit whose datagrams pass the interposer; all else is the unit's own."""

    def __init__(self, unit: CommunicationUnit, between: Interposer) -> None:
        self._unit = unit
        self._between = between

    @property
    def nameplate(self) -> Nameplate:
        return self._unit.nameplate

    @property
    def medium(self) -> str:
        return self._unit.medium

    @property
    def mac(self) -> bytes | None:
        return self._unit.mac

    @property
    def counters(self) -> dict[str, int]:
        return self._unit.counters

    async def start(self, credentials: LinkCredentials) -> None:
        await self._unit.start(credentials)

    async def stop(self) -> None:
        await self._unit.stop()

    async def close(self) -> None:
        await self._unit.close()

    async def set_credentials(self, credentials: LinkCredentials) -> None:
        await self._unit.set_credentials(credentials)

    async def vacate(self) -> None:
        await self._unit.vacate()

    def events(self) -> AsyncIterator[LinkEvent]:
        return self._unit.events()

    async def send(self, payload: bytes, peer: str) -> bool:
        payloads = [payload]
        for rule in tuple(self._between.outgoing):
            payloads = [passed for each in payloads for passed in rule(each, peer)]
        sent = [await self._unit.send(each, peer) for each in payloads]
        return all(sent)

    async def recv(self) -> Datagram:
        while True:
            datagram: Datagram | None = await self._unit.recv()
            for rule in tuple(self._between.incoming):
                if datagram is not None:
                    datagram = await rule(datagram)
            if datagram is not None:
                return datagram
