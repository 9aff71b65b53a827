"""A meter whose every value a test can set, and the frames a controller sends it."""

from dataclasses import dataclass, field
from datetime import datetime

from meter_runtime.broute.echonet.data import MeterSettings
from meter_runtime.broute.echonet.frame import Esv, Frame, Property, encode, parse
from meter_runtime.broute.echonet.meter_class import METER_EOJ
from meter_runtime.broute.echonet.node import CONTROLLER_EOJ, EchonetNode
from meter_runtime.clock import JST, first_slot_of

EUI64 = bytes.fromhex("001D129012345678")
ROUTE_B_ID = "00FFFFF0000102030405060708090A0B"


def at(text: str) -> float:
    """The epoch of a JST date and time."""
    return datetime.fromisoformat(text).replace(tzinfo=JST).timestamp()


def slot_of(text: str) -> int:
    """The half hour that opens at a JST date and time."""
    return int(at(text)) // 1800


@dataclass
class HomeMeter:
    """Implements the node's MeterData with plain attributes."""

    now: float = field(default_factory=lambda: at("2026-11-22 14:10:05"))
    trusted: bool = True
    faulty: bool = False
    address: bytes | None = EUI64
    forward: int | None = 123_456_789
    reverse: int | None = 7_000_000
    watt: int | None = 500
    r_ma: int | None = 1_000
    t_ma: int | None = -2_000
    boundaries: dict[int, tuple[int, int]] = field(default_factory=dict)
    minutes: dict[int, tuple[int, int]] = field(default_factory=dict)
    epoch: int = 0
    boundary_reads: int = 0

    def wall(self) -> float:
        return self.now

    def clock_trusted(self) -> bool:
        return self.trusted

    def eui64(self) -> bytes | None:
        return self.address

    def fault(self) -> bool:
        return self.faulty

    def forward_mwh(self) -> int | None:
        return self.forward

    def reverse_mwh(self) -> int | None:
        return self.reverse

    def power_w(self) -> int | None:
        return self.watt

    def current_r_ma(self) -> int | None:
        return self.r_ma

    def current_t_ma(self) -> int | None:
        return self.t_ma

    def boundary(self, slot: int) -> tuple[int, int] | None:
        self.boundary_reads += 1
        return self.boundaries.get(slot)

    def minute(self, minute: int) -> tuple[int, int] | None:
        return self.minutes.get(minute)

    def store_days(self, first: str, days: int) -> None:
        """Fill the history: slot numbers as counts of 0.1 kWh forward, a tenth of it reverse."""
        start = first_slot_of(datetime.fromisoformat(first).date())
        for slot in range(start, start + days * 48):
            self.boundaries[slot] = (slot * 1000, slot * 100)
        self.epoch += 1


def settings(profile: str = "aif-1.01", **changes: object) -> MeterSettings:
    """Settings of the meter under test."""
    fixed: dict[str, object] = {"serial": "A1B2C3"}
    if profile == "aif-1.10":
        fixed["route_b_id"] = ROUTE_B_ID
    return MeterSettings(**{**fixed, "profile": profile, **changes})  # type: ignore[arg-type]


class Home:
    """The controller's side: asks one node, and takes its answers apart."""

    def __init__(self, node: EchonetNode, eoj: bytes = METER_EOJ) -> None:
        self.node = node
        self.eoj = eoj
        self.tid = 0

    def ask(
        self,
        esv: int,
        *properties: tuple[int, bytes],
        then_get: tuple[int, ...] | None = None,
    ) -> Frame | None:
        self.tid += 1
        second = None if then_get is None else tuple(Property(epc) for epc in then_get)
        asked = tuple(Property(epc, edt) for epc, edt in properties)
        frame = Frame(self.tid, CONTROLLER_EOJ, self.eoj, esv, asked, second)
        answer = self.node.handle(encode(frame))
        return None if answer is None else parse(answer)

    def get(self, *epcs: int) -> Frame:
        answer = self.ask(Esv.GET, *((epc, b"") for epc in epcs))
        assert answer is not None
        return answer

    def edt(self, epc: int) -> bytes:
        """The data of one property that must be readable."""
        answer = self.get(epc)
        assert answer.esv == Esv.GET_RES
        return answer.properties[0].edt

    def set(self, epc: int, edt: bytes) -> bool:
        """SetC of one property; whether it was taken."""
        answer = self.ask(Esv.SET_C, (epc, edt))
        assert answer is not None
        return answer.esv == Esv.SET_RES


def home(data: HomeMeter | None = None, profile: str = "aif-1.01", **changes: object) -> Home:
    """A controller facing a fresh node."""
    return Home(EchonetNode(settings(profile, **changes), data or HomeMeter()))
