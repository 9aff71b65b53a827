"""A home with a fault: a raw HEMS that asks what it likes, and looks at what comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions

from .conftest import eventually
from .terminal import PATIENCE_S, Line, Rx, Terminal

ON = b"\x30"
SET_C, GET, SET_RES, GET_RES, GET_SNA, INF, INFC = 0x61, 0x62, 0x71, 0x72, 0x52, 0x73, 0x74
_HEAD = bytes.fromhex("05FF01028801")


class Home:
    """One raw terminal at a bench, joined."""

    def __init__(self, bench: Bench, terminal: Terminal) -> None:
        self.bench = bench
        self.terminal = terminal
        self._tid = 0x7000

    async def send(self, *epcs: int, esv: int = GET, edt: bytes = b"") -> int:
        """Hand a request to the module; its TID."""
        self._tid += 1
        data = b"\x10\x81" + self._tid.to_bytes(2, "big") + _HEAD + bytes((esv, len(epcs)))
        data += b"".join(bytes((epc, len(edt))) + edt for epc in epcs)
        header = f"SKSENDTO 1 {self.terminal.peer} 0E1A 1 {len(data):04X} "
        self.terminal.write(header.encode() + data)
        return self._tid

    async def outcome(self) -> str:
        """What EVENT 21 says of the request, and the OK behind it."""
        event = await self.terminal.told("EVENT 21 ")
        assert (await self.terminal.answer())[-1] == "OK"
        return event.split()[-1]

    async def rx(self, tid: int) -> Rx:
        """The next frame with this TID."""

        def wanted(line: Line) -> bool:
            return isinstance(line, Rx) and line.payload[2:4] == tid.to_bytes(2, "big")

        found = await self.terminal.until(wanted)
        assert isinstance(found, Rx)
        return found

    async def rx_up_to(self, tid: int) -> list[Rx]:
        """Every ECHONET Lite frame up to the one with this TID."""
        seen: list[Rx] = []

        def wanted(line: Line) -> bool:
            if not isinstance(line, Rx) or line.service is None:
                return False
            seen.append(line)
            return line.payload[2:4] == tid.to_bytes(2, "big")

        await self.terminal.until(wanted)
        return seen

    async def get(self, *epcs: int) -> dict[int, bytes]:
        """Properties by code; those the meter cannot tell are empty."""
        return properties(await self.rx(await self.send(*epcs)))

    async def serves(self) -> None:
        """The meter answers as if nothing had ever been."""
        tid = await self.send(0x80)
        answer = await self.rx(tid)
        assert (answer.service, properties(answer)) == (GET_RES, {0x80: ON})

    async def rejoin(self) -> None:
        """From a module that may have forgotten everything."""
        await self.terminal.join(self.bench.route_b_id, self.bench.password)

    async def settled(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.bench.faults_at_work.settled()

    async def effects(self, name: str, wanted: int) -> None:
        """Wait until an active fault has had so many effects."""
        await eventually(lambda: effects_of(self.bench, name) >= wanted)

    @asynccontextmanager
    async def trouble(self, name: str, **settings: object) -> AsyncIterator[None]:
        """A fault at work inside; after it has been cleared the meter serves again."""
        await self.begin(name, **settings)
        try:
            yield
        finally:
            self.bench.clear(name)
            await self.settled()
        assert name not in [fault["name"] for fault in self.bench.faults()]
        await self.serves()

    async def begin(self, name: str, **settings: object) -> None:
        """Inject a fault and wait until it has begun."""
        self.bench.inject(name, **settings)  # type: ignore[arg-type]
        await self.settled()


def effects_of(bench: Bench, name: str) -> int:
    found = [fault["effects"] for fault in bench.faults() if fault["name"] == name]
    assert found, f"{name} is not active"
    return int(found[0])


def properties(answer: Rx) -> dict[int, bytes]:
    """The properties of an ECHONET Lite frame."""
    found: dict[int, bytes] = {}
    at = 12
    for _ in range(answer.payload[11]):
        size = answer.payload[at + 1]
        found[answer.payload[at]] = answer.payload[at + 2 : at + 2 + size]
        at += 2 + size
    assert at == len(answer.payload)
    return found


def tids(frames: list[Rx]) -> list[int]:
    return [int.from_bytes(frame.payload[2:4], "big") for frame in frames]


@asynccontextmanager
async def joined_home(options: BenchOptions) -> AsyncIterator[Home]:
    """A bench, and a terminal at its first module that has joined."""
    async with Bench(options) as bench, Terminal(bench.tty).opened() as terminal:
        home = Home(bench, terminal)
        await home.rejoin()
        # What the meter says of itself after a join is not to be met in the middle of a fault.
        await bench.advance(5)
        await terminal.announced(0xD5)
        await home.serves()
        yield home


QUICK = BenchOptions(hems_modules=("bp35a1:echo=0,pace=1ms",), meter_module="bp35a1:pace=1ms")
"""As little waiting as a module can do; ERXUDP raw, no echo."""
