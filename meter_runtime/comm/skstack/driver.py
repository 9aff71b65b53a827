"""The meter's side of a Wi-SUN module: bring it up, keep it up, pass datagrams.

A sans-I/O core: it is called with octets, wishes and ``now``, and polled after each call for what
to write (:meth:`MeterDriver.take_output`), what happened (:meth:`MeterDriver.take_events`) and
when it wants to be called again (:meth:`MeterDriver.next_deadline`). What is said to the module is
in ``scripts``, how a conversation goes in ``dialogue``, who is joined in ``session``.

A module that is silent, refuses, forgets what it was told or is unplugged is started again from
the beginning, after a back-off of 1 to 60 s.
"""

import enum
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from meter_runtime.comm.contracts import (
    ALL_NODES,
    MAX_PAYLOAD,
    LinkCredentials,
    LinkEvent,
    LinkStarted,
    LinkStartFailed,
    UnitFault,
)
from meter_runtime.comm.skstack import scripts
from meter_runtime.comm.skstack.commands import CRLF, encode_command
from meter_runtime.comm.skstack.dialects import B_ROUTE_SIDE, SE, Dialect
from meter_runtime.comm.skstack.dialogue import Dialogue, Script, State
from meter_runtime.comm.skstack.outbox import Outbox, SendDone
from meter_runtime.comm.skstack.replies import Event, Info, Reply, ReplyReader, RxUdp, Text
from meter_runtime.comm.skstack.session import Received, Session

LOOK_EVERY_S = 60.0
"""A serving module that said nothing for so long is asked whether it lives (the default)."""
BACKOFF_FIRST_S = 1.0
BACKOFF_LAST_S = 60.0


DriverEvent = LinkEvent | Received | SendDone


class Phase(enum.Enum):
    """Where the driver stands."""

    STOPPED = "stopped"
    OFFLINE = "offline"
    """It wants to serve and waits for the port to be opened."""
    RESTING = "resting"
    """Backing off after a failure."""
    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"


class MeterDriver:
    """One module, one network, one joined home.

    ``dialect`` None takes whatever dialect the module speaks; a given one that the module
    contradicts is a failure to start. ``lifetime_s`` is the PANA session's life (at least 60),
    ``look_every_s`` how long a serving module may be silent before it is asked whether it lives.
    """

    def __init__(
        self,
        dialect: Dialect | None,
        rng: random.Random,
        *,
        lifetime_s: int = 86_400,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._expected = dialect
        self._rng = rng
        self._lifetime_s = lifetime_s
        self._look_every_s = look_every_s
        self._reader = ReplyReader(dialect or SE)
        self._dialogue = Dialogue()
        self._after: Callable[[Any, float], None] | None = None
        self._session = Session(lifetime_s)
        self._credentials: LinkCredentials | None = None
        self._restart_wanted = False
        self._vacating = False
        self._vacated = False
        self._port_open = False
        self._rest_until = 0.0
        self._backoff_s = BACKOFF_FIRST_S
        self._look_at = 0.0
        self._output = bytearray()
        self._events: list[DriverEvent] = []
        self._outbox = Outbox(self._report)
        self._counts: Counter[str] = Counter()
        self.phase = Phase.STOPPED
        self.identity: scripts.Identity | None = None
        """The module that was found last."""
        self.network: scripts.Network | None = None
        """The network that was brought up last."""

    # Wishes

    def start(self, credentials: LinkCredentials, now: float) -> None:
        """Serve holders of these credentials, and keep serving until :meth:`stop`."""
        if self._vacating:
            # Bringing it up begins by having everything forgotten.
            self._vacating = False
            self._dialogue.abandon()
        elif self.phase is not Phase.STOPPED:
            self.set_credentials(credentials, now)
            return
        self._credentials = credentials
        self._backoff_s = BACKOFF_FIRST_S
        self._bring_up(now)

    def stop(self, now: float) -> None:
        """End the session and answer no join; ``phase`` becomes STOPPED, at once or soon."""
        self._credentials = None
        self._restart_wanted = self._vacating = False
        self._drop_sends()
        if self.phase is Phase.SERVING:
            self._take_down(now)
        elif self.phase is Phase.STARTING:
            # It serves nobody yet; a scan would keep an answer waiting for seconds.
            self._dialogue.abandon()
            self._output += CRLF + encode_command("SKRESET")
            self.phase = Phase.STOPPED
        elif self.phase is not Phase.STOPPING:
            self.phase = Phase.STOPPED

    def vacate(self, now: float) -> None:
        """Where nobody is to be served: have the module forget whom it admitted, then stop.

        Tried until the module has answered; ``phase`` is STOPPED then, and at once where that
        was so already.
        """
        if self.phase is not Phase.STOPPED or self._vacated:
            return
        self._vacating = True
        self._backoff_s = BACKOFF_FIRST_S
        self._bring_up(now)

    def set_credentials(self, credentials: LinkCredentials, now: float) -> None:
        """Drop the session and start over with these."""
        if self.phase is Phase.STOPPED or self._vacating:
            return
        self._credentials = credentials
        if self.phase is Phase.SERVING:
            self._drop_sends()
            self._take_down(now)
        elif self.phase is Phase.STARTING:
            self._restart_wanted = True
            self._advance(now)

    def send(self, payload: bytes, peer: str, now: float) -> int:
        """Queue a datagram for the joined home or ``ALL_NODES``; its :class:`SendDone` follows.

        A datagram of 1 to 1232 octets waits while the home renews its session. It fails at once
        where nobody is joined, sending is restricted, or too many wait.
        """
        send_id = self._outbox.submit(payload, peer, now, self._refusal(payload, peer))
        self._advance(now)
        return send_id

    def _refusal(self, payload: bytes, peer: str) -> str | None:
        home = self._session.peer
        if self.phase is not Phase.SERVING or home is None or peer not in (home, ALL_NODES):
            return "tx_refused"
        if not 1 <= len(payload) <= MAX_PAYLOAD:
            return "tx_refused"
        return "tx_restricted" if self._session.restricted else None

    # The port

    @property
    def port_wanted(self) -> bool:
        """Whether the port should be opened now."""
        return self.phase is Phase.OFFLINE

    def port_opened(self, now: float) -> None:
        """The port is open: octets pass both ways from here."""
        self._port_open = True
        self._reader.reset()
        if self.phase is Phase.OFFLINE:
            self._bring_up(now)

    def port_lost(self, reason: str, now: float) -> None:
        """The port was lost, or could not be opened."""
        self._port_open = False
        self._dialogue.abandon()
        self._output.clear()
        if self.phase is Phase.STOPPING and self._credentials is None and not self._vacating:
            self._drop_sends()
            self._events += self._session.end()
            self.phase = Phase.STOPPED
        elif self.phase is not Phase.STOPPED:
            self._fault(reason, now)

    def receive(self, data: bytes, now: float) -> None:
        """Octets came from the module."""
        for reply in self._reader.feed(data):
            self._take(reply, now)
        self._advance(now)

    # Time and outputs

    def tick(self, now: float) -> None:
        """Do what is due; to be called at :meth:`next_deadline`, harmless at any time."""
        self._dialogue.tick(now)
        self._settle(now)
        self._outbox.expire(now)
        if self.phase is Phase.RESTING and now >= self._rest_until:
            self._bring_up(now)
        self._advance(now)

    def next_deadline(self) -> float | None:
        """When :meth:`tick` is due next; None while only octets or wishes can change anything."""
        match self.phase:
            case Phase.RESTING:
                return self._rest_until
            case Phase.STARTING | Phase.STOPPING:
                return self._dialogue.deadline
            case Phase.SERVING:
                due = [self._outbox.next_expiry]
                if self._dialogue.state is State.ASKING:
                    due.append(self._dialogue.deadline)
                else:
                    due.append(self._look_at)
                    if self._outbox.waiting:
                        due.append(self._session.renewing_until)
                return min((moment for moment in due if moment is not None), default=None)
            case _:
                return None

    def take_output(self) -> bytes:
        """What to write to the port now."""
        self._output += self._dialogue.take_output()
        data = bytes(self._output)
        self._output.clear()
        return data

    def take_events(self) -> list[DriverEvent]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    @property
    def joined(self) -> str | None:
        """The address of the joined home."""
        return self._session.peer

    @property
    def counters(self) -> dict[str, int]:
        """What was counted since the driver was made."""
        counts = self._counts + self._outbox.counts + self._session.counts
        own = {name: counts[name] for name in _COUNTED}
        return own | {"retries": self._dialogue.retries, "overlong": self._reader.overlong}

    # Conversations

    def _run(
        self,
        script: Script[Any],
        after: Callable[[Any, float], None],
        now: float,
    ) -> None:
        self._after = after
        self._dialogue.begin(script, now)
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Act on a conversation that ended."""
        match self._dialogue.state:
            case State.DONE:
                self._dialogue.state = State.IDLE
                after, self._after = self._after, None
                if after is not None:
                    after(self._dialogue.result, now)
            case State.FAILED:
                self._dialogue.state = State.IDLE
                if self.phase is Phase.STOPPING and not self._vacating:
                    self._taken_down(None, now)
                else:
                    self._fault(self._dialogue.reason, now)

    def _bring_up(self, now: float) -> None:
        self._restart_wanted = False
        if not self._port_open:
            self.phase = Phase.OFFLINE
            return
        self._reader.hex_data = None
        if self._vacating:
            self.phase = Phase.STOPPING
            self._run(scripts.forget(), self._forgotten, now)
            return
        self._vacated = False
        self.phase = Phase.STARTING
        self._run(scripts.identify(self._expected), self._identified, now)

    def _identified(self, identity: scripts.Identity, now: float) -> None:
        self.identity = identity
        self._reader.dialect = identity.dialect
        self._reader.hex_data = identity.hex_data
        credentials = self._credentials
        if credentials is not None:
            script = scripts.bring_up(
                identity,
                credentials,
                self._lifetime_s,
                self._rng,
                channel_before=None if self.network is None else self.network.channel,
            )
            self._run(script, self._started, now)

    def _started(self, network: scripts.Network, now: float) -> None:
        identity = self.identity
        if identity is None:
            return
        self.phase = Phase.SERVING
        self.network = network
        self._session.reset()
        self._backoff_s = BACKOFF_FIRST_S
        self._look_at = now + self._look_every_s
        self._count("starts")
        detail = f"channel {network.channel}, PAN {network.pan_id:04X}"
        self._events.append(LinkStarted(identity.info.address, detail))
        self._events += self._session.restrict(restricted=network.restricted)
        # Trust, and look: this is when a start that only seemed to work shows.
        self._look(now)

    def _look(self, now: float) -> None:
        self._look_at = now + self._look_every_s
        self._run(scripts.look(restricted=self._session.restricted), self._looked, now)

    def _looked(self, health: scripts.Health, now: float) -> None:
        if not health.serving:
            self._fault("the module restarted by itself and answers no join", now)
            return
        self._events += self._session.restrict(restricted=health.restricted)

    def _transmit(self, now: float) -> None:
        identity, parcel = self.identity, self._outbox.next()
        if identity is not None and parcel is not None:
            script = scripts.transmit(identity.dialect, parcel.payload, parcel.destination)
            self._run(script, self._transmitted, now)

    def _transmitted(self, result: scripts.Transmission, now: float) -> None:
        self._outbox.landed(ok=result.sent)
        if not result.healthy:
            self._look_at = now

    def _take_down(self, now: float) -> None:
        self.phase = Phase.STOPPING
        self._run(scripts.take_down(), self._taken_down, now)

    def _taken_down(self, _: object, now: float) -> None:
        self._events += self._session.end()
        if self._credentials is None:
            self.phase = Phase.STOPPED
        else:
            self._bring_up(now)

    def _forgotten(self, _: object, now: float) -> None:
        self._vacating, self._vacated = False, True
        self._count("vacated")
        self.phase = Phase.STOPPED

    def _advance(self, now: float) -> None:
        """Begin what can begin: a restart, a look at the module, the next datagram."""
        if self.phase is Phase.STARTING and self._restart_wanted and self._between_scans():
            self._bring_up(now)
        if self.phase is not Phase.SERVING or self._dialogue.state is State.ASKING:
            return
        if now >= self._look_at:
            self._look(now)
        elif self._outbox.waiting and now >= self._session.renewing_until:
            self._transmit(now)

    def _between_scans(self) -> bool:
        # A scanning module answers nothing; any other command may be talked over.
        return self._dialogue.asking != "SKSCAN"

    # Replies

    def _take(self, reply: Reply, now: float) -> None:
        if isinstance(reply, Event | RxUdp) and reply.side == B_ROUTE_SIDE:
            self._follow(reply, now)
        consumed = self._dialogue.take(reply, now)
        self._settle(now)
        if consumed or isinstance(reply, Event | RxUdp):
            # A sign of life puts off the next look, unless one is due.
            if self._look_at > now:
                self._look_at = now + self._look_every_s
            return
        self._count("noise")
        if isinstance(reply, Info) or (isinstance(reply, Text) and "EVER " in reply.line):
            # A banner that nobody asked for: the module has probably restarted.
            self._look_at = now

    def _follow(self, reply: Event | RxUdp, now: float) -> None:
        """What the module tells unasked matters while a session can exist."""
        identity = self.identity
        if self.phase not in (Phase.SERVING, Phase.STOPPING) or identity is None or self._vacating:
            return
        if isinstance(reply, RxUdp):
            if self.phase is Phase.SERVING:
                self._events += self._session.receive(reply, now)
            return
        before = self._session.peer
        self._events += self._session.follow(reply, identity.info.address)
        if self._session.restricted:
            self._outbox.fail_waiting("tx_restricted")
        elif self._session.peer != before:
            self._outbox.fail_waiting("tx_refused")

    # Failures

    def _fault(self, reason: str, now: float) -> None:
        self._dialogue.abandon()
        self._count("faults")
        self._rest_until = now + self._backoff_s
        if self.phase is Phase.SERVING:
            self._events.append(UnitFault(reason))
        elif not self._vacating:
            self._events.append(LinkStartFailed(reason, self._backoff_s))
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_LAST_S)
        self.phase = Phase.RESTING
        self._drop_sends()
        self._events += self._session.end()

    def _drop_sends(self) -> None:
        self._outbox.landed(ok=False)
        self._outbox.fail_waiting("tx_refused")

    def _report(self, done: SendDone) -> None:
        self._events.append(done)

    def _count(self, name: str) -> None:
        self._counts[name] += 1


_COUNTED = (
    "starts",
    "faults",
    "vacated",
    "tx",
    "tx_failed",
    "tx_refused",
    "tx_restricted",
    "tx_dropped",
    "tx_expired",
    "rx",
    "rx_plaintext",
    "rx_other_port",
    "knocks_untold",
    "noise",
)
