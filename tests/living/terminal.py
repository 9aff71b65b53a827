"""A raw HEMS on a serial device: command lines out, lines and datagrams in.

It shares no code with the runtime, so that a mistake made on both ends of a wire still shows.
"""

import asyncio
import os
import tty
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

PATIENCE_S = 8.0
"""Real time that any one line is waited for; the line at a UART is real."""
LINES_KEPT = 2000
GAP_S = 0.001
"""Between two bytes that are written apart."""

_METER = bytes.fromhex("028801")
_CONTROLLER = bytes.fromhex("05FF01")
_GET, _INF, _GET_RES = 0x62, 0x73, 0x72


@dataclass(frozen=True, slots=True)
class Rx:
    """One ERXUDP."""

    source: str
    port: int
    secured: bool
    payload: bytes

    @property
    def service(self) -> int | None:
        """The ESV of an ECHONET Lite frame."""
        return self.payload[10] if self.port == 0x0E1A and len(self.payload) > 12 else None

    @property
    def first(self) -> tuple[int, bytes]:
        """Code and data of an ECHONET Lite frame's first property."""
        return self.payload[12], self.payload[14 : 14 + self.payload[13]]


Line = str | Rx


class Terminal:
    """One program at a module of the ``dual`` or single stack, whose ERXUDP are ``raw`` or hex."""

    def __init__(self, device: str, *, dual: bool = False, raw: bool = True) -> None:
        self.device = device
        self.side = " 0" if dual else ""
        self.peer = ""
        """The meter's address, once it was found."""
        self.heard: deque[Line] = deque(maxlen=LINES_KEPT)
        """What came and was not yet asked for."""
        self.announcements: deque[Rx] = deque(maxlen=LINES_KEPT)
        """INFs, apart: they may come at any moment."""
        self._heads = 9 if dual else 8
        self._raw = raw
        self._tid = 0
        self._fd = -1
        self._buffer = bytearray()
        self._arrived = asyncio.Event()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Terminal"]:
        self.open()
        try:
            yield self
        finally:
            self.close()

    def open(self) -> None:
        self._fd = os.open(self.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._fd)
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
        self._fd = -1
        self._buffer.clear()

    def now(self) -> float:
        """Real seconds: the line at a UART is real."""
        return asyncio.get_running_loop().time()

    def write(self, data: bytes) -> None:
        assert os.write(self._fd, data) == len(data)

    async def write_apart(self, data: bytes) -> None:
        """Each byte in a write of its own."""
        for at in range(len(data)):
            self.write(data[at : at + 1])
            await asyncio.sleep(GAP_S)

    async def until(self, wanted: Callable[[Line], bool]) -> Line:
        """The first line that is wanted; those before it are dropped."""
        before: list[Line] = []
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    while not self.heard:
                        await self._arrival()
                    line = self.heard.popleft()
                    if wanted(line):
                        return line
                    before.append(line)
        except TimeoutError:
            raise AssertionError(f"what was wanted did not come; there came {before}") from None

    async def ask(self, command: str) -> list[str]:
        """Write a command line; the text lines of its answer, ``OK`` or ``FAIL`` being the last."""
        self.write(f"{command}\r\n".encode())
        return await self.answer()

    async def answer(self) -> list[str]:
        """The text lines up to the next ``OK`` or ``FAIL``."""
        lines: list[str] = []

        def ends(line: Line) -> bool:
            if isinstance(line, Rx):
                return False
            lines.append(line)
            return line == "OK" or line.startswith("FAIL")

        await self.until(ends)
        return lines

    async def told(self, *starts: str) -> str:
        """The next text line that starts with one of these."""
        line = await self.until(lambda x: isinstance(x, str) and x.startswith(starts))
        assert isinstance(line, str)
        return line

    # What a HEMS does

    async def log_in(self, route_b_id: str, password: str) -> None:
        """Give the module its credentials."""
        for command in (f"SKSETPWD {len(password):X} {password}", f"SKSETRBID {route_b_id}"):
            assert (await self.ask(command))[-1] == "OK"

    async def scan(self) -> dict[str, str] | None:
        """The meter that answers this pairing ID, as its EPANDESC tells; None where none does."""
        assert (await self.ask(f"SKSCAN 2 FFFFFFFF 6{self.side}"))[-1] == "OK"
        found: dict[str, str] = {}

        def ends(line: Line) -> bool:
            if isinstance(line, str) and line.startswith("  "):
                key, _, value = line.strip().partition(":")
                found[key] = value
            return isinstance(line, str) and line.startswith("EVENT 22 ")

        await self.until(ends)
        return found or None

    async def tune(self) -> None:
        """Find the meter and go to its channel and network."""
        found = await self.scan()
        assert found is not None, "no meter answers the scan"
        for register, key in (("S2", "Channel"), ("S3", "Pan ID")):
            assert (await self.ask(f"SKSREG {register} {found[key]}"))[-1] == "OK"
        self.write(f"SKLL64 {found['Addr']}\r\n".encode())
        self.peer = await self.told("FE80:")

    async def knock(self) -> bool:
        """SKJOIN; whether the meter admitted us."""
        assert (await self.ask(f"SKJOIN {self.peer}"))[-1] == "OK"
        event = await self.told("EVENT 24 ", "EVENT 25 ")
        assert event.split()[2] == self.peer
        return event.startswith("EVENT 25")

    async def join(self, route_b_id: str, password: str) -> None:
        """All the way from a module just plugged in to a session."""
        await self.log_in(route_b_id, password)
        await self.tune()
        assert await self.knock(), "the meter refused"

    def request(self, epc: int) -> tuple[bytes, bytes]:
        """The header of SKSENDTO and its data, to get one property of the meter."""
        self._tid += 1
        head = b"\x10\x81" + self._tid.to_bytes(2, "big")
        data = head + _CONTROLLER + _METER + bytes((_GET, 1, epc, 0))
        header = f"SKSENDTO 1 {self.peer} 0E1A 1{self.side} {len(data):04X} "
        return header.encode(), data

    async def get(self, epc: int) -> bytes:
        """One property of the meter."""
        self.write(b"".join(self.request(epc)))
        return await self.got(epc)

    async def got(self, epc: int) -> bytes:
        """The data of a property in the answer to the last request."""
        tid = self._tid.to_bytes(2, "big")
        answer = await self.until(
            lambda line: (
                isinstance(line, Rx) and line.service is not None and tid == line.payload[2:4]
            )
        )
        assert isinstance(answer, Rx)
        assert (answer.service, answer.secured) == (_GET_RES, True)
        assert answer.payload[4:10] == _METER + _CONTROLLER
        code, edt = answer.first
        assert code == epc
        return edt

    async def power(self) -> int:
        """Instantaneous power in W, EPC E7."""
        return int.from_bytes(await self.get(0xE7), "big", signed=True)

    async def announced(self, epc: int) -> bytes:
        """The data of the next announcement (INF) that begins with this property."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                while not self.announcements:
                    await self._arrival()
                code, edt = self.announcements.popleft().first
                if code == epc:
                    return edt

    async def _arrival(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # Hung up: the far end has gone, and a select on it would return for ever.
            asyncio.get_running_loop().remove_reader(self._fd)
        self._buffer += data
        while (line := self._next_line()) is not None:
            if isinstance(line, Rx) and line.service == _INF:
                self.announcements.append(line)
            else:
                self.heard.append(line)
            self._arrived.set()

    def _next_line(self) -> Line | None:
        if self._buffer.startswith(b"ERXUDP ") and self._raw:
            return self._next_raw()
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end:
            return None
        self._buffer = rest
        text = line.decode("latin-1")
        if not text.startswith("ERXUDP "):
            return text
        fields = text.split(" ")
        return _rx(fields[:-1], bytes.fromhex(fields[-1]))

    def _next_raw(self) -> Line | None:
        fields = bytes(self._buffer).split(b" ", self._heads)
        if len(fields) <= self._heads:
            return None
        size = int(fields[self._heads - 1], 16)
        data = fields[self._heads]
        if len(data) < size + 2:
            return None
        assert data[size : size + 2] == b"\r\n"
        self._buffer = bytearray(data[size + 2 :])
        return _rx([field.decode() for field in fields[: self._heads]], data[:size])


def _rx(fields: list[str], payload: bytes) -> Rx:
    """The fields up to the length, and the data."""
    assert int(fields[-1], 16) == len(payload)
    return Rx(fields[1], int(fields[4], 16), fields[6] == "1", payload)
