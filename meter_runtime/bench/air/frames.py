"""What crosses the air: the few frame kinds a B-route link is made of, as values.

A frame carries MAC addresses; the IPv6 addresses of a B-route are link-local and follow from
them. Encryption is modelled by its key's name: a frame under a key is understood only by who
holds the same one. Nothing here is a bit layout; length matters only for the time on air.

Source: IEEE 802.15.4 and RFC 4944 for what the frames are.
"""

from dataclasses import dataclass

from meter_runtime.bench.air import phy


@dataclass(frozen=True, slots=True)
class BeaconRequest:
    """Who is there? With a pairing ID: only its holder answers."""

    pairing_id: str | None


@dataclass(frozen=True, slots=True)
class Beacon:
    """A coordinator's answer to a :class:`BeaconRequest`."""

    pan_id: int
    pairing_id: str | None


@dataclass(frozen=True, slots=True)
class NeighborSolicitation:
    """IPv6 address resolution: asks the destination for its advertisement."""


@dataclass(frozen=True, slots=True)
class NeighborAdvertisement:
    """The answer to a :class:`NeighborSolicitation`."""


@dataclass(frozen=True, slots=True)
class EchoRequest:
    """ICMPv6 echo request."""


@dataclass(frozen=True, slots=True)
class EchoReply:
    """ICMPv6 echo reply."""


@dataclass(frozen=True, slots=True)
class UdpDatagram:
    """One UDP datagram to ``destination``, a fully written IPv6 address."""

    destination: str
    source_port: int
    destination_port: int
    payload: bytes


Body = (
    BeaconRequest
    | Beacon
    | NeighborSolicitation
    | NeighborAdvertisement
    | EchoRequest
    | EchoReply
    | UdpDatagram
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame on a channel.

    ``pan_id`` None reaches every PAN (beacon requests and their answers), ``destination`` None
    every station. ``key_id`` names the key it is encrypted under; None is plaintext.
    """

    channel: int
    pan_id: int | None
    source: bytes
    destination: bytes | None
    body: Body
    key_id: bytes | None = None

    @property
    def secured(self) -> bool:
        """Encrypted at the MAC layer."""
        return self.key_id is not None

    @property
    def fragments(self) -> tuple[int, ...]:
        """The payload octets of each radio frame it is carried in."""
        if isinstance(self.body, UdpDatagram):
            return phy.fragments(len(self.body.payload))
        return (phy.CONTROL_PAYLOAD,)

    @property
    def airtime_s(self) -> float:
        """Seconds on air where every radio frame gets through at once."""
        return sum(map(phy.airtime_s, self.fragments))


@dataclass(frozen=True, slots=True)
class EnergyRequest:
    """A station asks the air how loud a channel is."""

    channel: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """A frame that was on air, as a listener sees it."""

    at: float
    """Clock.monotonic() at its end, acknowledgement included."""
    frame: Frame
    received: bool
    """Somebody it was meant for heard all of it."""
    lqi: int
    """Link quality at its (last) receiver; 0 where nobody heard it."""
