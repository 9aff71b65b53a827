"""Faults of the meter's application: what it answers, and what it says unasked.

They act on datagrams between the ECHONET Lite node and the link, so that the rest of the meter
stays as healthy as it is.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from meter_runtime.bench.faults.fault import Active, End, Fault
from meter_runtime.bench.faults.frames import (
    GET_ANSWERS,
    GET_MAP,
    REQUESTS,
    is_answer,
    on_frames,
    on_requests,
    parsed,
    register_incoming,
)
from meter_runtime.bench.faults.parameters import Epc, Number, Parameter, Seconds
from meter_runtime.broute.echonet.frame import Esv, Frame, Property, parse
from meter_runtime.broute.echonet.maps import decode_map, encode_map
from meter_runtime.broute.echonet.meter_class import METER_EOJ
from meter_runtime.clock import sleep_until, slot_at
from meter_runtime.comm.contracts import ALL_NODES, Datagram

if TYPE_CHECKING:
    from meter_runtime.bench.laboratory import Bench

_MOST_TID = 0xFFFF


def _silent(bench: "Bench", active: Active) -> End:
    return on_requests(bench, active, lambda _: None)


def _slow(bench: "Bench", active: Active) -> End:
    clock, seconds = bench.clock, active.values["seconds"]

    async def incoming(datagram: Datagram) -> Datagram | None:
        frame = parsed(datagram.payload)
        if frame is not None and frame.esv in REQUESTS and active.strike():
            await sleep_until(clock, clock.monotonic() + seconds)
        return datagram

    return register_incoming(bench, incoming)


def _sna(bench: "Bench", active: Active) -> End:
    refused: int | None = active.values["epc"]

    def wanted(frame: Frame, _peer: str) -> bool:
        if frame.esv not in GET_ANSWERS or frame.seoj != METER_EOJ:
            return False
        return refused is None or any(item.epc == refused for item in frame.properties)

    def change(frame: Frame) -> list[Frame]:
        told = tuple(
            Property(item.epc) if refused in (None, item.epc) else item for item in frame.properties
        )
        return [replace(frame, esv=Esv.GET_SNA, properties=told)]

    return on_frames(bench, active, wanted, change)


def _wrong_tid(bench: "Bench", active: Active) -> End:
    by = active.values["by"]
    return on_frames(
        bench,
        active,
        is_answer,
        lambda frame: [replace(frame, tid=(frame.tid + by) & _MOST_TID)],
    )


def _fewer_properties(bench: "Bench", active: Active) -> End:
    keep = active.values["keep"]
    return on_frames(
        bench,
        active,
        lambda frame, peer: is_answer(frame, peer) and len(frame.properties) > keep,
        lambda frame: [replace(frame, properties=frame.properties[:keep])],
    )


def _stale_twice(bench: "Bench", active: Active) -> End:
    return on_frames(bench, active, is_answer, lambda frame: [frame, frame])


def _is_announcement(frame: Frame, _peer: str) -> bool:
    return frame.esv in (Esv.INF, Esv.INFC)


def _inf_lost(bench: "Bench", active: Active) -> End:
    epc: int | None = active.values["epc"]

    def wanted(frame: Frame, peer: str) -> bool:
        named = epc is None or any(item.epc == epc for item in frame.properties)
        return _is_announcement(frame, peer) and named

    return on_frames(bench, active, wanted, lambda _: [])


def _infc(bench: "Bench", active: Active) -> End:
    return on_frames(
        bench,
        active,
        lambda frame, peer: frame.esv == Esv.INF and peer != ALL_NODES,
        lambda frame: [replace(frame, esv=Esv.INFC)],
    )


def _inf_collides(bench: "Bench", active: Active) -> End:
    def announced(frame: Frame) -> list[Frame]:
        broute, newest = bench.meter.broute, bench.meter.metering.ring.newest()
        if broute is None:
            return [frame]
        slot = slot_at(bench.clock.wall()) if newest is None else newest.slot
        return [parse(broute.node.announcement_half_hour(slot)), frame]

    return on_frames(bench, active, is_answer, announced)


def _unknown_epc(bench: "Bench", active: Active) -> End:
    code: int = active.values["epc"]

    def listed(item: Property) -> Property:
        if item.epc != GET_MAP or not item.edt:
            return item
        return Property(GET_MAP, encode_map({*decode_map(item.edt), code}))

    def wanted(frame: Frame, _peer: str) -> bool:
        has_map = any(item.epc == GET_MAP and item.edt for item in frame.properties)
        return frame.esv in GET_ANSWERS and frame.seoj == METER_EOJ and has_map

    return on_frames(
        bench,
        active,
        wanted,
        lambda frame: [replace(frame, properties=tuple(map(listed, frame.properties)))],
    )


FAULTS = (
    Fault(
        "silent",
        "application",
        "The meter does not answer, though its radio acknowledges every frame.",
        _silent,
        counts="requests",
    ),
    Fault(
        "slow",
        "application",
        "The meter takes long to answer.",
        _slow,
        (Parameter("seconds", Seconds(0.001, 600), "8s", "before each answer"),),
        counts="requests",
    ),
    Fault(
        "sna",
        "application",
        "The meter answers that it cannot tell a property at present.",
        _sna,
        (Parameter("epc", Epc(), "all", "which property"),),
        counts="answers",
    ),
    Fault(
        "wrong-tid",
        "application",
        "An answer carries another transaction's number.",
        _wrong_tid,
        (Parameter("by", Number(1, _MOST_TID, whole=True), 1, "added to the right number"),),
        counts="answers",
    ),
    Fault(
        "fewer-properties",
        "application",
        "An answer holds fewer properties than were asked for.",
        _fewer_properties,
        (Parameter("keep", Number(0, 6, whole=True), 1, "how many it still holds"),),
        counts="answers",
    ),
    Fault(
        "stale-twice",
        "application",
        "An answer comes twice; the second is stale.",
        _stale_twice,
        counts="answers",
    ),
    Fault(
        "inf-lost",
        "application",
        "An announcement does not reach the home; the meter believes it did.",
        _inf_lost,
        (Parameter("epc", Epc(), "EA", "announcements that hold this property"),),
        counts="announcements",
    ),
    Fault(
        "infc",
        "application",
        "The meter announces by INFC and expects an answer, as some meters do.",
        _infc,
        counts="announcements",
    ),
    Fault(
        "inf-collides",
        "application",
        "An announcement comes right before the answer that is waited for.",
        _inf_collides,
        counts="answers",
    ),
    Fault(
        "unknown-epc",
        "application",
        "The Get property map names a property no specification knows.",
        _unknown_epc,
        (Parameter("epc", Epc(every=False), "F1", "the property's code"),),
        counts="answers",
    ),
)
