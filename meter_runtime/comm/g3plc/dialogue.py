"""One question after another: the half-duplex conversation under the driver.

A *script* is a generator that yields :class:`Ask` and is sent the modem's answer. The dialogue
hands out what to say, says it again where the modem is silent, and gives up with a reason. What
to ask next is the script's, what a failure means is the driver's.
"""

import enum
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from meter_runtime.comm.g3plc.messages import Message, Status, StatusCode, command_of

T = TypeVar("T")

ANSWER_BOUND_S = 3.0
"""How long a modem may think about a command (*unverified*: sets and gets need milliseconds)."""


class ScriptFailed(Exception):  # noqa: N818 - how a script ends, not a bug
    """The script cannot go on; the message is one line for people."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One command and what answers it."""

    name: str
    message: Message
    answers: Callable[[Message], bool]
    """Whether this is the answer."""
    tolerated: frozenset[int] = frozenset()
    """Codes of a STATUS about this command that count as an answer."""
    bound_s: float = ANSWER_BOUND_S
    attempts: int = 2
    unanswered: bool = False
    """There is no answer: the bound is a pause in which the modem does it."""


Script = Generator[Ask, Message, T]


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
        self._output: list[Message] = []
        self._script: Script[Any] | None = None
        self._ask: Ask | None = None
        self._attempt = 0

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

    def take_output(self) -> list[Message]:
        """What to say now."""
        messages, self._output = self._output, []
        return messages

    def take(self, message: Message, now: float) -> bool:
        """Show it what the modem said; True when it belonged to the conversation."""
        asked = self._ask
        if asked is None:
            return False
        if asked.answers(message):
            self._resume(message, now)
            return True
        if not isinstance(message, Status) or message.command != command_of(asked.message):
            return False
        if message.code in asked.tolerated:
            self._resume(message, now)
        else:
            self._fail(f"the modem refused {asked.name} ({_meaning(message.code)})")
        return True

    def tick(self, now: float) -> None:
        """The deadline may have come."""
        asked = self._ask
        if asked is None or self.deadline is None or now < self.deadline:
            return
        if asked.unanswered:
            self._resume(Status(StatusCode.OK, command_of(asked.message)), now)
        elif self._attempt < asked.attempts:
            self._say(asked, now)
        else:
            self._fail(
                f"the modem does not answer {asked.name}; "
                "check its power, its wiring and the baud rate"
            )

    def _resume(self, answer: Message | None, now: float) -> None:
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
        self._say(asked, now)

    def _say(self, asked: Ask, now: float) -> None:
        self._attempt += 1
        self.retries += self._attempt > 1
        self._output.append(asked.message)
        self.deadline = now + asked.bound_s

    def _fail(self, reason: str) -> None:
        self.abandon()
        self.state = State.FAILED
        self.reason = reason


def _meaning(code: int) -> str:
    match code:
        case StatusCode.NOT_ALLOWED:
            return "not in this state; it may have restarted"
        case StatusCode.UNKNOWN_COMMAND:
            return "unknown command; is it a G3-PLC coordinator?"
        case StatusCode.INVALID_PARAMETER:
            return "a parameter it does not take"
        case _:
            return f"status {code}"
