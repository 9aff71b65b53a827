"""What crosses the broker in clear of its own: topics, and the JSON documents under them.

Everything lies under ``ar/v1/{utility}/{meter_id}/``. Commands and their results are sealed or
signed and not defined here (:mod:`~meter_runtime.aroute.envelope`). Energies are integers in
0.1 Wh, as the load profile stores them; a *slot* is ``UTC seconds // 1800``; instants are UTC
seconds. Readers ignore keys they do not know, so that documents may grow.
"""

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec

from meter_runtime.errors import MeterError, UsageError

MAX_READINGS = 256
"""Records of one message: about 10 kB."""
MAX_MESSAGE_BYTES = 64 * 1024

_Unsigned = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
"""What every reader of JSON takes exactly."""


class Reading(msgspec.Struct, frozen=True, array_like=True):
    """The registers at the opening of a slot; ``flags`` as in the load profile.

    ``[slot, forward, reverse, flags]``; reverse is null on a one-way meter.
    """

    slot: _Unsigned
    forward_dwh: _Unsigned
    reverse_dwh: _Unsigned | None
    flags: Annotated[int, msgspec.Meta(ge=0, lt=256)]


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is stored for the slots ``after < slot <= upto``; a slot left out has none.

    On ``reading/30m`` the messages of one unit form a chain: each begins where one before it
    ended. On ``reading/history`` each stands alone and answers ``request``, a command's id.
    Of two messages that say something of one slot the higher ``sequence`` is right.
    """

    meter_id: str
    unit: str
    """Serial of the metering unit: another one counts from elsewhere."""
    sequence: _Unsigned
    after: _Unsigned
    upto: _Unsigned
    readings: Annotated[tuple[Reading, ...], msgspec.Meta(max_length=MAX_READINGS)]
    sent_at: float
    request: str | None = None


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Down: the head-end has stored, durably, everything of ``unit`` up to slot ``upto``.

    ``sequence`` is the highest of the messages that this rests on. With ``resend`` it asks for
    what comes after, now: something in between did not arrive.
    """

    unit: str
    upto: _Unsigned
    sequence: _Unsigned
    resend: bool = False


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """Retained: who this meter is; published at each connection and when units change."""

    meter_id: str
    version: str
    metrology_version: str
    at: float
    trust: str
    units: dict[str, Any]
    """By slot, as in the status document."""
    keys: dict[str, str]
    """``sealing`` (X25519) and ``signing`` (Ed25519): public keys, hex."""


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """Retained on ``lwt``; the broker publishes ``online`` false when the meter is lost."""

    online: bool


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened. ``number`` counts since the start of the meter; a gap was dropped."""

    meter_id: str
    number: _Unsigned
    at: float
    trust: str
    kind: str
    details: dict[str, Any] = {}


class BRouteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Retained: the diagnosis, published when it changes; ``report`` as in the status document."""

    meter_id: str
    at: float
    report: dict[str, Any]


Document = Readings | Mark | Birth | Presence | Event | BRouteStatus
D = TypeVar("D", bound=Document)


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one meter, or with ``meter_id`` "+" of all meters of a utility."""

    utility: str
    meter_id: str

    def __post_init__(self) -> None:
        for part in (self.utility, self.meter_id):
            bad = not part or any(sign in part for sign in "/#\0") or ("+" in part and part != "+")
            if bad or part.startswith("$"):
                raise UsageError(f'"{part}" cannot be a part of an MQTT topic; leave out / + # $')

    def _under(self, name: str) -> str:
        return f"ar/v1/{self.utility}/{self.meter_id}/{name}"

    @property
    def birth(self) -> str:
        return self._under("birth")

    @property
    def lwt(self) -> str:
        return self._under("lwt")

    @property
    def readings(self) -> str:
        return self._under("reading/30m")

    @property
    def history(self) -> str:
        return self._under("reading/history")

    @property
    def event(self) -> str:
        return self._under("event")

    @property
    def broute_status(self) -> str:
        return self._under("status/broute")

    @property
    def results(self) -> str:
        return self._under("cmd/ack")

    @property
    def mark(self) -> str:
        return self._under("mark")

    @property
    def commands(self) -> str:
        """The filter for every command down. A command's own topic is :meth:`command`."""
        return self._under("cmd/+")

    def command(self, command_id: bytes) -> str:
        return self._under(f"cmd/{command_id.hex()}")


def meter_of(topic: str) -> str:
    """The meter id in a topic; MeterError where it is none of ours."""
    parts = topic.split("/")
    if len(parts) < 5 or parts[:2] != ["ar", "v1"]:
        raise MeterError(f'"{topic}" is no topic of the A-route')
    return parts[3]


def encode(document: Document) -> bytes:
    """The JSON of a document."""
    return msgspec.json.encode(document)


def decode(payload: bytes, kind: type[D]) -> D:
    """The document; raises :class:`MeterError` for anything else, and for more than 64 KiB."""
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MeterError(f"{kind.__name__}: {len(payload)} bytes are too many")
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.MsgspecError, RecursionError) as wrong:
        raise MeterError(f"{kind.__name__}: {wrong}") from None
