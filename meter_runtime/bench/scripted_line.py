"""The serial line of :mod:`~meter_runtime.bench.scripted_hems`: a module asked and listened to.

Blocking, bounded by the patience it is given. It takes a module of either dialect and in any state
at power-up, tells them apart by asking, and leaves nothing open.
"""

import contextlib
import os
import select
import time
import tty
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from meter_runtime.broute.echonet.frame import Frame, MalformedFrame, parse
from meter_runtime.comm.contracts import ECHONET_LITE_PORT
from meter_runtime.comm.skstack.addresses import link_local
from meter_runtime.comm.skstack.commands import encode_command, encode_send
from meter_runtime.comm.skstack.dialects import DSE, SE, Dialect
from meter_runtime.comm.skstack.replies import (
    Event,
    EventNumber,
    Fail,
    Info,
    Ok,
    PanDescription,
    Reply,
    ReplyReader,
    RxUdp,
    SendOutcome,
)

CHUNK = 4096
SCAN_PATIENCE_S = 30.0
"""A pass over all channels at duration 6 takes 17.5 s on the real air."""
JOIN_PATIENCE_S = 60.0
LEAVE_PATIENCE_S = 2.0
NEWS_KEPT = 200
_OF_A_SESSION = (
    EventNumber.SESSION_CLOSED_BY_PEER,
    EventNumber.SESSION_EXPIRED,
    EventNumber.SEND_LIMIT_REACHED,
    EventNumber.SEND_LIMIT_RELEASED,
)


class LineLost(Exception):  # noqa: N818 - a state of things, not a defect
    """The serial device went away."""


class NoAnswer(Exception):  # noqa: N818 - a state of things, not a defect
    """The module did not answer, or refused, the command that the message names."""


class Line:
    """One opening of the device; a context manager."""

    def __init__(self, device: str, patience_s: float) -> None:
        self.tid = 0
        self._patience_s = patience_s
        self._dialect: Dialect = SE
        self._reader = self._new_reader()
        self._replies: deque[Reply] = deque()
        self._news: deque[Frame | EventNumber] = deque(maxlen=NEWS_KEPT)
        self._meter = ""
        try:
            self._fd = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            tty.setraw(self._fd)
        except OSError:
            raise LineLost from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def prepare(self, route_b_id: str, password: str) -> None:
        """From power-up to the credentials."""
        self._write(b"\r\n")  # whatever the program before us left unfinished
        info = self._ask("SKINFO", until=lambda reply: isinstance(reply, Info))
        if isinstance(info, Info) and info.tail != SE.info_tail:
            self._dialect = DSE
            self._reader = self._new_reader()
        self._command("SKRESET")
        self._command("SKSETPWD", f"{len(password):X}", password)
        self._command("SKSETRBID", route_b_id)

    def find_meter(self) -> bool:
        """Scan once; where the meter of our ID answers, tune to it."""
        side = ("0",) if self._dialect.has_side else ()
        self._command("SKSCAN", "2", "FFFFFFFF", "6", *side)
        found: list[PanDescription] = []

        def done(reply: Reply) -> bool:
            if isinstance(reply, PanDescription):
                found.append(reply)
            return isinstance(reply, Event) and reply.number == EventNumber.ACTIVE_SCAN_DONE

        self._until(done, SCAN_PATIENCE_S, "SKSCAN")
        if not found:
            return False
        self._command("SKSREG", "S2", f"{found[0].channel:X}")
        self._command("SKSREG", "S3", f"{found[0].pan_id:X}")
        self._meter = link_local(found[0].mac)
        return True

    def join(self) -> bool:
        """Authenticate; False where the meter refuses or does not answer."""
        self._command("SKJOIN", self._meter)
        self._news.clear()
        ends = (EventNumber.PANA_DONE, EventNumber.PANA_FAILED)
        event = self._until(
            lambda reply: isinstance(reply, Event) and reply.number in ends,
            JOIN_PATIENCE_S,
            "SKJOIN",
        )
        return isinstance(event, Event) and event.number == EventNumber.PANA_DONE

    def leave(self) -> None:
        """End the session; it does not matter whether the meter hears."""
        self._write(encode_command("SKTERM"))
        ends = (EventNumber.TERMINATED, EventNumber.TERMINATE_TIMED_OUT)
        with contextlib.suppress(NoAnswer):
            self._until(
                lambda reply: (
                    isinstance(reply, Fail) or (isinstance(reply, Event) and reply.number in ends)
                ),
                LEAVE_PATIENCE_S,
                "SKTERM",
            )

    def send(self, payload: bytes) -> bool:
        """A datagram to the meter; False where the module could not send it."""
        self._write(encode_send(self._dialect, self._meter, payload, port=ECHONET_LITE_PORT))
        sent = False

        def done(reply: Reply) -> bool:
            nonlocal sent
            if isinstance(reply, Event) and reply.number == EventNumber.SEND_DONE:
                sent = reply.parameter == SendOutcome.DONE
            return isinstance(reply, Ok | Fail)

        try:
            self._until(done, self._patience_s, "SKSENDTO")
        except NoAnswer:
            return False
        return sent

    def post(self, payload: bytes) -> None:
        """A datagram to the meter, without waiting for what becomes of it."""
        data = encode_send(self._dialect, self._meter, payload, port=ECHONET_LITE_PORT)
        while data:
            if not select.select([], [self._fd], [], self._patience_s)[1]:
                raise NoAnswer("the module takes nothing")
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                continue
            except OSError:
                raise LineLost from None

    def news(self, seconds: float) -> Frame | EventNumber | None:
        """The next frame or event that concerns the session; None when the time is over."""
        end = time.monotonic() + seconds
        while not self._news:
            if self._next_reply(end) is None:
                return None
        return self._news.popleft()

    def _new_reader(self) -> ReplyReader:
        reader = ReplyReader(self._dialect)
        reader.hex_data = None  # each datagram shows by itself whether it is raw or hex
        return reader

    def _command(self, name: str, *arguments: str) -> None:
        """A command and its OK; NoAnswer where it fails."""
        self._ask(name, *arguments, until=lambda _: False)

    def _ask(self, name: str, *arguments: str, until: Callable[[Reply], bool]) -> Reply:
        """Write a command; the reply that was wanted, once the command is done."""
        self._write(encode_command(name, *arguments))
        wanted: list[Reply] = []

        def done(reply: Reply) -> bool:
            if until(reply):
                wanted.append(reply)
            return isinstance(reply, Ok | Fail)

        last = self._until(done, self._patience_s, name)
        if isinstance(last, Fail):
            raise NoAnswer(f"{name} failed with ER{last.code:02d}")
        return wanted[0] if wanted else last

    def _until(self, done: Callable[[Reply], bool], seconds: float, name: str) -> Reply:
        end = time.monotonic() + seconds
        while (reply := self._next_reply(end)) is not None:
            if done(reply):
                return reply
        raise NoAnswer(f"no answer to {name}")

    def _next_reply(self, end: float) -> Reply | None:
        """The module's next word; what concerns the session is kept for :meth:`news`, too."""
        while not self._replies:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._fd], [], [], left)[0]:
                return None
            try:
                data = os.read(self._fd, CHUNK)
            except BlockingIOError:
                continue
            except OSError:
                raise LineLost from None
            if not data:
                raise LineLost
            self._replies.extend(self._reader.feed(data))
        reply = self._replies.popleft()
        match reply:
            case RxUdp(destination_port=port, data=data) if port == ECHONET_LITE_PORT:
                with contextlib.suppress(MalformedFrame):
                    self._news.append(parse(data))
            case Event(number=number) if number in _OF_A_SESSION:
                self._news.append(EventNumber(number))
            case _:
                pass
        return reply

    def _write(self, data: bytes) -> None:
        try:
            if os.write(self._fd, data) != len(data):
                raise LineLost
        except OSError:
            raise LineLost from None
