"""The ECHONET Lite node: a request's bytes in, the answer's bytes out.

Owns the services (ECHONET Lite specification 1.14, part 2, 4.2.3) and the running TID of what it
says unasked. Knows no medium and no clock but the data's: one answer speaks of one instant. A
request nobody could answer, or nobody waits for, gets silence and a count.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meter_runtime.broute.echonet import meter_class, node_profile
from meter_runtime.broute.echonet.data import MeterData, MeterSettings
from meter_runtime.broute.echonet.definition import ServedObject
from meter_runtime.broute.echonet.frame import (
    HEAD_SIZE,
    Esv,
    Frame,
    MalformedFrame,
    Property,
    encode,
    parse,
)
from meter_runtime.broute.echonet.node_profile import INSTANCE_LIST_EPC, NODE_EOJ
from meter_runtime.clock import slot_start
from meter_runtime.comm.contracts import MAX_PAYLOAD

CONTROLLER_EOJ = bytes.fromhex("05FF01")
"""The home's controller; the interface specification fixes its instance to 01."""

_EVERY_INSTANCE = b"\x00"
_HALF_HOUR_EPCS = (0xEA, 0xEB)
_PROPERTY_HEAD_SIZE = 2

_COUNTERS = ("answered", "refused", "malformed", "unknown_object", "no_request")


@dataclass(frozen=True, slots=True)
class _Service:
    """How a request is answered when all of it was done, and when some was not."""

    granted: Esv | None
    refused: Esv


_SERVICES: Mapping[int, _Service] = {
    Esv.SET_I: _Service(None, Esv.SET_I_SNA),
    Esv.SET_C: _Service(Esv.SET_RES, Esv.SET_C_SNA),
    Esv.GET: _Service(Esv.GET_RES, Esv.GET_SNA),
    Esv.INF_REQ: _Service(Esv.INF, Esv.INF_SNA),
    Esv.SET_GET: _Service(Esv.SET_GET_RES, Esv.SET_GET_SNA),
}


class EchonetNode:
    """Answers the home and words the meter's announcements.

    ``counters``: ``answered`` requests carried out in full, ``refused`` those answered "not
    possible" (at least in part), and the silent ones: ``malformed`` (a request for nothing among
    them), ``unknown_object``, ``no_request`` (announcements and answers of others).
    """

    def __init__(self, settings: MeterSettings, data: MeterData) -> None:
        self.settings = settings
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self._data = data
        self._meter = meter_class.serve(settings, data)
        self._node = node_profile.serve(settings, data)
        self._objects: dict[bytes, ServedObject] = {}
        for served in (self._meter, self._node):
            self._objects[served.eoj] = served
            self._objects[served.eoj[:2] + _EVERY_INSTANCE] = served
        self._max_properties = settings.limits.max_properties
        self._tid = 0
        self._told_statuses = self._statuses()

    def with_settings(self, settings: MeterSettings) -> "EchonetNode":
        """A node on the same data that shows itself so; running TID and counters go on.

        What the home has set (81, E5, ED, EF) is forgotten, as over a restart.
        """
        other = EchonetNode(settings, self._data)
        other.counters = self.counters
        other._tid = self._tid
        return other

    def handle(self, payload: bytes) -> bytes | None:
        """The answer to one datagram, for its sender; ``None`` = stay silent. Never raises."""
        try:
            request = parse(payload)
        except MalformedFrame:
            self.counters["malformed"] += 1
            return None
        served = self._objects.get(request.deoj)
        service = _SERVICES.get(request.esv)
        if served is None:
            self.counters["unknown_object"] += 1
        elif service is None and request.esv != Esv.INFC:
            self.counters["no_request"] += 1
        elif len(payload) > MAX_PAYLOAD or not (request.properties or request.properties_get):
            self.counters["malformed"] += 1
        elif service is None:
            return self._confirm(request, served)
        else:
            return self._serve(request, service, served)
        return None

    def reset_session(self) -> None:
        """A home authenticated: the running TID starts at 0, as it does on many real meters."""
        self._tid = 0

    def announcement_instance_list(self) -> bytes:
        """INF of the instance list (D5), from and to the node profile."""
        return self._announcement(Esv.INF, self._node, NODE_EOJ, (INSTANCE_LIST_EPC,), 0.0)

    def changed_statuses(self) -> tuple[int, ...]:
        """The meter's announced properties (map 9D) that changed since last asked."""
        before, self._told_statuses = self._told_statuses, self._statuses()
        return tuple(epc for epc, edt in self._told_statuses.items() if edt != before[epc])

    def announcement_statuses(self, epcs: tuple[int, ...]) -> bytes:
        """INF of changed statuses, from the meter to the node profile of whoever hears it.

        The addressee is *unverified*: the specification's rule for announcements to all.
        """
        return self._announcement(Esv.INF, self._meter, NODE_EOJ, epcs, 0.0)

    def announcement_half_hour(self, slot: int) -> bytes:
        """INF (or INFC) of the registers at the boundary that opens ``slot``: EA, EB if served."""
        esv = Esv.INFC if self.settings.confirmed_announcements else Esv.INF
        epcs = tuple(epc for epc in _HALF_HOUR_EPCS if epc in self._meter.notifiers)
        return self._announcement(esv, self._meter, CONTROLLER_EOJ, epcs, slot_start(slot))

    def _statuses(self) -> dict[int, bytes | None]:
        # A status knows no time of day.
        return {epc: self._meter.notifiers[epc](0.0) for epc in self._meter.announced}

    def _serve(self, request: Frame, service: _Service, served: ServedObject) -> bytes | None:
        """Carry a request out, to the end even where parts of it fail.

        Of more properties than the profile takes, the first ones are served and the answer says
        "not possible" (seen on a real meter; the same for both lists of a SetGet together is
        *unverified*). Writes come before reads.
        """
        now = self._data.wall()
        limit = self._max_properties
        asked = request.properties[:limit]
        complete = len(asked) == len(request.properties)
        room = MAX_PAYLOAD - HEAD_SIZE
        answers_get: tuple[Property, ...] | None = None
        match request.esv:
            case Esv.GET:
                answers, done = _read(served.readers, asked, now, room)
            case Esv.INF_REQ:
                answers, done = _read(served.notifiers, asked, now, room)
            case _:
                answers, done = _write(served.writers, asked, now)
        if request.properties_get is not None:
            asked_get = request.properties_get[: limit - len(asked)]
            complete = complete and len(asked_get) == len(request.properties_get)
            room -= 1 + sum(_PROPERTY_HEAD_SIZE + len(edt) for _, edt in answers)
            answers_get, done_get = _read(served.readers, asked_get, now, room)
            done = done and done_get
        granted = complete and done
        self.counters["answered" if granted else "refused"] += 1
        esv = service.granted if granted else service.refused
        if esv is None:
            return None
        return encode(Frame(request.tid, served.eoj, request.seoj, esv, answers, answers_get))

    def _confirm(self, request: Frame, served: ServedObject) -> bytes:
        """INFC_Res: the same properties, without data."""
        self.counters["answered"] += 1
        heard = tuple(Property(epc) for epc, _ in request.properties)
        return encode(Frame(request.tid, served.eoj, request.seoj, Esv.INFC_RES, heard))

    def _announcement(
        self, esv: Esv, source: ServedObject, deoj: bytes, epcs: tuple[int, ...], now: float
    ) -> bytes:
        told = tuple(Property(epc, source.notifiers[epc](now) or b"") for epc in epcs)
        tid = self._tid
        self._tid = (tid + 1) & 0xFFFF
        return encode(Frame(tid, source.eoj, deoj, esv, told))


def _read(
    readers: Mapping[int, Callable[[float], bytes | None]],
    asked: tuple[Property, ...],
    now: float,
    room: int,
) -> tuple[tuple[Property, ...], bool]:
    """Each property with its data, in the order asked; without where it cannot be told.

    What would not fit into one datagram cannot be told either.
    """
    answers = []
    done = True
    room -= _PROPERTY_HEAD_SIZE * len(asked)
    for epc, _ in asked:
        read = readers.get(epc)
        edt = None if read is None else read(now)
        if edt is None or len(edt) > room:
            answers.append(Property(epc))
            done = False
        else:
            answers.append(Property(epc, edt))
            room -= len(edt)
    return tuple(answers), done


def _write(
    writers: Mapping[int, Callable[[bytes, float], bool]],
    asked: tuple[Property, ...],
    now: float,
) -> tuple[tuple[Property, ...], bool]:
    """Each property without data where it was taken, and echoed where it was refused."""
    answers = []
    done = True
    for wish in asked:
        write = writers.get(wish.epc)
        if write is not None and write(wish.edt, now):
            answers.append(Property(wish.epc))
        else:
            answers.append(wish)
            done = False
    return tuple(answers), done
