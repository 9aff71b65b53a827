"""A pcapng file of the air: each UDP datagram in the IPv6 packet that it is.

Owns the three block types needed of the format (draft-ietf-opsawg-pcapng), IPv6 and UDP headers
(RFC 8200, RFC 768) and the file. Packets are written as raw IPv6: 6LoWPAN and the MAC layer are
not modelled bit by bit, so none are shown.

The writer is our own because a file that must survive the end of the process at any instant wants
each block in one write, and the one library that writes the format is untyped and unmaintained.
"""

import logging
import struct
from pathlib import Path

from meter_runtime.bench.air import Crossing, UdpDatagram
from meter_runtime.bench.happenings import Happening
from meter_runtime.comm.skstack.addresses import link_local, parse_address
from meter_runtime.errors import MeterError

log = logging.getLogger(__name__)

LINKTYPE_IPV6 = 229
_SECTION, _INTERFACE, _PACKET, _STATISTICS = 0x0A0D0D0A, 1, 6, 5
_BYTE_ORDER = 0x1A2B3C4D
_OPT_END, _OPT_COMMENT = 0, 1
_SHB_USERAPPL, _IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL = 4, 2, 3, 9
_MICROSECONDS = 6
_SNAPLEN = 1500

_HOP_LIMIT = 64
"""What real modules write is *unverified*; nothing on a B-route looks at it."""
_UDP = 17

COMMENTED = frozenset(
    {"joined", "rejoined", "reauthenticated", "auth-failed", "left", "expired", "link-started"}
    | {"tx-restricted", "tx-released", "fault", "clear", "clock-step", "advanced"}
)
"""Happenings told as the comment of the packet that follows them."""
MAX_COMMENTS = 16
"""Kept for the next packet; with more, the oldest give way."""


class Capture:
    """Writes the file at ``path``; whole up to the last packet at every instant.

    Raises MeterError where the file cannot be made. When it can no longer be written, as on a full
    disk, that is logged once and the laboratory goes on without.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packets = 0
        self._comments: list[str] = []
        self._wall = 0.0
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as failure:
            raise MeterError(f"{path}: cannot be written: {failure.strerror}") from None
        self._failed = False
        self._write(section_header() + interface_description())

    def crossed(self, crossing: Crossing, wall: float) -> None:
        """A frame was on air at this time, UTC seconds."""
        frame = crossing.frame
        if not isinstance(frame.body, UdpDatagram):
            return
        packet = ipv6_udp(
            parse_address(link_local(frame.source)),
            parse_address(frame.body.destination),
            frame.body.source_port,
            frame.body.destination_port,
            frame.body.payload,
        )
        comments = self._comments
        if not crossing.received:
            comments = [*comments, "nobody received it"]
        self._write(enhanced_packet(packet, wall, comments))
        self._comments = []
        self._wall = wall
        self.packets += 1

    def happened(self, happening: Happening) -> None:
        """Something worth a comment may have happened."""
        if happening.kind in COMMENTED:
            self._comments = [*self._comments, f"{happening.kind} {happening.text}".strip()]
            self._comments = self._comments[-MAX_COMMENTS:]
            self._wall = happening.wall

    def close(self) -> None:
        """End the file; what happened after the last packet comments on the whole."""
        if not self._file.closed:
            if self._comments:
                self._write(interface_statistics(self._wall, self._comments))
            self._file.close()

    def _write(self, blocks: bytes) -> None:
        if self._failed:
            return
        try:
            self._file.write(blocks)
        except OSError as failure:
            self._failed = True
            log.warning("%s: the capture ends here: %s", self.path, failure.strerror)


def section_header() -> bytes:
    """The block that begins a file, of unknown length."""
    options = _option(_SHB_USERAPPL, b"meter-runtime") + _option(_OPT_END, b"")
    return _block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1) + options)


def interface_description() -> bytes:
    """The one interface: the air of a B-route, time stamps in microseconds."""
    options = (
        _option(_IF_NAME, b"b-route")
        + _option(_IF_DESCRIPTION, b"virtual Wi-SUN, 920 MHz")
        + _option(_IF_TSRESOL, bytes((_MICROSECONDS,)))
        + _option(_OPT_END, b"")
    )
    return _block(_INTERFACE, struct.pack("<HHI", LINKTYPE_IPV6, 0, _SNAPLEN) + options)


def enhanced_packet(packet: bytes, wall: float, comments: list[str]) -> bytes:
    """A packet of interface 0, with its comments."""
    head = struct.pack("<III", 0, *_stamp(wall)) + struct.pack("<II", len(packet), len(packet))
    return _block(_PACKET, head + _padded(packet) + _comment_options(comments))


def interface_statistics(wall: float, comments: list[str]) -> bytes:
    """A block that only carries comments."""
    return _block(_STATISTICS, struct.pack("<III", 0, *_stamp(wall)) + _comment_options(comments))


def ipv6_udp(
    source: bytes, destination: bytes, source_port: int, destination_port: int, payload: bytes
) -> bytes:
    """The packet: 40 bytes IPv6, 8 bytes UDP, payload. Addresses have 16 bytes."""
    length = 8 + len(payload)
    ports = struct.pack(">HHH", source_port, destination_port, length)
    pseudo = source + destination + struct.pack(">IHBB", length, 0, 0, _UDP)
    # A computed checksum of zero is sent as its other form (RFC 8200, section 8.1).
    checksum = _checksum(pseudo + ports + b"\0\0" + payload) or 0xFFFF
    head = struct.pack(">IHBB", 6 << 28, length, _UDP, _HOP_LIMIT)
    return head + source + destination + ports + checksum.to_bytes(2, "big") + payload


def _checksum(data: bytes) -> int:
    """RFC 1071: the complement of the one's complement sum of 16-bit words."""
    words = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _stamp(wall: float) -> tuple[int, int]:
    """Microseconds since 1970, high and low half."""
    return divmod(round(wall * 1_000_000), 1 << 32)


def _comment_options(comments: list[str]) -> bytes:
    if not comments:
        return b""
    options = b"".join(_option(_OPT_COMMENT, comment.encode()[:0xFFFF]) for comment in comments)
    return options + _option(_OPT_END, b"")


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)
