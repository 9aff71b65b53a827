"""An MQTT broker inside the bench, for whoever has none: amqtt, on the loopback interface.

It speaks MQTT 3.1.1 without TLS, keeps everything in memory, and hands to a client that comes back
what was queued for it only when that client gave name and password. What was queued arrives with
the *retained* flag set, which is amqtt's doing; a real broker clears it. Rights there are none.
"""

import asyncio
import logging
import secrets
from types import TracebackType
from typing import Any, Self

from meter_runtime.comm.mqtt.settings import Protocol
from meter_runtime.secret import Secret

HOST = "127.0.0.1"
USERNAME = "bench"
LEVEL = 4
"""The protocol level of MQTT 3.1.1 (3.1.2.2)."""
WRONG_LEVEL = bytes([0x20, 2, 0, 1])
"""CONNACK: unacceptable protocol level (3.2.2.3)."""
_LISTENER = "default"
_CLOSE_S = 2.0
_LOGGERS = ("amqtt", "transitions")


class EmbeddedBroker:
    """It runs inside an ``async with``; ``port`` 0 takes any free one.

    Name and password are the same for all, and new each time; without them a client gets in, too,
    but nothing is queued for it while it is away.
    """

    host = HOST
    username = USERNAME
    protocol: Protocol = "3.1.1"

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.password = Secret(secrets.token_urlsafe(16))
        self._broker: Any = None
        self._server: asyncio.Server | None = None
        self._serving: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._levels: dict[str, int] = {}

    @property
    def url(self) -> str:
        """For a client; without name and password."""
        return f"mqtt://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        from amqtt.broker import Broker
        from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

        from meter_runtime.bench import broker_users

        for name in _LOGGERS:
            logger = logging.getLogger(name)
            self._levels[name] = logger.level
            logger.setLevel(logging.CRITICAL)
        plugin = f"{broker_users.__name__}.{broker_users.OneUser.__name__}"
        user = {"name": self.username, "password": self.password.reveal()}
        self._broker = Broker(
            BrokerConfig(
                listeners={_LISTENER: ListenerConfig(type=ListenerType.EXTERNAL)},
                plugins={plugin: user},
            )
        )
        await self._broker.start()
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._broker.shutdown()
                for writer in self._serving.values():
                    writer.close()
                await asyncio.gather(*self._serving, return_exceptions=True)
        finally:
            for name, level in self._levels.items():
                logging.getLogger(name).setLevel(level)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from amqtt.adapters import StreamWriterAdapter

        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - the server runs this in one
        self._serving[task] = writer
        try:
            greeting = await _greeting(reader)
            if greeting[-1] != LEVEL:
                writer.write(WRONG_LEVEL)
                return
            await self._broker.external_connected(
                _Rewound(greeting, reader), StreamWriterAdapter(writer), _LISTENER
            )
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went; there is nobody to tell
        finally:
            del self._serving[task]
            writer.close()


async def _greeting(reader: asyncio.StreamReader) -> bytes:
    """CONNECT up to its protocol level: amqtt waits for ever on one of MQTT 5."""
    head = await reader.readexactly(2)
    while head[-1] & 0x80 and len(head) < 5:
        head += await reader.readexactly(1)
    return head + await reader.readexactly(len("\0\4MQTT") + 1)


class _Rewound:
    """The client's bytes from the start, of which the first were read already."""

    def __init__(self, read: bytes, reader: asyncio.StreamReader) -> None:
        self._read = read
        self._reader = reader

    async def read(self, count: int = -1) -> bytes:
        """``count`` bytes, or -1: what there is."""
        head, self._read = (
            (self._read, b"") if count < 0 else (self._read[:count], self._read[count:])
        )
        if count < 0:
            return head or await self._reader.read(count)
        return head + await self._reader.readexactly(count - len(head))

    def feed_eof(self) -> None:
        """Nothing more is read."""
        self._reader.feed_eof()
