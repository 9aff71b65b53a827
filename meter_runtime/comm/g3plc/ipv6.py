"""The packets that a G3-PLC modem carries: IPv6 (RFC 8200) with UDP (RFC 768), link-local.

Fragmentation and header compression are the modem's (6LoWPAN), so that a packet here is whole and
has no extension headers. Addresses are text as the rest of the runtime writes them: eight groups
of four digits.
"""

import ipaddress
import struct
from dataclasses import dataclass

MTU = 1280
HOP_LIMIT = 64
"""*Unverified*: one that 6LoWPAN compresses; nobody on the link decrements it."""

_UDP = 17
_HEADER = struct.Struct(">IHBB16s16s")
_UDP_HEADER = struct.Struct(">HHHH")
_VERSION = 6 << 28


class MalformedPacket(ValueError):  # noqa: N818 - it names the packet, not the reader's failure
    """No IPv6 packet with one whole UDP datagram, or one whose checksum is wrong."""


@dataclass(frozen=True, slots=True)
class UdpPacket:
    """One UDP datagram and who sent it to whom."""

    source: str
    destination: str
    source_port: int
    destination_port: int
    payload: bytes


def link_local(pan_id: int, short: int) -> str:
    """The address of a station: ``fe80::<pan>:ff:fe00:<short>``."""
    return f"FE80:0000:0000:0000:{pan_id:04X}:00FF:FE00:{short:04X}"


def encode(packet: UdpPacket) -> bytes:
    """The packet's octets, checksum included."""
    source, destination = _octets(packet.source), _octets(packet.destination)
    size = _UDP_HEADER.size + len(packet.payload)
    ports = (packet.source_port, packet.destination_port)
    blank = _UDP_HEADER.pack(*ports, size, 0) + packet.payload
    # RFC 8200, section 8.1: a checksum that comes out as zero is sent as FFFF.
    checksum = _checksum(source, destination, blank) or 0xFFFF
    return (
        _HEADER.pack(_VERSION, size, _UDP, HOP_LIMIT, source, destination)
        + _UDP_HEADER.pack(*ports, size, checksum)
        + packet.payload
    )


def parse(data: bytes) -> UdpPacket:
    """Take a packet apart; raises :class:`MalformedPacket`."""
    if len(data) < _HEADER.size + _UDP_HEADER.size:
        raise MalformedPacket(f"{len(data)} octets are no IPv6 packet with UDP")
    first, size, following, _, source, destination = _HEADER.unpack_from(data)
    if first >> 28 != 6 or following != _UDP:
        raise MalformedPacket(f"version {first >> 28}, next header {following}")
    datagram = data[_HEADER.size :]
    source_port, destination_port, length, checksum = _UDP_HEADER.unpack_from(datagram)
    if size != len(datagram) or length != size:
        raise MalformedPacket(f"lengths {size} and {length} in {len(datagram)} octets")
    # Over a datagram with its checksum the sum is all ones, and its complement zero.
    if checksum == 0 or _checksum(source, destination, datagram) != 0:
        raise MalformedPacket("wrong UDP checksum")
    return UdpPacket(
        _text(source),
        _text(destination),
        source_port,
        destination_port,
        datagram[_UDP_HEADER.size :],
    )


def _octets(address: str) -> bytes:
    return ipaddress.IPv6Address(address).packed


def _text(address: bytes) -> str:
    return address.hex(":", 2).upper()


def _checksum(source: bytes, destination: bytes, datagram: bytes) -> int:
    data = source + destination + struct.pack(">II", len(datagram), _UDP) + datagram
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
