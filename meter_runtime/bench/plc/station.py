"""A HEMS on a PLC adapter: the little of ECHONET Lite that a test of the meter needs."""

import asyncio
from collections import deque

from meter_runtime.bench.plc.adapter import Adapter, Phase
from meter_runtime.bench.plc.line import Line
from meter_runtime.broute.echonet.frame import Esv, Frame, MalformedFrame, Property, encode, parse
from meter_runtime.clock import Clock, wait_for_event
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import MeterError
from meter_runtime.secret import Secret

METER = bytes.fromhex("028801")
CONTROLLER = bytes.fromhex("05FF01")
ANSWER_S = 5.0
MAX_ANNOUNCED = 256
_TIDS = 0x1_0000


class JoinFailed(MeterError):  # noqa: N818 - a state of things, not a defect
    """The adapter did not get into the meter's PAN; ``phase`` says how it ended."""

    def __init__(self, phase: Phase) -> None:
        super().__init__(f"the join ended: {phase.value}; check line, ID and password")
        self.phase = phase


class NoAnswer(MeterError):  # noqa: N818 - a state of things, not a defect
    """The meter did not answer in time."""


class PlcHems:
    """One HEMS, plugged into ``line``."""

    def __init__(self, adapter: Adapter, line: Line, clock: Clock) -> None:
        self.adapter = adapter
        self.announced: deque[Frame] = deque(maxlen=MAX_ANNOUNCED)
        """What the meter said unasked, oldest first."""
        self._line = line
        self._clock = clock
        self._tid = 0
        self._stirred = asyncio.Event()

    def plug(self) -> None:
        """Into the socket."""
        self._line.attach(self.adapter, self._stirred.set)

    def unplug(self) -> None:
        """Out of it; harmless where it is out."""
        self._line.detach(self.adapter)

    @property
    def joined(self) -> bool:
        return self.adapter.phase is Phase.JOINED

    async def join(self, route_b_id: str, password: str) -> None:
        """Find the meter with this ID and join it; raises :class:`JoinFailed`."""
        credentials = LinkCredentials(route_b_id, Secret(password))
        self._line.settle()
        self.adapter.join(credentials, self._clock.monotonic())
        self._line.settle()
        while self.adapter.phase in (Phase.SEARCHING, Phase.JOINING):
            self._stirred.clear()
            await self._stirred.wait()
        if not self.joined:
            raise JoinFailed(self.adapter.phase)

    def leave(self) -> None:
        """End it in good order."""
        self.adapter.leave()
        self._line.settle()

    async def get(self, *epcs: int, within_s: float = ANSWER_S) -> dict[int, bytes]:
        """Properties of the meter by code, empty where it has none; raises :class:`NoAnswer`."""
        self._tid = (self._tid + 1) % _TIDS
        wanted = tuple(Property(epc) for epc in epcs)
        self.send(encode(Frame(self._tid, CONTROLLER, METER, Esv.GET, wanted)))
        deadline = self._clock.monotonic() + within_s
        while True:
            self._stirred.clear()
            answer = self._answer_to(self._tid)
            if answer is not None:
                return {each.epc: each.edt for each in answer.properties}
            if not await wait_for_event(self._clock, self._stirred, deadline):
                raise NoAnswer(f"the meter did not answer within {within_s:g} s; look at the line")

    def send(self, payload: bytes) -> None:
        """Hand the adapter a datagram for the meter."""
        self._line.settle()
        self.adapter.send(payload)
        self._line.settle()

    def _answer_to(self, tid: int) -> Frame | None:
        found = None
        while self.adapter.received:
            try:
                frame = parse(self.adapter.received.popleft())
            except MalformedFrame:
                continue
            if frame.esv in (Esv.GET_RES, Esv.GET_SNA) and frame.tid == tid:
                found = frame
            elif frame.esv in (Esv.INF, Esv.INFC):
                self.announced.append(frame)
        return found
