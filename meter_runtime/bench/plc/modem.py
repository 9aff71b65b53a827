"""A virtual G3-PLC coordinator's modem: what a host says over USI in, frames of the line out.

A sans-I/O core. It does what the modem of a meter does by itself: it answers whoever looks for a
PAN, runs EAP-PSK as the server, hands out the network's key, and tells its host of nothing between
a join's request and its completion. What it is not told by INITIALIZE it refuses. It forgets
everything without power, and with RESET.
"""

import random
from collections import deque
from dataclasses import dataclass, field

from meter_runtime.bench.plc.frames import (
    Accepted,
    Beacon,
    BeaconRequest,
    Body,
    Declined,
    Eap,
    Joining,
    Kicked,
    Leaving,
    LineFrame,
    Packet,
    seal_gmk,
)
from meter_runtime.comm.auth.eap_psk import KEY_BYTES, EapPskServer
from meter_runtime.comm.auth.eap_psk import State as EapState
from meter_runtime.comm.g3plc import ipv6, usi
from meter_runtime.comm.g3plc.messages import (
    BAND_ARIB,
    REJECTED,
    DataConfirm,
    DataIndication,
    DataRequest,
    Initialize,
    JoinCompleteIndication,
    JoinRequestIndication,
    Kick,
    LbpAttribute,
    LbpSet,
    LbpSetConfirm,
    LeaveIndication,
    MacAttribute,
    MacGet,
    MacGetConfirm,
    MalformedMessage,
    Message,
    NetworkStart,
    Reset,
    ResetConfirm,
    ShortAddressAssign,
    StartConfirm,
    Status,
    StatusCode,
    command_of,
    encode,
    parse,
)

ID_S_BYTES = 34
"""The EAP identity of the server in the ARIB band."""
DEFAULT_TIMEOUT_S = 300
EAP_REPEAT_S = 1.0
"""An LBP message that brought no answer is said again after so long. *Unverified*."""
MAX_SLOTS = 5
"""Devices that may be joining at once. *Unverified*."""
MAX_DEVICES = 32
MAX_WRITES = 1024
"""Frames kept for a host that does not read; the oldest give way."""

INVALID_LENGTH = 4
"""LBP_SET of a key or an identity of another length. *Unverified*."""
UNSUPPORTED = 2
NO_ACK = 0xE9
"""IEEE 802.15.4's NO_ACK."""
NO_ROUTE = 0x8A
"""The destination is no device of the PAN. *Unverified*."""
NO_ATTRIBUTE = 0xF4
"""IEEE 802.15.4's UNSUPPORTED_ATTRIBUTE."""
_MULTICAST = "FF"


@dataclass(slots=True)
class _Slot:
    """A device that is joining."""

    until: float
    server: EapPskServer | None = None
    short: int = REJECTED
    said: Body | None = None
    """What is said again until it is answered."""
    again_at: float = 0.0


@dataclass(slots=True)
class ModemState:
    """What a modem was told, and who is in its PAN; all of it goes with the power."""

    initialised: bool = False
    coordinator: bool = False
    id_s: bytes | None = None
    psk: bytes | None = field(default=None, repr=False)
    gmk: bytes | None = field(default=None, repr=False)
    timeout_s: int = DEFAULT_TIMEOUT_S
    pan_id: int | None = None
    """The PAN that was started: whoever looks for one is answered."""
    devices: dict[bytes, int] = field(default_factory=dict)
    """Short addresses by EUI-64."""


class VirtualModem:
    """One modem; ``extended`` is its EUI-64."""

    def __init__(self, extended: bytes, rng: random.Random) -> None:
        self.extended = extended
        self.state = ModemState()
        self.lost = 0
        """Writes that no host fetched in time."""
        self._rng = rng
        self._reader = usi.FrameReader()
        self._slots: dict[bytes, _Slot] = {}
        self._eap_identifier = 0
        self._line: list[LineFrame] = []
        self._uart: deque[bytes] = deque()

    def lose_power(self) -> None:
        """Everything is forgotten; nothing that was to be said is."""
        self._forget()
        self._reader.reset()
        self._uart.clear()

    # The host's side

    def receive(self, data: bytes, now: float) -> None:
        """Octets of the host."""
        for payload in self._reader.feed(data):
            try:
                message = parse(payload)
            except MalformedMessage:
                self._say(Status(StatusCode.INVALID_PARAMETER, payload[0]))
                continue
            self._obey(message, now)

    def take_uart(self) -> list[bytes]:
        """What to write to the host, frame by frame."""
        writes = list(self._uart)
        self._uart.clear()
        return writes

    def _obey(self, message: Message, now: float) -> None:
        if isinstance(message, Initialize):
            self._forget()
            self.state.initialised = message.band == BAND_ARIB
            self.state.coordinator = message.coordinator
            code = StatusCode.OK if self.state.initialised else StatusCode.INVALID_PARAMETER
            self._say(Status(code, command_of(message)))
            return
        if not self.state.initialised:
            self._say(Status(StatusCode.NOT_ALLOWED, command_of(message)))
            return
        match message:
            case Reset():
                self._forget()
                self._say(ResetConfirm(StatusCode.OK))
            case MacGet(attribute, index):
                value = self._mac(attribute)
                status = NO_ATTRIBUTE if value is None else StatusCode.OK
                self._say(MacGetConfirm(status, attribute, index, value or b""))
            case LbpSet(attribute, index, value):
                self._say(LbpSetConfirm(self._set(attribute, value), attribute, index))
            case NetworkStart(pan_id) if self.state.coordinator:
                self.state.pan_id = pan_id
                self._say(StartConfirm(StatusCode.OK))
            case ShortAddressAssign(extended, short) if self.state.coordinator:
                self._assign(extended, short, now)
            case Kick(extended=extended) if self.state.coordinator:
                self.state.devices.pop(extended, None)
                self._send(extended, Kicked())
            case DataRequest(handle=handle, packet=packet):
                self._request(handle, packet)
            case NetworkStart() | ShortAddressAssign() | Kick():
                self._say(Status(StatusCode.NOT_ALLOWED, command_of(message)))
            case _:
                self._say(Status(StatusCode.UNKNOWN_COMMAND, command_of(message)))

    def _mac(self, attribute: int) -> bytes | None:
        match attribute:
            case MacAttribute.EXTENDED_ADDRESS:
                return self.extended[::-1]
            case MacAttribute.PAN_ID:
                pan_id = self.state.pan_id
                return (0xFFFF if pan_id is None else pan_id).to_bytes(2, "big")
            case _:
                return None

    def _set(self, attribute: int, value: bytes) -> int:
        lengths = {
            LbpAttribute.ID_S: ID_S_BYTES,
            LbpAttribute.PSK: KEY_BYTES,
            LbpAttribute.GMK: KEY_BYTES,
            LbpAttribute.MESSAGE_TIMEOUT: 2,
        }
        wanted = lengths.get(attribute)  # type: ignore[call-overload]
        if wanted is None:
            return UNSUPPORTED
        if len(value) != wanted:
            return INVALID_LENGTH
        match attribute:
            case LbpAttribute.ID_S:
                self.state.id_s = value
            case LbpAttribute.PSK:
                self.state.psk = value
            case LbpAttribute.GMK:
                self.state.gmk = value
            case _:
                self.state.timeout_s = int.from_bytes(value, "big")
        return StatusCode.OK

    def _request(self, handle: int, packet: bytes) -> None:
        gmk = self.state.gmk
        try:
            destination = ipv6.parse(packet).destination
        except ipv6.MalformedPacket:
            destination = ""
        if not destination or gmk is None or self.state.pan_id is None:
            self._say(DataConfirm(NO_ROUTE, handle))
            return
        body = Packet(packet, gmk)
        if destination.startswith(_MULTICAST):
            self._send(None, body, handle)
            return
        for extended, short in self.state.devices.items():
            if destination == ipv6.link_local(self.state.pan_id, short):
                self._send(extended, body, handle)
                return
        self._say(DataConfirm(NO_ROUTE, handle))

    # The line's side

    @property
    def deadline(self) -> float | None:
        """When it wants :meth:`tick`."""
        due = [slot.until for slot in self._slots.values()]
        due += [slot.again_at for slot in self._slots.values() if slot.said is not None]
        return min(due, default=None)

    def take_line(self) -> list[LineFrame]:
        """What it wants to send since last asked."""
        frames, self._line = self._line, []
        return frames

    def tick(self, now: float) -> None:
        """Say again what was not answered; give up on who was silent for too long."""
        for extended, slot in tuple(self._slots.items()):
            if now >= slot.until:
                del self._slots[extended]
            elif slot.said is not None and now >= slot.again_at:
                self._tell(extended, slot, slot.said, now)

    def hear(self, frame: LineFrame, lqi: int, now: float) -> None:
        """A frame came."""
        pan_id = self.state.pan_id
        if pan_id is None:
            return
        match frame.body:
            case BeaconRequest():
                self._send(frame.source, Beacon(pan_id))
            case Joining():
                self._join(frame.source, now)
            case Eap(packet):
                self._authenticate(frame.source, packet, now)
            case Packet(data, key) if key == self.state.gmk:
                self._say(DataIndication(lqi, data))
            case Leaving():
                short = self.state.devices.pop(frame.source, None)
                if short is not None:
                    self._say(LeaveIndication(short))
            case _:
                pass

    def sent(self, frame: LineFrame, *, received: bool, now: float) -> None:
        """Its frame was acknowledged, or finally not."""
        match frame.body:
            case Packet() if frame.handle is not None:
                self._say(DataConfirm(StatusCode.OK if received else NO_ACK, frame.handle))
            case Accepted(short=short) if received and frame.destination in self._slots:
                extended = frame.destination
                del self._slots[extended]
                while len(self.state.devices) >= MAX_DEVICES:
                    del self.state.devices[next(iter(self.state.devices))]
                self.state.devices[extended] = short
                self._say(JoinCompleteIndication(extended, short))
            case _:
                pass

    def _join(self, extended: bytes, now: float) -> None:
        if extended not in self._slots and len(self._slots) >= MAX_SLOTS:
            self._send(extended, Declined())
            return
        self._slots[extended] = _Slot(now + self.state.timeout_s)
        self._say(JoinRequestIndication(extended))

    def _assign(self, extended: bytes, short: int, now: float) -> None:
        slot = self._slots.get(extended)
        state = self.state
        if slot is None or slot.server is not None:
            return
        if short == REJECTED or state.psk is None or state.id_s is None or state.gmk is None:
            del self._slots[extended]
            self._send(extended, Declined())
            return
        self._eap_identifier = (self._eap_identifier + 1) % 0x100
        slot.short = short
        slot.server = EapPskServer(state.psk, state.id_s, self._rng.randbytes, self._eap_identifier)
        self._tell(extended, slot, Eap(slot.server.start()), now)

    def _authenticate(self, extended: bytes, packet: bytes, now: float) -> None:
        slot = self._slots.get(extended)
        if slot is None or slot.server is None:
            return
        answer = slot.server.receive(packet)
        if answer is None:
            return
        match slot.server.state:
            case EapState.RUNNING:
                self._tell(extended, slot, Eap(answer), now)
            case EapState.SUCCEEDED if slot.server.keys is not None and self.state.gmk is not None:
                sealed = seal_gmk(slot.server.keys.tek, self.state.gmk)
                self._tell(extended, slot, Accepted(answer, slot.short, sealed), now)
            case _:
                # The host is not told: a wrong key looks to it like a device that fell silent.
                del self._slots[extended]
                self._send(extended, Declined())

    def _tell(self, extended: bytes, slot: _Slot, body: Body, now: float) -> None:
        slot.said, slot.again_at = body, now + EAP_REPEAT_S
        self._send(extended, body)

    def _send(self, destination: bytes | None, body: Body, handle: int | None = None) -> None:
        self._line.append(LineFrame(self.extended, destination, body, handle))

    def _say(self, message: Message) -> None:
        if len(self._uart) >= MAX_WRITES:
            self._uart.popleft()
            self.lost += 1
        self._uart.append(usi.frame(encode(message)))

    def _forget(self) -> None:
        self.state = ModemState()
        self._slots.clear()
        self._line.clear()
