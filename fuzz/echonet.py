"""The home's datagrams: whatever comes, the node answers in form or not at all."""

from meter_runtime.broute.echonet.data import PROFILES, MeterSettings
from meter_runtime.broute.echonet.frame import Esv, Frame, MalformedFrame, Property, encode, parse
from meter_runtime.broute.echonet.meter_class import METER_EOJ
from meter_runtime.broute.echonet.node import CONTROLLER_EOJ, EchonetNode
from meter_runtime.broute.echonet.node_profile import NODE_EOJ
from meter_runtime.clock import HALF_HOUR_S
from meter_runtime.comm.contracts import MAX_PAYLOAD

NOON_JST = 1_800_068_400.0

_REQUESTS = (Esv.SET_I, Esv.SET_C, Esv.GET, Esv.INF_REQ, Esv.INFC)


def _seed(esv: Esv, eoj: bytes, *properties: Property) -> bytes:
    return encode(Frame(1, CONTROLLER_EOJ, eoj, esv, properties))


SEEDS = (
    *(_seed(esv, METER_EOJ, Property(0xE7)) for esv in _REQUESTS),
    _seed(Esv.GET, METER_EOJ, *(Property(epc) for epc in (0x80, 0xD3, 0xE0, 0xE1, 0xE8, 0xEA))),
    _seed(Esv.SET_C, METER_EOJ, Property(0xE5, b"\x01"), Property(0xED, b"\x07\xea\x01\x01\0\0")),
    _seed(Esv.GET, METER_EOJ, Property(0xE2), Property(0xE4), Property(0xEC)),
    _seed(Esv.GET, NODE_EOJ, Property(0xD6), Property(0x9F)),
    bytes.fromhex("1081000105FF010288016E01E5010102E200E700"),
)


class StillMeter:
    """A meter at noon that knows every value but the even half hours."""

    epoch = 1

    def wall(self) -> float:
        return NOON_JST

    def clock_trusted(self) -> bool:
        return True

    def eui64(self) -> bytes:
        return bytes(range(8))

    def fault(self) -> bool:
        return False

    def forward_mwh(self) -> int:
        return 123_456_789_000

    def reverse_mwh(self) -> int | None:
        return None

    def power_w(self) -> int:
        return -2_000

    def current_r_ma(self) -> int:
        return 12_345

    def current_t_ma(self) -> int | None:
        return None

    def boundary(self, slot: int) -> tuple[int, int] | None:
        known = slot % 2 and slot * HALF_HOUR_S <= NOON_JST
        return (slot * 2_500, slot * 700) if known else None

    def minute(self, minute: int) -> tuple[int, int] | None:
        return minute * 80, minute * 20


_NODES = tuple(
    EchonetNode(MeterSettings("FUZZ", profile=name, route_b_id="0" * 32), StillMeter())
    for name in PROFILES
)


def run(data: bytes) -> None:
    """Read it, write it back, and have every profile's node answer it."""
    answers = [node.handle(data) for node in _NODES]
    try:
        request = parse(data)
    except MalformedFrame:
        assert not any(answers), "a malformed frame was answered"
        return
    assert encode(request) == data
    for answer in answers:
        if answer is not None:
            _check(request, answer)


def _check(request: Frame, answer: bytes) -> None:
    assert len(answer) <= MAX_PAYLOAD
    told = parse(answer)
    assert told.tid == request.tid
    assert told.deoj == request.seoj
    assert told.seoj in (METER_EOJ, NODE_EOJ)
    assert len(told.properties) <= len(request.properties)
    for (epc, _), (asked, _) in zip(told.properties, request.properties, strict=False):
        assert epc == asked
