"""How faults get at ECHONET Lite frames on their way between the node and the link.

What is no frame passes as it is.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from meter_runtime.bench.faults.fault import Active, End
from meter_runtime.bench.faults.interposer import Incoming, Outgoing
from meter_runtime.broute.echonet.frame import Esv, Frame, MalformedFrame, encode, parse
from meter_runtime.comm.contracts import Datagram

if TYPE_CHECKING:
    from meter_runtime.bench.laboratory import Bench

REQUESTS = frozenset({Esv.SET_I, Esv.SET_C, Esv.GET, Esv.INF_REQ, Esv.SET_GET})
ANSWERS = frozenset(
    {
        Esv.SET_I_SNA,
        Esv.SET_C_SNA,
        Esv.GET_SNA,
        Esv.INF_SNA,
        Esv.SET_GET_SNA,
        Esv.SET_RES,
        Esv.GET_RES,
        Esv.SET_GET_RES,
    }
)
GET_ANSWERS = frozenset({Esv.GET_RES, Esv.GET_SNA})
GET_MAP = 0x9F


def parsed(payload: bytes) -> Frame | None:
    """The frame of a datagram."""
    try:
        return parse(payload)
    except MalformedFrame:
        return None


def is_answer(frame: Frame, _peer: str) -> bool:
    """The meter's answer to a request."""
    return frame.esv in ANSWERS


def register_incoming(bench: "Bench", rule: Incoming) -> End:
    """Put a rule before the node; gives how to take it away."""
    bench.between.incoming.append(rule)
    return lambda: bench.between.incoming.remove(rule)


def register_outgoing(bench: "Bench", rule: Outgoing) -> End:
    """Put a rule behind the node; gives how to take it away."""
    bench.between.outgoing.append(rule)
    return lambda: bench.between.outgoing.remove(rule)


def on_requests(bench: "Bench", active: Active, rule: Callable[[Datagram], Datagram | None]) -> End:
    """Let a rule decide what the node gets of each request of the home."""

    async def incoming(datagram: Datagram) -> Datagram | None:
        frame = parsed(datagram.payload)
        if frame is None or frame.esv not in REQUESTS or not active.strike():
            return datagram
        return rule(datagram)

    return register_incoming(bench, incoming)


def on_frames(
    bench: "Bench",
    active: Active,
    wanted: Callable[[Frame, str], bool],
    change: Callable[[Frame], list[Frame]],
) -> End:
    """Change the frames the meter sends, where they are ``wanted`` (frame, destination)."""

    def outgoing(payload: bytes, peer: str) -> list[bytes]:
        frame = parsed(payload)
        if frame is None or not wanted(frame, peer) or not active.strike():
            return [payload]
        return [encode(changed) for changed in change(frame)]

    return register_outgoing(bench, outgoing)
