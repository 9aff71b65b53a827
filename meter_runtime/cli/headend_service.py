"""``meter-runtime headend service``: each home's service from its beginning to its end."""

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from meter_runtime.cli.headend_register import add_by, add_lab, opened, show
from meter_runtime.cli.parser import Parser, add_command
from meter_runtime.clock import jst
from meter_runtime.errors import MeterError, UsageError, nearest

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands
    from meter_runtime.headend.new_system import NewSystem
    from meter_runtime.headend.register_contracts import ContractRecord
    from meter_runtime.headend.service_life import Life, Told

_POLL_EVERY_S = 0.5


def register(commands: "Commands") -> None:
    """Add ``service begin|show|list|end``."""
    parser = add_command(
        commands,
        "service",
        "The service to a home: begun at every meter of its supply point, looked at, ended.\n"
        "accepted, provisioned, letter posted, active, rewritten, ending, ended.",
        'meter-runtime headend service begin C-1001 --lab lab --by "Mori Aoi" --wait 60',
    )
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=Parser, title="actions"
    )
    beginning = actions.add_parser("begin", help="set credentials in every meter that has none")
    beginning.epilog = (
        'example: meter-runtime headend service begin C-1001 --lab lab --by "Mori Aoi" --wait 60'
    )
    beginning.add_argument("code", metavar="CONTRACT")
    beginning.add_argument("--note", default="", metavar="TEXT", help="the meter keeps it, too")
    _add_change(beginning)
    beginning.set_defaults(act=_begin)

    ending = actions.add_parser("end", help="the customer's credentials expire")
    ending.epilog = (
        "example: meter-runtime headend service end C-1001 --reason moved-out --lab lab"
        ' --by "Mori Aoi" --wait 60'
    )
    ending.add_argument("code", metavar="CONTRACT")
    ending.add_argument(
        "--reason",
        required=True,
        metavar="REASON",
        help="notice, moved-out, no-meter, no-hems or misuse",
    )
    ending.add_argument("--note", default="", metavar="TEXT", help="what else is to be known")
    _add_change(ending)
    ending.set_defaults(act=_end)

    showing = actions.add_parser("show", help="one contract's service, meter by meter")
    showing.epilog = "example: meter-runtime headend service show C-1001 --lab lab"
    showing.add_argument("code", metavar="CONTRACT")
    showing.add_argument("--json", action="store_true", help="one document")
    add_lab(showing)
    showing.set_defaults(act=_show)

    listing = actions.add_parser("list", help="the service of every contract")
    listing.epilog = "example: meter-runtime headend service list --open --lab lab"
    listing.add_argument(
        "--open", action="store_true", help="only where something is to be done, the late first"
    )
    listing.add_argument("--json", action="store_true", help="one document")
    add_lab(listing)
    listing.set_defaults(act=_list)


def run(args: argparse.Namespace) -> int:
    status: int = args.act(args)
    return status


def _add_change(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait",
        type=float,
        default=0,
        metavar="SECONDS",
        help="for the meters' answers (default: do not); exit status 1 where one is not OK",
    )
    add_by(parser)
    add_lab(parser)


def _begin(args: argparse.Namespace) -> int:
    with opened(args) as system:
        begun = system.service.begin(args.code, args.by, args.note)
        return asyncio.run(_carried_out(system, begun, args.wait))


def _end(args: argparse.Namespace) -> int:
    from meter_runtime.headend.register_contracts import EndReason

    reasons = {reason.value: reason for reason in EndReason}
    if args.reason not in reasons:
        raise UsageError(f'no reason is called "{args.reason}"; {nearest(args.reason, reasons)}')
    with opened(args) as system:
        ended = system.service.end(args.code, args.by, reasons[args.reason], args.note)
        return asyncio.run(_carried_out(system, ended, args.wait))


async def _carried_out(
    system: "NewSystem", changing: Awaitable["Sequence[Told]"], wait_s: float
) -> int:
    """Issue, wait for the answers, and tell them; the exit status."""
    from meter_runtime.headend.register_requests import State

    deadline = time.monotonic() + wait_s
    all_told = await changing
    issued = {each.meter: each.request.id for each in all_told if each.request is not None}

    def waiting() -> list[str]:
        return [each for each in issued.values() if system.requests.find(each).is_open]

    while waiting() and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_EVERY_S)
        for each in waiting():
            # It is stored, so that a relay that is away just now is waited for, too.
            with contextlib.suppress(MeterError):
                await system.issuing.poll(each)
    good = {State.DONE, State.POSTED} if wait_s > 0 else {State.DONE, State.POSTED, State.SENT}
    well = True
    for told in all_told:
        if told.request is None:
            print(told.said if told.failed else f"{told.meter}: {told.said}")
            well = well and not told.failed
            continue
        request = system.requests.find(told.request.id)
        said = f": {request.said}" if request.said else ""
        print(f"{told.meter}: {request.id[:8]} {request.command} {request.state.value}{said}")
        well = well and request.state in good
    return 0 if well else 1


def _show(args: argparse.Namespace) -> int:
    with opened(args) as system:
        contract = system.register.contract(args.code)
        lives = system.service.lives(args.code)
        document = _contract(contract) | {
            "meters": [
                _life(life)
                | {
                    "served_from": _served_from(system, contract, life),
                    "requests": [
                        {"request": each.id, "command": each.command, "state": each.state.value}
                        for each in system.requests.all(life.meter)
                        if each.contract == contract.code
                    ],
                }
                for life in lives
            ]
        }
        system.viewed("service", args.code)
    if args.json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return 0
    print(f"contract {contract.code} at {contract.supply_point}: {_in_words(contract)}")
    for life, told in zip(lives, document["meters"], strict=True):
        since = "" if told["since"] is None else f" since {told['since']}"
        print(f"meter {life.meter}: {life.stage.value}{since}, served from {told['served_from']}")
        if life.to_do:
            print(f"  {'late: ' if life.late else ''}{life.to_do}")
        for each in told["requests"]:
            print(f"  {each['request'][:8]} {each['command']} {each['state']}")
    return 0


def _list(args: argparse.Namespace) -> int:
    with opened(args) as system:
        lives = system.service.all()
        system.viewed("services")
    if args.open:
        lives = sorted((life for life in lives if life.to_do), key=lambda life: not life.late)
    show((_life(life) for life in lives), as_json=args.json)
    return 0


def _contract(contract: "ContractRecord") -> dict[str, Any]:
    return {
        "contract": contract.code,
        "supply_point": contract.supply_point,
        "accepted_on": _iso(contract.accepted_on),
        "contract_ended_on": _iso(contract.ended_on),
        "service_ended_on": _iso(contract.service_ended_on),
        "reason": contract.service_end,
        "note": contract.service_end_note,
    }


def _in_words(contract: "ContractRecord") -> str:
    said = (
        "no application was accepted"
        if contract.accepted_on is None
        else f"accepted on {contract.accepted_on}"
    )
    if contract.ended_on is not None:
        said += f", contract ended on {contract.ended_on}"
    if contract.service_ended_on is not None:
        note = f" ({contract.service_end_note})" if contract.service_end_note else ""
        said += f", service ended on {contract.service_ended_on}, {contract.service_end}{note}"
    return said


def _life(life: "Life") -> dict[str, Any]:
    return {
        "contract": life.contract,
        "meter": life.meter,
        "stage": life.stage.value,
        "since": None if life.since is None else jst(life.since).isoformat(timespec="minutes"),
        "late": life.late,
        "to_do": life.to_do,
    }


def _served_from(system: "NewSystem", contract: "ContractRecord", life: "Life") -> str:
    meter = system.register.meter(life.meter)
    return system.books.service.served_from(contract, meter).isoformat()


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
