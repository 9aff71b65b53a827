"""A small HEMS that does as it is told: ``python -m meter_runtime.bench.scripted_hems``.

It joins as any HEMS does, reads what it is asked to, and says in short lines what came of it. It
behaves as a good one should: what is not answered is asked again, a session that ended is made
anew, a device that went away is waited for, and a password that is refused is not tried for ever.
The password comes from the environment variable ROUTE_B_PASSWORD.

Exit status: 0 it did what it was asked, 3 it was refused, 4 it found no meter.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from meter_runtime.bench.scripted_line import Line, LineLost, NoAnswer
from meter_runtime.broute.echonet.frame import Esv, Frame, Property, encode
from meter_runtime.comm.skstack.replies import EventNumber

PASSWORD_VARIABLE = "ROUTE_B_PASSWORD"  # noqa: S105 - a name, not a password
METER = bytes.fromhex("028801")
CONTROLLER = bytes.fromhex("05FF01")
REFUSED, NOT_FOUND = 3, 4
RETRY_S = 0.5
DEVICE_LOOK_S = 0.1
DATE, DAY, HISTORY = 0x98, 0xE5, 0xE2
NO_DATA = 0xFFFF_FFFE


class SessionLost(Exception):  # noqa: N818 - a state of things, not a defect
    """There is no session any more, or the meter is silent as if there were none."""


class Hems:
    """One life of the program."""

    def __init__(self, args: argparse.Namespace, password: str) -> None:
        self._args = args
        self._password = password
        self._codes = [int(code, 16) for code in args.read.split(",") if code]
        self._left = args.reads
        self._refused = 0
        self._history_due = args.day is not None

    def live(self) -> int:
        """Until everything asked for is done; the exit status."""
        while True:
            try:
                with Line(self._args.tty, self._args.patience) as line:
                    status = self._use(line)
                if status is not None:
                    return status
            except LineLost:
                say("device gone")
                _wait_for(Path(self._args.tty))
            except NoAnswer as silence:
                say(f"module silent: {silence}")
                time.sleep(RETRY_S)

    def _use(self, line: Line) -> int | None:
        """A module's life: None when it should be begun anew."""
        line.prepare(self._args.route_b_id, self._password)
        while True:
            if not self._find(line):
                say("no meter found")
                return NOT_FOUND
            if not line.join():
                say("refused")
                self._refused += 1
                if self._refused >= self._args.joins:
                    say("gave up: check the password")
                    return REFUSED
                time.sleep(RETRY_S)
                continue
            self._refused = 0
            say("joined")
            try:
                self._read_on(line)
            except SessionLost as why:
                say(f"session lost: {why}")
                continue
            line.leave()
            say("left")
            return 0

    def _find(self, line: Line) -> bool:
        for attempt in range(self._args.scans):
            if attempt:
                time.sleep(RETRY_S)
            if line.find_meter():
                return True
        return False

    def _read_on(self, line: Line) -> None:
        """Read until enough has been read."""
        while self._left != 0:
            if self._history_due:
                self._read_history(line)
                self._history_due = False
            for code, data in self._ask(line, Esv.GET, [Property(c, b"") for c in self._codes]):
                say(f"read {code:02X}={data.hex().upper() or 'refused'}")
            self._left -= 1
            self._listen(line, self._args.every)

    def _read_history(self, line: Line) -> None:
        """A day's history; over midnight "a day ago" is another day, so it is asked again."""
        while True:
            before = self._get(line, DATE)
            self._ask(line, Esv.SET_C, [Property(DAY, bytes((self._args.day,)))])
            rows = self._get(line, HISTORY)
            if self._get(line, DATE) == before:
                break
            say("history: the day changed meanwhile, asked again")
        values = [int.from_bytes(rows[at : at + 4], "big") for at in range(2, len(rows), 4)]
        known = [value for value in values if value != NO_DATA]
        first = f", first {known[0]}" if known else ""
        say(f"history of day {self._args.day}: {len(known)} of {len(values)} known{first}")

    def _get(self, line: Line, code: int) -> bytes:
        [(_, data)] = self._ask(line, Esv.GET, [Property(code, b"")])
        return data

    def _ask(self, line: Line, service: Esv, wanted: list[Property]) -> list[tuple[int, bytes]]:
        """One request and the data of its answer; asked again where none comes."""
        for _ in range(self._args.tries):
            line.tid = (line.tid + 1) & 0xFFFF
            request = Frame(line.tid, CONTROLLER, METER, service, tuple(wanted))
            answer = self._answered(line, encode(request))
            if answer is not None:
                if 0x50 <= answer.esv < 0x60:
                    say(f"meter refuses some of {' '.join(f'{p.epc:02X}' for p in wanted)}")
                return [(item.epc, item.edt) for item in answer.properties]
            say("no answer")
        raise SessionLost(f"{self._args.tries} requests without an answer")

    def _answered(self, line: Line, request: bytes) -> Frame | None:
        if not line.send(request):
            say("not sent")
            self._listen(line, RETRY_S)
            return None
        end = time.monotonic() + self._args.patience
        while (left := end - time.monotonic()) > 0:
            frame = self._next(line, left)
            if frame is not None and frame.tid == line.tid and frame.esv < 0x73:
                return frame
        return None

    def _listen(self, line: Line, seconds: float) -> None:
        """Take in what comes unasked for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._next(line, left)

    def _next(self, line: Line, seconds: float) -> Frame | None:
        """The next frame of the meter; announcements are told, an end of the session raises."""
        match line.news(seconds):
            case Frame(esv=Esv.INF | Esv.INFC) as frame:
                codes = " ".join(f"{item.epc:02X}={item.edt.hex()}" for item in frame.properties)
                say(f"announced {codes.upper()}")
                if frame.esv == Esv.INFC:
                    self._confirm(line, frame)
            case Frame() as frame:
                return frame
            case EventNumber.SESSION_EXPIRED:
                raise SessionLost("it expired")
            case EventNumber.SESSION_CLOSED_BY_PEER:
                raise SessionLost("the meter ended it")
            case EventNumber.SEND_LIMIT_REACHED:
                say("send limit reached")
            case EventNumber.SEND_LIMIT_RELEASED:
                say("send limit over")
            case _:
                pass
        return None

    def _confirm(self, line: Line, frame: Frame) -> None:
        codes = tuple(Property(item.epc, b"") for item in frame.properties)
        line.send(encode(Frame(frame.tid, CONTROLLER, METER, Esv.INFC_RES, codes)))


def say(text: str) -> None:
    """One line for whoever watches."""
    print(text, flush=True)  # noqa: T201 - its output is its purpose


def _wait_for(device: Path) -> None:
    while not device.exists():
        time.sleep(DEVICE_LOOK_S)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for, on the command line or by ``given``."""
    parser = argparse.ArgumentParser(
        prog="python -m meter_runtime.bench.scripted_hems",
        description="Join a meter, read it, say what came of it.",
        epilog=f"example:\n  {PASSWORD_VARIABLE}=0123456789AB python -m"
        " meter_runtime.bench.scripted_hems /tmp/wisun 00112233445566778899AABBCCDDEEFF"
        " --read E7,E0 --reads 3",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tty", help="the module's serial device")
    parser.add_argument("route_b_id", help="32 hex digits")
    parser.add_argument("--read", default="E7", metavar="CODES", help="properties, E7,E0 (E7)")
    parser.add_argument("--reads", type=int, default=-1, metavar="N", help="then leave (never)")
    parser.add_argument("--every", type=float, default=0.5, metavar="S", help="seconds (0.5)")
    parser.add_argument("--day", type=int, metavar="N", help="read this day's history first")
    parser.add_argument("--patience", type=float, default=1.5, metavar="S", help="seconds (1.5)")
    parser.add_argument("--tries", type=int, default=3, metavar="N", help="of a request (3)")
    parser.add_argument("--joins", type=int, default=3, metavar="N", help="refused, it ends (3)")
    parser.add_argument("--scans", type=int, default=3, metavar="N", help="in vain, it ends (3)")
    return parser.parse_args(given)


def main() -> int:
    """Run it; see the module's text for the exit status."""
    args = arguments()
    password = os.environ.get(PASSWORD_VARIABLE)
    if not password:
        print(f"scripted_hems: set {PASSWORD_VARIABLE}", file=sys.stderr)  # noqa: T201
        return 2

    def end(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    return Hems(args, password).live()


if __name__ == "__main__":
    sys.exit(main())
