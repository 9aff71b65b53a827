"""One connection to the broker: made, used, lost. Whoever wants another makes another.

The client library is aiomqtt over paho-mqtt, imported when the first link is made. Three things
of it are done here because it leaves them out: a publication learns the reason code of its
acknowledgement and ends with the connection; a message is acknowledged when its reader says so;
and an attempt to connect that is given up leaves no socket behind, although paho connects in a
thread that nobody can stop.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from meter_runtime.comm.mqtt import reasons
from meter_runtime.comm.mqtt.inbox import Received
from meter_runtime.comm.mqtt.settings import MqttSettings
from meter_runtime.errors import MeterError

Version = Literal["5", "3.1.1"]

CONNECT_S = 10.0
"""Bound of one attempt: name, connection, TLS, the broker's greeting."""
SOCKET_S = 5.0
"""Bound of the connection to one address, and of each step of TLS."""
FAREWELL_S = 1.0
CLOSE_S = 0.4
IN_FLIGHT = 10
"""Publications that wait for their acknowledgement at a time. The client library does not look at
the broker's Receive Maximum; this is below that of the brokers in use (Mosquitto: 20)."""
MAX_PACKET_BYTES = 256 * 1024
"""The largest packet that we accept; with MQTT 5 the broker drops larger ones itself."""

wire = logging.getLogger(f"{__name__}.wire")
"""The library's own log: packets by kind, topic and size, no payload. Silent until it is asked."""
if wire.level == logging.NOTSET:
    wire.setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Will:
    """Published by the broker, QoS 1 and retained, when it loses us."""

    topic: str
    payload: bytes


class LinkError(MeterError):
    """No connection. ``code`` is the broker's reason code; ``mute``: reached, it says nothing."""

    def __init__(self, reason: str, *, code: int | None = None, mute: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.mute = mute


class Link:
    """``take`` gets each message with its packet identifier (0: QoS 0), and must not wait."""

    def __init__(
        self,
        settings: MqttSettings,
        version: Version,
        *,
        will: Will | None,
        take: Callable[[Received, int], None],
        spoilt: Callable[[], None],
        max_queue: int,
    ) -> None:
        self._settings = settings
        self._v5 = version == "5"
        self._take = take
        self._spoilt = spoilt
        self._pending: dict[int, asyncio.Future[int]] = {}
        self._greeting: int | None = None
        self._parting: int | None = None
        self._dropped: str | None = None
        self._failures: list[OSError] = []
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._closed = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._threshold = threading.Lock()
        self._entered = False
        self._abandoned = False
        self._client: Any = self._make(will, max_queue)
        self._paho: Any = self._client._client  # aiomqtt shows no other way to it
        self._hook()

    @property
    def gone(self) -> bool:
        """The connection has ended."""
        return self._gone.done()

    async def open(self, subscriptions: Sequence[str]) -> list[str]:
        """Connect and subscribe at QoS 1; the filters that the broker refuses.

        Raises :class:`LinkError`. Whatever happens, :meth:`close` it afterwards.
        """
        from aiomqtt import MqttError

        entering = asyncio.ensure_future(self._client.__aenter__())
        try:
            await self._first_of(entering, CONNECT_S)
            if not entering.done():
                raise self._ending() if self.gone else self._silence()
            await entering
        except MqttError as failure:
            raise self._explained(failure) from None
        finally:
            if not entering.done():
                self._abandon(entering)
        self._watch = asyncio.create_task(self._watch_connection())
        return await self._subscribe(subscriptions) if subscriptions else []

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool, expiry_s: int | None, timeout_s: float
    ) -> int | None:
        """At QoS 1; the broker's reason code (below 0x80: it has it), or None: it said nothing."""
        info = self._paho.publish(topic, payload, 1, retain, self._expiring(expiry_s))
        if info.rc != 0:
            return None
        answer: asyncio.Future[int] = self._loop.create_future()
        self._pending[info.mid] = answer
        try:
            await self._first_of(answer, timeout_s)
        finally:
            self._pending.pop(info.mid, None)
        return answer.result() if answer.done() else None

    def acknowledge(self, packet: int) -> None:
        """The message with this identifier need not be sent again."""
        if packet and not self.gone:
            self._paho.ack(packet, 1)

    def drop(self, reason: str) -> None:
        """End the connection from our side, without farewell."""
        self._dropped = reason
        self._shut()

    async def lost(self) -> str:
        """Wait for the end of the connection; why it ended."""
        await asyncio.wait((self._gone,))
        return str(self._ending())

    async def close(self, farewell: Will | None = None) -> None:
        """Say farewell where somebody still hears it, and let go; within 2 s."""
        from aiomqtt import MqttError

        try:
            if self._watch is not None and not self.gone:
                if farewell is not None:
                    await self.publish(
                        farewell.topic,
                        farewell.payload,
                        retain=True,
                        expiry_s=None,
                        timeout_s=FAREWELL_S,
                    )
                with contextlib.suppress(MqttError, TimeoutError):
                    async with asyncio.timeout(CLOSE_S):
                        await self._client.__aexit__(None, None, None)
        finally:
            self._shut()
            if self._entered:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_S):
                        await self._closed.wait()
                        if self._watch is not None:
                            await self._watch
                # The library's own task is cancelled on the loop's next turn and ends on another.
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    def _make(self, will: Will | None, max_queue: int) -> Any:
        import aiomqtt
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        settings = self._settings
        version: dict[str, Any]
        if self._v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = settings.session_expiry_s
            properties.ReceiveMaximum = max(1, max_queue // 2)
            properties.MaximumPacketSize = MAX_PACKET_BYTES
            protocol = aiomqtt.ProtocolVersion.V5
            version = {"protocol": protocol, "clean_start": False, "properties": properties}
        else:
            forgotten = settings.session_expiry_s == 0
            version = {"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": forgotten}
        context = None
        if settings.tls is not None:
            context = settings.tls.context()
            context.sslsocket_class = _tls_socket(self._failures)
        return aiomqtt.Client(
            settings.host,
            settings.port,
            identifier=settings.client_id,
            username=settings.username,
            password=settings.password.reveal() if settings.password else None,
            will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=True) if will else None,
            keepalive=settings.keepalive_s,
            timeout=CONNECT_S,
            tls_context=context,
            max_inflight_messages=IN_FLIGHT,
            max_queued_outgoing_messages=max_queue,
            logger=wire,
            **version,
        )

    def _hook(self) -> None:
        """Stand between the client libraries; their own callbacks still run, save the replaced."""
        paho = self._paho
        greet, part = paho.on_connect, paho.on_disconnect
        enter, leave = paho.on_socket_open, paho.on_socket_close

        def on_connect(client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
            self._greeting = code.value
            greet(client, data, flags, code, properties)

        def on_disconnect(client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
            if flags.is_disconnect_packet_from_server:
                self._parting = code.value
            elif code.value == reasons.KEEP_ALIVE:
                self._failures.append(TimeoutError())
            if not self._abandoned:  # aiomqtt cannot hear of it once its entering was cancelled
                part(client, data, flags, code, properties)
            self._end()

        def on_socket_open(client: Any, data: Any, sock: socket.socket) -> None:
            # In the thread that connects, which may have outlasted whoever asked for it.
            with self._threshold:
                if self._abandoned:
                    sock.close()
                    raise ConnectionAbortedError
                self._entered = True
                # Else each small packet waits 40 ms for the broker's TCP to acknowledge the last.
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                enter(client, data, sock)

        def on_socket_close(client: Any, data: Any, sock: socket.socket) -> None:
            leave(client, data, sock)
            self._closed.set()

        paho.on_connect, paho.on_disconnect = on_connect, on_disconnect
        paho.on_socket_open, paho.on_socket_close = on_socket_open, on_socket_close
        paho.on_socket_register_write = self._on_socket_register_write
        paho.on_message, paho.on_publish = self._on_message, self._on_publish
        paho.connect_timeout = SOCKET_S
        paho.manual_ack_set(True)

    def _on_socket_register_write(self, client: Any, data: Any, sock: socket.socket) -> None:
        # The library's own would register whatever has the descriptor by then.
        self._loop.call_soon_threadsafe(self._add_writer, sock)

    def _add_writer(self, sock: socket.socket) -> None:
        if sock.fileno() >= 0 and self._paho.want_write():
            self._loop.add_writer(sock.fileno(), self._paho.loop_write)

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        packet = message.mid if message.qos else 0
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = None
        if topic is None or len(message.payload) > MAX_PACKET_BYTES:
            self._spoilt()
            self.acknowledge(packet)
            return
        self._take(Received(topic, bytes(message.payload), bool(message.retain)), packet)

    def _on_publish(self, client: Any, data: Any, mid: int, code: Any, properties: Any) -> None:
        answer = self._pending.pop(mid, None)
        if answer is not None and not answer.done():
            answer.set_result(code.value)

    def _expiring(self, expiry_s: int | None) -> Any:
        if expiry_s is None or not self._v5:
            return None
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = expiry_s
        return properties

    async def _subscribe(self, filters: Sequence[str]) -> list[str]:
        from aiomqtt import MqttError
        from paho.mqtt.subscribeoptions import SubscribeOptions

        wanted = [(each, SubscribeOptions(qos=1) if self._v5 else 1) for each in filters]
        asking = asyncio.ensure_future(self._client.subscribe(wanted))
        try:
            await self._first_of(asking, CONNECT_S)
            if not asking.done():
                raise self._ending() if self.gone else self._silence()
            codes = await asking
        except MqttError as failure:
            raise self._explained(failure) from None
        finally:
            asking.cancel()
        return [each for each, code in zip(filters, codes, strict=True) if code.is_failure]

    async def _first_of(self, future: asyncio.Future[Any], timeout_s: float) -> None:
        await asyncio.wait(
            (future, self._gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )

    async def _watch_connection(self) -> None:
        from aiomqtt import MqttError

        # Messages come by our own callback, so this ends with the connection and not before.
        with contextlib.suppress(MqttError):
            await anext(self._client.messages)
        self._end()

    def _end(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)

    def _abandon(self, entering: asyncio.Future[Any]) -> None:
        with self._threshold:
            self._abandoned = True
        entering.cancel()
        self._shut()

    def _shut(self) -> None:
        """End the connection whatever the broker does; the library reads its end and lets go."""
        sock = self._paho.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _explained(self, failure: Exception) -> LinkError:
        cause = failure.__context__
        if self._greeting is None and isinstance(cause, OSError):
            return LinkError(reasons.of_failure(self._settings, cause))
        return self._ending()

    def _silence(self) -> LinkError:
        mute = self._entered and self._greeting is None
        return LinkError(reasons.of_failure(self._settings, TimeoutError()), mute=mute)

    def _ending(self) -> LinkError:
        if self._dropped is not None:
            return LinkError(f"{self._settings.broker}: {self._dropped}")
        for code in (self._greeting, self._parting):
            if code is not None and code >= reasons.FAILURE:
                return LinkError(reasons.of_code(self._settings, code), code=code)
        if self._failures:
            return LinkError(reasons.of_failure(self._settings, self._failures[-1]))
        if self._greeting is None:
            return LinkError(reasons.of_silence(self._settings), mute=True)
        return LinkError(reasons.of_failure(self._settings, None))


def _tls_socket(failures: list[OSError]) -> type[ssl.SSLSocket]:
    """Sockets that tell why TLS failed, and are closed then: paho does neither."""

    class TlsSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            try:
                super().do_handshake(block)
            except OSError:
                self.close()
                raise

        def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
            try:
                return super().recv(buflen, flags)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except OSError as failure:
                failures.append(failure)
                raise

    return TlsSocket
