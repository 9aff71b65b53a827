"""What happened in the laboratory, told in one list: the meter's side, the air's and the desk's.

Owns the names of happenings and the way from link events, metrology's events and frames to them.
A happening is for people and for expectations about them, so it says the outcome in plain values;
it never holds a password. Sans-I/O but for the clock it asks for the time.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from meter_runtime.aroute.events import CommandDone
from meter_runtime.bench.describe import service_name
from meter_runtime.bench.frames import CrossedFrame
from meter_runtime.broute.echonet.frame import Esv, MalformedFrame, parse
from meter_runtime.broute.provisioning import CredentialsChanged
from meter_runtime.clock import Clock, jst, slot_start
from meter_runtime.comm.auth.pana_message import PANA_PORT, Type
from meter_runtime.comm.contracts import (
    AuthFailed,
    AuthOk,
    LinkStarted,
    LinkStartFailed,
    PeerJoining,
    PeerLeft,
    SessionExpired,
    TxReleased,
    TxRestricted,
    UnitFault,
)
from meter_runtime.events import EventBus
from meter_runtime.metrology.events import (
    BoundariesMissed,
    BoundariesWithdrawn,
    BoundaryStored,
    ClockStepped,
    OutageEnded,
    ReadingFellBack,
    ReadingLeapt,
    StorageFailed,
    StorageHealed,
    UnitReplaced,
    UnitRestarted,
)

log = logging.getLogger(__name__)

HAPPENINGS_KEPT = 2000

KINDS = {
    "link-started": "the meter's radio serves: HEMSs may find it",
    "link-failed": "the meter's radio did not come up",
    "unit-fault": "the meter's radio module went silent or was lost",
    "joining": "a HEMS began to authenticate",
    "joined": "a HEMS authenticated for the first time",
    "rejoined": "a HEMS that was joined before authenticated anew",
    "reauthenticated": "the joined HEMS renewed its session in time",
    "auth-failed": "authentication ended without success",
    "left": "the session was ended by either side",
    "expired": "the session's life ended without re-authentication",
    "tx-restricted": "the meter's module reached the legal send-time limit",
    "tx-released": "the meter's module may send again",
    "boundary": "a half-hour value was stored",
    "boundary-missed": "half-hours have no value",
    "boundary-withdrawn": "half-hours stored under a wrong clock have no value any more",
    "reading-doubted": "the metering unit's registers fell back or leapt, and are not believed yet",
    "unit-restarted": "the metering unit counts from elsewhere; the meter's registers go on",
    "storage-failed": "nothing can be stored: metering goes on in memory",
    "storage-healed": "what had waited is stored",
    "clock-step": "the meter's clock was stepped",
    "outage": "the meter measures again after it did not run",
    "unit-replaced": "another metering unit is in place",
    "credentials": "the utility began or rewrote the service to the home, or ended it",
    "command": "a command of the utility was answered",
    "diagnosis-remote": "the utility is told another diagnosis of the B-route",
    "diagnosis-on-site": "the meter itself shows another diagnosis of the B-route",
    "announced": "the meter sent an INF or INFC",
    "request": "a HEMS sent an ECHONET Lite request",
    "response": "the meter sent an answer",
    "fault": "a fault began",
    "clear": "a fault ended",
    "module-reset": "the program at a module wrote SKRESET",
    "tty-opened": "a program opened a module's serial device",
    "tty-closed": "the last program at a module's serial device closed it",
    "advanced": "the clock was moved forward, and everything due on the way took place",
    "hems-started": "the scenario's HEMS was started",
    "hems-said": "the scenario's HEMS wrote a line",
    "hems-ended": "the scenario's HEMS ended, with this exit status",
}
"""Every kind, and what it means."""

_ANNOUNCEMENTS = (Esv.INF, Esv.INFC)
_REQUESTS = range(0x60, 0x70)

METER = "meter"
"""The name of the meter's module in the room."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened."""

    at_monotonic: float
    """Clock.monotonic() of the bench."""
    wall: float
    """UTC seconds of the bench's clock."""
    kind: str
    """One of :data:`KINDS`."""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The details in one line: ``peer=FE80:… lifetime_s=60``."""
        return " ".join(f"{key}={value}" for key, value in self.detail.items())


Listener = Callable[[Happening], None]


class Chronicle:
    """The bounded list of them, oldest first, and who wants to know of each at once.

    ``name_of`` gives the room's name of the module with an IPv6 address.
    """

    def __init__(self, clock: Clock, name_of: Callable[[str], str]) -> None:
        self.kept: deque[Happening] = deque(maxlen=HAPPENINGS_KEPT)
        self._clock = clock
        self._name_of = name_of
        self._listeners: list[Listener] = []
        self._seen: set[str] = set()
        self._session: str | None = None
        self._initiated = False

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with each happening from now on; returns how to stop it.

        It runs at once, in the task of whoever made it happen: it must be short. What it raises is
        logged and hurts nobody else.
        """
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def note(self, kind: str, /, **detail: Any) -> None:
        """Something happened now."""
        if kind not in KINDS:
            raise ValueError(f"no kind of happening is called {kind!r}")
        happening = Happening(self._clock.monotonic(), self._clock.wall(), kind, detail)
        self.kept.append(happening)
        for listener in tuple(self._listeners):
            try:
                listener(happening)
            except Exception:  # whoever listens must not stop what happens
                log.exception("a listener failed on %s", kind)

    def follow(self, bus: EventBus) -> None:
        """Hear what a meter says of itself, its link's events included."""
        bus.subscribe(LinkStarted, self._on_link_started)
        bus.subscribe(LinkStartFailed, lambda e: self.note("link-failed", reason=e.reason))
        bus.subscribe(UnitFault, self._on_unit_fault)
        bus.subscribe(PeerJoining, lambda e: self.note("joining", peer=self._name_of(e.peer)))
        bus.subscribe(AuthOk, self._on_auth_ok)
        bus.subscribe(AuthFailed, lambda e: self.note("auth-failed", peer=self._name_of(e.peer)))
        bus.subscribe(PeerLeft, lambda e: self._on_session_end("left", e.peer))
        bus.subscribe(SessionExpired, lambda e: self._on_session_end("expired", e.peer))
        bus.subscribe(TxRestricted, lambda _: self.note("tx-restricted"))
        bus.subscribe(TxReleased, lambda _: self.note("tx-released"))
        bus.subscribe(BoundaryStored, self._on_boundary)
        bus.subscribe(
            BoundariesMissed,
            lambda e: self.note(
                "boundary-missed", first=_at(e.first), last=_at(e.last), reason=e.reason.value
            ),
        )
        bus.subscribe(
            BoundariesWithdrawn,
            lambda e: self.note(
                "boundary-withdrawn", slots=[_at(slot) for slot in e.slots], reason=e.reason.value
            ),
        )
        bus.subscribe(ReadingFellBack, lambda _: self.note("reading-doubted", way="fell back"))
        bus.subscribe(ReadingLeapt, lambda _: self.note("reading-doubted", way="leapt"))
        bus.subscribe(UnitRestarted, lambda _: self.note("unit-restarted"))
        bus.subscribe(StorageFailed, lambda e: self.note("storage-failed", reason=e.reason))
        bus.subscribe(StorageHealed, lambda e: self.note("storage-healed", dropped=e.dropped))
        bus.subscribe(ClockStepped, lambda e: self.note("clock-step", by_s=round(e.by_s, 3)))
        bus.subscribe(
            OutageEnded, lambda e: self.note("outage", seconds=round(e.until - e.since, 3))
        )
        bus.subscribe(
            UnitReplaced, lambda e: self.note("unit-replaced", old=e.old_serial, new=e.new_serial)
        )

        bus.subscribe(
            CredentialsChanged,
            lambda e: self.note("credentials", version=e.version, served=e.served),
        )
        bus.subscribe(CommandDone, lambda e: self.note("command", code=e.code.value))

    def crossed(self, frame: CrossedFrame) -> None:
        """Hear a datagram on the air."""
        if frame.port == PANA_PORT:
            # A HEMS that begins anew says so in clear; without it, a success renews the session.
            began = frame.payload[6:8] == int(Type.CLIENT_INITIATION).to_bytes(2, "big")
            self._initiated = self._initiated or (began and frame.source != METER)
            return
        if not frame.is_echonet:
            return
        try:
            parsed = parse(frame.payload)
        except MalformedFrame:
            return
        detail: dict[str, Any] = {
            "source": frame.source,
            "destination": frame.destination,
            "service": service_name(parsed.esv),
            "codes": " ".join(
                f"{item.epc:02X}" for item in (*parsed.properties, *(parsed.properties_get or ()))
            ),
            "received": frame.received,
        }
        if frame.source != METER:
            if parsed.esv in _REQUESTS:
                self.note("request", **detail)
        elif parsed.esv in _ANNOUNCEMENTS:
            self.note("announced", **detail)
        else:
            self.note("response", **detail)

    def _on_link_started(self, event: LinkStarted) -> None:
        self._session = None
        self.note("link-started", address=event.address, detail=event.detail)

    def _on_unit_fault(self, event: UnitFault) -> None:
        self._session = None
        self.note("unit-fault", reason=event.reason)

    def _on_auth_ok(self, event: AuthOk) -> None:
        kind = "rejoined" if event.peer in self._seen else "joined"
        if event.peer == self._session and not self._initiated:
            kind = "reauthenticated"
        self._initiated = False
        self._session = event.peer
        self._seen.add(event.peer)
        self.note(kind, peer=self._name_of(event.peer), lifetime_s=event.lifetime_s)

    def _on_session_end(self, kind: str, peer: str) -> None:
        self._session = None
        self.note(kind, peer=self._name_of(peer))

    def _on_boundary(self, event: BoundaryStored) -> None:
        record = event.record
        self.note(
            "boundary",
            at=_at(event.slot),
            forward_wh=record.forward_dwh / 10,
            reverse_wh=record.reverse_dwh / 10,
        )


def _at(slot: int) -> str:
    return jst(slot_start(slot)).isoformat(timespec="minutes")
