"""A virtual Wi-SUN module: UART on one side, air on the other, sans-I/O.

:class:`VirtualModule` plays either role for either dialect. Its host's bytes come in through
:meth:`~VirtualModule.receive` and its answers out of :meth:`~VirtualModule.take_uart`; towards the
air it is a :class:`~meter_runtime.bench.air.medium.Station`. What it decides itself is the order
of things: commands one after another, each answer in one write, and what may be printed when.

It does not model the UART's bit rate, flow control, firmware update, or the HAN side of a
dual-stack module.

Source: SKSTACK-IP command manuals as quoted by public client code, and logs of real modules.
"""

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from meter_runtime.bench.air.frames import (
    Beacon,
    BeaconRequest,
    Body,
    EchoReply,
    EchoRequest,
    EnergyRequest,
    Frame,
    NeighborAdvertisement,
    NeighborSolicitation,
    UdpDatagram,
)
from meter_runtime.bench.air.pace import REAL, AirPace
from meter_runtime.bench.module.arguments import CommandError
from meter_runtime.bench.module.commands import COMMANDS, check_count
from meter_runtime.bench.module.join import PanaMessage
from meter_runtime.bench.module.profiles import ModuleOptions
from meter_runtime.bench.module.registers import Reg
from meter_runtime.bench.module.scan import CHANNEL_PAGE, Scan, ScanMode
from meter_runtime.bench.module.sending import Launch, Need, Outgoing, Report, Sender, SendTime
from meter_runtime.bench.module.session import Notice, PanaSession
from meter_runtime.bench.module.state import ModuleState
from meter_runtime.bench.module.uart import UartOutput, UartWrite
from meter_runtime.comm.auth.pana_message import PANA_PORT
from meter_runtime.comm.skstack.addresses import link_local
from meter_runtime.comm.skstack.commands import (
    CRLF,
    OPTION_COMMANDS,
    Command,
    CommandReader,
    EmptyLine,
    OverlongLine,
)
from meter_runtime.comm.skstack.dialects import B_ROUTE_SIDE
from meter_runtime.comm.skstack.replies import (
    EnergyReport,
    Event,
    EventNumber,
    Fail,
    FailCode,
    Ok,
    PanDescription,
    Reply,
    RxUdp,
    SendOutcome,
    Text,
)

MAX_INPUTS = 32
"""Commands that may wait behind one that is being executed; more are lost with FAIL ER09."""

MAX_UNREAD = 32
"""Datagrams of the home that a meter has yet to turn to; more are lost."""


@dataclass(slots=True)
class _Pending:
    """A command whose answer waits for the air."""

    ping: str | None = None
    give_up_at: float | None = None
    echo: bytes = b""


class VirtualModule:
    """One module of the given product, powered up with the given options."""

    def __init__(
        self, options: ModuleOptions, mac: bytes, rng: random.Random, pace: AirPace = REAL
    ) -> None:
        self.options = options
        self.state = ModuleState(options.profile, mac)
        self.session = PanaSession(self.state, rng, pace)
        self.send_time = SendTime()
        self.uart = UartOutput(self.state, options.pace_s)
        self._pace = pace
        self._rng = rng
        self._dialect = options.profile.dialect
        self._reader = CommandReader(self._dialect)
        self._inputs: deque[Command | EmptyLine | OverlongLine] = deque()
        self._pending: _Pending | None = None
        self._sender = Sender(pace.neighbor_patience_s)
        self._on_air: Frame | None = None
        self._unread: deque[tuple[float, RxUdp]] = deque()
        self._scan: Scan | None = None
        self._asleep = False
        self._radio: list[Frame | EnergyRequest] = []
        self.replayed: set[bytes] = set()
        """Names of keys under which a peer's frame counter fell back: acknowledged, and dropped."""

    # Towards the host.

    def receive(self, data: bytes, now: float) -> None:
        """Octets from the host, in any pieces."""
        for item in self._reader.feed(data):
            if len(self._inputs) < MAX_INPUTS:
                self._inputs.append(item)
            else:
                self._inputs[-1] = OverlongLine()
            self._proceed(now)

    def take_uart(self) -> list[UartWrite]:
        """The writes to the host since last asked, in order."""
        return self.uart.take()

    # Towards the air.

    @property
    def mac(self) -> bytes:
        return self.state.mac

    @property
    def pan_id(self) -> int:
        """Register S03."""
        return self.state.registers[Reg.PAN_ID]

    @property
    def _channel(self) -> int:
        """Where the radio is: on the scan's channel while it visits one."""
        visited = self._scan.channel if self._scan is not None else None
        return visited or self.state.registers[Reg.CHANNEL]

    def hears(self, frame: Frame) -> bool:
        if self._asleep or frame.channel != self._channel:
            return False
        if frame.destination not in (None, self.mac):
            return False
        if self._scan is not None:
            return isinstance(frame.body, Beacon)
        return frame.pan_id in (None, self.pan_id)

    @property
    def deadline(self) -> float | None:
        if self._asleep:
            return None
        if self._scan is not None:
            # A scan has the radio: everything else that is due waits for its end.
            return self._scan.deadline
        times = [self.session.deadline, self._sender.deadline, self.send_time.deadline]
        if self._pending is not None:
            times.append(self._pending.give_up_at)
        if self._unread:
            times.append(self._unread[0][0])
        return min((time for time in times if time is not None), default=None)

    def take_radio(self) -> list[Frame | EnergyRequest]:
        requests, self._radio = self._radio, []
        return requests

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._scan is not None:
            if now >= self._scan.deadline:
                self._scan_on(self._scan, now)
            return
        if self.send_time.tick(now):
            self._print_event(EventNumber.SEND_LIMIT_RELEASED)
        self._carry_on(self._sender.tick(now), now)
        while self._unread and self._unread[0][0] <= now:
            self.uart.announce(self._unread.popleft()[1])
        pending = self._pending
        if pending is not None and pending.give_up_at is not None and now >= pending.give_up_at:
            self._answer(Fail(FailCode.EXECUTION))
        messages, notices = self.session.tick(now)
        self._print_notices(notices)
        for message in messages:
            self._send_pana(message, now)
        self._proceed(now)

    def sent(self, frame: Frame, *, received: bool, airtime_s: float, now: float) -> None:
        if self.send_time.add(airtime_s, now):
            self._print_event(EventNumber.SEND_LIMIT_REACHED)
        if frame is self._on_air:
            self._on_air = None
            self._carry_on(self._sender.sent(received=received), now)
            self._proceed(now)

    def energy(self, channel: int, lqi: int) -> None:
        if self._scan is not None:
            self._scan.levels.append((channel, lqi))

    def hear(self, frame: Frame, lqi: int, now: float) -> None:
        peer = link_local(frame.source)
        match frame.body:
            case BeaconRequest(pairing_id):
                self._answer_beacon(frame, pairing_id)
            case Beacon(pan_id, pairing_id):
                self._print_beacon(frame, pan_id, pairing_id, lqi)
            case NeighborSolicitation():
                self.state.neighbors.add(peer, frame.source)
                self._print_event(EventNumber.NEIGHBOR_SOLICITATION, peer)
                self._transmit(frame.source, NeighborAdvertisement())
            case NeighborAdvertisement():
                self.state.neighbors.add(peer, frame.source)
                self._print_event(EventNumber.NEIGHBOR_ADVERTISEMENT, peer)
                self._carry_on(self._sender.resolved(peer), now)
            case EchoRequest():
                self._print_event(EventNumber.ECHO_REQUEST, peer)
                if self.state.registers[Reg.ICMP_ECHO]:
                    self._transmit(frame.source, EchoReply())
            case EchoReply():
                self._hear_echo(peer)
            case UdpDatagram() as datagram:
                if self._decrypts(frame, peer):
                    self._hear_datagram(frame, datagram, peer, lqi, now)
        self._proceed(now)

    # What commands act through.

    @property
    def scanning(self) -> bool:
        return self._scan is not None

    def start_scan(self, mode: ScanMode, mask: int, duration: int, now: float) -> None:
        """SKSCAN; the caller has made sure that the radio is free."""
        self._scan = Scan(mode, mask, self._pace.dwell_s(duration), now)
        self.uart.hold()

    @property
    def radio_free(self) -> bool:
        """No scan, no join and no packet is under way."""
        return self._scan is None and not self.session.joining and not self._sender.busy

    def key_for(self, address: str) -> bytes | None:
        """The name of the key towards an address: the session's, or one set by hand."""
        peer = None if address.startswith("FF") else address
        return self.session.key_for(peer) or self.state.manual_keys.key_for(address)

    def send(self, item: Outgoing) -> bool:
        """SKSENDTO; False where it cannot even be queued."""
        if not self._sender.submit(item):
            return False
        self._pending = _Pending()
        return True

    def ping(self, address: str, now: float) -> bool:
        """SKPING; False where it cannot even be queued."""
        if not self._sender.submit(Outgoing(address, EchoRequest())):
            return False
        self._pending = _Pending(address, now + 2 * self._pace.neighbor_patience_s)
        return True

    def sleep(self) -> None:
        """SKDSLEEP: deaf to the air until the host writes."""
        self._asleep = True

    def reset(self) -> None:
        """SKRESET: as at power-up, without telling anybody."""
        self.state.reset()
        self.session.reset()
        self._sender = Sender(self._pace.neighbor_patience_s)
        self._scan = None
        self._on_air = None
        self._unread.clear()
        self.uart.drop_held()
        self.replayed.clear()

    def lose_power(self) -> None:
        """As after SKRESET, and what was on its way in, out or through is gone."""
        self.reset()
        self._reader = CommandReader(self._dialect)
        self._inputs.clear()
        self._pending = None
        self._asleep = False
        self._radio.clear()
        self.uart.take()

    # Commands, one after another.

    def _proceed(self, now: float) -> None:
        """Whatever can go on: the next packet, the next command."""
        while True:
            begun = self._sender.step(self.state.neighbors, now) if self._scan is None else None
            match begun:
                case Launch() | Report():
                    self._carry_on(begun, now)
                case None if self._pending is None and self._inputs:
                    self._take_input(self._inputs.popleft(), now)
                case None:
                    return

    def _take_input(self, item: Command | EmptyLine | OverlongLine, now: float) -> None:
        if self._asleep:
            # There is no wake-up pin here: the line that comes in its place is lost.
            if not isinstance(item, EmptyLine):
                self._asleep = False
                self._write(Text("EVENT C0"))
            return
        match item:
            case EmptyLine():
                if self.state.registers[Reg.ECHO]:
                    self.uart.write(CRLF)
            case OverlongLine():
                self._write(Fail(FailCode.UART_INPUT))
            case Command():
                self._execute(item, now)

    def _execute(self, command: Command, now: float) -> None:
        has_options = self.options.profile.has_options
        option = command.name in OPTION_COMMANDS and has_options
        echo = b""
        if self.state.registers[Reg.ECHO]:
            echo = command.header + (b"\r" if option else CRLF)
        rule = COMMANDS.get(command.name)
        try:
            if rule is None or (rule.optional and not has_options):
                raise CommandError(FailCode.UNSUPPORTED)
            check_count(rule, command, self.options.profile)
            replies = rule.run(self, command, now)
        except CommandError as refused:
            replies = [Fail(refused.code)]
        if replies is None:
            if self._pending is not None:
                self._pending.echo = echo
            return
        answer = self.uart.encode(*replies)
        self.uart.write(echo + (answer.replace(CRLF, b"\r") if option else answer))

    def _answer(self, *replies: Reply) -> None:
        """The final answer of the pending command."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._write(*replies, echo=pending.echo)

    # Packets.

    def _send_pana(self, message: PanaMessage, now: float) -> None:
        body = UdpDatagram(message.peer, PANA_PORT, PANA_PORT, message.payload)
        item = Outgoing(message.peer, body, pana=message)
        if self.send_time.limited or not self._sender.submit(item):
            self._report(Report(item, SendOutcome.FAILED), now)

    def _carry_on(self, step: Launch | Report | None, now: float) -> None:
        """What the sender wants next, if anything."""
        match step:
            case Launch(item, Need.PACKET):
                mac = None if item.multicast else self.state.neighbors.mac_of(item.address)
                self._on_air = self._transmit(mac, item.body, item.key_id)
                if self._on_air is None:
                    self._carry_on(self._sender.sent(received=False), now)
            case Launch(item, need):
                if need is Need.SOLICITATION:
                    self._report(Report(item, SendOutcome.NEIGHBOR_SOLICITATION), now)
                self._transmit(self.state.neighbors.mac_of(item.address), NeighborSolicitation())
            case Report():
                self._report(step, now)
            case None:
                pass

    def _report(self, report: Report, now: float) -> None:
        item, outcome = report.item, report.outcome
        if isinstance(item.body, EchoRequest):
            waited_for = self._pending is not None and self._pending.ping == item.address
            if waited_for and outcome is SendOutcome.FAILED:
                self._answer(Fail(FailCode.EXECUTION))
            return
        event = self._event_21(item.address, outcome)
        if item.pana is not None:
            self.uart.announce(event)
            if outcome is not SendOutcome.NEIGHBOR_SOLICITATION:
                self._print_notices(self.session.sent(item.pana, now))
        elif self._pending is not None:
            if outcome is SendOutcome.NEIGHBOR_SOLICITATION:
                self._write(event, echo=self._pending.echo)
                self._pending.echo = b""
            else:
                self._answer(event, Ok())

    def _transmit(self, mac: bytes | None, body: Body, key_id: bytes | None = None) -> Frame | None:
        """Hand a frame to the radio; None while the send-time limit holds."""
        if self.send_time.limited:
            return None
        registers = self.state.registers
        pan_id = None if isinstance(body, BeaconRequest | Beacon) else self.pan_id
        frame = Frame(self._channel, pan_id, self.mac, mac, body, key_id)
        if frame.secured:
            registers[Reg.FRAME_COUNTER] += 1
        self._radio.append(frame)
        return frame

    def _decrypts(self, frame: Frame, peer: str) -> bool:
        if frame.key_id is None:
            return True
        return frame.key_id == self.key_for(peer) and frame.key_id not in self.replayed

    def _hear_datagram(
        self, frame: Frame, datagram: UdpDatagram, peer: str, lqi: int, now: float
    ) -> None:
        received = RxUdp(
            source=peer,
            destination=datagram.destination,
            source_port=datagram.source_port,
            destination_port=datagram.destination_port,
            source_mac=frame.source,
            secured=frame.secured,
            data=datagram.payload,
            lqi=lqi,
            side=B_ROUTE_SIDE,
        )
        if datagram.destination_port in self.state.udp_ports:
            self._print_datagram(received, now)
        if datagram.destination_port == PANA_PORT:
            self.session.receive(peer, datagram.payload, now)

    def _print_datagram(self, received: RxUdp, now: float) -> None:
        if not self.session.is_agent or received.destination_port == PANA_PORT:
            self.uart.announce(received)
        elif len(self._unread) < MAX_UNREAD:
            # The processing time of a whole meter, which the one behind this module does not need.
            ready_at = now + self._pace.meter_s(self._rng)
            if self._unread:
                ready_at = max(ready_at, self._unread[-1][0])
            self._unread.append((ready_at, received))

    def _hear_echo(self, peer: str) -> None:
        if self._pending is not None and self._pending.ping == peer:
            side = f"{peer} {B_ROUTE_SIDE}" if self._dialect.has_side else peer
            self._answer(Text(f"EPONG {side}"), Ok())

    # Scans and beacons.

    def _scan_on(self, scan: Scan, now: float) -> None:
        channel = scan.advance(now)
        if channel is not None and scan.mode is ScanMode.ENERGY:
            self._radio.append(EnergyRequest(channel))
        elif channel is not None:
            paired = scan.mode is ScanMode.PAIRING
            request = BeaconRequest(self.state.registers.pairing_id if paired else None)
            self._transmit(None, request)
        else:
            self._finish_scan(scan)
            self._proceed(now)

    def _finish_scan(self, scan: Scan) -> None:
        self._scan = None
        if scan.mode is ScanMode.ENERGY:
            done = Event(EventNumber.ENERGY_SCAN_DONE, self.state.address)
            self._write(done, EnergyReport(tuple(scan.levels)))
        else:
            self._write(Event(EventNumber.ACTIVE_SCAN_DONE, self.state.address))
        self.uart.release()

    def _answer_beacon(self, frame: Frame, pairing_id: str | None) -> None:
        registers = self.state.registers
        mine = registers.pairing_id
        if registers[Reg.ANSWER_BEACONS] and self._scan is None and pairing_id in (None, mine):
            self._transmit(frame.source, Beacon(self.pan_id, pairing_id and mine))

    def _print_beacon(self, frame: Frame, pan_id: int, pairing_id: str | None, lqi: int) -> None:
        if self._scan is None:
            return
        description = PanDescription(
            frame.channel, CHANNEL_PAGE, pan_id, frame.source, lqi, pairing_id, B_ROUTE_SIDE
        )
        self._write(Event(EventNumber.BEACON, self.state.address), description)

    # Printing.

    def _event_21(self, address: str, outcome: SendOutcome) -> Event:
        return Event(EventNumber.SEND_DONE, address, outcome)

    def _print_event(self, number: EventNumber, peer: str | None = None) -> None:
        self.uart.announce(Event(number, peer or self.state.address))

    def _print_notices(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            self._print_event(notice.number, notice.peer)

    def _write(self, *replies: Reply, echo: bytes = b"") -> None:
        """An answer, or a scan's report, in one write."""
        self.uart.write(echo + self.uart.encode(*replies))
