"""A module for the driver to talk to: obedient, small, and made to misbehave on demand."""

from collections.abc import Callable
from dataclasses import dataclass, field

from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.comm.skstack.addresses import link_local
from meter_runtime.comm.skstack.commands import Command, CommandReader, EmptyLine
from meter_runtime.comm.skstack.dialects import Dialect
from meter_runtime.comm.skstack.driver import DriverEvent, MeterDriver
from meter_runtime.comm.skstack.replies import (
    EnergyReport,
    Event,
    Fail,
    Info,
    Ok,
    PanDescription,
    RegisterValue,
    Reply,
    RxUdp,
    Text,
    encode_reply,
)
from meter_runtime.secret import Secret

MAC = bytes.fromhex("001D129012345678")
OWN = link_local(MAC)
HOME = link_local(bytes.fromhex("C0F945004058B5FB"))
OTHER_HOME = link_local(bytes.fromhex("C0F945004058B5FC"))
PASSWORD = "0123456789AB"
CREDENTIALS = LinkCredentials("00112233445566778899AABBCCDDEEFF", Secret(PASSWORD))


@dataclass
class ScriptedModule:
    """Answers each command as the reference says; ``heard`` keeps the command lines."""

    dialect: Dialect
    hex_data: bool = True
    echo: bool = True
    has_options: bool = True
    scan_arguments: int | None = None
    neighbours: tuple[int, ...] = ()
    """PAN IDs in use around it."""
    loud: tuple[int, ...] = ()
    """Channels with energy on them."""
    silent: bool = False
    deaf_to: set[str] = field(default_factory=set)
    """Commands that get no answer."""
    refuses: dict[str, int] = field(default_factory=dict)
    """Commands that get FAIL, with the code."""
    refuse_times: int = 1_000
    stuck: set[str] = field(default_factory=set)
    """Registers that do not change, though the module says OK."""
    send_outcomes: list[tuple[int, ...]] = field(default_factory=list)
    """The parameters of EVENT 21 of the next sends; afterwards (0,)."""
    before_ok: bytes = b""
    """Noise put before every answer."""
    registers: dict[str, str] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    secured: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = CommandReader(self.dialect)
        self._out = bytearray()
        self._restore()

    def _restore(self) -> None:
        self.registers.update({"S2": "21", "S3": "FFFF", "S15": "0", "SFB": "0", "SA2": "0"})

    def receive(self, data: bytes) -> bytes:
        for command in self._reader.feed(data):
            if self.silent:
                continue
            if isinstance(command, Command):
                self._obey(command)
            elif isinstance(command, EmptyLine) and self.echo:
                self._out += b"\r\n"
        answer = bytes(self._out)
        self._out.clear()
        return answer

    def spontaneous_restart(self, *, banner: bool) -> bytes:
        self._restore()
        self.echo = True
        return self.encode(Text("EVER 1.2.10")) if banner else b""

    def encode(self, *replies: Reply) -> bytes:
        return b"".join(
            encode_reply(
                reply, self.dialect, hex_data=self.hex_data, rssi=self.registers["SA2"] == "1"
            )
            for reply in replies
        )

    def event(self, number: int, source: str = HOME, parameter: int | None = None) -> bytes:
        return self.encode(Event(number, source, parameter))

    def datagram(
        self,
        payload: bytes,
        *,
        source: str = HOME,
        destination: str = OWN,
        port: int = 0x0E1A,
        secured: bool = True,
    ) -> bytes:
        mac = bytes.fromhex("C0F945004058B5FB")
        return self.encode(RxUdp(source, destination, port, port, mac, secured, payload, lqi=0xDD))

    def _say(self, *replies: Reply) -> None:
        self._out += self.encode(*replies)

    def _obey(self, command: Command) -> None:
        name, arguments = command.name, command.arguments
        self.heard.append(" ".join((name, *arguments)))
        if name in self.deaf_to:
            return
        if self.echo:
            end = b"\r" if name == "ROPT" else b"\r\n"
            self._out += command.header + end
        self._out += self.before_ok
        refusal = self._refusal(name, len(arguments))
        if refusal is not None:
            self._say(Fail(refusal))
            return
        match name, arguments:
            case "SKINFO", ():
                channel, pan = (int(self.registers[key], 16) for key in ("S2", "S3"))
                self._say(Info(OWN, MAC, channel, pan, self.dialect.info_tail), Ok())
            case "ROPT", ():
                self._out += b"OK 01\r" if self.hex_data else b"OK 00\r"
            case "SKRESET", ():
                self._restore()
                self._say(Ok())
                self.echo = True
            case "SKVER", ():
                self._say(Text("EVER 1.2.10"), Ok())
            case "SKAPPVER", ():
                self._say(Text("EAPPVER rev26e"), Ok())
            case "SKSREG", (register,):
                self._say(RegisterValue(self.registers.get(register, "0")), Ok())
            case "SKSREG", (register, value):
                if register not in self.stuck:
                    self.registers[register] = value
                if register == "SFE":
                    self.echo = value != "0"
                self._say(Ok())
            case "SKSTART", ():
                self.registers["S15"] = "1"
                self._say(Ok())
            case "SKSCAN", ("0", *_):
                levels = tuple((n, 0x90 if n in self.loud else 0x10) for n in range(0x21, 0x3D))
                self._say(Ok(), Event(0x1F, OWN), EnergyReport(levels))
            case "SKSCAN", _:
                self._say(Ok())
                for pan in self.neighbours:
                    self._say(Event(0x20, OWN), PanDescription(0x21, 9, pan, MAC, 0x80))
                self._say(Event(0x22, OWN))
            case "SKTERM", ():
                self._say(Ok(), Event(0x27, HOME))
            case "SKSENDTO", _:
                self._send(command)
            case _:
                self._say(Ok())

    def _refusal(self, name: str, count: int) -> int | None:
        if name in self.refuses and self.refuse_times > 0:
            self.refuse_times -= 1
            return self.refuses[name]
        if name in ("ROPT", "SKAPPVER") and not self.has_options:
            return 4
        wanted = self.scan_arguments or self.dialect.scan_arguments
        return 5 if name == "SKSCAN" and count != wanted else None

    def _send(self, command: Command) -> None:
        destination = command.arguments[1]
        self.sent.append((destination, command.data or b""))
        self.secured.append(command.arguments[3])
        outcomes = self.send_outcomes.pop(0) if self.send_outcomes else (0,)
        first, *rest = outcomes or (None,)
        if first is not None:
            self._say(Event(0x21, destination, first))
        self._say(Ok())
        for outcome in rest:
            self._say(Event(0x02, destination), Event(0x21, destination, outcome))


@dataclass
class Line:
    """Driver and module on one wire, with a clock that moves only when nobody has anything to say.

    ``cut`` is how the module's octets reach the driver: whole, or one at a time; ``delay_s`` how
    late.
    """

    driver: MeterDriver
    module: ScriptedModule
    cut: int | None = None
    delay_s: float = 0.0
    now: float = 100.0
    events: list[DriverEvent] = field(default_factory=list)
    written: bytearray = field(default_factory=bytearray)
    on_write: Callable[[bytes], None] | None = None

    def open(self) -> None:
        self.driver.port_opened(self.now)
        self.settle()

    def start(self) -> None:
        self.driver.start(CREDENTIALS, self.now)
        self.open()

    def hear(self, data: bytes) -> None:
        step = self.cut or max(1, len(data))
        for at in range(0, len(data), step):
            self.driver.receive(data[at : at + step], self.now)
            self.events += self.driver.take_events()
        self.settle()

    def settle(self) -> None:
        while output := self.driver.take_output():
            self.written += output
            self.now += self.delay_s
            if self.on_write is not None:
                self.on_write(output)
            answer = self.module.receive(output)
            step = self.cut or max(1, len(answer))
            for at in range(0, len(answer), step):
                self.driver.receive(answer[at : at + step], self.now)
        self.events += self.driver.take_events()

    def wait(self, seconds: float) -> None:
        """Let time pass, calling the driver at each of its deadlines."""
        end = self.now + seconds
        for _ in range(100_000):
            due = self.driver.next_deadline()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.driver.tick(self.now)
            self.settle()
        else:
            raise AssertionError("the driver spins")
        self.now = end

    def send(self, payload: bytes, peer: str) -> int:
        send_id = self.driver.send(payload, peer, self.now)
        self.settle()
        return send_id

    def told(self) -> list[DriverEvent]:
        events, self.events = self.events, []
        return events
