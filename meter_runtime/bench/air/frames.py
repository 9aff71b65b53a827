"""What crosses the air: the few frame kinds a B-route link is made of, as values.

A frame carries MAC addresses; the IPv6 addresses of a B-route are link-local and follow from
them. Encryption is modelled by its key's name: a frame under a key is understood only by who
holds the same one. Nothing here is a bit layout; length matters only for the time on air.

Source: IEEE 802.15.4 and RFC 4944 for what the frames are, ARIB STD-T108 for the pauses.
"""

from dataclasses import dataclass
from math import ceil

BIT_RATE = 100_000
"""Bits per second of the 920 MHz B-route."""

FRAGMENT_PAYLOAD = 185
"""UDP payload octets that fit one radio frame before 6LoWPAN fragments."""

FRAME_OVERHEAD = 60
"""Octets around the payload of one radio frame: preamble to FCS. *Unverified*: a round figure."""

FRAME_PAUSE_S = 0.002128
"""Before each radio frame: 128 µs of carrier sense and 2 ms of pause."""


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
    def airtime_s(self) -> float:
        """Seconds on air, fragments and the pauses before them included."""
        octets = len(self.body.payload) if isinstance(self.body, UdpDatagram) else 0
        fragments = max(1, ceil(octets / FRAGMENT_PAYLOAD))
        bits = 8 * (octets + fragments * FRAME_OVERHEAD)
        return bits / BIT_RATE + fragments * FRAME_PAUSE_S


@dataclass(frozen=True, slots=True)
class EnergyRequest:
    """A station asks the air how loud a channel is."""

    channel: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """A frame that was on air, as a listener sees it."""

    at: float
    """Clock.monotonic() at the end of the frame."""
    frame: Frame
    received: bool
    """Somebody it was meant for heard it."""
    lqi: int
    """Link quality at its (last) receiver; 0 where nobody heard it."""
