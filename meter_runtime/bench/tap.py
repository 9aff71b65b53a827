"""A tap on a module's serial line: what crosses it, as whole lines, credentials hidden.

Owns the cutting of either direction into lines fit to be shown. It changes nothing of what passes,
and nothing of a credential is shown in pieces: a line appears when it is complete.
"""

from collections.abc import Callable, Iterable, Iterator

from meter_runtime.comm.ports import BytePort
from meter_runtime.comm.skstack.commands import (
    Command,
    CommandReader,
    EmptyLine,
    mask_secrets,
)
from meter_runtime.comm.skstack.dialects import Dialect
from meter_runtime.comm.skstack.trace import MaskedLines

TO_MODULE, FROM_MODULE = "to-module", "from-module"

Told = Callable[[str, str], None]
"""Called with a direction and a line."""

_MASK = b"********"


class TappedPort:
    """A :class:`~meter_runtime.comm.ports.BytePort` that tells what passes through another one.

    What ``secrets`` gives is hidden wherever it stands in a line, whatever became of the command
    around it; commands that carry credentials are hidden whole. A line ending is not shown; octets
    that are not printable are escaped, the data of SKSENDTO follows its header in hex.
    """

    def __init__(
        self,
        port: BytePort,
        dialect: Dialect,
        told: Told,
        secrets: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._port = port
        self._told = told
        self._secrets = secrets
        self._commands = CommandReader(dialect)
        self._answers = MaskedLines()

    @property
    def dropped(self) -> int:
        return self._port.dropped

    async def read(self) -> bytes:
        data = await self._port.read()
        for line in self._to_module(data):
            self._told(TO_MODULE, line)
        return data

    def write(self, data: bytes) -> None:
        self._port.write(data)
        for line in self._answers.feed(data):
            if shown := self._shown(line):
                self._told(FROM_MODULE, shown)

    async def close(self) -> None:
        await self._port.close()

    def _to_module(self, data: bytes) -> Iterator[str]:
        for item in self._commands.feed(data):
            match item:
                case Command(header=header, data=None):
                    yield mask_secrets(self._shown(header))
                case Command(header=header, data=payload):
                    yield self._shown(header) + " " + (payload or b"").hex().upper()
                case EmptyLine():
                    yield ""
                case _:
                    yield "(a line longer than any command)"

    def _shown(self, line: bytes) -> str:
        for secret in self._secrets():
            line = line.replace(secret.encode(), _MASK)
        text = line.strip(b"\r\n").decode("latin-1")
        return "".join(c if c.isascii() and c.isprintable() else f"\\x{ord(c):02x}" for c in text)
