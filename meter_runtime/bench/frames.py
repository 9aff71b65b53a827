"""What crossed the air, told by names: the raw material of `.frames` and the live view."""

from dataclasses import dataclass

from meter_runtime.bench.air import Crossing, UdpDatagram
from meter_runtime.bench.describe import describe
from meter_runtime.clock import jst
from meter_runtime.comm.auth.pana_message import PANA_PORT
from meter_runtime.comm.contracts import ECHONET_LITE_PORT


@dataclass(frozen=True, slots=True)
class CrossedFrame:
    """One UDP datagram between two modules of the room."""

    at: float
    """Wall-clock seconds of the bench's clock, at the end of the frame."""
    source: str
    destination: str
    """Module names, "all" for multicast."""
    port: int
    payload: bytes
    secured: bool
    received: bool

    @property
    def is_echonet(self) -> bool:
        return self.port == ECHONET_LITE_PORT

    @property
    def clock_time(self) -> str:
        return jst(self.at).strftime("%H:%M:%S")

    @property
    def summary(self) -> str:
        """One line for people."""
        if self.is_echonet:
            return describe(self.payload)
        kind = "PANA" if self.port == PANA_PORT else f"UDP {self.port}"
        return f"{kind}, {len(self.payload)} bytes"


def crossed_frame(crossing: Crossing, wall: float, names: dict[bytes, str]) -> CrossedFrame | None:
    """The datagram in a crossing; None for beacons, neighbour discovery and the like."""
    frame = crossing.frame
    if not isinstance(frame.body, UdpDatagram):
        return None
    return CrossedFrame(
        at=wall,
        source=names.get(frame.source, frame.source.hex().upper()),
        destination="all"
        if frame.destination is None
        else names.get(frame.destination, frame.destination.hex().upper()),
        port=frame.body.destination_port,
        payload=frame.body.payload,
        secured=frame.secured,
        received=crossing.received,
    )
