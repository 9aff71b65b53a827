"""What crossed the power line, told as the air's datagrams are: for the view and for tests."""

from collections.abc import Callable

from meter_runtime.bench.frames import CrossedFrame
from meter_runtime.bench.plc.frames import Packet
from meter_runtime.bench.plc.line import LineCrossing
from meter_runtime.comm.g3plc import ipv6


def crossed_packet(
    crossing: LineCrossing, wall: float, name_of: Callable[[bytes], str]
) -> CrossedFrame | None:
    """The datagram in a crossing; None for what serves the joining."""
    body, to = crossing.frame.body, crossing.frame.destination
    if not isinstance(body, Packet):
        return None
    try:
        datagram = ipv6.parse(body.data)
    except ipv6.MalformedPacket:
        return None
    return CrossedFrame(
        at=wall,
        source=name_of(crossing.frame.source),
        destination="all" if to is None else name_of(to),
        port=datagram.destination_port,
        payload=datagram.payload,
        secured=True,
        received=crossing.received,
    )
