"""``meter-runtime headend work-order|take-result``: commands that somebody takes to the meter."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from meter_runtime.cli.headend_register import add_by, add_lab, opened
from meter_runtime.cli.parser import add_command
from meter_runtime.errors import MeterError, UsageError

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands
    from meter_runtime.headend.work_order import WorkOrder


def register(commands: "Commands") -> None:
    writing = add_command(
        commands,
        "work-order",
        "Write the work order of a request: its sealed command as QR codes, for a terminal on\n"
        "site. Nobody can read the command from them but the meter. Without --out the codes\n"
        "are shown here. The relay may have the same request: the meter obeys it once.",
        'meter-runtime headend work-order 3f2a91c0 --out order.pdf --by "Mori Aoi" --lab lab',
    )
    writing.add_argument("request", metavar="REQUEST", help="its id, or how it begins")
    writing.add_argument(
        "--out", type=Path, metavar="FILE", help="a .pdf, .png or .txt file, a new one"
    )
    writing.add_argument(
        "--recall",
        action="store_true",
        help="nobody goes: the next 'headend poll' sends it by the relay",
    )
    writing.add_argument(
        "--font", type=Path, metavar="FILE.ttf", help="for an address in Japanese in a PDF"
    )
    add_by(writing)
    add_lab(writing)
    writing.set_defaults(act=_write)

    taking = add_command(
        commands,
        "take-result",
        "Take meters' signed answers from a terminal's files. They end their requests as those\n"
        "from the relay do: signature and proof are checked. Exit status 1 where one is not OK.",
        "meter-runtime headend take-result 3f2a.result --lab lab",
    )
    taking.add_argument("files", nargs="+", type=Path, metavar="FILE", help="'handheld export's")
    add_lab(taking)
    taking.set_defaults(act=_take)


def run(args: argparse.Namespace) -> int:
    status: int = args.act(args)
    return status


def show_codes(order: "WorkOrder") -> None:
    """The page on the screen."""
    from meter_runtime.headend.qr_codes import blocks

    for name, text in order.lines:
        print(f"{name + ':':<14}{text}")
    for number, part in enumerate(order.parts, 1):
        print(f"\ncode {number} of {len(order.parts)}\n{blocks(part)}")


def _write(args: argparse.Namespace) -> int:
    if args.recall and args.out is not None:
        raise UsageError("--recall writes nothing; leave --out away")
    with opened(args) as system:
        if args.recall:
            request = system.work_orders.recall(system.now(), args.by, args.request)
            print(f"request {request.id[:8]}: {request.state.value}; 'headend poll' sends it")
            return 0
        order = system.work_orders.write(system.now(), args.by, args.request, args.out, args.font)
    if args.out is None:
        show_codes(order)
    else:
        codes = "1 code" if len(order.parts) == 1 else f"{len(order.parts)} codes"
        print(f"{args.out}: work order {order.request[:8]} for meter {order.meter}, {codes}")
    return 0


def _take(args: argparse.Namespace) -> int:
    from meter_runtime.headend.register_requests import State
    from meter_runtime.headend.work_order import read_result

    all_well = True
    with opened(args) as system:
        for file in args.files:
            message = read_result(file)
            try:
                request = system.issuing.take(message)
            except MeterError as wrong:
                raise MeterError(f"{file}: {wrong}") from None
            said = f": {request.said}" if request.said else ""
            print(
                f"{request.id[:8]} {request.command} to {request.meter}:"
                f" {request.state.value}, {request.code}{said}"
            )
            all_well = all_well and request.state in {State.DONE, State.POSTED}
    return 0 if all_well else 1
