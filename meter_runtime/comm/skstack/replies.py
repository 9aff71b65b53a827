"""What a module writes: replies and events, to bytes and from bytes.

Lines end in CRLF (the answers to WOPT/ROPT/WUART/RUART in CR alone). ERXUDP carries its payload in
hex, or raw when the option byte WOPT is 00. What is read is bounded: a line beyond its limit is
dropped up to the next line end and counted, so that garbage cannot grow a buffer.

Source: SKSTACK-IP command manuals as quoted by public client code, and logs of real modules.
"""

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

from meter_runtime.comm.skstack.addresses import parse_address
from meter_runtime.comm.skstack.commands import CRLF, MAX_SEND
from meter_runtime.comm.skstack.dialects import Dialect

MAX_REPLY_LINE = 3072
"""Longest reply line: an ERXUDP with 1232 bytes of payload in hex and its header."""


class FailCode(enum.IntEnum):
    """The numbers of ``FAIL ERnn``."""

    UNSUPPORTED = 4
    ARGUMENT_COUNT = 5
    ARGUMENT_FORMAT = 6
    UART_INPUT = 9
    EXECUTION = 10


class EventNumber(enum.IntEnum):
    """The numbers of ``EVENT nn``."""

    NEIGHBOR_SOLICITATION = 0x01
    NEIGHBOR_ADVERTISEMENT = 0x02
    ECHO_REQUEST = 0x05
    ENERGY_SCAN_DONE = 0x1F
    BEACON = 0x20
    SEND_DONE = 0x21
    ACTIVE_SCAN_DONE = 0x22
    PANA_FAILED = 0x24
    PANA_DONE = 0x25
    SESSION_CLOSED_BY_PEER = 0x26
    TERMINATED = 0x27
    TERMINATE_TIMED_OUT = 0x28
    SESSION_EXPIRED = 0x29
    SEND_LIMIT_REACHED = 0x32
    SEND_LIMIT_RELEASED = 0x33
    WOKE_UP = 0xC0


class SendOutcome(enum.IntEnum):
    """The parameter of EVENT 21."""

    DONE = 0
    FAILED = 1
    NEIGHBOR_SOLICITATION = 2
    """Address resolution went out first; another EVENT 21 follows for the datagram."""


@dataclass(frozen=True, slots=True)
class Ok:
    """``OK``, with the value of ROPT/RUART where there is one."""

    value: str = ""


@dataclass(frozen=True, slots=True)
class Fail:
    """``FAIL ERnn``."""

    code: int


@dataclass(frozen=True, slots=True)
class Event:
    """``EVENT nn source [side] [parameter]``."""

    number: int
    source: str
    parameter: int | None = None
    side: int = 0


@dataclass(frozen=True, slots=True)
class RxUdp:
    """``ERXUDP``: one received UDP datagram."""

    source: str
    destination: str
    source_port: int
    destination_port: int
    source_mac: bytes
    secured: bool
    data: bytes
    lqi: int | None = None
    side: int = 0


@dataclass(frozen=True, slots=True)
class PanDescription:
    """``EPANDESC`` and the indented lines after it: one beacon of an active scan."""

    channel: int
    page: int
    pan_id: int
    mac: bytes
    lqi: int
    pairing_id: str | None = None
    side: int = 0


@dataclass(frozen=True, slots=True)
class EnergyReport:
    """``EEDSCAN`` and the line after it: received power per channel, as LQI."""

    levels: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Info:
    """``EINFO address mac channel pan tail``."""

    address: str
    mac: bytes
    channel: int
    pan_id: int
    tail: str


@dataclass(frozen=True, slots=True)
class RegisterValue:
    """``ESREG value``."""

    value: str


@dataclass(frozen=True, slots=True)
class Text:
    """Any other line: EVER, EAPPVER, a bare address, an echoed command, noise."""

    line: str


Reply = Ok | Fail | Event | RxUdp | PanDescription | EnergyReport | Info | RegisterValue | Text


def encode_reply(
    reply: Reply, dialect: Dialect, *, hex_data: bool = True, rssi: bool = False
) -> bytes:
    """The bytes a module writes for this reply, line ends included.

    ``hex_data`` is the option byte's ASCII mode; ``rssi`` register SA2, which only prints where
    the dialect has the field.
    """
    match reply:
        case Ok(value):
            return f"OK {value}\r\n".encode() if value else b"OK\r\n"
        case Fail(code):
            return f"FAIL ER{code:02d}\r\n".encode()
        case Event(number, source, parameter, side):
            middle = f" {side}" if dialect.has_side else ""
            tail = "" if parameter is None else f" {parameter:02X}"
            return f"EVENT {number:02X} {source}{middle}{tail}\r\n".encode()
        case RxUdp():
            return _encode_rxudp(reply, dialect, hex_data=hex_data, rssi=rssi)
        case PanDescription():
            return _encode_pan(reply, dialect)
        case EnergyReport(levels):
            pairs = " ".join(f"{channel:02X} {level:02X}" for channel, level in levels)
            return f"EEDSCAN\r\n{pairs}\r\n".encode()
        case Info(address, mac, channel, pan_id, tail):
            mac_text = mac.hex().upper()
            return f"EINFO {address} {mac_text} {channel:02X} {pan_id:04X} {tail}\r\n".encode()
        case RegisterValue(value):
            return f"ESREG {value}\r\n".encode()
        case Text(line):
            return line.encode("latin-1") + CRLF


def _encode_rxudp(reply: RxUdp, dialect: Dialect, *, hex_data: bool, rssi: bool) -> bytes:
    fields = [
        "ERXUDP",
        reply.source,
        reply.destination,
        f"{reply.source_port:04X}",
        f"{reply.destination_port:04X}",
        reply.source_mac.hex().upper(),
    ]
    if dialect.prints_rssi and rssi:
        fields.append(f"{reply.lqi or 0:02X}")
    fields.append("1" if reply.secured else "0")
    if dialect.has_side:
        fields.append(str(reply.side))
    fields.append(f"{len(reply.data):04X}")
    head = " ".join(fields).encode() + b" "
    return head + (reply.data.hex().upper().encode() if hex_data else reply.data) + CRLF


def _encode_pan(pan: PanDescription, dialect: Dialect) -> bytes:
    lines = [
        "EPANDESC",
        f"  Channel:{pan.channel:02X}",
        f"  Channel Page:{pan.page:02X}",
        f"  Pan ID:{pan.pan_id:04X}",
        f"  Addr:{pan.mac.hex().upper()}",
        f"  LQI:{pan.lqi:02X}",
    ]
    if dialect.has_side:
        lines.append(f"  Side:{pan.side}")
    if pan.pairing_id is not None:
        lines.append(f"  PairID:{pan.pairing_id}")
    return "".join(line + "\r\n" for line in lines).encode()


class ReplyReader:
    """The host's ear: bytes from a module, in any pieces, to replies.

    ``hex_data`` says how ERXUDP payloads come; set it from the module's option byte, or to None
    where the module does not tell: then each datagram shows by itself what it is, because after
    ``length`` octets a binary line ends and a hex line goes on. Noise never raises: a line that is
    no reply becomes :class:`Text`, an over-long one is dropped and counted in :attr:`overlong`.
    ``OK nn`` of the option commands ends in CR alone and is recognised so.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.hex_data: bool | None = True
        self.overlong = 0
        self._line = bytearray()
        self._skipping = False
        self._raw_left = 0
        self._after_cr = False
        self._block: list[str] = []

    def reset(self) -> None:
        """Forget a half-read line, as after the port was reopened."""
        self._line.clear()
        self._block.clear()
        self._skipping = self._after_cr = False
        self._raw_left = 0

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Yield the replies that these bytes complete, in order."""
        for byte in data:
            if self._raw_left:
                self._line.append(byte)
                self._raw_left -= 1
                continue
            if byte == 0x0A and self._after_cr:
                self._after_cr = False
                continue
            self._after_cr = byte == 0x0D
            if byte in (0x0D, 0x0A):
                line = bytes(self._line)
                self._line.clear()
                if self._skipping:
                    self._skipping = False
                elif line:
                    yield from self._line_done(line)
            elif self._skipping:
                continue
            elif len(self._line) >= MAX_REPLY_LINE:
                self._line.clear()
                self._skipping = True
                self.overlong += 1
            else:
                self._line.append(byte)
                if byte == 0x20 and not self.hex_data and self._line.startswith(b"ERXUDP "):
                    self._expect_raw()

    def _expect_raw(self) -> None:
        words = self._line.decode("latin-1").split()
        count = len(words)
        shortest = 9 if self.dialect.has_side else 8
        if count == shortest or (count == shortest + 1 and self.dialect.prints_rssi):
            length = _hex(words[-1], 4)
            # Nine words on DSE are a whole header only when RSSI is not printed: then the last
            # is the four-digit length, otherwise the one-digit side.
            if length is not None and 1 <= length <= MAX_SEND:
                self._raw_left = length

    def _line_done(self, raw: bytes) -> Iterator[Reply]:
        if raw.startswith(b"ERXUDP "):
            yield from self._finish_block()
            yield parse_rxudp(raw, self.dialect, hex_data=self.hex_data) or Text(_latin(raw))
            return
        line = _latin(raw)
        if self._block and self._block[0] == "EEDSCAN":
            self._block.append(line)
            yield from self._finish_block()
            return
        if self._block and line.startswith("  ") and len(self._block) < _PAN_LINES:
            self._block.append(line)
            if len(self._block) == self._pan_block_size():
                yield from self._finish_block()
            return
        yield from self._finish_block()
        if line in ("EPANDESC", "EEDSCAN"):
            self._block.append(line)
            return
        yield parse_reply(line, self.dialect)

    def _pan_block_size(self) -> int:
        # With a pairing ID the block is one line longer, and nothing says beforehand whether it
        # comes; so the block ends at PairID or at the first line that is not indented.
        return len(self._block) if self._block[-1].startswith("  PairID:") else _PAN_LINES

    def _finish_block(self) -> Iterator[Reply]:
        if not self._block:
            return
        block, self._block = self._block, []
        parsed = _parse_energy(block) if block[0] == "EEDSCAN" else _parse_pan(block)
        if parsed is not None:
            yield parsed
        else:
            yield from map(Text, block)


_PAN_LINES = 8


def _latin(raw: bytes) -> str:
    return raw.decode("latin-1")


def _hex(text: str, digits: int | None = None) -> int | None:
    """The value of a plain hex field; None where it is none (``int`` alone takes "+1", "0x1")."""
    if digits is not None and len(text) != digits:
        return None
    return int(text, 16) if re.fullmatch(r"[0-9A-Fa-f]+", text) else None


def _is_address(text: str) -> bool:
    """A damaged address must not become a new peer."""
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


def parse_reply(line: str, dialect: Dialect) -> Reply:
    """One line without its end; what is not a known reply is :class:`Text`."""
    words = line.split()
    match words:
        case ["OK"]:
            return Ok()
        case ["OK", value]:
            return Ok(value)
        case ["FAIL", code] if re.fullmatch(r"ER\d\d", code):
            return Fail(int(code[2:]))
        case ["ESREG", value]:
            return RegisterValue(value)
        case ["EVENT", number, source, *rest]:
            return _parse_event(number, source, rest, dialect) or Text(line)
        case ["EINFO", address, mac, channel, pan_id, tail]:
            return _parse_info(address, mac, channel, pan_id, tail) or Text(line)
        case _:
            return Text(line)


def _parse_event(number: str, source: str, rest: list[str], dialect: Dialect) -> Event | None:
    side = 0
    if dialect.has_side and rest:
        given = _hex(rest[0], 1)
        if given is None:
            return None
        side, rest = given, rest[1:]
    parameter = _hex(rest[0]) if rest else None
    value = _hex(number)
    if value is None or len(rest) > 1 or (rest and parameter is None) or not _is_address(source):
        return None
    return Event(value, source.upper(), parameter, side)


def _parse_info(address: str, mac: str, channel: str, pan_id: str, tail: str) -> Info | None:
    values = (_hex(mac, 16), _hex(channel), _hex(pan_id))
    if None in values or not _is_address(address):
        return None
    return Info(address.upper(), bytes.fromhex(mac), values[1] or 0, values[2] or 0, tail)


def parse_rxudp(raw: bytes, dialect: Dialect, *, hex_data: bool | None = True) -> RxUdp | None:
    """One ERXUDP line without its end; None where any field is not what it must be.

    ``hex_data`` None: the payload is hex when it is twice as long as the length field says.
    """
    fixed = 9 if dialect.has_side else 8
    for count in (fixed, fixed + 1) if dialect.prints_rssi else (fixed,):
        words = raw.split(b" ", count)
        if len(words) != count + 1:
            continue
        length = _hex(_latin(words[count - 1]), 4)
        payload = words[count]
        if length is None:
            continue
        is_hex = len(payload) == 2 * length if hex_data is None else hex_data
        if len(payload) != (2 * length if is_hex else length):
            continue
        try:
            data = bytes.fromhex(payload.decode("ascii")) if is_hex else payload
            fields = [word.decode("ascii") for word in words[1:count]]
        except ValueError:
            return None
        if len(data) != length:
            return None
        return _rxudp_from(fields, data, dialect, with_rssi=count > fixed)
    return None


def _rxudp_from(
    fields: list[str], data: bytes, dialect: Dialect, *, with_rssi: bool
) -> RxUdp | None:
    source, destination, source_port, destination_port, mac, *rest = fields
    lqi = _hex(rest.pop(0)) if with_rssi else None
    secured = rest.pop(0)
    side = _hex(rest.pop(0), 1) if dialect.has_side else 0
    ports = (_hex(source_port, 4), _hex(destination_port, 4))
    if (
        None in ports
        or side is None
        or (with_rssi and lqi is None)
        or _hex(mac, 16) is None
        or secured not in ("0", "1")
        or not (_is_address(source) and _is_address(destination))
    ):
        return None
    return RxUdp(
        source=source.upper(),
        destination=destination.upper(),
        source_port=ports[0] or 0,
        destination_port=ports[1] or 0,
        source_mac=bytes.fromhex(mac),
        secured=secured == "1",
        data=data,
        lqi=lqi,
        side=side,
    )


def _parse_pan(block: list[str]) -> PanDescription | None:
    fields = dict(line.strip().split(":", 1) for line in block[1:] if ":" in line)
    numbers = {
        name: _hex(fields.get(name, ""))
        for name in ("Channel", "Channel Page", "Pan ID", "Addr", "LQI")
    }
    if None in numbers.values() or len(fields["Addr"]) != 16:
        return None
    return PanDescription(
        channel=numbers["Channel"] or 0,
        page=numbers["Channel Page"] or 0,
        pan_id=numbers["Pan ID"] or 0,
        mac=bytes.fromhex(fields["Addr"]),
        lqi=numbers["LQI"] or 0,
        pairing_id=fields.get("PairID"),
        side=_hex(fields.get("Side", "0")) or 0,
    )


def _parse_energy(block: list[str]) -> EnergyReport | None:
    values = [_hex(word) for word in " ".join(block[1:]).split()]
    if not values or len(values) % 2 or None in values:
        return None
    numbers = [value or 0 for value in values]
    return EnergyReport(tuple(zip(numbers[::2], numbers[1::2], strict=True)))
