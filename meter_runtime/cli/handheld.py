"""``meter-runtime handheld``: the terminal that is taken to a meter.

It shows what stands outside of a sealed order, and what the meter answers; never a password, which
it could not show if it wanted to.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meter_runtime.cli.handheld_view import answer_document, answer_lines, status_lines
from meter_runtime.cli.parser import Parser, add_command, add_control_option
from meter_runtime.clock import jst
from meter_runtime.errors import MeterError, UsageError

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands
    from meter_runtime.headend.handheld import Answer, Order, Terminal
    from meter_runtime.headend.qr_codes import Gathering

_FIRST_TERMINAL = "terminal-1"
_SCANNER = "-"
_MAX_LINES = 1000


def register(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "handheld",
        "A hand-held terminal: reads work orders, brings them to the meter, shows its diagnosis.",
        "meter-runtime handheld load order.png --lab lab",
    )
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=Parser, title="actions"
    )

    def action(
        name: str,
        summary: str,
        description: str,
        example: str,
        act: Callable[[argparse.Namespace], int],
    ) -> Parser:
        adding = actions.add_parser(
            name,
            help=summary,
            description=description,
            epilog=f"example:\n  meter-runtime handheld {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        where = adding.add_argument_group("which terminal")
        where.add_argument("--lab", type=Path, metavar="LAB", help="one of a laboratory")
        where.add_argument(
            "--terminal", metavar="NAME", help=f"its name there (default: {_FIRST_TERMINAL})"
        )
        where.add_argument(
            "--folder", type=Path, metavar="DIR", help="or its folder, wherever it was copied to"
        )
        adding.set_defaults(act=act)
        return adding

    loading = action(
        "load",
        "read work orders, from pictures or a scanner",
        "Read work orders: from pictures of their codes, from text files, or with - from a\n"
        "scanner that types. Order and repetition do not matter; what is missing is named.",
        "load photo-1.jpg photo-2.jpg --lab lab",
        _load,
    )
    loading.add_argument(
        "files", nargs="+", metavar="FILE", help=".png, .jpg, .webp, a text file, or -"
    )
    showing = action(
        "show",
        "the orders in the terminal, and what became of them",
        "Show the orders: for which meter, what, until when, and what the meter answered.",
        "show --lab lab",
        _show,
    )
    showing.add_argument("order", nargs="?", metavar="ORDER", help="how its id begins")
    showing.add_argument("--json", action="store_true", help="one document")
    bringing = action(
        "deliver",
        "bring an order to the meter",
        "Bring an order to the meter's local port, which its button opens, and show the answer.\n"
        "It may be brought as often as need be: the meter obeys it once. Exit status 1 where the\n"
        "answer is not OK.",
        'deliver 3f2a --at 192.168.7.2 --by "Tanaka" --lab lab',
        _deliver,
    )
    bringing.add_argument("order", metavar="ORDER", help="how its id begins")
    _add_place(bringing)
    bringing.add_argument("--json", action="store_true", help="one document")
    reading = action(
        "status",
        "read a meter's diagnosis",
        "Read a meter's diagnosis at its local port: B-route, units, clock.",
        'status --at 192.168.7.2 --by "Tanaka" --lab lab',
        _status,
    )
    _add_place(reading)
    reading.add_argument("--meter", metavar="ID", help="refuse to talk to another one")
    reading.add_argument("--json", action="store_true", help="one document")
    exporting = action(
        "export",
        "the meter's signed answer as a file, for the New System",
        "Write the meter's signed answer to a file; 'headend take-result' takes it.",
        "export 3f2a --out 3f2a.result --lab lab",
        _export,
    )
    exporting.add_argument("order", metavar="ORDER", help="how its id begins")
    exporting.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file")
    forgetting = action(
        "forget",
        "remove an order and its answer",
        "Remove an order and its answer from the terminal; the log keeps what was done with them.",
        "forget 3f2a --lab lab",
        _forget,
    )
    forgetting.add_argument("order", metavar="ORDER", help="how its id begins")
    logging = action(
        "log",
        "what was done with this terminal",
        "Who did what with this terminal, and when; with --check, whether all of it is there.",
        "log --check --lab lab",
        _log,
    )
    logging.add_argument("--check", action="store_true", help="follow the chain of entries")
    logging.add_argument("--json", action="store_true", help="one document")
    pressing = actions.add_parser(
        "press",
        help="hold the button of a bench's meter",
        description="Hold the button of a bench's meter: its local port opens for ten minutes.",
        epilog="example:\n  meter-runtime handheld press",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_control_option(pressing)
    pressing.set_defaults(act=_press)


def run(args: argparse.Namespace) -> int:
    status: int = args.act(args)
    return status


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--at", required=True, metavar="HOST[:PORT]", help="the local port")
    parser.add_argument("--by", required=True, metavar="NAME", help="who works the terminal")


@contextmanager
def _opened(args: argparse.Namespace) -> Iterator["Terminal"]:
    from meter_runtime.headend.handheld import Terminal
    from meter_runtime.headend.lab import Lab

    if (args.lab is None) == (args.folder is None):
        raise UsageError("which terminal? give --lab LAB, or --folder DIR")
    if args.folder is not None and args.terminal is not None:
        raise UsageError("--terminal is the name in a laboratory; a folder has its own")
    if args.folder is not None:
        opened = Terminal(args.folder)
    else:
        opened = Terminal.of_lab(Lab.open(args.lab), args.terminal or _FIRST_TERMINAL)
    with opened as terminal:
        yield terminal


def _load(args: argparse.Namespace) -> int:
    from meter_runtime.headend import qr_codes

    with _opened(args) as terminal:
        gathering = qr_codes.Gathering()
        for file in args.files:
            if file == _SCANNER:
                _scan(gathering)
            elif not gathering.take(qr_codes.lines_in(Path(file))):
                raise MeterError(f"{file}: no code of a work order in it; is it sharp and whole?")
        orders = terminal.load(time.time(), gathering.whole)
        for order in orders:
            print(_line(order, terminal.answer(order)))
    if gathering.missing:
        raise MeterError("; ".join(gathering.missing))
    return 0


def _scan(gathering: "Gathering") -> None:
    """Take lines from standard input until everything that began is whole."""
    for number, line in enumerate(sys.stdin):
        if gathering.take(line) and gathering.whole and not gathering.missing:
            return
        if number >= _MAX_LINES:
            raise MeterError("standard input: too much for a work order")
    if not gathering.whole and not gathering.missing:
        raise MeterError("standard input: no code of a work order in it")


def _show(args: argparse.Namespace) -> int:
    with _opened(args) as terminal:
        orders = [terminal.find(args.order)] if args.order else terminal.orders()
        told = [(order, terminal.answer(order)) for order in orders]
    if args.json:
        print(json.dumps([_document(*each) for each in told], indent=2, ensure_ascii=False))
    elif not told:
        print("no orders")
    else:
        for order, answer in told:
            print(_line(order, answer))
            if args.order and answer is not None:
                print("\n".join(answer_lines(answer)))
    return 0


def _deliver(args: argparse.Namespace) -> int:
    from meter_runtime.aroute.commands import Code
    from meter_runtime.headend.handheld_link import parse_place

    place = parse_place(args.at)
    with _opened(args) as terminal:
        order = terminal.find(args.order)
        answer = asyncio.run(_delivered(terminal, order, place, args.by))
    if args.json:
        print(json.dumps(_document(order, answer), indent=2, ensure_ascii=False))
    else:
        print(_line(order, answer))
        print("\n".join(answer_lines(answer)))
    return 0 if answer.result.code is Code.OK else 1


async def _delivered(
    terminal: "Terminal", order: "Order", place: tuple[str, int], by: str
) -> "Answer":
    from meter_runtime.headend.handheld_link import connect

    async with connect(place, terminal.tls, order.meter) as link:
        message = terminal.sign(time.time(), order, by)
        said = await link.command(message)
    return terminal.take(time.time(), order, by, message, said)


def _status(args: argparse.Namespace) -> int:
    from meter_runtime.headend.handheld_link import parse_place

    place = parse_place(args.at)
    with _opened(args) as terminal:
        meter, document = asyncio.run(_read_status(terminal, place, args.meter))
        terminal.read_status(time.time(), args.by, meter)
    if args.json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print("\n".join(status_lines(meter, document)))
    return 0


async def _read_status(
    terminal: "Terminal", place: tuple[str, int], meter: str | None
) -> tuple[str, dict[str, Any]]:
    from meter_runtime.headend.handheld_link import connect

    async with connect(place, terminal.tls, meter) as link:
        return link.meter, await link.status()


def _export(args: argparse.Namespace) -> int:
    with _opened(args) as terminal:
        order = terminal.find(args.order)
        terminal.export(time.time(), order, args.out)
    print(f"{args.out}: the answer of meter {order.meter} to order {order.id[:8]}")
    return 0


def _forget(args: argparse.Namespace) -> int:
    with _opened(args) as terminal:
        order = terminal.find(args.order)
        terminal.forget(time.time(), order)
    print(f"order {order.id[:8]} is forgotten")
    return 0


def _press(args: argparse.Namespace) -> int:
    from meter_runtime import control, control_paths

    control.ask(control_paths.find(args.control), "press-button")
    print("the button was held")
    return 0


def _log(args: argparse.Namespace) -> int:
    with _opened(args) as terminal:
        if args.check:
            head = terminal.log.check()
            if args.json:
                print(json.dumps({"entries": head.number, "head": head.chain.hex()}))
            else:
                print(f"{head.number} entries, none missing; the last link: {head.chain.hex()}")
            return 0
        entries = list(terminal.log.entries())
    if args.json:
        told = [
            {
                "number": each.number,
                "at": _when(each.at),
                "who": each.who,
                "on_behalf_of": each.on_behalf_of,
                "what": each.what,
                "subject": each.subject,
                "details": dict(each.details),
            }
            for each in entries
        ]
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return 0
    for each in entries:
        whose = f" for {each.on_behalf_of}" if each.on_behalf_of else ""
        details = ", ".join(f"{key} {value}" for key, value in each.details.items())
        told_line = f"{each.number:>5}  {_when(each.at)}  {each.who}{whose}: {each.what}"
        print(f"{told_line} {each.subject}" + (f"  ({details})" if details else ""))
    return 0


def _line(order: "Order", answer: "Answer | None") -> str:
    head = f"{order.id[:8]}  {order.command} for meter {order.meter}"
    if answer is not None:
        return f"{head}: {answer.result.code.value}"
    over = " (over)" if order.expiry < time.time() else ""
    return f"{head}, until {jst(order.expiry):%Y-%m-%d %H:%M} JST{over}"


def _document(order: "Order", answer: "Answer | None") -> Mapping[str, Any]:
    return {
        "order": order.id,
        "meter": order.meter,
        "command": order.command,
        "expiry": _when(order.expiry),
        "answer": None if answer is None else answer_document(answer),
    }


def _when(at: float) -> str:
    return jst(at).isoformat(timespec="seconds")
