"""One command after another: the half-duplex conversation under the driver.

A *script* is a generator that yields :class:`Ask` and is sent the :class:`Answer`. The dialogue
writes the command, gathers what belongs to it, repeats it once when the module is silent or
refuses, and gives up with a reason. It owns no policy: what to ask next is the script's, what a
failure means is the driver's. Echo is told from answers by comparison, so it may be on or off.
"""

import enum
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from meter_runtime.comm.skstack.commands import CRLF, MAX_SEND, encode_command
from meter_runtime.comm.skstack.replies import (
    EnergyReport,
    Event,
    Fail,
    FailCode,
    Info,
    Ok,
    PanDescription,
    RegisterValue,
    Reply,
    RxUdp,
    Text,
)

T = TypeVar("T")

ANSWER_BOUND_S = 5.0
"""How long a module may think about a command; the slowest seen need well below a second."""
MAX_REPLIES = 64
"""Data lines kept for one answer: more beacons than a B-route scan ever meets."""
FLUSH = CRLF * (MAX_SEND // 2)
"""Line ends enough to complete a datagram the module still waits for; else empty commands."""


class ScriptFailed(Exception):  # noqa: N818 - how a script ends, not a bug
    """The script cannot go on; the message is one line for people."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One command and what completes its answer."""

    name: str
    line: bytes = field(repr=False)
    """What is written; kept out of ``repr`` because it may hold a credential."""
    echo: str = field(repr=False)
    """What an echoing module writes back."""
    wants: type[Reply] | None = None
    """The data reply to gather."""
    required: bool = False
    """An answer without that data is not one: it belongs to an earlier, lost command."""
    until: Callable[[Event], bool] | None = None
    """The event that ends it, before or after ``OK``."""
    tolerated: frozenset[int] = frozenset()
    """FAIL codes that count as an answer."""
    silence_tolerated: bool = False
    bound_s: float = ANSWER_BOUND_S
    attempts: int = 2


@dataclass(slots=True)
class Answer:
    """What came back for one :class:`Ask`."""

    value: str = ""
    """What stood behind ``OK``."""
    accepted: bool = False
    """``OK`` came."""
    refusal: int | None = None
    """The tolerated FAIL code, if that was the answer."""
    event: Event | None = None
    replies: list[Any] = field(default_factory=list)

    def first(self, kind: type[T]) -> T:
        """The first data reply of this kind."""
        for reply in self.replies:
            if isinstance(reply, kind):
                return reply
        raise ScriptFailed(f"the module answered without {kind.__name__}; is it a Wi-SUN module?")


Script = Generator[Ask, Answer, T]


def ask(
    name: str,
    *arguments: str,
    wants: type[Reply] | None = None,
    required: bool = False,
    until: Callable[[Event], bool] | None = None,
    tolerated: frozenset[int] = frozenset(),
    silence_tolerated: bool = False,
    bound_s: float = ANSWER_BOUND_S,
    attempts: int = 2,
) -> Ask:
    """An :class:`Ask` of an ordinary command line."""
    return Ask(
        name,
        encode_command(name, *arguments),
        " ".join((name, *arguments)),
        wants,
        required,
        until,
        tolerated,
        silence_tolerated,
        bound_s,
        attempts,
    )


class State(enum.Enum):
    """Where the dialogue stands."""

    IDLE = enum.auto()
    ASKING = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


class Dialogue:
    """Runs one script at a time; ``state``, ``result`` and ``reason`` tell how it ended."""

    def __init__(self) -> None:
        self.state = State.IDLE
        self.result: Any = None
        self.reason = ""
        self.deadline: float | None = None
        self.retries = 0
        self._output = bytearray()
        self._script: Script[Any] | None = None
        self._ask: Ask | None = None
        self._answer = Answer()
        self._attempt = 0

    @property
    def asking(self) -> str | None:
        """The command whose answer is awaited."""
        return None if self._ask is None else self._ask.name

    def begin(self, script: Script[Any], now: float) -> None:
        """Abandon what is running, and run this."""
        self.abandon()
        self._script = script
        self._resume(None, now)

    def abandon(self) -> None:
        """Stop where it is; answers still under way will find nobody."""
        if self._script is not None:
            self._script.close()
        self._script = self._ask = self.deadline = None
        self.state = State.IDLE
        self._output.clear()

    def take_output(self) -> bytes:
        """What to write now."""
        data = bytes(self._output)
        self._output.clear()
        return data

    def take(self, reply: Reply, now: float) -> bool:
        """Show it a reply; True when it belonged to the conversation."""
        asked = self._ask
        if asked is None:
            return False
        match reply:
            case Ok(value):
                if asked.required and asked.until is None and not self._answer.replies:
                    return True
                self._answer.accepted = True
                self._answer.value = value
            case Fail(code):
                self._refused(asked, code, now)
                return True
            case Event():
                if asked.until is None or not asked.until(reply):
                    return False
                self._answer.event = reply
            case Text(line) if line.strip() == asked.echo:
                return True
            case Info() | RegisterValue() | PanDescription() | EnergyReport() | Text():
                if asked.wants is None or not isinstance(reply, asked.wants):
                    return False
                if len(self._answer.replies) < MAX_REPLIES:
                    self._answer.replies.append(reply)
            case RxUdp():
                return False
        self._complete(asked, now)
        return True

    def tick(self, now: float) -> None:
        """The deadline may have come."""
        asked = self._ask
        if asked is None or self.deadline is None or now < self.deadline:
            return
        if asked.silence_tolerated and self._attempt >= asked.attempts:
            self._resume(self._answer, now)
        elif self._attempt < asked.attempts:
            self._write(asked, now, prefix=FLUSH)
        else:
            self._fail(
                f"the module does not answer {asked.name}; "
                "check its power, its wiring and the baud rate"
            )

    def _complete(self, asked: Ask, now: float) -> None:
        answer = self._answer
        if not answer.accepted:
            return
        if asked.until is not None and answer.event is None:
            return
        if asked.required and not answer.replies:
            return
        self._resume(answer, now)

    def _refused(self, asked: Ask, code: int, now: float) -> None:
        if code in asked.tolerated:
            self._answer.refusal = code
            self._resume(self._answer, now)
        elif self._attempt < asked.attempts:
            self._write(asked, now, prefix=CRLF)
        else:
            self._fail(f"the module refused {asked.name} (ER{code:02d}: {_meaning(code)})")

    def _resume(self, answer: Answer | None, now: float) -> None:
        script = self._script
        if script is None:
            return
        self._ask = self.deadline = None
        try:
            asked = next(script) if answer is None else script.send(answer)
        except StopIteration as end:
            self._script = None
            self.result = end.value
            self.state = State.DONE
            return
        except ScriptFailed as failure:
            self._fail(str(failure))
            return
        self._ask = asked
        self._attempt = 0
        self.state = State.ASKING
        self._write(asked, now)

    def _write(self, asked: Ask, now: float, prefix: bytes = b"") -> None:
        self._attempt += 1
        self.retries += self._attempt > 1
        self._answer = Answer()
        self._output += prefix + asked.line
        self.deadline = now + asked.bound_s

    def _fail(self, reason: str) -> None:
        self.abandon()
        self.state = State.FAILED
        self.reason = reason


def _meaning(code: int) -> str:
    match code:
        case FailCode.UNSUPPORTED:
            return "unsupported command; is this the right kind of module?"
        case FailCode.ARGUMENT_COUNT:
            return "wrong number of arguments; is the dialect right?"
        case FailCode.ARGUMENT_FORMAT:
            return "an argument it does not take"
        case FailCode.UART_INPUT:
            return "UART input error; check the wiring and the baud rate"
        case _:
            return "accepted and failed"
