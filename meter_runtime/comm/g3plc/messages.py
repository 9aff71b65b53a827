"""What a host and a G3-PLC modem say to each other, as values; octets only here.

A payload is a command (one octet) and its body, numbers big-endian, laid out as :data:`_LAYOUTS`
says. What follows a complete body is left out of account: firmware adds fields at the end.
"""

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


class Command(enum.IntEnum):
    """The command octet: requests of the host from 10 and 60, what the modem says from 30 and 70.

    38 and 46 are *unverified* against a maker's manual; public host programs number them so.
    """

    STATUS = 0
    INITIALIZE = 10
    DATA_REQUEST = 11
    NETWORK_START = 13
    RESET = 16
    MAC_GET = 23
    DATA_CONFIRM = 30
    DATA_INDICATION = 31
    START_CONFIRM = 34
    RESET_CONFIRM = 38
    MAC_GET_CONFIRM = 46
    LBP_SET = 60
    KICK = 62
    SHORT_ADDRESS_ASSIGN = 66
    LBP_SET_CONFIRM = 70
    JOIN_REQUEST_INDICATION = 71
    JOIN_COMPLETE_INDICATION = 72
    LEAVE_INDICATION = 73


class StatusCode(enum.IntEnum):
    """Why a command is not carried out; 1 to 3 are *unverified* (public host programs)."""

    OK = 0
    NOT_ALLOWED = 1
    """In this state: before INITIALIZE nearly everything."""
    UNKNOWN_COMMAND = 2
    INVALID_PARAMETER = 3


class LbpAttribute(enum.IntEnum):
    """What LBP_SET sets; the timeout is 16 bits of seconds."""

    ID_S = 0
    ID_P = 1
    PSK = 2
    GMK = 3
    REKEY_GMK = 4
    MESSAGE_TIMEOUT = 6


class MacAttribute(enum.IntEnum):
    """What MAC_GET gets.

    PAN_ID is IEEE 802.15.4's macPANId. EXTENDED_ADDRESS is one maker's own, *unverified*; its
    value comes with the lowest octet first.
    """

    PAN_ID = 0x0000_0050
    EXTENDED_ADDRESS = 0x0800_0001


BAND_ARIB = 3
REJECTED = 0xFFFF
"""The short address that refuses a joining device."""


@dataclass(frozen=True, slots=True)
class Status:
    """An answer where there is no other: to INITIALIZE, and to what was refused."""

    code: int
    command: int


@dataclass(frozen=True, slots=True)
class Initialize:
    """Begin in this band, as coordinator or as device; answered by STATUS."""

    band: int
    coordinator: bool


@dataclass(frozen=True, slots=True)
class DataRequest:
    """Send an IPv6 packet; its ``handle`` comes back with the confirm."""

    handle: int
    discover_route: bool
    quality: int
    packet: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NetworkStart:
    """Become the coordinator of this PAN."""

    pan_id: int


@dataclass(frozen=True, slots=True)
class Reset:
    """Forget everything."""


@dataclass(frozen=True, slots=True)
class MacGet:
    attribute: int
    index: int = 0


@dataclass(frozen=True, slots=True)
class LbpSet:
    """Set a parameter of the bootstrap; keys are among them, so that no value is ever shown."""

    attribute: int
    index: int
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Kick:
    """Tell a device that it does not belong here; there is no confirm."""

    short: int
    extended: bytes


@dataclass(frozen=True, slots=True)
class ShortAddressAssign:
    """Let a joining device go on, or refuse it with :data:`REJECTED`; there is no confirm."""

    extended: bytes
    short: int


@dataclass(frozen=True, slots=True)
class DataConfirm:
    status: int
    handle: int


@dataclass(frozen=True, slots=True)
class DataIndication:
    """An IPv6 packet; ``lqi`` is the signal over the noise in steps of 0.25 dB from -10 dB."""

    lqi: int
    packet: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StartConfirm:
    status: int


@dataclass(frozen=True, slots=True)
class ResetConfirm:
    status: int


@dataclass(frozen=True, slots=True)
class MacGetConfirm:
    status: int
    attribute: int
    index: int
    value: bytes


@dataclass(frozen=True, slots=True)
class LbpSetConfirm:
    status: int
    attribute: int
    index: int


@dataclass(frozen=True, slots=True)
class JoinRequestIndication:
    """A device wants to join; it waits for :class:`ShortAddressAssign`."""

    extended: bytes


@dataclass(frozen=True, slots=True)
class JoinCompleteIndication:
    """A device has proved that it knows the key, and has its short address."""

    extended: bytes
    short: int


@dataclass(frozen=True, slots=True)
class LeaveIndication:
    """A device has left by itself."""

    short: int


@dataclass(frozen=True, slots=True)
class Other:
    """A command that neither end has a use for."""

    command: int
    body: bytes = field(repr=False)


Message = (
    Status
    | Initialize
    | DataRequest
    | NetworkStart
    | Reset
    | MacGet
    | LbpSet
    | Kick
    | ShortAddressAssign
    | DataConfirm
    | DataIndication
    | StartConfirm
    | ResetConfirm
    | MacGetConfirm
    | LbpSetConfirm
    | JoinRequestIndication
    | JoinCompleteIndication
    | LeaveIndication
    | Other
)


class MalformedMessage(ValueError):  # noqa: N818 - it names the message, not the reader's failure
    """A body that is shorter than its command's, or empty."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """The fields of a body in order; ``counted``: the last one is a length, and octets follow."""

    kind: type[Any]
    head: struct.Struct
    counted: bool = False


_LAYOUTS: Mapping[Command, _Layout] = {
    Command.STATUS: _Layout(Status, struct.Struct(">BB")),
    Command.INITIALIZE: _Layout(Initialize, struct.Struct(">B?")),
    Command.DATA_REQUEST: _Layout(DataRequest, struct.Struct(">B?BH"), counted=True),
    Command.NETWORK_START: _Layout(NetworkStart, struct.Struct(">H")),
    Command.RESET: _Layout(Reset, struct.Struct("")),
    Command.MAC_GET: _Layout(MacGet, struct.Struct(">IH")),
    Command.DATA_CONFIRM: _Layout(DataConfirm, struct.Struct(">BB")),
    Command.DATA_INDICATION: _Layout(DataIndication, struct.Struct(">BH"), counted=True),
    Command.START_CONFIRM: _Layout(StartConfirm, struct.Struct(">B")),
    Command.RESET_CONFIRM: _Layout(ResetConfirm, struct.Struct(">B")),
    Command.MAC_GET_CONFIRM: _Layout(MacGetConfirm, struct.Struct(">BIHB"), counted=True),
    Command.LBP_SET: _Layout(LbpSet, struct.Struct(">IHB"), counted=True),
    Command.KICK: _Layout(Kick, struct.Struct(">H8s")),
    Command.SHORT_ADDRESS_ASSIGN: _Layout(ShortAddressAssign, struct.Struct(">8sH")),
    Command.LBP_SET_CONFIRM: _Layout(LbpSetConfirm, struct.Struct(">BIH")),
    Command.JOIN_REQUEST_INDICATION: _Layout(JoinRequestIndication, struct.Struct(">8s")),
    Command.JOIN_COMPLETE_INDICATION: _Layout(JoinCompleteIndication, struct.Struct(">8sH")),
    Command.LEAVE_INDICATION: _Layout(LeaveIndication, struct.Struct(">H")),
}

_COMMANDS: Mapping[type[Any], Command] = {
    layout.kind: command for command, layout in _LAYOUTS.items()
}


def command_of(message: Message) -> int:
    """The message's command octet."""
    return message.command if isinstance(message, Other) else _COMMANDS[type(message)]


def encode(message: Message) -> bytes:
    """The message's payload; ``struct.error`` for a field that its octets cannot hold."""
    if isinstance(message, Other):
        return bytes((message.command,)) + message.body
    command = _COMMANDS[type(message)]
    layout = _LAYOUTS[command]
    values = [getattr(message, each.name) for each in fields(message)]
    tail = b""
    if layout.counted:
        tail = values[-1]
        values[-1] = len(tail)
    return bytes((command,)) + layout.head.pack(*values) + tail


def parse(payload: bytes) -> Message:
    """The message in a payload; raises :class:`MalformedMessage`."""
    if not payload:
        raise MalformedMessage("a payload has at least its command")
    code, body = payload[0], payload[1:]
    layout = _LAYOUTS.get(code)  # type: ignore[call-overload]  # an enum's member equals its number
    if layout is None:
        return Other(code, body)
    if len(body) < layout.head.size:
        raise MalformedMessage(f"command {code}: {len(body)} octets, not {layout.head.size}")
    values: list[Any] = list(layout.head.unpack_from(body))
    if layout.counted:
        size, start = values.pop(), layout.head.size
        if start + size > len(body):
            raise MalformedMessage(f"command {code}: {size} octets announced, fewer came")
        values.append(body[start : start + size])
    message: Message = layout.kind(*values)
    return message
