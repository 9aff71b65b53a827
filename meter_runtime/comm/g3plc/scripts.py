"""What is asked of a modem, step by step: bring it up, look at it, send, rewrite, take it down.

The order of a start is 16, 10, 60 (ID_S, PSK, GMK), 13, 34. All of it is in the ARIB band with the
modem as coordinator, where ID_S has 34 octets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from meter_runtime.comm.auth.eap_psk import KEY_BYTES
from meter_runtime.comm.auth.pana_events import psk_of, server_id
from meter_runtime.comm.contracts import ECHONET_LITE_PORT, LinkCredentials
from meter_runtime.comm.g3plc import ipv6
from meter_runtime.comm.g3plc.dialogue import Ask, Script, ScriptFailed
from meter_runtime.comm.g3plc.messages import (
    BAND_ARIB,
    Command,
    DataConfirm,
    DataRequest,
    Initialize,
    Kick,
    LbpAttribute,
    LbpSet,
    LbpSetConfirm,
    MacAttribute,
    MacGet,
    MacGetConfirm,
    Message,
    NetworkStart,
    Reset,
    ResetConfirm,
    StartConfirm,
    Status,
    StatusCode,
)

PAN_MASK = 0xFCFF
"""Bits that a G3-PLC PAN ID may have set. *Unverified*: recalled of ITU-T G.9903; it also keeps
the universal/local bit out of the interface identifiers."""

START_BOUND_S = 20.0
"""*Unverified*: a modem may look for other PANs before it starts its own."""
DATA_BOUND_S = 20.0
"""*Unverified*: fragments, repeats and a route discovery are over by then."""
RESET_BOUND_S = 4.0
KICK_S = 0.5
"""*Unverified*: a kick is on the line by then; a reset would take it back."""

RandomBytes = Callable[[int], bytes]

_REFUSED = frozenset({StatusCode.NOT_ALLOWED, StatusCode.UNKNOWN_COMMAND})
_NO_SUCH = frozenset({StatusCode.UNKNOWN_COMMAND, StatusCode.INVALID_PARAMETER})


@dataclass(frozen=True, slots=True)
class Network:
    """What was brought up, or was not."""

    pan_id: int
    mac: bytes | None
    """The modem's EUI-64, where it tells it."""
    status: int
    """What the modem said of the start."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What a modem needs to know of the credentials, and the network's key."""

    id_s: bytes = field(repr=False)
    psk: bytes = field(repr=False)
    gmk: bytes = field(repr=False)


def keys_of(credentials: LinkCredentials, random_bytes: RandomBytes) -> Keys:
    """The keys of these credentials, with a network key nobody has had before."""
    return Keys(server_id(credentials), psk_of(credentials.password), random_bytes(KEY_BYTES))


def bring_up(keys: Keys, pan_id: int, join_timeout_s: int) -> Script[Network]:
    """From whatever the modem was to a coordinator that answers joins."""
    yield _reset()
    yield Ask(
        "INITIALIZE",
        Initialize(BAND_ARIB, coordinator=True),
        lambda said: said == Status(StatusCode.OK, Command.INITIALIZE),
    )
    mac = _extended(
        (yield _mac_get("EXTENDED ADDRESS", MacAttribute.EXTENDED_ADDRESS, tolerated=_NO_SUCH))
    )
    yield from _set_keys(keys)
    # How long the modem itself waits for a device; one that does not know it keeps its own.
    yield _lbp_set("TIMEOUT", LbpAttribute.MESSAGE_TIMEOUT, join_timeout_s.to_bytes(2, "big"))
    started = yield Ask(
        "NETWORK START",
        NetworkStart(pan_id),
        lambda said: isinstance(said, StartConfirm),
        bound_s=START_BOUND_S,
        attempts=1,
    )
    status = started.status if isinstance(started, StartConfirm) else StatusCode.OK
    return Network(pan_id, mac, status)


def rewrite(keys: Keys) -> Script[None]:
    """Other keys while it serves; whoever joined before is kicked by then."""
    yield from _set_keys(keys)


def look(pan_id: int) -> Script[bool]:
    """Whether the modem still is what it was told to be.

    One that restarted by itself refuses the question, since it was not initialised.
    """
    said = yield _mac_get("PAN ID", MacAttribute.PAN_ID, tolerated=_REFUSED)
    match said:
        case MacGetConfirm(StatusCode.OK, value=value) if len(value) == 2:
            return int.from_bytes(value, "big") == pan_id
        case Status(StatusCode.NOT_ALLOWED):
            return False
        case _:
            return True  # it cannot tell, but it lives


@dataclass(frozen=True, slots=True)
class Transmission:
    """What became of a packet."""

    sent: bool
    healthy: bool
    """The modem took the command, whatever became of the packet."""


def transmit(handle: int, source: str, destination: str, payload: bytes) -> Script[Transmission]:
    """Send an ECHONET Lite payload; ``sent`` once its receiver has acknowledged it."""
    ports = (ECHONET_LITE_PORT, ECHONET_LITE_PORT)
    packet = ipv6.encode(ipv6.UdpPacket(source, destination, *ports, payload))
    said = yield Ask(
        "DATA",
        DataRequest(handle, discover_route=True, quality=0, packet=packet),
        lambda said: isinstance(said, DataConfirm) and said.handle == handle,
        tolerated=frozenset(set(StatusCode) - {StatusCode.OK}),
        bound_s=DATA_BOUND_S,
        attempts=1,
    )
    ok = isinstance(said, DataConfirm) and said.status == StatusCode.OK
    return Transmission(ok, isinstance(said, DataConfirm))


def take_down(kicked: Kick | None = None) -> Script[None]:
    """Leave a modem that answers no join and knows no key that counts; tell the home before."""
    if kicked is not None:
        yield Ask("KICK", kicked, lambda said: False, bound_s=KICK_S, unanswered=True)
    yield _reset()


def _reset() -> Ask:
    # One that was not initialised has nothing to forget, and says so.
    return Ask(
        "RESET",
        Reset(),
        lambda said: isinstance(said, ResetConfirm),
        tolerated=frozenset({StatusCode.NOT_ALLOWED}),
        bound_s=RESET_BOUND_S,
    )


def _set_keys(keys: Keys) -> Script[None]:
    wanted = (
        ("ID_S", LbpAttribute.ID_S, keys.id_s),
        ("PSK", LbpAttribute.PSK, keys.psk),
        ("GMK", LbpAttribute.GMK, keys.gmk),
    )
    for name, attribute, value in wanted:
        said = yield _lbp_set(name, attribute, value)
        if isinstance(said, LbpSetConfirm) and said.status != StatusCode.OK:
            raise ScriptFailed(f"the modem does not take {name} (status {said.status})")


def _lbp_set(name: str, attribute: LbpAttribute, value: bytes) -> Ask:
    return Ask(
        f"LBP SET {name}",
        LbpSet(attribute, 0, value),
        lambda said: isinstance(said, LbpSetConfirm) and said.attribute == attribute,
    )


def _mac_get(name: str, attribute: MacAttribute, tolerated: frozenset[StatusCode]) -> Ask:
    return Ask(
        f"MAC GET {name}",
        MacGet(attribute),
        lambda said: isinstance(said, MacGetConfirm) and said.attribute == attribute,
        tolerated=frozenset(int(code) for code in tolerated),
    )


def _extended(said: Message) -> bytes | None:
    if isinstance(said, MacGetConfirm) and said.status == StatusCode.OK and len(said.value) == 8:
        return said.value[::-1]
    return None
