"""A HEMS that asks without waiting for answers: ``python -m meter_runtime.bench.hems_flood``.

It joins as any HEMS does, then hands its module so many requests a second and counts what comes
back. What carries them is the laboratory's: a pseudo-terminal has no bit rate, and ``--air fast``
no airtime. A serial line at 115 200 baud takes some 130 requests a second, the air fewer.

The password comes from the environment variable ROUTE_B_PASSWORD. It says ``joined`` once it has,
then ``flooded`` and a JSON document with what was ``sent``, ``answered`` and ``took_s``. Exit
status: 0 it did what it was asked, 3 it was refused, 4 it found no meter, 5 the session ended.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from itertools import cycle

from meter_runtime.bench.scripted_hems import (
    CONTROLLER,
    METER,
    NOT_FOUND,
    PASSWORD_VARIABLE,
    REFUSED,
    say,
)
from meter_runtime.bench.scripted_line import Line, LineLost, NoAnswer
from meter_runtime.broute.echonet.frame import Esv, Frame, Property, encode
from meter_runtime.comm.skstack.replies import EventNumber

PATIENCE_S = 5.0
TICK_S = 0.002
TAIL_S = 1.0
"""Answers are counted so long after the last request."""
ENDED = 5
_ENDS = (EventNumber.SESSION_CLOSED_BY_PEER, EventNumber.SESSION_EXPIRED)


class SessionEnded(Exception):  # noqa: N818 - a state of things, not a defect
    """The meter ended the session, or let it expire."""


class Flood:
    """One flood over a joined module's line."""

    def __init__(self, line: Line, codes: Sequence[int]) -> None:
        self.sent = self.answered = 0
        self._line = line
        self._codes = cycle(codes)

    def run(self, rate: float, seconds: float) -> float:
        """Ask ``rate`` times a second for so long; how long it took."""
        begun = time.monotonic()
        while (elapsed := time.monotonic() - begun) < seconds:
            while self.sent < rate * elapsed:
                self._ask()
            self._hear(TICK_S)
        took_s = time.monotonic() - begun
        end = time.monotonic() + TAIL_S
        while (left := end - time.monotonic()) > 0:
            self._hear(left)
        return took_s

    def _ask(self) -> None:
        self.sent += 1
        wanted = (Property(next(self._codes)),)
        self._line.post(encode(Frame(self.sent & 0xFFFF, CONTROLLER, METER, Esv.GET, wanted)))

    def _hear(self, seconds: float) -> None:
        news = self._line.news(seconds)
        if isinstance(news, Frame):
            self.answered += news.esv in (Esv.GET_RES, Esv.GET_SNA)
        elif news in _ENDS:
            raise SessionEnded


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for, on the command line or by ``given``."""
    parser = argparse.ArgumentParser(
        prog="python -m meter_runtime.bench.hems_flood",
        description="Join a meter and ask it far too often.",
        epilog=f"example:\n  {PASSWORD_VARIABLE}=0123456789AB python -m"
        " meter_runtime.bench.hems_flood /tmp/wisun 00112233445566778899AABBCCDDEEFF"
        " --rate 500 --seconds 60",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tty", help="the module's serial device")
    parser.add_argument("route_b_id", help="32 hex digits")
    parser.add_argument("--rate", type=float, default=500.0, metavar="N", help="a second (500)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="how long (10)")
    parser.add_argument("--read", default="E7,E2", metavar="CODES", help="in turns (E7,E2)")
    return parser.parse_args(given)


def flood(args: argparse.Namespace, password: str) -> int:
    """Join, flood, leave; the exit status."""
    with Line(args.tty, PATIENCE_S) as line:
        line.prepare(args.route_b_id, password)
        if not line.find_meter():
            say("no meter found")
            return NOT_FOUND
        if not line.join():
            say("refused")
            return REFUSED
        say("joined")
        flood = Flood(line, [int(code, 16) for code in args.read.split(",")])
        try:
            took_s = flood.run(args.rate, args.seconds)
        except SessionEnded:
            say("the session ended")
            return ENDED
        told = {"sent": flood.sent, "answered": flood.answered, "took_s": round(took_s, 3)}
        say(f"flooded {json.dumps(told)}")
        line.leave()
    return 0


def main() -> int:
    """Run it; see the module's text for the exit status."""
    args = arguments()
    password = os.environ.get(PASSWORD_VARIABLE)
    if not password:
        print(f"hems_flood: set {PASSWORD_VARIABLE}", file=sys.stderr)  # noqa: T201
        return 2
    try:
        return flood(args, password)
    except (LineLost, NoAnswer) as lost:
        print(f"hems_flood: the module is gone or mute: {lost}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
