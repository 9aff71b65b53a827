"""A classic pcap file of UDP over IPv6: a header of 24 bytes, then 16 before each packet.

Link type RAW (101): a packet begins with its IPv6 header (RFC 8200, RFC 768 for the checksum).
"""

import struct
from collections.abc import Iterable
from ipaddress import IPv6Address
from pathlib import Path

_LINKTYPE_RAW = 101
_UDP = 17
_HOP_LIMIT = 64

Datagram = tuple[float, IPv6Address, IPv6Address, bytes]
"""Time in seconds, source, destination, payload."""


def write(path: Path, datagrams: Iterable[Datagram], port: int) -> None:
    """Write the datagrams, each from and to this UDP port."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, _LINKTYPE_RAW))
        for at, source, destination, payload in datagrams:
            packet = _ipv6(source, destination, port, payload)
            seconds, micros = divmod(round(at * 1_000_000), 1_000_000)
            file.write(struct.pack("<IIII", seconds, micros, len(packet), len(packet)) + packet)


def _ipv6(source: IPv6Address, destination: IPv6Address, port: int, payload: bytes) -> bytes:
    length = 8 + len(payload)
    pseudo = source.packed + destination.packed + struct.pack(">II", length, _UDP)
    blank = struct.pack(">HHHH", port, port, length, 0) + payload
    checksum = _checksum(pseudo + blank)
    head = struct.pack(">IHBB", 6 << 28, length, _UDP, _HOP_LIMIT)
    udp = struct.pack(">HHHH", port, port, length, checksum) + payload
    return head + source.packed + destination.packed + udp


def _checksum(data: bytes) -> int:
    words = struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total or 0xFFFF
