"""The command table of a virtual module: what each command takes, and what it does.

A handler gets the module, the command and the time; it returns the lines of the answer, or None
where the answer waits for the air, or raises :class:`CommandError`. The argument count has been
checked; formats and ranges are checked here.

Source: SKSTACK-IP command manuals as quoted by public client code, and logs of real modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meter_runtime.bench.air.frames import UdpDatagram
from meter_runtime.bench.module.arguments import (
    CommandError,
    hex_number,
    ip_address,
    mac_address,
    matching,
)
from meter_runtime.bench.module.registers import Reg
from meter_runtime.bench.module.scan import ScanMode
from meter_runtime.bench.module.sending import Outgoing
from meter_runtime.bench.module.state import UDP_HANDLES
from meter_runtime.comm.skstack.addresses import link_local
from meter_runtime.comm.skstack.dialects import B_ROUTE_SIDE
from meter_runtime.comm.skstack.replies import (
    Event,
    EventNumber,
    FailCode,
    Info,
    Ok,
    RegisterValue,
    Reply,
    SendOutcome,
    Text,
)

if TYPE_CHECKING:
    from meter_runtime.bench.module.core import VirtualModule
    from meter_runtime.bench.module.profiles import Profile
    from meter_runtime.comm.skstack.commands import Command

Answer = list[Reply] | None
Handler = Callable[["VirtualModule", "Command", float], Answer]
Count = Callable[["Profile"], int]

MAX_PASSWORD = 32
MAX_DURATION = 14


@dataclass(frozen=True, slots=True)
class Rule:
    """One command: fewest and most arguments, and the handler."""

    run: Handler
    fewest: int | Count = 0
    most: int | Count | None = None
    """None is the same as ``fewest``."""
    optional: bool = False
    """Unknown to firmware without the option commands."""


def check_count(rule: Rule, command: Command, profile: Profile) -> None:
    """CommandError ER05 for too few or too many arguments."""
    fewest = rule.fewest if isinstance(rule.fewest, int) else rule.fewest(profile)
    limit = rule.fewest if rule.most is None else rule.most
    most = limit if isinstance(limit, int) else limit(profile)
    if not fewest <= len(command.arguments) <= most:
        raise CommandError(FailCode.ARGUMENT_COUNT)


def _require(condition: object) -> None:
    """ER10: understood, but not possible now."""
    if not condition:
        raise CommandError(FailCode.EXECUTION)


def _side(text: str) -> None:
    """The side argument: only the B-route side exists here, the HAN side cannot be executed."""
    _require(hex_number(text, 0, 1) == B_ROUTE_SIDE)


# What the module is and remembers.


def _sksreg(module: VirtualModule, command: Command, now: float) -> Answer:
    registers, send_time = module.state.registers, module.send_time
    number = registers.find(command.arguments[0])
    if len(command.arguments) == 2:
        registers.write(number, command.arguments[1])
        if number is Reg.SENT_MS:
            send_time.clear_total()
        return [Ok()]
    registers[Reg.SENT_MS] = send_time.total_ms
    registers[Reg.SEND_LIMITED] = int(send_time.limited)
    return [RegisterValue(registers.text(number)), Ok()]


def _skinfo(module: VirtualModule, command: Command, now: float) -> Answer:
    state, dialect = module.state, module.options.profile.dialect
    registers = state.registers
    tail = registers.text(Reg.SIDE) if dialect.has_side else dialect.info_tail
    channel, pan_id = registers[Reg.CHANNEL], registers[Reg.PAN_ID]
    return [Info(state.address, state.mac, channel, pan_id, tail), Ok()]


def _skver(module: VirtualModule, command: Command, now: float) -> Answer:
    return [Text(f"EVER {module.options.profile.stack_version}"), Ok()]


def _skappver(module: VirtualModule, command: Command, now: float) -> Answer:
    return [Text(f"EAPPVER {module.options.profile.application_version}"), Ok()]


def _sksave(module: VirtualModule, command: Command, now: float) -> Answer:
    module.state.registers.save()
    return [Ok()]


def _skload(module: VirtualModule, command: Command, now: float) -> Answer:
    module.state.registers.load()
    return [Ok()]


def _skerase(module: VirtualModule, command: Command, now: float) -> Answer:
    module.state.registers.erase()
    return [Ok()]


def _skreset(module: VirtualModule, command: Command, now: float) -> Answer:
    module.reset()
    return [Ok()]


def _skdsleep(module: VirtualModule, command: Command, now: float) -> Answer:
    _require(module.radio_free)
    module.sleep()
    return [Ok()]


def _skrflo(module: VirtualModule, command: Command, now: float) -> Answer:
    """*Unverified*: one flag, accepted and without effect here."""
    hex_number(command.arguments[0], 0, 1)
    return [Ok()]


def _skll64(module: VirtualModule, command: Command, now: float) -> Answer:
    return [Text(link_local(mac_address(command.arguments[0])))]


def _sktable(module: VirtualModule, command: Command, now: float) -> Answer:
    state = module.state
    match command.arguments[0].upper():
        case "1":
            return [Text("EADDR"), Text(state.address), Ok()]
        case "2":
            rows = [Text(f"{ip} {mac.hex().upper()} FFFF") for ip, mac in state.neighbors]
            return [Text("ENEIGHBOR"), *rows, Ok()]
        case "E":
            ports = [Text(str(port)) for port in state.udp_ports]
            # The single stack lists its TCP ports too, after a blank line.
            tcp = [] if module.options.profile.dialect.has_side else _SINGLE_STACK_TCP_PORTS
            return [Text("EPORT"), *ports, *map(Text, tcp), Ok()]
        case _:
            raise CommandError(FailCode.ARGUMENT_FORMAT)


_SINGLE_STACK_TCP_PORTS = ["", "3610", "0", "0", "0"]


def _skudpport(module: VirtualModule, command: Command, now: float) -> Answer:
    handle = hex_number(command.arguments[0], 1, UDP_HANDLES)
    module.state.udp_ports[handle - 1] = hex_number(command.arguments[1], 0, 0xFFFF)
    return [Ok()]


def _skaddnbr(module: VirtualModule, command: Command, now: float) -> Answer:
    address, mac = ip_address(command.arguments[0]), mac_address(command.arguments[1])
    module.state.neighbors.add(address, mac)
    return [Ok()]


def _ropt(module: VirtualModule, command: Command, now: float) -> Answer:
    return [Ok(f"{module.state.option_byte:02X}")]


def _wopt(module: VirtualModule, command: Command, now: float) -> Answer:
    module.state.option_byte = hex_number(command.arguments[0], 0, 0xFF)
    return [Ok()]


def _ruart(module: VirtualModule, command: Command, now: float) -> Answer:
    return [Ok(f"{module.state.uart_byte:02X}")]


def _wuart(module: VirtualModule, command: Command, now: float) -> Answer:
    module.state.uart_byte = hex_number(command.arguments[0], 0, 0xFF)
    return [Ok()]


# Credentials and keys.


def _sksetpwd(module: VirtualModule, command: Command, now: float) -> Answer:
    length, password = command.arguments
    if len(password) != hex_number(length, 1, MAX_PASSWORD):
        raise CommandError(FailCode.ARGUMENT_FORMAT)
    module.state.set_password(matching(password, r"[!-~]+"))
    return [Ok()]


def _sksetrbid(module: VirtualModule, command: Command, now: float) -> Answer:
    module.state.set_route_b_id(matching(command.arguments[0], r"[0-9A-Za-z]{32}").upper())
    return [Ok()]


def _sksetpsk(module: VirtualModule, command: Command, now: float) -> Answer:
    hex_number(command.arguments[0], 0x10, 0x10)
    module.state.psk = bytes.fromhex(matching(command.arguments[1], r"[0-9A-Fa-f]{32}"))
    return [Ok()]


def _sksetkey(module: VirtualModule, command: Command, now: float) -> Answer:
    index = hex_number(command.arguments[0], 0, 0xFF)
    key = bytes.fromhex(matching(command.arguments[1], r"[0-9A-Fa-f]{32}"))
    module.state.manual_keys.set_key(index, key)
    return [Ok()]


def _skrmkey(module: VirtualModule, command: Command, now: float) -> Answer:
    _require(module.state.manual_keys.remove_key(hex_number(command.arguments[0], 0, 0xFF)))
    return [Ok()]


def _skregdev(module: VirtualModule, command: Command, now: float) -> Answer:
    _require(module.state.manual_keys.register(ip_address(command.arguments[0])))
    return [Ok()]


def _skrmdev(module: VirtualModule, command: Command, now: float) -> Answer:
    _require(module.state.manual_keys.unregister(ip_address(command.arguments[0])))
    return [Ok()]


def _sksecenable(module: VirtualModule, command: Command, now: float) -> Answer:
    mode, address, mac = command.arguments
    secured = hex_number(mode, 0, 1) == 1
    module.state.neighbors.add(ip_address(address), mac_address(mac))
    _require(module.state.manual_keys.register(address.upper(), secured=secured))
    return [Ok()]


# The air.


def _skscan(module: VirtualModule, command: Command, now: float) -> Answer:
    mode, mask, duration, *side = command.arguments
    if mode not in ("0", "2", "3"):
        raise CommandError(FailCode.ARGUMENT_FORMAT)
    chosen = ScanMode(int(mode))
    channels, dwell = hex_number(mask, 0, 0xFFFF_FFFF), hex_number(duration, 0, MAX_DURATION)
    for text in side:
        _side(text)
    _require(module.radio_free)
    module.start_scan(chosen, channels, dwell, now)
    return [Ok()]


def _skstart(module: VirtualModule, command: Command, now: float) -> Answer:
    session, state = module.session, module.state
    _require(state.credentials and module.radio_free)
    _require(session.is_agent or session.current is None)
    session.serve()
    state.registers[Reg.ANSWER_BEACONS] = 1
    return [Ok()]


def _skjoin(module: VirtualModule, command: Command, now: float) -> Answer:
    address = ip_address(command.arguments[0])
    _require(not module.scanning and module.session.join(address, now))
    return [Ok()]


def _skrejoin(module: VirtualModule, command: Command, now: float) -> Answer:
    _require(not module.scanning and module.session.rejoin(now))
    return [Ok()]


def _skterm(module: VirtualModule, command: Command, now: float) -> Answer:
    _require(not module.scanning and module.session.terminate(now))
    return [Ok()]


def _sksendto(module: VirtualModule, command: Command, now: float) -> Answer:
    handle_text, address_text, port_text, security_text, *side, _ = command.arguments
    if command.data is None:
        raise CommandError(FailCode.ARGUMENT_FORMAT)
    handle = hex_number(handle_text, 1, UDP_HANDLES)
    address = ip_address(address_text)
    port = hex_number(port_text, 1, 0xFFFF)
    security = hex_number(security_text, 0, 2)
    for text in side:
        _side(text)
    source_port = module.state.udp_port(handle)
    _require(source_port and not module.scanning)
    key_id = module.key_for(address) if security else None
    forbidden = security == 1 and key_id is None
    item = Outgoing(address, UdpDatagram(address, source_port, port, command.data), key_id)
    if (
        forbidden
        or module.send_time.limited
        or not module.session.may_send
        or not module.send(item)
    ):
        return [Event(EventNumber.SEND_DONE, address, SendOutcome.FAILED), Ok()]
    return None


def _skping(module: VirtualModule, command: Command, now: float) -> Answer:
    *side, address_text = command.arguments
    for text in side:
        _side(text)
    address = ip_address(address_text)
    _require(not module.scanning and not module.send_time.limited)
    _require(module.session.may_send and module.ping(address, now))
    return None


COMMANDS: Mapping[str, Rule] = {
    "SKSREG": Rule(_sksreg, 1, 2),
    "SKINFO": Rule(_skinfo),
    "SKSTART": Rule(_skstart),
    "SKJOIN": Rule(_skjoin, 1),
    "SKREJOIN": Rule(_skrejoin),
    "SKTERM": Rule(_skterm),
    "SKSENDTO": Rule(_sksendto, lambda profile: profile.dialect.sendto_arguments),
    "SKPING": Rule(_skping, lambda profile: 2 if profile.dialect.has_side else 1),
    "SKSCAN": Rule(_skscan, lambda profile: profile.scan_arguments),
    "SKREGDEV": Rule(_skregdev, 1),
    "SKRMDEV": Rule(_skrmdev, 1),
    "SKSETKEY": Rule(_sksetkey, 2),
    "SKRMKEY": Rule(_skrmkey, 1),
    "SKSECENABLE": Rule(_sksecenable, 3),
    "SKSETPSK": Rule(_sksetpsk, 2),
    "SKSETPWD": Rule(_sksetpwd, 2),
    "SKSETRBID": Rule(_sksetrbid, 1),
    "SKADDNBR": Rule(_skaddnbr, 2),
    "SKUDPPORT": Rule(_skudpport, 2),
    "SKSAVE": Rule(_sksave),
    "SKLOAD": Rule(_skload),
    "SKERASE": Rule(_skerase),
    "SKVER": Rule(_skver),
    "SKAPPVER": Rule(_skappver, optional=True),
    "SKRESET": Rule(_skreset),
    "SKTABLE": Rule(_sktable, 1),
    "SKDSLEEP": Rule(_skdsleep),
    "SKRFLO": Rule(_skrflo, 1),
    "SKLL64": Rule(_skll64, 1),
    "WOPT": Rule(_wopt, 1, optional=True),
    "ROPT": Rule(_ropt, optional=True),
    "WUART": Rule(_wuart, 1, optional=True),
    "RUART": Rule(_ruart, optional=True),
}
