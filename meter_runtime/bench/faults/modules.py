"""Faults of a radio module and of its serial line, the HEMS's or the meter's.

What passes the line is changed octet by octet; what a module refuses is refused where it reads
its commands; what befalls a whole module befalls the virtual one.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from meter_runtime.bench.air import Fate, Frame
from meter_runtime.bench.faults.fault import Active, End, Fault
from meter_runtime.bench.faults.line import CommandFilter, LineEdit
from meter_runtime.bench.faults.parameters import Choice, Number, Parameter, Seconds, Word, module
from meter_runtime.bench.module.port import Dongle
from meter_runtime.bench.module.registers import Reg
from meter_runtime.bench.module.sending import SEND_LIMIT_S, SendTime
from meter_runtime.bench.module.uart import UartWrite
from meter_runtime.comm.skstack.commands import CRLF, Command
from meter_runtime.comm.skstack.replies import Event, EventNumber, Fail, FailCode, Ok, SendOutcome

if TYPE_CHECKING:
    from meter_runtime.bench.laboratory import Bench

_COMMAND = Word("[A-Za-z0-9]{3,12}", "a command like SKSENDTO, or ANY", upper=True)
_LINE = Word("[A-Z]{2,8}", "the line's first word like ERXUDP or EVENT")
_ANY = "ANY"
_OK = b"OK"
_DATAGRAM = b"ERXUDP "


def _edit_line(
    bench: "Bench", active: Active, change: Callable[[UartWrite], list[UartWrite] | None]
) -> End:
    """Change the module's writes; ``change`` gives None for one it leaves alone."""
    dongle = bench.dongle(active.values["module"])
    edit = LineEdit(active, change)
    dongle.faults.append(edit)
    return lambda: dongle.faults.remove(edit)


def _filter_commands(
    bench: "Bench", active: Active, refusal: Callable[[Dongle, Command], bytes | None]
) -> End:
    """Answer some commands in the module's place; ``refusal`` gives None for one it lets pass."""
    dongle = bench.dongle(active.values["module"])

    def answer(command: Command) -> bytes | None:
        refused = refusal(dongle, command)
        return refused if refused is not None and active.strike() else None

    between = CommandFilter(dongle.module, answer)
    dongle.faults.append(between)

    def end() -> None:
        dongle.faults.remove(between)
        dongle.feed(between.rest())

    return end


def _ok_at(write: UartWrite) -> int:
    """Where the line OK of an answer begins; -1 where there is none."""
    if write.data.startswith(_DATAGRAM):
        return -1
    if write.data.startswith(_OK):
        return 0
    at = write.data.find(CRLF + _OK)
    return at if at < 0 else at + len(CRLF)


def _no_ok(bench: "Bench", active: Active) -> End:
    def change(write: UartWrite) -> list[UartWrite] | None:
        at = _ok_at(write)
        if at < 0:
            return None
        return [UartWrite(write.data[:at], write.after_s)] if at else []

    return _edit_line(bench, active, change)


def _late_ok(bench: "Bench", active: Active) -> End:
    seconds = active.values["seconds"]

    def change(write: UartWrite) -> list[UartWrite] | None:
        at = _ok_at(write)
        if at < 0:
            return None
        late = UartWrite(write.data[at:], seconds)
        return [UartWrite(write.data[:at], write.after_s), late] if at else [late]

    return _edit_line(bench, active, change)


def _fail_er10(bench: "Bench", active: Active) -> End:
    wanted = active.values["command"]

    def refusal(dongle: Dongle, command: Command) -> bytes | None:
        if wanted not in (_ANY, command.name):
            return None
        return dongle.module.uart.encode(Fail(FailCode.EXECUTION))

    return _filter_commands(bench, active, refusal)


def _tx_fail(bench: "Bench", active: Active) -> End:
    def refusal(dongle: Dongle, command: Command) -> bytes | None:
        if command.name != "SKSENDTO" or command.data is None:
            return None
        failed = Event(EventNumber.SEND_DONE, command.arguments[1], SendOutcome.FAILED)
        return dongle.module.uart.encode(failed, Ok())

    return _filter_commands(bench, active, refusal)


def _dribble(bench: "Bench", active: Active) -> End:
    gap_s = active.values["gap"]
    return _edit_line(
        bench, active, lambda write: [UartWrite(write.data, write.after_s, gap_s=gap_s)]
    )


def _truncate_line(bench: "Bench", active: Active) -> End:
    word = active.values["line"].encode() + b" "

    def change(write: UartWrite) -> list[UartWrite] | None:
        at = 0 if write.data.startswith(word) else write.data.find(CRLF + word) + len(CRLF)
        if at and not write.data.startswith(word, at):
            return None
        # A datagram's payload may hold line ends; it is always the last of its write.
        end = len(write.data) if word == _DATAGRAM else write.data.find(CRLF, at) + len(CRLF)
        kept = write.data[: (at + end) // 2] + write.data[end:]
        return [UartWrite(kept, write.after_s)]

    return _edit_line(bench, active, change)


def _garbage(bench: "Bench", active: Active) -> End:
    rng = random.Random(f"garbage {bench.options.seed}")
    octets, glued = active.values["octets"], active.values["glued"] == "1"

    def change(write: UartWrite) -> list[UartWrite]:
        noise = bytes(rng.choice(_NOISE) for _ in range(octets))
        return [UartWrite(noise + (b"" if glued else CRLF), write.after_s), write]

    return _edit_line(bench, active, change)


_NOISE = bytes(octet for octet in range(256) if octet not in CRLF)


def _echo_change(bench: "Bench", active: Active) -> End:
    registers = bench.dongle(active.values["module"]).module.state.registers
    before = registers[Reg.ECHO]
    wanted = active.values["echo"]
    registers[Reg.ECHO] = 1 - before if wanted is None else int(wanted)

    def end() -> None:
        registers[Reg.ECHO] = before

    return end


def _hang(bench: "Bench", active: Active) -> End:
    dongle = bench.dongle(active.values["module"])

    def swallow(_command: Command) -> bytes:
        active.strike()
        return b""

    silence = CommandFilter(dongle.module, swallow)
    mute = LineEdit(active, lambda _: [])
    mac = dongle.module.mac

    def deaf(frame: Frame, receiver: bytes | None, _rng: random.Random) -> Fate:
        return Fate(lost=mac in (frame.source, receiver))

    dongle.faults += [silence, mute]
    bench.air.impairments.append(deaf)

    def end() -> None:
        bench.air.impairments.remove(deaf)
        dongle.faults.remove(silence)
        dongle.faults.remove(mute)

    return end


def _reset(bench: "Bench", active: Active) -> None:
    bench.dongle(active.values["module"]).module.lose_power()


def _unplug(bench: "Bench", active: Active) -> End:
    dongle = bench.dongle(active.values["module"])
    active.spawn(dongle.unplug())
    return lambda: active.spawn(dongle.plug())


def _send_limit(bench: "Bench", active: Active) -> End:
    module = bench.dongle(active.values["module"]).module

    def tell(number: EventNumber) -> None:
        bench.air.settle()
        module.uart.announce(Event(number, module.state.address))
        bench.air.settle()

    if module.send_time.add(SEND_LIMIT_S, bench.clock.monotonic()):
        tell(EventNumber.SEND_LIMIT_REACHED)

    def end() -> None:
        spent = module.send_time
        module.send_time = SendTime()
        module.send_time.total_ms = spent.total_ms
        if spent.limited:
            tell(EventNumber.SEND_LIMIT_RELEASED)

    return end


_LINE_PARAMETER = Parameter("line", _LINE, "ERXUDP", "which line")

FAULTS = (
    Fault(
        "no-ok",
        "module",
        "The module carries a command out, and its OK is lost on the line.",
        _no_ok,
        (module(),),
        counts="answers",
    ),
    Fault(
        "late-ok",
        "module",
        "The module is busy: its OK, and all that follows, comes late.",
        _late_ok,
        (module(), Parameter("seconds", Seconds(0.001, 600), "3s", "how late, in real time")),
        counts="answers",
    ),
    Fault(
        "fail-er10",
        "module",
        "The module understands a command and cannot carry it out.",
        _fail_er10,
        (module(), Parameter("command", _COMMAND, _ANY, "which command")),
        counts="commands",
    ),
    Fault(
        "dribble",
        "module",
        "A slow bridge hands the module's lines on octet by octet.",
        _dribble,
        (module(), Parameter("gap", Seconds(0.0001, 1), "1ms", "between two octets")),
        counts="writes",
    ),
    Fault(
        "truncate-line",
        "module",
        "An overrun swallows the second half of a line, its end included.",
        _truncate_line,
        (module(), _LINE_PARAMETER),
        counts="lines",
    ),
    Fault(
        "garbage",
        "module",
        "Octets that nobody sent stand before the module's lines.",
        _garbage,
        (
            module(),
            Parameter("octets", Number(1, 512, whole=True), 16, "how many"),
            Parameter("glued", Choice(("0", "1")), "0", "1: the next line is spoilt as well"),
        ),
        counts="writes",
    ),
    Fault(
        "echo-change",
        "module",
        "The module echoes commands where it did not, or no longer does.",
        _echo_change,
        (module(), Parameter("echo", Choice(("0", "1")), None, "the new state (the other one)")),
    ),
    Fault(
        "hang",
        "module",
        "The firmware hangs: nothing is taken, nothing said, by wire or by air.",
        _hang,
        (module(),),
    ),
    Fault(
        "reset",
        "module",
        "A brown-out: the module restarts by itself and forgets session and settings.",
        _reset,
        (module(),),
        momentary=True,
    ),
    Fault(
        "unplug",
        "module",
        "The dongle is pulled out: its device is gone; clear plugs it in at the same link.",
        _unplug,
        (module(),),
    ),
    Fault(
        "tx-fail",
        "module",
        "What the host sends is not acknowledged by the other side: EVENT 21 with 01.",
        _tx_fail,
        (module(),),
        counts="datagrams",
    ),
    Fault(
        "send-limit",
        "module",
        "The legal send time of the hour is used up: EVENT 32, and nothing is sent until 33.",
        _send_limit,
        (module(),),
    ),
)
