"""What stands in a serial line while it is faulty: an edit of writes, a filter of commands."""

from collections.abc import Callable

from meter_runtime.bench.faults.fault import Active
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.registers import Reg
from meter_runtime.bench.module.uart import UartWrite
from meter_runtime.comm.skstack.commands import (
    CRLF,
    MAX_COMMAND_LINE,
    OPTION_COMMANDS,
    Command,
    CommandReader,
    EmptyLine,
    OverlongLine,
)

_OVERLONG = b"?" * (MAX_COMMAND_LINE + 1) + CRLF


class LineEdit:
    """Changes what a module writes; the other direction passes."""

    def __init__(
        self, active: Active, change: Callable[[UartWrite], list[UartWrite] | None]
    ) -> None:
        self._active = active
        self._change = change

    def to_module(self, data: bytes) -> bytes:
        return data

    def from_module(self, write: UartWrite) -> list[UartWrite]:
        changed = self._change(write)
        if changed is None or not self._active.strike():
            return [write]
        return changed


class CommandFilter:
    """Reads what the host writes and answers some commands in the module's place.

    ``answer`` gives the octets of an answer, or None where the module shall have the command. An
    echoing module echoes all the same.
    """

    def __init__(self, module: VirtualModule, answer: Callable[[Command], bytes | None]) -> None:
        self._module = module
        self._answer = answer
        self._reader = CommandReader(module.options.profile.dialect)
        self._unread = bytearray()

    def to_module(self, data: bytes) -> bytes:
        passed = bytearray()
        for octet in data:
            self._unread.append(octet)
            for item in self._reader.feed(bytes((octet,))):
                passed += self._decided(item)
                self._unread.clear()
            # A line that is too long is dropped by the reader; it must not grow here either.
            del self._unread[: -2 * MAX_COMMAND_LINE - _MOST_DATA]
        return bytes(passed)

    def from_module(self, write: UartWrite) -> list[UartWrite]:
        return [write]

    def rest(self) -> bytes:
        """The beginning of a command whose end has not come; it is the module's now."""
        return bytes(self._unread.lstrip(b"\n"))

    def _decided(self, item: Command | EmptyLine | OverlongLine) -> bytes:
        match item:
            case EmptyLine():
                return CRLF
            case OverlongLine():
                return _OVERLONG
            case Command():
                answer = self._answer(item)
                if answer is None:
                    return _written(item)
                if answer:
                    echo = item.header + CRLF if self._module.state.registers[Reg.ECHO] else b""
                    self._module.uart.write(echo + answer)
                return b""


_MOST_DATA = 1232


def _written(command: Command) -> bytes:
    """The command as the host wrote it."""
    if command.data is not None:
        return command.header + command.data
    return command.header + (b"\r" if command.name in OPTION_COMMANDS else CRLF)
