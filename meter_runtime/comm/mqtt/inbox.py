"""What came from the broker and nobody has taken yet: in order, bounded, nothing twice.

A message is acknowledged to the broker when it is taken out, so that what still waits here is
not lost with the process. The price: after a new connection the broker sends those again that it
has not seen acknowledged. Such a message is recognised by its packet identifier, which the broker
must not change (MQTT 5, 4.4), and its content, and is not queued a second time; the one that
waits can then be acknowledged on the new connection.
"""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the broker; ``retained`` when it stood there before we asked."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(slots=True)
class Waiting:
    """A message and how to acknowledge it: packet identifier and number of the connection."""

    message: Received
    packet: int
    connection: int


class Inbox:
    """At most ``limit`` messages."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Received, packet: int, connection: int) -> bool:
        """False when there is no room: the message must stay unacknowledged then.

        ``packet`` is 0 for a message of QoS 0, which has no identifier; ``connection`` only rises.
        """
        for waiting in self._waiting:
            if waiting.connection == connection:
                break  # in order of connections: the rest is of this one
            if packet and waiting.packet == packet and waiting.message == message:
                self._waiting.remove(waiting)
                waiting.connection = connection
                self._waiting.append(waiting)
                return True
        if len(self._waiting) >= self._limit:
            return False
        self._waiting.append(Waiting(message, packet, connection))
        return True

    def take(self) -> Waiting:
        """The oldest; IndexError when there is none."""
        return self._waiting.popleft()
