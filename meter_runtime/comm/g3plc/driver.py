"""The meter's side of a G3-PLC modem: bring it up, keep it up, admit a home, pass datagrams.

A sans-I/O core: it is called with octets, wishes and ``now``, and polled after each call for what
to write (:meth:`PlcDriver.take_output`), what happened (:meth:`PlcDriver.take_events`) and when it
wants to be called again (:meth:`PlcDriver.next_deadline`). What is asked of the modem is in
``scripts``, how a conversation goes in ``dialogue``, who is joined in ``session``.

A modem that is silent, refuses, forgets what it was told or is unplugged is started again from the
beginning, after a back-off of 1 to 60 s.
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
    PeerLeft,
    UnitFault,
)
from meter_runtime.comm.g3plc import ipv6, scripts, usi
from meter_runtime.comm.g3plc.dialogue import Dialogue, Script, State
from meter_runtime.comm.g3plc.messages import (
    REJECTED,
    DataIndication,
    JoinCompleteIndication,
    JoinRequestIndication,
    Kick,
    LeaveIndication,
    MalformedMessage,
    Message,
    Reset,
    ShortAddressAssign,
    StatusCode,
    encode,
    parse,
)
from meter_runtime.comm.g3plc.session import JOIN_TIMEOUT_S, Received, Session, Station
from meter_runtime.comm.skstack.outbox import Outbox, SendDone

LOOK_EVERY_S = 60.0
"""A serving modem that said nothing for so long is asked whether it lives (the default)."""
BACKOFF_FIRST_S = 1.0
BACKOFF_LAST_S = 60.0
_HANDLES = 0x100

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
    REWRITING = "rewriting"
    """Other keys are being set; nobody may join meanwhile."""
    STOPPING = "stopping"


_UP = (Phase.SERVING, Phase.REWRITING)


class PlcDriver:
    """One modem, one PAN, one joined home.

    ``lifetime_s`` is how long a home that says nothing counts as connected, ``join_timeout_s`` how
    long a join may take before it has failed, ``look_every_s`` how long a serving modem may be
    silent before it is asked whether it lives. ``random_bytes`` makes keys: a cryptographic one.
    """

    def __init__(
        self,
        rng: random.Random,
        random_bytes: scripts.RandomBytes,
        *,
        lifetime_s: int = 86_400,
        join_timeout_s: int = JOIN_TIMEOUT_S,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._rng = rng
        self._random_bytes = random_bytes
        self._join_timeout_s = join_timeout_s
        self._look_every_s = look_every_s
        self._reader = usi.FrameReader()
        self._dialogue = Dialogue()
        self._after: Callable[[Any, float], None] | None = None
        self._session = Session(lifetime_s, join_timeout_s)
        self._credentials: LinkCredentials | None = None
        self._vacating = False
        self._vacated = False
        self._port_open = False
        self._rest_until = 0.0
        self._backoff_s = BACKOFF_FIRST_S
        self._look_at = 0.0
        self._handle = 0
        self._pan_id: int | None = None
        self._output = bytearray()
        self._events: list[DriverEvent] = []
        self._outbox = Outbox(self._report)
        self._in_flight_to_home = False
        self._counts: Counter[str] = Counter()
        self.phase = Phase.STOPPED
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
        self._vacating = False
        self._drop_sends()
        if self.phase in _UP:
            self._take_down(now)
        elif self.phase is Phase.STARTING:
            # It serves nobody yet, and may be busy with the start for a while.
            self._dialogue.abandon()
            self._say(Reset())
            self.phase = Phase.STOPPED
        elif self.phase is not Phase.STOPPING:
            self.phase = Phase.STOPPED

    def vacate(self, now: float) -> None:
        """Where nobody is to be served: have the modem forget whom it admitted, then stop.

        Tried until the modem has answered; ``phase`` is STOPPED then, and at once where that was
        so already.
        """
        if self.phase is not Phase.STOPPED or self._vacated:
            return
        self._vacating = True
        self._backoff_s = BACKOFF_FIRST_S
        self._bring_up(now)

    def set_credentials(self, credentials: LinkCredentials, now: float) -> None:
        """Kick the home, and admit only holders of these.

        The network gets another key as well: who was kicked, or did not hear that he was, can
        neither listen nor speak. While a device is joining all starts over, or the modem would
        hand the new key to one that proves the old password.
        """
        if self.phase is Phase.STOPPED or self._vacating:
            return
        self._credentials = credentials
        if self.phase in _UP and self._session.joining:
            self._drop_sends()
            self._take_down(now)
        elif self.phase in _UP:
            self._drop_sends()
            self._kick(self._session.home)
            self._events += self._session.end()
            self.phase = Phase.REWRITING
            keys = scripts.keys_of(credentials, self._random_bytes)
            self._run(scripts.rewrite(keys), self._rewritten, now)
        elif self.phase is Phase.STARTING:
            self._bring_up(now)

    def send(self, payload: bytes, peer: str, now: float) -> int:
        """Queue a datagram for the joined home or ``ALL_NODES``; its :class:`SendDone` follows.

        It has 1 to 1232 octets. It fails at once where nobody is joined, or too many wait.
        """
        send_id = self._outbox.submit(payload, peer, now, self._refusal(payload, peer))
        self._advance(now)
        return send_id

    def _refusal(self, payload: bytes, peer: str) -> str | None:
        home = self._session.peer
        if self.phase is not Phase.SERVING or home is None or peer not in (home, ALL_NODES):
            return "tx_refused"
        return None if 1 <= len(payload) <= MAX_PAYLOAD else "tx_refused"

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
        """Octets came from the modem."""
        for payload in self._reader.feed(data):
            try:
                message = parse(payload)
            except MalformedMessage:
                self._count("malformed")
                continue
            self._take(message, now)
        self._advance(now)

    # Time and outputs

    def tick(self, now: float) -> None:
        """Do what is due; to be called at :meth:`next_deadline`, harmless at any time."""
        self._dialogue.tick(now)
        self._settle(now)
        self._outbox.expire(now)
        if self.phase is Phase.SERVING:
            self._events += self._session.expire(now)
        if self.phase is Phase.RESTING and now >= self._rest_until:
            self._bring_up(now)
        self._advance(now)

    def next_deadline(self) -> float | None:
        """When :meth:`tick` is due next; None while only octets or wishes can change anything."""
        match self.phase:
            case Phase.RESTING:
                return self._rest_until
            case Phase.STARTING | Phase.REWRITING | Phase.STOPPING:
                return self._dialogue.deadline
            case Phase.SERVING:
                asking = self._dialogue.state is State.ASKING
                talk = self._dialogue.deadline if asking else self._look_at
                due = (talk, self._outbox.next_expiry, self._session.deadline)
                return min((moment for moment in due if moment is not None), default=None)
            case _:
                return None

    def take_output(self) -> bytes:
        """What to write to the port now."""
        self._pump()
        data = bytes(self._output)
        self._output.clear()
        return data

    def take_events(self) -> list[DriverEvent]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    @property
    def counters(self) -> dict[str, int]:
        """What was counted since the driver was made."""
        counts = self._counts + self._outbox.counts + self._session.counts + self._reader.counts
        return {name: counts[name] for name in _COUNTED} | {"retries": self._dialogue.retries}

    # Conversations

    def _run(self, script: Script[Any], after: Callable[[Any, float], None], now: float) -> None:
        # Whatever was said so far is said before the script's first word.
        self._pump()
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
        if not self._port_open:
            self.phase = Phase.OFFLINE
            return
        if self._vacating:
            self.phase = Phase.STOPPING
            self._run(scripts.take_down(), self._forgotten, now)
            return
        credentials = self._credentials
        if credentials is None:
            return
        self._vacated = False
        self.phase = Phase.STARTING
        if self._pan_id is None:
            self._pan_id = self._rng.randrange(1, 0xFFFF) & scripts.PAN_MASK
        keys = scripts.keys_of(credentials, self._random_bytes)
        self._run(scripts.bring_up(keys, self._pan_id, self._join_timeout_s), self._started, now)

    def _started(self, network: scripts.Network, now: float) -> None:
        if network.status != StatusCode.OK:
            # It may be somebody else's PAN: the next start tries another one.
            self._pan_id = None
            self._fault(
                f"the modem cannot start PAN {network.pan_id:04X} (status {network.status})", now
            )
            return
        self.phase = Phase.SERVING
        self.network = network
        self._session.reset(network.pan_id)
        self._backoff_s = BACKOFF_FIRST_S
        self._look_at = now + self._look_every_s
        self._count("starts")
        self._tell_started()

    def _rewritten(self, _: object, now: float) -> None:
        self.phase = Phase.SERVING
        self._look_at = now + self._look_every_s
        self._count("rewrites")
        self._tell_started()

    def _tell_started(self) -> None:
        pan_id = self._session.pan_id
        self._events.append(LinkStarted(ipv6.link_local(pan_id, 0), f"ARIB band, PAN {pan_id:04X}"))

    def _look(self, now: float) -> None:
        self._look_at = now + self._look_every_s
        self._run(scripts.look(self._session.pan_id), self._looked, now)

    def _looked(self, serving: bool, now: float) -> None:
        if not serving:
            self._fault("the modem restarted by itself and answers no join", now)

    def _transmit(self, now: float) -> None:
        parcel = self._outbox.next()
        if parcel is None:
            return
        self._handle = (self._handle + 1) % _HANDLES
        self._in_flight_to_home = parcel.destination != ALL_NODES
        own = ipv6.link_local(self._session.pan_id, 0)
        script = scripts.transmit(self._handle, own, parcel.destination, parcel.payload)
        self._run(script, self._transmitted, now)

    def _transmitted(self, result: scripts.Transmission, now: float) -> None:
        self._outbox.landed(ok=result.sent)
        if not result.healthy:
            self._look_at = now
        elif self._in_flight_to_home:
            # Nobody acknowledges a multicast.
            lost = self._session.acknowledged(ok=result.sent)
            self._events += lost
            if lost:
                self._outbox.fail_waiting("tx_refused")

    def _take_down(self, now: float) -> None:
        self.phase = Phase.STOPPING
        home = self._session.home
        kicked = None if home is None else Kick(home.short, home.extended)
        self._run(scripts.take_down(kicked), self._taken_down, now)

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
        """Begin what can begin: a look at the modem, the next datagram."""
        if self.phase is not Phase.SERVING or self._dialogue.state is State.ASKING:
            return
        if now >= self._look_at:
            self._look(now)
        elif self._outbox.waiting:
            self._transmit(now)

    # What the modem says

    def _take(self, message: Message, now: float) -> None:
        followed = self._follow(message, now)
        consumed = self._dialogue.take(message, now)
        self._settle(now)
        if not (followed or consumed):
            self._count("noise")
        elif self._look_at > now:
            # A sign of life puts off the next look, unless one is due.
            self._look_at = now + self._look_every_s

    def _follow(self, message: Message, now: float) -> bool:
        """What the modem tells unasked; whether it was that."""
        match message:
            case JoinRequestIndication(extended):
                short = REJECTED
                if self.phase is Phase.SERVING:
                    short, events = self._session.requested(extended, now)
                    self._events += events
                self._say(ShortAddressAssign(extended, short))
            case JoinCompleteIndication(extended, short):
                if self.phase in _UP:
                    unwanted, events = self._session.completed(extended, short)
                    self._home_changed(events)
                    self._kick(unwanted)
            case LeaveIndication(short):
                if self.phase in _UP:
                    self._home_changed(self._session.left(short))
            case DataIndication(packet=packet):
                if self.phase is Phase.SERVING:
                    self._events += self._session.receive(packet)
            case _:
                return False
        return True

    def _home_changed(self, events: list[LinkEvent]) -> None:
        """Tell it; what waits for a home that is joined no more goes nowhere."""
        if any(isinstance(event, PeerLeft) for event in events):
            self._outbox.fail_waiting("tx_refused")
        self._events += events

    def _kick(self, station: Station | None) -> None:
        if station is not None:
            self._count("kicks")
            self._say(Kick(station.short, station.extended))

    def _say(self, message: Message) -> None:
        self._pump()
        self._output += usi.frame(encode(message))

    def _pump(self) -> None:
        for message in self._dialogue.take_output():
            self._output += usi.frame(encode(message))

    # Failures

    def _fault(self, reason: str, now: float) -> None:
        self._dialogue.abandon()
        self._count("faults")
        self._rest_until = now + self._backoff_s
        if self.phase in _UP:
            self._events.append(UnitFault(reason))
        elif not self._vacating:
            self._events.append(LinkStartFailed(reason, self._backoff_s))
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_LAST_S)
        self.phase = Phase.RESTING
        self._drop_sends()
        self._session.forget_attempts()
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
    "rewrites",
    "faults",
    "vacated",
    "kicks",
    "joins_refused",
    "joins_unasked",
    "homes_lost",
    "tx",
    "tx_failed",
    "tx_refused",
    "tx_dropped",
    "tx_expired",
    "rx",
    "rx_stranger",
    "rx_other_port",
    "rx_other_address",
    "rx_malformed",
    "damaged",
    "overlong",
    "foreign",
    "malformed",
    "noise",
)
