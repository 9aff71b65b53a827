"""Keeps one client connected to the broker, and lets others publish and receive meanwhile.

The bearer runs in real time, whatever the meter's clock does: the broker's patience is real. It
stores nothing: what must not be lost is published until :meth:`MqttBearer.publish` says True, and
kept until whoever it is for has answered for it; the broker's acknowledgement is not storage.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from meter_runtime.comm.mqtt import reasons
from meter_runtime.comm.mqtt.inbox import Inbox, Received
from meter_runtime.comm.mqtt.link import Link, LinkError, Version, Will
from meter_runtime.comm.mqtt.settings import MqttSettings
from meter_runtime.errors import UsageError
from meter_runtime.supervisor import Backoff

log = logging.getLogger(__name__)

MUTE_BEFORE_OLD = 2
"""So often in a row a broker may be reached and say nothing before 3.1.1 is tried: that is how some
take a greeting in MQTT 5, and how any takes one while it is being restarted. What this suggests
holds for one connection; what a broker says of its version is remembered."""
FAILURES_BEFORE_NEW = 3
"""So often in a row 3.1.1 may fail before MQTT 5 is tried again."""
DISTINCT_REASONS = 64


class MqttBearer:
    """``will`` is published for us when we are lost, ``farewell``, on its topic, when we leave.

    ``backoff`` bounds the pauses between attempts; each is drawn from ``rng`` between nothing and
    the bound, so that a district's meters do not come back in step. When ``max_queue`` messages
    wait to be received, whatever more comes on this connection is left unacknowledged and counted
    as ``dropped``; once all that waits was received the connection is made anew, and the broker
    sends the rest again, in order, save what was QoS 0.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        subscriptions: Sequence[str],
        will: Will | None = None,
        farewell: bytes | None = None,
        rng: random.Random,
        max_queue: int = 256,
        backoff: Backoff | None = None,
    ) -> None:
        self._settings = settings
        self._subscriptions = tuple(subscriptions)
        self._will = will
        self._farewell = None
        if will is not None and farewell is not None:
            self._farewell = Will(will.topic, farewell)
        self._rng = rng
        self._max_queue = max_queue
        self._backoff = backoff or Backoff(first_s=1.0, limit_s=120.0, healthy_s=60.0)
        self._inbox = Inbox(max_queue)
        self._arrived = asyncio.Event()
        self._up = asyncio.Event()
        self._link: Link | None = None
        self._attempt = 0
        self._overflowed = False
        self._version: Version = "3.1.1" if settings.protocol == "3.1.1" else "5"
        self._mute = 0
        self._guessed = False
        self._old_failures = 0
        self._told: set[str] = set()
        self.connections = 0
        """How often a connection was made."""
        self.on_connected: list[Callable[[], None]] = []
        """Called, in order, after each connection and subscription; must not wait."""
        self.counters = dict.fromkeys(
            (
                "attempts_failed",
                "published",
                "unpublished",
                "publish_refused",
                "received",
                "dropped",
                "malformed",
            ),
            0,
        )

    @property
    def connected(self) -> bool:
        """The broker has greeted us and taken the subscriptions."""
        return self._up.is_set()

    @property
    def protocol(self) -> str | None:
        """The version of MQTT in use; None without a connection."""
        return self._version if self.connected else None

    async def wait_connected(self) -> None:
        """Wait for a connection, be it the present one."""
        await self._up.wait()

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expiry_s: int | None = None,
        timeout_s: float = 10.0,
    ) -> bool:
        """At QoS 1. True once the broker has it; with 3.1.1 it may have discarded it unsaid.

        False at once without a connection, with its end, when ``max_queue`` publications wait
        already, or after ``timeout_s``; the broker may have it all the same. ``expiry_s`` is lost
        on 3.1.1. ValueError: ``topic`` is a filter, not a topic.
        """
        code = None
        if self._link is not None and self.connected:
            code = await self._link.publish(
                topic, payload, retain=retain, expiry_s=expiry_s, timeout_s=timeout_s
            )
        if code is None:
            self.counters["unpublished"] += 1
            # Whoever tries again at once must let the loop find out that the connection is gone.
            await asyncio.sleep(0)
            return False
        if code >= reasons.FAILURE:
            self.counters["publish_refused"] += 1
            self._tell(f'publishing on "{topic}": {reasons.of_code(self._settings, code)}')
            return False
        self.counters["published"] += 1
        return True

    async def receive(self) -> Received:
        """The next message, acknowledged to the broker with this. One may come twice."""
        while not self._inbox:
            self._arrived.clear()
            await self._arrived.wait()
        waiting = self._inbox.take()
        if self._link is not None and waiting.connection == self._attempt:
            self._link.acknowledge(waiting.packet)
            if self._overflowed and not self._inbox:
                self._link.drop("connecting anew for the messages that found no room")
        self.counters["received"] += 1
        return waiting.message

    async def run(self) -> None:
        """Connect, and again, until cancelled; then say farewell and disconnect, within 2 s."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            begun = loop.time()
            reason = await self._serve()
            if reason is None:
                continue
            if loop.time() - begun >= self._backoff.healthy_s:
                failures = 0
                self._told.clear()
            failures += 1
            self._tell(f"{reason}; trying again")
            await asyncio.sleep(self._rng.uniform(0, self._backoff.pause_s(failures)))

    async def _serve(self) -> str | None:
        """One connection, from its making to its end; why it ended. None: try again at once."""
        self._attempt += 1
        self._overflowed = False
        try:
            link = self._make()
        except UsageError as wrong:
            self.counters["attempts_failed"] += 1
            return str(wrong)
        farewell = None
        self._link = link
        try:
            for refused in await link.open(self._subscriptions):
                self._tell(
                    f'{self._settings.broker} refuses the subscription to "{refused}": '
                    "look at its access rules"
                )
            self._rise()
            reason = await link.lost()
            if self._guessed:
                self._version, self._guessed, self._mute = "5", False, MUTE_BEFORE_OLD - 1
            return reason
        except LinkError as failure:
            self.counters["attempts_failed"] += 1
            return None if self._changes_version(failure) else str(failure)
        except asyncio.CancelledError:
            farewell = self._farewell
            raise
        finally:
            self._up.clear()
            self._link = None
            await link.close(farewell)

    def _make(self) -> Link:
        attempt = self._attempt

        def take(message: Received, packet: int) -> None:
            # What comes after something that found no room would come out of order.
            if not self._overflowed and self._inbox.put(message, packet, attempt):
                self._arrived.set()
                return
            self._overflowed = True
            self.counters["dropped"] += 1
            self._tell(f"more than {self._max_queue} messages wait to be received")

        def spoilt() -> None:
            self.counters["malformed"] += 1

        return Link(
            self._settings,
            self._version,
            will=self._will,
            take=take,
            spoilt=spoilt,
            max_queue=self._max_queue,
        )

    def _rise(self) -> None:
        self._mute = self._old_failures = 0
        self.connections += 1
        self._up.set()
        log.info("%s: connected, by MQTT %s", self._settings.broker, self._version)
        for callback in tuple(self.on_connected):
            try:
                callback()
            except Exception:
                log.exception("a listener failed on the connection to the broker")

    def _changes_version(self, failure: LinkError) -> bool:
        """Whether this failure makes the next attempt one in 3.1.1, which need not wait."""
        if self._settings.protocol != "auto":
            return False
        if self._version == "3.1.1":
            self._old_failures += 1
            if self._old_failures >= FAILURES_BEFORE_NEW:
                self._version, self._guessed, self._mute = "5", False, 0
            return False
        self._mute = self._mute + 1 if failure.mute else 0
        self._guessed = self._mute >= MUTE_BEFORE_OLD
        if self._guessed or failure.code == reasons.UNSUPPORTED_VERSION:
            self._version, self._old_failures = "3.1.1", 0
            return True
        return False

    def _tell(self, reason: str) -> None:
        """Once for each reason, until the connection has been healthy for a while."""
        if reason in self._told:
            log.debug("%s", reason)
            return
        if len(self._told) >= DISTINCT_REASONS:
            self._told.clear()
        self._told.add(reason)
        log.warning("%s", reason)
