"""The PLC adapter of a HEMS, from finding the meter to its datagrams; a sans-I/O core."""

import enum
import random
from collections import deque

from meter_runtime.bench.plc.frames import (
    Accepted,
    Beacon,
    BeaconRequest,
    Body,
    Declined,
    Eap,
    Joining,
    Kicked,
    Leaving,
    LineFrame,
    Packet,
    open_gmk,
)
from meter_runtime.comm.auth.eap_psk import EapPskPeer
from meter_runtime.comm.auth.eax import TagMismatch
from meter_runtime.comm.auth.pana_events import peer_id, psk_of, server_id
from meter_runtime.comm.contracts import ALL_NODES, ECHONET_LITE_PORT, LinkCredentials
from meter_runtime.comm.g3plc import ipv6

REPEAT_S = 1.5
"""A request that nobody answered is sent again after so long; a modem repeats itself sooner."""
PATIENCE_S = 20.0
"""A join that is not over by then has failed."""
MAX_RECEIVED = 256


class Phase(enum.Enum):
    """Where the adapter stands."""

    IDLE = "idle"
    SEARCHING = "searching"
    """It asks who coordinates a PAN."""
    JOINING = "joining"
    JOINED = "joined"
    REFUSED = "refused"
    """The meter declined: a wrong password."""
    NOT_FOUND = "not found"
    """Nobody with this ID answered."""
    KICKED = "kicked"
    """The meter has ended it."""


class Adapter:
    """One adapter; ``extended`` is its EUI-64."""

    def __init__(self, extended: bytes, rng: random.Random) -> None:
        self.extended = extended
        self.phase = Phase.IDLE
        self.received: deque[bytes] = deque(maxlen=MAX_RECEIVED)
        """ECHONET Lite payloads, oldest first."""
        self.acknowledged: bool | None = None
        """What became of the last datagram."""
        self.lqi = 0
        """Of the last frame that came."""
        self._rng = rng
        self._credentials: LinkCredentials | None = None
        self._peer: EapPskPeer | None = None
        self._meter: bytes | None = None
        self._pan_id = 0
        self._short = 0
        self._gmk: bytes | None = None
        self._until = 0.0
        self._again_at = 0.0
        self._line: list[LineFrame] = []

    @property
    def meter_address(self) -> str:
        """The meter's IPv6 address."""
        return ipv6.link_local(self._pan_id, 0)

    def join(self, credentials: LinkCredentials, now: float) -> None:
        """Look for the meter with this ID, and join it."""
        self._credentials = credentials
        self._gmk = self._peer = self._meter = None
        self.phase = Phase.SEARCHING
        self._until = now + PATIENCE_S
        self._ask(now)

    def leave(self) -> None:
        """Tell the meter that this is over."""
        if self.phase is Phase.JOINED:
            self._send(self._meter, Leaving())
        self.phase = Phase.IDLE

    def send(self, payload: bytes, *, port: int = ECHONET_LITE_PORT) -> None:
        """Send a datagram to the meter; does nothing where it is not joined."""
        if self._gmk is None or self.phase is not Phase.JOINED:
            return
        own = ipv6.link_local(self._pan_id, self._short)
        packet = ipv6.UdpPacket(own, self.meter_address, port, port, payload)
        self.acknowledged = None
        self._send(self._meter, Packet(ipv6.encode(packet), self._gmk))

    # The line's side

    @property
    def deadline(self) -> float | None:
        """When it wants :meth:`tick`."""
        if self.phase in (Phase.SEARCHING, Phase.JOINING):
            return min(self._again_at, self._until)
        return None

    def take_line(self) -> list[LineFrame]:
        """What it wants to send since last asked."""
        frames, self._line = self._line, []
        return frames

    def tick(self, now: float) -> None:
        """Ask again, or give up."""
        if self.deadline is None:
            return
        if now >= self._until:
            self.phase = Phase.NOT_FOUND
        elif now >= self._again_at:
            self._ask(now)

    def sent(self, frame: LineFrame, *, received: bool, now: float) -> None:
        """Its frame was acknowledged, or finally not."""
        if isinstance(frame.body, Packet):
            self.acknowledged = received

    def hear(self, frame: LineFrame, lqi: int, now: float) -> None:
        """A frame came."""
        self.lqi = lqi
        match frame.body:
            case Beacon(pan_id) if self.phase is Phase.SEARCHING:
                self._meter, self._pan_id = frame.source, pan_id
                self.phase = Phase.JOINING
                self._ask(now)
            case Packet(data, key) if key == self._gmk:
                self._take(data)
            case _ if frame.source == self._meter:
                self._follow(frame.body, now)
            case _:
                pass

    def _follow(self, body: Body, now: float) -> None:
        match body:
            case Eap(packet) if self.phase is Phase.JOINING:
                self._answer(packet, now)
            case Accepted(success, short, sealed) if self.phase is Phase.JOINING:
                self._accepted(success, short, sealed)
            case Declined() if self.phase is Phase.JOINING:
                self.phase = Phase.REFUSED
            case Kicked() if self.phase is Phase.JOINED:
                self._gmk = None
                self.phase = Phase.KICKED
            case _:
                pass

    def _answer(self, packet: bytes, now: float) -> None:
        credentials = self._credentials
        if credentials is None:
            return
        if self._peer is None:
            psk = psk_of(credentials.password)
            self._peer = EapPskPeer(psk, peer_id(credentials), self._rng.randbytes)
        answer = self._peer.receive(packet)
        if self._peer.server_id not in (None, server_id(credentials)):
            # Somebody else's meter.
            self.phase = Phase.NOT_FOUND
        elif answer is not None:
            self._again_at = now + PATIENCE_S  # the meter's modem repeats itself
            self._send(self._meter, Eap(answer))

    def _accepted(self, success: bytes, short: int, sealed: bytes) -> None:
        peer = self._peer
        if peer is None:
            return
        peer.receive(success)
        if peer.keys is None:
            return
        try:
            self._gmk = open_gmk(peer.keys.tek, sealed)
        except TagMismatch:
            return
        self._short = short
        self.phase = Phase.JOINED

    def _take(self, data: bytes) -> None:
        try:
            datagram = ipv6.parse(data)
        except ipv6.MalformedPacket:
            return
        own = ipv6.link_local(self._pan_id, self._short)
        if datagram.destination_port == ECHONET_LITE_PORT and datagram.destination in (
            own,
            ALL_NODES,
        ):
            self.received.append(datagram.payload)

    def _ask(self, now: float) -> None:
        self._again_at = now + REPEAT_S
        if self.phase is Phase.SEARCHING:
            self._send(None, BeaconRequest())
        else:
            self._peer = None
            self._send(self._meter, Joining())

    def _send(self, destination: bytes | None, body: Body) -> None:
        self._line.append(LineFrame(self.extended, destination, body))
